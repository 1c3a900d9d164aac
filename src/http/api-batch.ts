/**
 * Several operations in one request, in order. They are not a transaction: each succeeds or fails
 * by itself, and others may write between them.
 */
import type { EntryFacts, InnerClient, RequestTurn } from "../ports.ts";
import { ApiError, factsField, invalid, notFound, valueOf } from "./api-answers.ts";
import { bytesField, bytesOfField } from "./api-keys.ts";

type Json = Readonly<Record<string, unknown>>;

/** Most operations of a batch. */
const MAX_OPERATIONS = 1_000;
/** Run in one turn; then others have theirs. */
const OPERATIONS_A_TURN = 16;

/** Runs `operations` of the body; answers a list of results, each with its status. */
export async function runBatch(body: Json, client: InnerClient): Promise<Response> {
  const { operations } = body;
  if (!Array.isArray(operations) || operations.length > MAX_OPERATIONS) {
    throw invalid(`operations is a list of at most ${MAX_OPERATIONS}`);
  }
  const results: unknown[] = [];
  let isFirst = true;
  for (let at = 0; at < operations.length; at += OPERATIONS_A_TURN) {
    const some = operations.slice(at, at + OPERATIONS_A_TURN);
    const answers = await client.inTurn((turn) => some.map((each) => runOne(each, turn)));
    // Who is not logged in is asked to, as by any other request.
    const [first] = answers;
    if (isFirst && first instanceof ApiError && first.status === 401) throw first;
    isFirst = false;
    results.push(...answers.map(toJson));
  }
  return Response.json({ results });
}

function toJson(answer: object): object {
  if (!(answer instanceof ApiError)) return answer;
  const { status, code, message } = answer;
  return { status, error: { code, message } };
}

function runOne(operation: unknown, turn: RequestTurn): object {
  try {
    const { op, ...fields } = operation as Json;
    const key = bytesOfField(fields, "key");
    if (key === undefined) throw invalid("An operation has a key, or key_base64");
    switch (op) {
      case "get": {
        const value = valueOf(turn.run(["GET", key])) as Uint8Array | null;
        const facts = value === null ? null : turn.entry(key);
        if (value === null || facts === null) throw notFound();
        return { status: 200, ...bytesField("value", value), ...factsField(facts) };
      }
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
