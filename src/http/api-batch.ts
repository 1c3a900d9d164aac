/**
 * Several operations in one request, in order. They are not a transaction: each succeeds or fails
 * by itself, and others may write between them.
 */
import type { InnerClient, RequestTurn } from "../ports.ts";
import { RespError } from "../protocol/resp-value.ts";
import type { AnswerTurns } from "./answer-turns.ts";
import {
  ApiError,
  commandError,
  factsField,
  invalid,
  notFound,
  notJson,
  valueOf,
} from "./api-answers.ts";
import {
  answerJson,
  bytesField,
  jsonText,
  LongText,
  PIECE_CHARACTERS,
  WrittenJson,
} from "./api-json.ts";
import { bytesOfField } from "./api-keys.ts";
import type { JsonList, JsonObject } from "./json-body.ts";
import type { Place } from "./places.ts";

/** Most operations of a batch. */
const MAX_OPERATIONS = 1_000;
/** How long operations are run before others have their turn, in ms. */
const TURN_MS = 1;
/** A value above this is kept as bytes until it is sent. */
const WRITTEN_BYTES = 1024;

/** Runs operations; answers a list of results, each with its status. */
export async function runBatch(
  operations: JsonList | null,
  client: InnerClient,
  { place, turns }: { readonly place: Place; readonly turns: AnswerTurns },
  signal: AbortSignal,
): Promise<Response> {
  if (operations === null || operations.length > MAX_OPERATIONS) {
    throw invalid(`operations is a list of at most ${MAX_OPERATIONS}`);
  }
  await checkJson(operations, turns, signal);
  const held: (() => void)[] = [];
  const end = (): void => {
    for (const release of held.splice(0)) release();
    place.leave();
  };
  const batch = new Batch(place, held);
  const results = new Results();
  let isFirst = true;
  try {
    for (let at = 0; at < operations.length;) {
      await turns.enter(signal);
      const answers = await client.inTurn((turn) => {
        const some: object[] = [];
        const endMs = turns.timing.nowMs() + TURN_MS;
        do some.push(batch.run(operations.at(at++), turn));
        while (at < operations.length && turns.timing.nowMs() < endMs);
        return some;
      });
      // Who is not logged in is asked to, as by any other request.
      const [first] = answers;
      if (isFirst && first instanceof ApiError && first.status === 401) throw first;
      isFirst = false;
      for (const answer of answers) results.add(answer);
    }
  } catch (error) {
    end();
    throw error;
  }
  const { response, cut } = answerJson({ results: results.all() }, turns, end);
  place.waitsForClient(cut);
  return response;
}

/** Nothing is done of what is no JSON to its end. Each item is read again when it is run. */
async function checkJson(items: JsonList, turns: AnswerTurns, signal: AbortSignal): Promise<void> {
  for (let at = 0; at < items.length;) {
    await turns.enter(signal);
    const endMs = turns.timing.nowMs() + TURN_MS;
    try {
      do items.at(at++);
      while (at < items.length && turns.timing.nowMs() < endMs);
    } catch {
      throw notJson();
    }
  }
}

/**
 * The results of operations, written out but for long values: the objects of a thousand results
 * would outlive collections of young objects, like those of a thousand operations.
 */
class Results {
  /** Those that are not in `texts`. */
  private readonly items: object[] = [];
  private texts: string[] = [];
  private characters = 0;

  add(answer: object): void {
    const result = toJson(answer);
    if (result.value instanceof LongText || result.value_base64 instanceof LongText) {
      this.flush();
      this.items.push(result);
      return;
    }
    const text = jsonText(result);
    this.texts.push(text);
    this.characters += text.length;
    if (this.characters > PIECE_CHARACTERS) this.flush();
  }

  /** All that were added, as the items of a list. */
  all(): readonly object[] {
    if (this.items.length === 0) return [new WrittenJson(this.texts.join(","))];
    this.flush();
    return this.items;
  }

  private flush(): void {
    if (this.texts.length === 0) return;
    this.items.push(new WrittenJson(encoder.encode(this.texts.join(","))));
    this.texts = [];
    this.characters = 0;
  }
}

function toJson(answer: object): JsonObject {
  if (!(answer instanceof ApiError)) return answer as JsonObject;
  const { status, code, message } = answer;
  return { status, error: { code, message } };
}

class Batch {
  constructor(
    private readonly place: Place,
    /** What releases the values that were read. */
    private readonly held: (() => void)[],
  ) {}

  run(operation: unknown, turn: RequestTurn): object {
    try {
      const { op, ...fields } = operation as JsonObject;
      const key = bytesOfField(fields, "key");
      if (key === undefined) throw invalid("An operation has a key, or key_base64");
      switch (op) {
        case "get":
          return this.get(key, turn);
        case "put":
          return put(key, fields, turn);
        case "delete":
          if (valueOf(turn.run(["DEL", key])) === 0n) throw notFound();
          return { status: 204 };
        default:
          throw invalid("op is get, put or delete");
      }
    } catch (error) {
      if (error instanceof ApiError) return error;
      if (error instanceof TypeError) return invalid("An operation is an object");
      throw error;
    }
  }

  private get(key: Uint8Array, turn: RequestTurn): object {
    const value = turn.get(key);
    if (value instanceof RespError) throw commandError(value);
    const facts = value === null ? null : turn.entry(key);
    if (value === null || facts === null) throw notFound();
    if (!this.place.grow(value.bytes.length)) {
      value.release();
      throw new ApiError(413, "too_large", "The values of this batch are too long together");
    }
    const field = bytesField("value", value.bytes, WRITTEN_BYTES);
    if (value.bytes.length > WRITTEN_BYTES) this.held.push(() => value.release());
    else value.release();
    return { status: 200, ...field, ...factsField(facts) };
  }
}

function put(key: Uint8Array, fields: JsonObject, turn: RequestTurn): object {
  const value = bytesOfField(fields, "value");
  if (value === undefined) throw invalid("put has a value, or value_base64");
  const { ttl_ms } = fields;
  const isTtl = Number.isSafeInteger(ttl_ms) && (ttl_ms as number) > 0;
  if (ttl_ms !== undefined && !isTtl) throw invalid("ttl_ms is a whole number from 1 on");
  const expiry = ttl_ms === undefined ? [] : ["PX", String(ttl_ms)];
  const isNew = !turn.has(key);
  valueOf(turn.run(["SET", key, value, ...expiry]));
  const facts = turn.entry(key);
  return { status: isNew ? 201 : 204, ...(facts && factsField(facts)) };
}

const encoder = new TextEncoder();
