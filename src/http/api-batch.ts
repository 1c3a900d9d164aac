/**
 * Several operations in one request, in order. They are not a transaction: each succeeds or fails
 * by itself, and others may write between them.
 */
import type { EntryFacts, InnerClient, RequestTurn } from "../ports.ts";
import { RespError } from "../protocol/resp-value.ts";
import type { AnswerTurns } from "./answer-turns.ts";
import { ApiError, commandError, factsField, invalid, notFound, valueOf } from "./api-answers.ts";
import { answerJson, bytesField } from "./api-json.ts";
import { bytesOfField } from "./api-keys.ts";
import type { Place } from "./places.ts";

type Json = Readonly<Record<string, unknown>>;

/** Most operations of a batch. */
const MAX_OPERATIONS = 1_000;
/** How long operations are run before others have their turn, in ms. */
const TURN_MS = 1;

/** Runs `operations` of the body; answers a list of results, each with its status. */
export async function runBatch(
  body: Json,
  client: InnerClient,
  { place, turns }: { readonly place: Place; readonly turns: AnswerTurns },
  signal: AbortSignal,
): Promise<Response> {
  const { operations } = body;
  if (!Array.isArray(operations) || operations.length > MAX_OPERATIONS) {
    throw invalid(`operations is a list of at most ${MAX_OPERATIONS}`);
  }
  const held: (() => void)[] = [];
  const end = (): void => {
    for (const release of held.splice(0)) release();
    place.leave();
  };
  const batch = new Batch(place, held);
  const results: object[] = [];
  try {
    for (let at = 0; at < operations.length;) {
      await turns.enter(signal);
      const answers = await client.inTurn((turn) => {
        const some: object[] = [];
        const endMs = turns.timing.nowMs() + TURN_MS;
        do some.push(batch.run(operations[at++], turn));
        while (at < operations.length && turns.timing.nowMs() < endMs);
        return some;
      });
      // Who is not logged in is asked to, as by any other request.
      const [first] = answers;
      if (results.length === 0 && first instanceof ApiError && first.status === 401) throw first;
      results.push(...answers.map(toJson));
    }
  } catch (error) {
    end();
    throw error;
  }
  const { response, cut } = answerJson({ results }, turns, end);
  place.waitsForClient(cut);
  return response;
}

function toJson(answer: object): object {
  if (!(answer instanceof ApiError)) return answer;
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
      const { op, ...fields } = operation as Json;
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
    this.held.push(() => value.release());
    return { status: 200, ...bytesField("value", value.bytes), ...factsField(facts) };
  }
}

function put(key: Uint8Array, fields: Json, turn: RequestTurn): object {
  const value = bytesOfField(fields, "value");
  if (value === undefined) throw invalid("put has a value, or value_base64");
  const { ttl_ms } = fields;
  const isTtl = Number.isSafeInteger(ttl_ms) && (ttl_ms as number) > 0;
  if (ttl_ms !== undefined && !isTtl) throw invalid("ttl_ms is a whole number from 1 on");
  const expiry = ttl_ms === undefined ? [] : ["PX", String(ttl_ms as number)];
  const before: EntryFacts | null = turn.entry(key);
  valueOf(turn.run(["SET", key, value, ...expiry]));
  const facts = turn.entry(key);
  return { status: before === null ? 201 : 204, ...(facts && factsField(facts)) };
}
