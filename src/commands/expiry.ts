/**
 * Time to live. An expiry is a write of its own: it carries no value, and undoes none (see
 * `core/data/merge.ts`).
 */
import { Entry } from "../core/data/entry.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  CHANGES_KEY,
  READS_KEY,
  WRITES_KEY,
  checkKey,
  command,
  isRefused,
  shown,
  type Command,
  type Context,
  type Run,
} from "./command.ts";
import {
  expiryOf,
  expiryStart,
  isExpiryOption,
  readExpiry,
  readInteger,
} from "./expiry-options.ts";

const found = new Entry();
/** More words than any use of these commands has. */
const MOST_WORDS = 16;
/** `getWithExpiry`: no expiry is asked for. */
const UNCHANGED = -1;

/** Finds key argument 0 and reads it into `found`; false when it is not there. */
function findEntry(request: Request, context: Context): boolean {
  const { store } = context;
  const id = store.find(request.bytes, request.start(0), request.length(0));
  if (id >= 0) store.readValue(id, found);
  return id >= 0;
}

/**
 * Gives the key another expiry; deletes it when that has passed. True when it went well.
 */
function changeExpiry(
  request: Request,
  expiresAtMs: number,
  reply: Reply,
  context: Context,
): boolean {
  const { store } = context;
  const { bytes } = request;
  const start = request.start(0);
  const length = request.length(0);
  if (expiresAtMs !== 0 && expiresAtMs <= store.clock.nowMs()) {
    return store.delete(bytes, start, length);
  }
  return !isRefused(store.expire(bytes, start, length, expiresAtMs), reply);
}

function remaining(isAbsolute: boolean, unitMs: number): Run {
  return (request, reply, context) => {
    if (!checkKey(request, 0, reply)) return;
    if (!findEntry(request, context)) return answer(reply, -2);
    if (found.expiresAtMs === 0) return answer(reply, -1);
    const ms = isAbsolute ? found.expiresAtMs : found.expiresAtMs - context.store.clock.nowMs();
    // To the nearest second, as in Redis.
    answer(reply, Math.round(ms / unitMs));
  };
}

function answer(reply: Reply, number: number): void {
  if (number < 0) {
    if (reply.isResp) reply.raw(`:${number}\r\n`);
    else reply.simple(String(number));
    return;
  }
  reply.count(number, "VALUE ");
}

function expire(name: string, isAbsolute: boolean, unitMs: number): Run {
  return (request, reply, context) => {
    if (!checkKey(request, 0, reply)) return;
    if (!checkConditions(request, reply)) return;
    const amount = readInteger(request, 1);
    if (amount === undefined) return reply.error("Value is not a valid number");
    const fromMs = isAbsolute ? 0 : expiryStart(context);
    const expiresAtMs = expiryOf(amount, unitMs, fromMs, name, reply);
    if (expiresAtMs === undefined) return;
    if (!isAllowed(request, expiresAtMs, context)) return answer(reply, 0);
    // Times before 1970 are past like any other; 0 would mean never.
    if (changeExpiry(request, Math.max(1, expiresAtMs), reply, context)) answer(reply, 1);
  };
}

/** Whether the options are known, and go together. Answers the error if not. */
function checkConditions(request: Request, reply: Reply): boolean {
  if (request.count <= 2) return true;
  const given = new Set<string>();
  for (let i = 2; i < request.count; i++) {
    const option = CONDITIONS.find((word) => request.is(i, word));
    if (option === undefined) {
      reply.respError(`ERR Unsupported option ${shown(request, i)}`);
      return false;
    }
    given.add(option);
  }
  if (given.has("NX") && given.size > 1) {
    reply.respError("ERR NX and XX, GT or LT options at the same time are not compatible");
    return false;
  }
  if (given.has("GT") && given.has("LT")) {
    reply.respError("ERR GT and LT options at the same time are not compatible");
    return false;
  }
  return true;
}

const CONDITIONS = ["NX", "XX", "GT", "LT"];

/** Whether key and options allow the new expiry. */
function isAllowed(request: Request, expiresAtMs: number, context: Context): boolean {
  let allowed = findEntry(request, context);
  // No expiry counts as an infinite one.
  const current = allowed && found.expiresAtMs !== 0 ? found.expiresAtMs : Infinity;
  for (let i = 2; i < request.count; i++) {
    if (request.is(i, "NX")) allowed &&= current === Infinity;
    else if (request.is(i, "XX")) allowed &&= current !== Infinity;
    else if (request.is(i, "GT")) allowed &&= expiresAtMs > current;
    else allowed &&= expiresAtMs < current;
  }
  return allowed;
}

const persist: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  if (!findEntry(request, context) || found.expiresAtMs === 0) return answer(reply, 0);
  if (changeExpiry(request, 0, reply, context)) answer(reply, 1);
};

const getWithExpiry: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  const persists = request.is(1, "PERSIST");
  const words = request.count === 1 ? 1 : persists ? 2 : 3;
  if (request.count !== words || (words === 3 && !isExpiryOption(request, 1))) {
    return reply.respError("ERR syntax error");
  }
  if (!findEntry(request, context)) return reply.missing();
  let expiresAtMs = persists ? 0 : UNCHANGED;
  if (words === 3) {
    const at = readExpiry(request, 1, reply, "getex", context);
    if (at === undefined) return;
    expiresAtMs = at;
  }
  const start = reply.length;
  reply.value(found.value, found.valueOffset, found.valueLength);
  if (expiresAtMs === UNCHANGED || (expiresAtMs === 0 && found.expiresAtMs === 0)) return;
  const end = reply.length;
  if (changeExpiry(request, expiresAtMs, reply, context)) return;
  // Refused: the error takes the value's place.
  reply.bytes.copyWithin(start, end, reply.length);
  reply.length -= end - start;
};

/** To RESP clients too many options are a wrong option, as in Redis. */
const WITH_OPTIONS = { ...WRITES_KEY, respMost: MOST_WORDS } as const;
const READ_WITH_OPTIONS = { ...CHANGES_KEY, respMost: MOST_WORDS } as const;

/** Time to live. */
export const expiryCommands: readonly Command[] = [
  command(
    "TTL",
    "string",
    "keyspace read fast",
    SHAPE_WORDS,
    1,
    1,
    remaining(false, 1000),
    READS_KEY,
  ),
  command(
    "PTTL",
    "string",
    "keyspace read fast",
    SHAPE_WORDS,
    1,
    1,
    remaining(false, 1),
    READS_KEY,
  ),
  command(
    "EXPIRETIME",
    "string",
    "keyspace read fast",
    SHAPE_WORDS,
    1,
    1,
    remaining(true, 1000),
    READS_KEY,
  ),
  command(
    "PEXPIRETIME",
    "string",
    "keyspace read fast",
    SHAPE_WORDS,
    1,
    1,
    remaining(true, 1),
    READS_KEY,
  ),
  command(
    "EXPIRE",
    "set",
    "keyspace write fast",
    SHAPE_WORDS,
    2,
    4,
    expire("expire", false, 1000),
    WITH_OPTIONS,
  ),
  command(
    "PEXPIRE",
    "set",
    "keyspace write fast",
    SHAPE_WORDS,
    2,
    4,
    expire("pexpire", false, 1),
    WITH_OPTIONS,
  ),
  command(
    "EXPIREAT",
    "set",
    "keyspace write fast",
    SHAPE_WORDS,
    2,
    4,
    expire("expireat", true, 1000),
    WITH_OPTIONS,
  ),
  command(
    "PEXPIREAT",
    "set",
    "keyspace write fast",
    SHAPE_WORDS,
    2,
    4,
    expire("pexpireat", true, 1),
    WITH_OPTIONS,
  ),
  command("PERSIST", "set", "keyspace write fast", SHAPE_WORDS, 1, 1, persist, WRITES_KEY),
  command("GETEX", "get", "write string fast", SHAPE_WORDS, 1, 3, getWithExpiry, READ_WITH_OPTIONS),
];
