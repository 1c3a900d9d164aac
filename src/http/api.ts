/**
 * The HTTP API: keys as resources, below `/v1/`. Whatever it does is done by the commands of the
 * client port, so rights, limits and durability are those of any client. `openapi.ts` describes it.
 */
import { LostWrite, type EntryFacts, type InnerClient, type RequestTurn } from "../ports.ts";
import { RespError, readRespReply, respItems, type RespReply } from "../protocol/resp-value.ts";
import { releaseLargeOf } from "../core/bytes.ts";
import type { AnswerTurns } from "./answer-turns.ts";
import {
  ApiError,
  busy,
  commandError,
  factsField,
  invalid,
  notFound,
  notJson,
  valueOf,
} from "./api-answers.ts";
import { runBatch } from "./api-batch.ts";
import { answerJson, streamOf } from "./api-json.ts";
import { bytesField, LaterValue, LazyList } from "./json-writer.ts";
import {
  listIn,
  MAX_JSON_BYTES,
  parseObject,
  type JsonList,
  type JsonObject,
} from "./json-body.ts";
import type { HttpRequest } from "./http-connection.ts";
import { BodyProblem } from "./request-body.ts";
import { decodePercent, encodePercent } from "./api-keys.ts";
import { runCommand, tellCluster, tellFacts, tellTree, type NodeView } from "./api-node.ts";
import { watchKeys } from "./api-watch.ts";
import { openApi } from "./openapi.ts";
import type { Place } from "./places.ts";

/** What answering needs to know of the node. */
export interface ApiOptions {
  /** Longest value that a request may carry, in bytes. */
  readonly maxValueBytes: number;
  /** How long a body may take to come, in ms. */
  readonly bodyTimeoutMs: number;
  readonly turns: AnswerTurns;
  /** What the request takes up until it is answered. */
  readonly place: Place;
  readonly node: NodeView;
  readonly version: string;
}

const KEYS = "/v1/keys";
const INCREMENT = ":increment";
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;
/** A value above this is sent piece by piece from where it lies. */
const COPIED_BYTES = 16 * 1024;
const PIECE_BYTES = 64 * 1024;
const SHORT_JSON_BYTES = 16 * 1024;

/** Longest body of any request, in bytes. */
export function maxBodyBytes(maxValueBytes: number): number {
  return Math.max(maxValueBytes, MAX_JSON_BYTES);
}

/** Answers a request whose path begins with `/v1/`, as that client. */
export async function answerApi(
  request: HttpRequest,
  client: InnerClient,
  options: ApiOptions,
): Promise<Response> {
  try {
    return await route(request, client, options);
  } catch (error) {
    if (error instanceof ApiError) return error.toResponse();
    if (error instanceof BodyProblem) {
      const code = error.status === 413 ? "too_large" : "invalid";
      return new ApiError(error.status, code, error.message).toResponse();
    }
    if (error instanceof LostWrite) {
      return new ApiError(503, "unknown", `It may be done or not: ${error.message}`).toResponse();
    }
    throw error;
  }
}

async function route(
  request: HttpRequest,
  client: InnerClient,
  options: ApiOptions,
): Promise<Response> {
  const { url } = request;
  const { pathname } = url;
  if (pathname === "/v1/openapi.json") {
    return allow(request, { GET: async () => Response.json(openApi(options.version)) });
  }
  if (pathname === "/v1/watch") {
    return allow(request, {
      GET: () => watchKeys(client, queryBytes(url, "prefix"), options.turns.timing),
    });
  }
  if (pathname === "/v1/facts") {
    return allow(request, { GET: () => tellFacts(client, options.node) });
  }
  if (pathname === "/v1/cluster") {
    return allow(request, { GET: () => tellCluster(client, options.node) });
  }
  if (pathname === "/v1/tree") {
    return allow(request, { GET: () => tellTree(client, options.node) });
  }
  if (pathname === "/v1/command") {
    return allow(request, {
      POST: async () =>
        withJson(request, options, objectOrNone, (body) =>
          runCommand(body, client, options, request.signal),
        ),
    });
  }
  if (pathname === KEYS) return allow(request, { GET: () => list(request, client, options) });
  if (pathname === `${KEYS}:batch`) {
    return allow(request, {
      POST: async () =>
        withJson(request, options, operationsOf, (operations) =>
          runBatch(operations, client, options, request.signal),
        ),
    });
  }
  if (pathname.startsWith(`${KEYS}/`)) {
    const raw = pathname.slice(KEYS.length + 1);
    if (request.method === "POST") return increment(request, raw, client, options);
    const key = keyOf(raw);
    return allow(request, {
      GET: () => read(request, key, client, options),
      PUT: () => write(request, url, key, client, options),
      DELETE: () => remove(request, key, client),
    });
  }
  throw new ApiError(404, "not_found", "There is nothing here; see /v1/openapi.json");
}

async function allow(
  request: HttpRequest,
  methods: Readonly<Record<string, () => Promise<Response>>>,
): Promise<Response> {
  const method = request.method === "HEAD" ? "GET" : request.method;
  if (Object.hasOwn(methods, method)) return methods[method]();
  const known = Object.keys(methods).join(", ");
  throw new ApiError(405, "no_such_method", `Here ${known} can be said`, { allow: known });
}

async function read(
  request: HttpRequest,
  key: Uint8Array,
  client: InnerClient,
  { place, turns }: ApiOptions,
): Promise<Response> {
  const [value, facts] = await client.inTurn((turn) => [turn.get(key), turn.entry(key)] as const);
  if (value === null || facts === null) throw notFound();
  if (value instanceof RespError) throw commandError(value);
  const release = (): void => {
    value.release();
    place.leave();
  };
  const headers = headersOf(facts);
  const known = tagsOf(request.headers.get("if-none-match"));
  if (known.includes("*") || known.includes(facts.version)) {
    release();
    return new Response(null, { status: 304, headers });
  }
  const { bytes } = value;
  if (!place.grow(bytes.length)) {
    release();
    throw busy();
  }
  if ((request.headers.get("accept") ?? "").includes("application/json")) {
    const body = { ...bytesField("key", key), ...bytesField("value", bytes), ...factsField(facts) };
    const { response, cut } = answerJson(body, turns, release, headers);
    place.waitsForClient(cut);
    return response;
  }
  headers.set("content-type", "application/octet-stream");
  if (request.method === "HEAD") {
    headers.set("content-length", String(bytes.length));
    release();
    return new Response(null, { headers });
  }
  if (bytes.length <= COPIED_BYTES) {
    const copy = new Uint8Array(bytes);
    release();
    return new Response(copy, { headers });
  }
  let sent = 0;
  const { stream, cut } = streamOf(release, async () => {
    // Copied, as what is sent may be read after it was released.
    const piece = bytes.slice(sent, sent + PIECE_BYTES);
    sent += piece.length;
    return { bytes: piece, isAll: sent === bytes.length };
  });
  place.waitsForClient(cut);
  return new Response(stream, { headers });
}

async function write(
  request: HttpRequest,
  url: URL,
  key: Uint8Array,
  client: InnerClient,
  options: ApiOptions,
): Promise<Response> {
  const ttlMs = ttlOf(url.searchParams.get("ttl_ms") ?? request.headers.get("merklekv-ttl-ms"));
  const value = await bodyOf(request, options.maxValueBytes, options);
  const expiry = ttlMs === null ? [] : ["PX", ttlMs];
  const [isNew, facts] = await client.inTurn((turn) => {
    const isNew = checkConditions(request, turn, key);
    valueOf(turn.run(["SET", key, value, ...expiry]));
    return [isNew, turn.entry(key)] as const;
  });
  releaseLargeOf(value);
  // A lease may be so short that it is over.
  const headers = facts === null ? {} : headersOf(facts);
  return new Response(null, { status: isNew ? 201 : 204, headers });
}

async function remove(
  request: HttpRequest,
  key: Uint8Array,
  client: InnerClient,
): Promise<Response> {
  const count = await client.inTurn((turn) => {
    checkConditions(request, turn, key);
    return valueOf(turn.run(["DEL", key]));
  });
  if (count === 0n) throw notFound();
  return new Response(null, { status: 204 });
}

async function increment(
  request: HttpRequest,
  raw: string,
  client: InnerClient,
  options: ApiOptions,
): Promise<Response> {
  if (!raw.endsWith(INCREMENT)) {
    throw new ApiError(405, "no_such_method", "POST to a key ends with :increment", {
      allow: "GET, PUT, DELETE",
    });
  }
  const key = keyOf(raw.slice(0, -INCREMENT.length));
  const { by = 1 } = await withJson(request, options, objectOrNone, async (body) => body);
  const isWhole = typeof by === "string" ? /^-?\d{1,19}$/.test(by) : Number.isSafeInteger(by);
  if (!isWhole) throw invalid("by is a whole number; beyond 2^53 a string of its digits");
  const [value, facts] = await client.inTurn((turn) => {
    checkConditions(request, turn, key);
    return [valueOf(turn.run(["INCRBY", key, String(by)])), turn.entry(key)] as const;
  });
  const headers = facts === null ? {} : headersOf(facts);
  // Numbers beyond 2^53 do not survive many readers of JSON.
  return Response.json({ value: String(value), ...(facts && factsField(facts)) }, { headers });
}

async function list(
  { url, signal }: HttpRequest,
  client: InnerClient,
  { place, turns }: ApiOptions,
): Promise<Response> {
  const prefix = queryBytes(url, "prefix");
  const after = queryBytes(url, "after");
  const limit = limitOf(url.searchParams.get("limit"));
  const from = after.length === 0 ? [] : ["AFTER", after];
  const words = ["SCAN", "ORDERED", prefix, ...from, "COUNT", String(limit)];
  const reply = await client.askForBytes(words);
  await turns.enter(signal);
  const keys = respItems(reply);
  if (keys === null) throw commandError(readRespReply(reply) as RespError);
  if (!place.grow(reply.length)) throw busy();
  let count = 0;
  let last: Uint8Array = NOTHING;
  // One at a time, as they are written: until then a thousand of them would be kept.
  const fields = Iterator.from(keys).map((key) => {
    count++;
    last = bytesOf(key);
    return bytesField("key", last);
  });
  const next = new LaterValue(() => (count < limit ? null : encodePercent(last)));
  const body = { keys: new LazyList(fields), next };
  const { response, cut } = answerJson(body, turns, () => {
    releaseLargeOf(reply);
    place.leave();
  });
  place.waitsForClient(cut);
  return response;
}

function bytesOf(key: RespReply): Uint8Array {
  if (key instanceof Uint8Array) return key;
  throw new Error("a list of keys has something else in it");
}

const NOTHING = new Uint8Array(0);

/** Throws unless the conditions of the request hold. Returns whether the key is new. */
function checkConditions(request: HttpRequest, turn: RequestTurn, key: Uint8Array): boolean {
  const { headers } = request;
  const wanted = headers.get("if-match");
  const unwanted = headers.get("if-none-match");
  // A refusal tells what the key holds: only to who may read it.
  if (wanted !== null || unwanted !== null) {
    const value = turn.get(key);
    if (value instanceof RespError) throw commandError(value);
    value?.release();
  }
  const facts = turn.entry(key);
  const holds = (tags: readonly string[]): boolean =>
    facts !== null && (tags.includes("*") || tags.includes(facts.version));
  if ((wanted !== null && !holds(tagsOf(wanted))) || holds(tagsOf(unwanted))) {
    const message = "The key is not, or no longer, what it was to be";
    throw new ApiError(412, "changed", message, facts === null ? {} : { etag: tag(facts) });
  }
  return facts === null;
}

function headersOf(facts: EntryFacts): Headers {
  const headers = new Headers({
    etag: tag(facts),
    "merklekv-kind": facts.kind,
    "merklekv-origin": facts.origin,
    "merklekv-written-ms": String(facts.writtenAtMs),
  });
  if (facts.expiresAtMs > 0) headers.set("merklekv-expires-ms", String(facts.expiresAtMs));
  return headers;
}

function tag({ version }: EntryFacts): string {
  return `"${version}"`;
}

/** The versions, or `*`, in a header of RFC 9110. Weak tags are never equal, as it says. */
function tagsOf(header: string | null): string[] {
  return (header ?? "")
    .split(",")
    .map((each) => each.trim())
    .filter((each) => /^(\*|"[^"]*")$/.test(each))
    .map((each) => each.replaceAll('"', ""));
}

function keyOf(raw: string): Uint8Array {
  const key = decodePercent(raw);
  if (key === undefined) throw invalid("A % in the path is not followed by two hexadecimal digits");
  if (key.length === 0) throw invalid("The key is empty");
  return key;
}

/** The bytes of a parameter; none when it is absent. */
function queryBytes(url: URL, name: string): Uint8Array {
  for (const pair of url.search.slice(1).split("&")) {
    const equals = pair.indexOf("=");
    if (equals < 0 || pair.slice(0, equals) !== name) continue;
    const bytes = decodePercent(pair.slice(equals + 1).replaceAll("+", " "));
    if (bytes === undefined) throw invalid(`A % in ${name} lacks two hexadecimal digits`);
    return bytes;
  }
  return new Uint8Array(0);
}

function limitOf(text: string | null): number {
  if (text === null) return DEFAULT_LIMIT;
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > MAX_LIMIT) throw invalid(`limit is a whole number up to ${MAX_LIMIT}`);
  return limit;
}

function ttlOf(text: string | null): string | null {
  if (text === null) return null;
  if (!/^[1-9]\d{0,14}$/.test(text))
    throw invalid("A time to live is whole milliseconds from 1 on");
  return text;
}

async function bodyOf(
  request: HttpRequest,
  mostBytes: number,
  { bodyTimeoutMs, turns, place }: ApiOptions,
): Promise<Uint8Array> {
  const late = Promise.withResolvers<never>();
  const tooSlow = (why: string): void => late.reject(new ApiError(408, "too_slow", why));
  const seconds = bodyTimeoutMs / 1_000;
  const cancel = turns.timing.after(bodyTimeoutMs, () => {
    tooSlow(`The body did not come within ${seconds} s`);
  });
  place.waitsForClient(() => tooSlow("The body did not come, and others need the room"));
  const bytes = await Promise.race([request.bytes(mostBytes), late.promise]).finally(() => {
    cancel();
    place.waitsForClient(null);
  });
  await turns.enter(request.signal);
  return bytes;
}

/**
 * Does something with what `read` finds in the body of a request, which is JSON. Of long ones a few
 * at a time, as what is made of them takes several times their memory.
 */
async function withJson<V, T>(
  request: HttpRequest,
  options: ApiOptions,
  read: (bytes: Uint8Array) => V | undefined,
  work: (value: V) => Promise<T>,
): Promise<T> {
  const type = request.headers.get("content-type") ?? "";
  // What a form on somebody's page can send is no JSON.
  if (!/^application\/json\b/i.test(type)) {
    throw new ApiError(415, "not_json", "The content-type is to be application/json");
  }
  const { turns } = options;
  const bytes = await bodyOf(request, MAX_JSON_BYTES, options);
  const readAndWork = async (): Promise<T> => {
    await turns.enter(request.signal);
    const value = read(bytes);
    if (value === undefined) throw notJson();
    return work(value);
  };
  const isLong = bytes.length > SHORT_JSON_BYTES;
  const done = isLong ? turns.amongFew(readAndWork) : readAndWork();
  return done.finally(() => releaseLargeOf(bytes));
}

/** Without a body, an object of which nothing is said. */
function objectOrNone(bytes: Uint8Array): JsonObject | undefined {
  return bytes.length === 0 ? {} : parseObject(bytes);
}

function operationsOf(bytes: Uint8Array): JsonList | null | undefined {
  return bytes.length === 0 ? null : listIn(bytes, "operations");
}
