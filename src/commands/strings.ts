/** Commands on one string value. */
import { READ_WRITE, WRITE, type KeyAccess } from "../access/permission.ts";
import { Entry, KIND_OTHER, KIND_STRING } from "../core/data/entry.ts";
import { SHAPE_KEY_VALUE, SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import type { Outcome } from "../core/store/outcome.ts";
import { KEEP_EXPIRY } from "../core/store/own-writes.ts";
import {
  CHANGES_KEY,
  KNOWS_KEY,
  READS_KEY,
  WRITES_KEY,
  checkKey,
  checkValueLength,
  command,
  isRefused,
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
import { answerInPieces, isLong, PIECE_BYTES } from "./long-value.ts";
import { ValueBuilder } from "./value-builder.ts";

const found = new Entry();
const built = new ValueBuilder();
const whole = new ValueBuilder();

const get: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  const { store } = context;
  const id = store.find(request.bytes, request.start(0), request.length(0));
  if (id < 0) return reply.missing();
  store.readValueAlone(id, found);
  if (found.valueLength > PIECE_BYTES) return answerLong(id, reply, context);
  reply.value(found.value, found.valueOffset, found.valueLength);
};

/** Answers the value that was found of the entry `id`, in pieces if that can be. */
function answerLong(id: number, reply: Reply, context: Context): ReturnType<Run> {
  const value = isLong(found, reply, context) ? context.store.shareValue(id, found) : null;
  if (value !== null) return answerInPieces(value, context.session);
  reply.value(found.value, found.valueOffset, found.valueLength);
}

/** Answers the value of key argument `i`, or that it is missing. Whether it is there. */
function answerValue(request: Request, i: number, reply: Reply, context: Context): boolean {
  const { store } = context;
  const id = store.find(request.bytes, request.start(i), request.length(i));
  if (id < 0) {
    reply.missing();
    return false;
  }
  store.readValueAlone(id, found);
  reply.value(found.value, found.valueOffset, found.valueLength);
  return true;
}

const set: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  if (request.count > 2) return setWithOptions(request, reply, context);
  if (!checkValueLength(request.length(1), reply, context)) return;
  if (!isRefused(write(request, 1, 0, context), reply)) reply.ok();
};

/** Stores argument `valueAt` under key argument 0. */
function write(request: Request, valueAt: number, expiresAtMs: number, context: Context): Outcome {
  const { bytes } = request;
  const valueStart = request.start(valueAt);
  const valueLength = request.length(valueAt);
  const keyStart = request.start(0);
  const keyLength = request.length(0);
  const { store } = context;
  return store.set(bytes, keyStart, keyLength, bytes, valueStart, valueLength, expiresAtMs);
}

/** SET takes at most this many words: each option once, and some twice. */
const MOST_SET_WORDS = 16;

function setWithOptions(request: Request, reply: Reply, context: Context): void {
  let onlyIfMissing = false;
  let onlyIfPresent = false;
  let answerOld = false;
  let keepExpiry = false;
  let expiryAt = 0;
  if (request.count > MOST_SET_WORDS) return reply.respError("ERR syntax error");
  for (let i = 2; i < request.count; i++) {
    if (request.is(i, "NX")) onlyIfMissing = true;
    else if (request.is(i, "XX")) onlyIfPresent = true;
    else if (request.is(i, "GET")) answerOld = true;
    else if (request.is(i, "KEEPTTL")) keepExpiry = true;
    else {
      if (!isExpiryOption(request, i) || expiryAt !== 0 || i + 1 >= request.count) {
        return reply.respError("ERR syntax error");
      }
      expiryAt = i++;
    }
  }
  if ((onlyIfMissing && onlyIfPresent) || (keepExpiry && expiryAt !== 0)) {
    return reply.respError("ERR syntax error");
  }
  let expiresAtMs = keepExpiry ? KEEP_EXPIRY : 0;
  if (expiryAt !== 0) {
    const at = readExpiry(request, expiryAt, reply, "set", context);
    if (at === undefined) return;
    expiresAtMs = at;
  }
  if (!checkValueLength(request.length(1), reply, context)) return;
  const { store } = context;
  const id = store.find(request.bytes, request.start(0), request.length(0));
  if (answerOld && id >= 0) store.readValueAlone(id, found);
  const start = reply.length;
  // The old value is answered from the store before the write moves it.
  if (answerOld) {
    if (id < 0) reply.missing();
    else reply.value(found.value, found.valueOffset, found.valueLength);
  }
  if ((onlyIfMissing && id >= 0) || (onlyIfPresent && id < 0)) {
    if (!answerOld) reply.missing();
    return;
  }
  const outcome = write(request, 1, expiresAtMs, context);
  if (outcome < 0) reply.length = start;
  if (isRefused(outcome, reply) || answerOld) return;
  reply.ok();
}

const setIfMissing: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  if (!checkValueLength(request.length(1), reply, context)) return;
  const isThere = context.store.find(request.bytes, request.start(0), request.length(0)) >= 0;
  if (!isThere && isRefused(write(request, 1, 0, context), reply)) return;
  reply.count(isThere ? 0 : 1, "VALUE ");
};

function setWithExpiry(name: string, unitMs: number): Run {
  return (request, reply, context) => {
    if (!checkKey(request, 0, reply)) return;
    const amount = readInteger(request, 1);
    if (amount === undefined) return reply.error("Value is not a valid number");
    // No time to live at all is as wrong as one without end.
    const given = amount > 0 ? amount : Infinity;
    const expiresAtMs = expiryOf(given, unitMs, expiryStart(context), name, reply);
    if (expiresAtMs === undefined) return;
    if (!checkValueLength(request.length(2), reply, context)) return;
    if (!isRefused(write(request, 2, expiresAtMs, context), reply)) reply.ok();
  };
}

const getAndSet: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  if (!checkValueLength(request.length(1), reply, context)) return;
  const start = reply.length;
  answerValue(request, 0, reply, context);
  const outcome = write(request, 1, 0, context);
  if (outcome < 0) reply.length = start;
  isRefused(outcome, reply);
};

const getAndDelete: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  answerValue(request, 0, reply, context);
  context.store.delete(request.bytes, request.start(0), request.length(0));
};

function extend(atFront: boolean): Run {
  return (request, reply, context) => {
    if (!checkKey(request, 0, reply)) return;
    const id = findToChange(request, context);
    const length = found.valueLength + request.length(1);
    if (!checkValueLength(length, reply, context)) return;
    built.reset(request.length(1));
    built.add(request.bytes, request.start(1), request.length(1));
    if (isRefused(putBuilt(id, atFront ? 0 : found.valueLength, 0, request, context), reply))
      return;
    if (request.isResp) return reply.count(length, "");
    return get(request, reply, context);
  };
}

/** Points `found` at what key argument 0 holds, or at nothing. The id, or -1. */
function findToChange(request: Request, { store }: Context): number {
  const id = store.find(request.bytes, request.start(0), request.length(0));
  found.setValue(request.bytes, 0, 0);
  if (id >= 0) store.readValueAlone(id, found);
  return id;
}

/**
 * Puts what was built in the place of `removed` bytes, from `at` on, of what `findToChange` found.
 * The key keeps its expiry.
 */
function putBuilt(
  id: number,
  at: number,
  removed: number,
  request: Request,
  context: Context,
): Outcome {
  const { store } = context;
  context.copiedBytes += built.length;
  if (id >= 0 && found.kind === KIND_STRING) {
    const outcome = store.splice(id, at, removed, built.bytes, 0, built.length);
    built.reset();
    return outcome;
  }
  // Nothing was there, or a counter, of which clients see a few digits.
  const { value, valueOffset, valueLength } = found;
  const tailAt = at + removed;
  whole.reset();
  whole.add(value, valueOffset, at);
  whole.add(built.bytes, 0, built.length);
  whole.add(value, valueOffset + tailAt, valueLength - tailAt);
  const keyStart = request.start(0);
  const keyLength = request.length(0);
  const { bytes, length } = whole;
  built.reset();
  const outcome = store.set(request.bytes, keyStart, keyLength, bytes, 0, length, KEEP_EXPIRY);
  whole.reset();
  return outcome;
}

const valueLength: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  const id = context.store.find(request.bytes, request.start(0), request.length(0));
  if (id >= 0) context.store.readValueAlone(id, found);
  reply.count(id < 0 ? 0 : found.valueLength, "VALUE ");
};

const getRange: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  let first = readInteger(request, 1);
  let last = readInteger(request, 2);
  if (first === undefined || last === undefined) return reply.error("Value is not a valid number");
  const id = context.store.find(request.bytes, request.start(0), request.length(0));
  found.setValue(request.bytes, 0, 0);
  if (id >= 0) context.store.readValueAlone(id, found);
  const length = found.valueLength;
  // As in Redis: what lies before the first byte is the first byte, unless both ends do and are
  // swapped.
  const isSwapped = first < 0 && last < 0 && first > last;
  if (first < 0) first = Math.max(0, length + first);
  if (last < 0) last = Math.max(0, length + last);
  last = Math.min(last, length - 1);
  if (isSwapped || first > last) return reply.value(found.value, found.valueOffset, 0);
  reply.value(found.value, found.valueOffset + first, last - first + 1);
};

const setRange: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  const offset = readInteger(request, 1);
  if (offset === undefined) return reply.error("Value is not a valid number");
  if (offset < 0) return reply.error("Value out of range", "offset is out of range");
  const id = findToChange(request, context);
  const { valueLength } = found;
  const givenLength = request.length(2);
  if (givenLength === 0) return reply.count(valueLength, "VALUE ");
  const length = Math.max(offset + givenLength, valueLength);
  if (!checkValueLength(length, reply, context)) return;
  const at = Math.min(offset, valueLength);
  const removed = Math.min(givenLength, valueLength - at);
  built.reset(offset - at + givenLength);
  built.addZeros(offset - at);
  built.add(request.bytes, request.start(2), givenLength);
  if (isRefused(putBuilt(id, at, removed, request, context), reply)) return;
  reply.count(length, "VALUE ");
};

const typeOf: Run = (request, reply, context) => {
  if (!checkKey(request, 0, reply)) return;
  const { store } = context;
  const id = store.find(request.bytes, request.start(0), request.length(0));
  if (id >= 0) store.read(id, found);
  const type = found.kind === KIND_OTHER ? "other" : "string";
  reply.simple(id < 0 ? "none" : type);
};

/** With GET, SET answers what was there. */
function setAccess(request: Request): KeyAccess {
  for (let i = 2; i < Math.min(request.count, MOST_SET_WORDS); i++) {
    if (request.is(i, "GET")) return READ_WRITE;
  }
  return WRITE;
}

/** In a line the answer is the whole value. */
const EXTENDS_KEY = {
  ...WRITES_KEY,
  access: (request: Request) => (request.isResp ? WRITE : READ_WRITE),
} as const;

/** Commands on one string value. */
export const stringCommands: readonly Command[] = [
  command("GET", "get", "read string fast", SHAPE_WORDS, 1, 1, get, READS_KEY),
  command("SET", "set", "write string slow", SHAPE_KEY_VALUE, 2, 2, set, {
    ...WRITES_KEY,
    access: setAccess,
    respMost: -1,
  }),
  command("SETNX", "set", "write string fast", SHAPE_KEY_VALUE, 2, 2, setIfMissing, WRITES_KEY),
  command(
    "SETEX",
    "set",
    "write string slow",
    SHAPE_WORDS,
    3,
    3,
    setWithExpiry("setex", 1000),
    WRITES_KEY,
  ),
  command(
    "PSETEX",
    "set",
    "write string slow",
    SHAPE_WORDS,
    3,
    3,
    setWithExpiry("psetex", 1),
    WRITES_KEY,
  ),
  command("GETSET", "set", "write string fast", SHAPE_KEY_VALUE, 2, 2, getAndSet, CHANGES_KEY),
  command("GETDEL", "delete", "write string fast", SHAPE_WORDS, 1, 1, getAndDelete, CHANGES_KEY),
  command(
    "APPEND",
    "string",
    "write string fast",
    SHAPE_KEY_VALUE,
    2,
    2,
    extend(false),
    EXTENDS_KEY,
  ),
  command(
    "PREPEND",
    "string",
    "write string fast",
    SHAPE_KEY_VALUE,
    2,
    2,
    extend(true),
    EXTENDS_KEY,
  ),
  command("STRLEN", "string", "read string fast", SHAPE_WORDS, 1, 1, valueLength, KNOWS_KEY),
  command("GETRANGE", "string", "read string slow", SHAPE_WORDS, 3, 3, getRange, READS_KEY),
  command("SUBSTR", "string", "read string slow", SHAPE_WORDS, 3, 3, getRange, READS_KEY),
  command("SETRANGE", "string", "write string slow", SHAPE_WORDS, 3, 3, setRange, WRITES_KEY),
  command("TYPE", "string", "keyspace read fast", SHAPE_WORDS, 1, 1, typeOf, KNOWS_KEY),
];
