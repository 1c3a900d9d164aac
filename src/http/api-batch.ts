/**
 * Several operations in one request, in order. They are not a transaction: each succeeds or fails
 * by itself, and others may write between them.
 */
import type { HeldValue, InnerClient, RequestTurn } from "../ports.ts";
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
import { answerJson } from "./api-json.ts";
import { bytesField, WrittenJson, writeJson } from "./json-writer.ts";
import { bytesOfField } from "./api-keys.ts";
import type { JsonList, JsonObject } from "./json-body.ts";
import type { Place } from "./places.ts";
import { TextBuffer } from "./text-buffer.ts";

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
  let isFirst = true;
  try {
    for (let at = 0; at < operations.length;) {
      await turns.enter(signal);
      const first = await client.inTurn((turn) => {
        written.clear();
        const endMs = turns.timing.nowMs() + TURN_MS;
        const first = batch.run(operations.at(at++), turn);
        while (at < operations.length && turns.timing.nowMs() < endMs) {
          batch.run(operations.at(at++), turn);
        }
        batch.flush();
        return first;
      });
      // Who is not logged in is asked to, as by any other request.
      if (isFirst && first?.status === 401) throw first;
      isFirst = false;
    }
  } catch (error) {
    end();
    throw error;
  }
  const { response, cut } = answerJson({ results: batch.results }, turns, end);
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

/** What the results of a turn are written in. */
const written = new TextBuffer();

/**
 * Runs operations. Their results are written out at once, but for long values: the objects of a
 * thousand results would outlive collections of young objects, like those of a thousand operations.
 */
class Batch {
  /** Those of turns that are over. */
  readonly results: object[] = [];
  /** What was read by the operation that is run. */
  private value: HeldValue | null = null;

  constructor(
    private readonly place: Place,
    /** What releases the values that were read. */
    private readonly held: (() => void)[],
  ) {}

  /** Runs one; returns what it throws, if it does. */
  run(operation: unknown, turn: RequestTurn): ApiError | null {
    let error: ApiError | null = null;
    let result: JsonObject;
    try {
      result = this.resultOf(operation, turn);
    } catch (thrown) {
      if (thrown instanceof ApiError) error = thrown;
      else if (thrown instanceof TypeError) error = invalid("An operation is an object");
      else throw thrown;
      const { status, code, message } = error;
      result = { status, error: { code, message } };
    }
    this.add(result);
    return error;
  }

  /** The turn is over. */
  flush(): void {
    if (written.length > 0) this.results.push(new WrittenJson(written.copy()));
    written.clear();
  }

  private add(result: JsonObject): void {
    const { value } = this;
    this.value = null;
    if (value !== null && value.bytes.length > WRITTEN_BYTES) {
      this.held.push(() => value.release());
      this.flush();
      this.results.push(result);
      return;
    }
    if (written.length > 0) written.addText(",");
    writeJson(result, written);
    value?.release();
  }

  private resultOf(operation: unknown, turn: RequestTurn): JsonObject {
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
  }

  private get(key: Uint8Array, turn: RequestTurn): JsonObject {
    const value = turn.get(key);
    if (value instanceof RespError) throw commandError(value);
    const facts = value === null ? null : turn.entry(key);
    if (value === null || facts === null) throw notFound();
    if (!this.place.grow(value.bytes.length)) {
      value.release();
      throw new ApiError(413, "too_large", "The values of this batch are too long together");
    }
    this.value = value;
    return { status: 200, ...bytesField("value", value.bytes), ...factsField(facts) };
  }
}

function put(key: Uint8Array, fields: JsonObject, turn: RequestTurn): JsonObject {
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
