/** The HTTP API as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0). */

/** The longest time to live, in ms: some 30,000 years. */
const MAX_TTL_MS = 999_999_999_999_999;

const TREE =
  "The Merkle tree as 4,096 cells of 4 bytes; and of each a byte: 1 if a comparison has found that " +
  "it differs from a peer's, 2 if one has healed it in the last 5 seconds. What is found is noted " +
  "while somebody asks at least every 10 seconds.";
const text = { type: "string" } as const;
const wholeNumber = { type: "integer" } as const;

function described(schema: object, description: string): object {
  return { ...schema, description };
}

const FACTS = {
  kind: { type: "string", enum: ["string", "counter"] },
  version: described(text, "Another one with every write; the ETag without its quotes."),
  origin: described(text, "Who wrote it, in hexadecimal."),
  written_at_ms: described(wholeNumber, "Unix milliseconds, by the writer's clock."),
  expires_at_ms: described({ type: ["integer", "null"] }, "Unix milliseconds; null for never."),
};

/** Bytes, in one of two fields. */
function bytes(name: string): Record<string, object> {
  return {
    [name]: described(text, "Where it is UTF-8."),
    [`${name}_base64`]: described(text, "Where it is not."),
  };
}

const ENTRY = { type: "object", properties: { ...bytes("key"), ...bytes("value"), ...FACTS } };
const ERROR = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["code", "message"],
      properties: { code: text, message: text },
    },
  },
};

function json(schema: object): object {
  return { "application/json": { schema } };
}

function answer(description: string, content?: object): object {
  return content === undefined ? { description } : { description, content };
}

/** Every operation may answer these. */
const REFUSALS = {
  "400": answer("The request is not as it should be.", json(ERROR)),
  "401": answer("A login is needed, or is wrong.", json(ERROR)),
  "403": answer("The user may not do that, or a page of another site asks.", json(ERROR)),
  "405": answer("The method is none of this path.", json(ERROR)),
  "503": answer("Not now: the data is being read, the disk or the clock fails.", json(ERROR)),
};
const CHANGED = { "412": answer("The key is not what `If-Match` says.", json(ERROR)) };
const MISSING = { "404": answer("There is no such key.", json(ERROR)) };
const SLOW = { "408": answer("The body did not come in time.", json(ERROR)) };
const TOO_LARGE = { ...SLOW, "413": answer("The value is too large.", json(ERROR)) };
const FULL = { "507": answer("The memory limit is reached, or the disk is full.", json(ERROR)) };

const keyParameter = {
  name: "key",
  in: "path",
  required: true,
  description:
    "Any bytes, percent-encoded; it may hold slashes. `.` and `..` work in a batch only.",
  schema: { ...text, minLength: 1 },
};

function query(name: string, description: string, schema: object = text): object {
  return { name, in: "query", required: false, description, schema };
}

function header(name: string, description: string): object {
  return { name, in: "header", required: false, description, schema: text };
}

const CONDITIONS = [
  header("If-Match", "Only if the key has this version; `*` for any."),
  header("If-None-Match", "Only if the key has not this version; `*` if there is none."),
];

const keyPath = {
  parameters: [keyParameter],
  get: {
    operationId: "getKey",
    summary: "The value, as it is; with `Accept: application/json` in JSON with its facts.",
    parameters: [header("If-None-Match", "Answer 304 if the key still has this version.")],
    responses: {
      "200": answer("The value.", {
        "application/octet-stream": { schema: { type: "string", format: "binary" } },
        ...json(ENTRY),
      }),
      "304": answer("It has not changed."),
      "409": answer("Only a later version of the program could show it.", json(ERROR)),
      ...MISSING,
      ...REFUSALS,
    },
  },
  put: {
    operationId: "putKey",
    summary: "Writes the body as the value.",
    parameters: [
      ...CONDITIONS,
      query("ttl_ms", "Milliseconds after which it expires.", {
        ...wholeNumber,
        minimum: 1,
        maximum: MAX_TTL_MS,
      }),
    ],
    requestBody: {
      required: false,
      content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
    },
    responses: {
      "201": answer("Written; the key was not there."),
      "204": answer("Written."),
      ...CHANGED,
      ...TOO_LARGE,
      ...FULL,
      ...REFUSALS,
    },
  },
  delete: {
    operationId: "deleteKey",
    summary: "Deletes the key.",
    parameters: CONDITIONS,
    responses: { "204": answer("Deleted."), ...MISSING, ...CHANGED, ...REFUSALS },
  },
};

const incrementPath = {
  parameters: [keyParameter],
  post: {
    operationId: "incrementKey",
    summary: "Adds to the number at the key; a missing key counts as 0.",
    parameters: CONDITIONS,
    requestBody: {
      required: true,
      content: json({
        type: "object",
        properties: {
          by: {
            description: "1 by default; beyond 2^53 a string of digits.",
            oneOf: [wholeNumber, { ...text, pattern: "^-?\\d{1,19}$" }],
          },
        },
      }),
    },
    responses: {
      "200": answer(
        "The sum, as a string of digits.",
        json({ type: "object", required: ["value"], properties: { value: text, ...FACTS } }),
      ),
      "409": answer("The value is no number, or the sum has no room in 64 bits.", json(ERROR)),
      ...SLOW,
      "413": answer("The body is too large.", json(ERROR)),
      "415": answer("The body is no JSON.", json(ERROR)),
      ...CHANGED,
      ...FULL,
      ...REFUSALS,
    },
  },
};

const listPath = {
  get: {
    operationId: "listKeys",
    summary: "Keys in lexicographic order of their bytes.",
    parameters: [
      query("prefix", "Only keys that begin so; percent-encoded bytes."),
      query("after", "Only keys behind this one; `next` of the page before, as it is."),
      query("limit", "Most keys of a page.", {
        ...wholeNumber,
        minimum: 1,
        maximum: 1_000,
        default: 100,
      }),
    ],
    responses: {
      "200": answer(
        "A page.",
        json({
          type: "object",
          required: ["keys", "next"],
          properties: {
            keys: { type: "array", items: { type: "object", properties: bytes("key") } },
            next: described({ type: ["string", "null"] }, "null on the last page."),
          },
        }),
      ),
      "413": answer("The page is too large; ask for fewer.", json(ERROR)),
      ...REFUSALS,
    },
  },
};

const batchPath = {
  post: {
    operationId: "batch",
    summary: "Several operations in order. Each succeeds or fails by itself.",
    requestBody: {
      required: true,
      content: json({
        type: "object",
        required: ["operations"],
        properties: {
          operations: {
            type: "array",
            maxItems: 1_000,
            items: {
              type: "object",
              required: ["op"],
              properties: {
                op: { type: "string", enum: ["get", "put", "delete"] },
                ...bytes("key"),
                ...bytes("value"),
                ttl_ms: { ...wholeNumber, minimum: 1, maximum: MAX_TTL_MS },
              },
            },
          },
        },
      }),
    },
    responses: {
      "200": answer(
        "A result for each, with the status it would have had alone.",
        json({
          type: "object",
          required: ["results"],
          properties: { results: { type: "array", items: { type: "object" } } },
        }),
      ),
      ...SLOW,
      "413": answer("The body is too large.", json(ERROR)),
      "415": answer("The body is no JSON.", json(ERROR)),
      ...REFUSALS,
    },
  },
};

const watchPath = {
  get: {
    operationId: "watchKeys",
    summary:
      "Server-sent events: `change` with a key and its facts, `lost` when some were not told.",
    parameters: [query("prefix", "Only keys that begin so; percent-encoded bytes.")],
    responses: {
      "200": answer("Events, until the client goes.", { "text/event-stream": { schema: text } }),
      ...REFUSALS,
    },
  },
};

function told(operationId: string, summary: string, properties: object): object {
  const content = json({ type: "object", properties });
  return {
    get: { operationId, summary, responses: { "200": answer("It.", content), ...REFUSALS } },
  };
}

const BASE64_WORD = {
  type: "object",
  required: ["word_base64"],
  additionalProperties: false,
  properties: { word_base64: { ...text, contentEncoding: "base64" } },
};

const commandPath = {
  post: {
    operationId: "runCommand",
    summary: "Runs any command of the client port that needs no connection.",
    requestBody: {
      required: true,
      content: json({
        type: "object",
        required: ["words"],
        properties: {
          words: {
            type: "array",
            minItems: 1,
            maxItems: 1_000,
            items: { oneOf: [text, BASE64_WORD] },
          },
        },
      }),
    },
    responses: {
      "200": answer(
        "Its reply: null, or an object with `status`, `integer`, `value`, `error` or `items`.",
        json({ type: "object", required: ["reply"] }),
      ),
      ...SLOW,
      "413": answer("The body is too large.", json(ERROR)),
      "415": answer("The body is no JSON.", json(ERROR)),
      ...REFUSALS,
    },
  },
};

/** The document, for that version of the program. */
export function openApi(version: string): object {
  return {
    openapi: "3.1.0",
    info: {
      title: "MerkleKV",
      version,
      description: "Keys of one node, which replicates what is written to the others.",
      license: { name: "MIT", identifier: "MIT" },
    },
    components: { securitySchemes: { basic: { type: "http", scheme: "basic" } } },
    // Where there are no users, no login is needed.
    security: [{ basic: [] }, {}],
    paths: {
      "/v1/keys": listPath,
      "/v1/keys/{key}": keyPath,
      "/v1/keys/{key}:increment": incrementPath,
      "/v1/keys:batch": batchPath,
      "/v1/watch": watchPath,
      "/v1/command": commandPath,
      "/v1/facts": told("getFacts", "What INFO tells. For users who may say that.", {
        sections: { type: "array", items: { type: "object" } },
      }),
      "/v1/cluster": told("getCluster", "Who is there, as far as this node knows.", {
        members: { type: "array", items: { type: "object" } },
      }),
      "/v1/tree": told("getTree", TREE, { cells_base64: text, differences_base64: text }),
      "/v1/openapi.json": {
        get: {
          operationId: "openApi",
          summary: "This document.",
          responses: { "200": answer("It.", json({ type: "object" })) },
        },
      },
    },
  };
}
