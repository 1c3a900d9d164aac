/** Commands on keys as such: deleting, counting, listing. */
import { Entry } from "../core/entry.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  checkKey,
  checkKeys,
  command,
  isRefused,
  type Command,
  type Context,
  type LateReply,
  type Run,
} from "./command.ts";
import { readInteger } from "./expiry-options.ts";
import { matchesGlob } from "./glob.ts";
import { KeyCollector, nextSlice } from "./key-collector.ts";

const found = new Entry();
/** Rows or keys looked at before other connections get their turn: about a millisecond. */
const SLICE = 4096;

const remove: Run = (request, reply, context) => {
  if (!checkKeys(request, 0, 1, reply)) return;
  let count = 0;
  for (let i = 0; i < request.count; i++) {
    if (context.store.delete(request.bytes, request.start(i), request.length(i))) count++;
  }
  if (request.isResp) reply.count(count, "");
  else reply.simple(count > 0 ? "DELETED" : "NOT_FOUND");
};

const exists: Run = (request, reply, context) => {
  if (!checkKeys(request, 0, 1, reply)) return;
  let count = 0;
  for (let i = 0; i < request.count; i++) {
    if (context.store.find(request.bytes, request.start(i), request.length(i)) >= 0) count++;
  }
  reply.count(count, "EXISTS ");
};

const size: Run = (_request, reply, context) => {
  reply.count(context.store.size, "DBSIZE ");
};

const flush: Run = (request, reply, context) => {
  if (request.count === 1 && !request.is(0, "SYNC") && !request.is(0, "ASYNC")) {
    return reply.error("Too many arguments");
  }
  context.store.flush();
  reply.ok();
};

const scan: Run = (request, reply, context) =>
  request.isResp ? scanByCursor(request, reply, context) : scanInOrder(request, reply, context);

/**
 * The Redis form. A cursor is the number of the row to go on from: rows keep their
 * number while the entry exists, so a key that is there throughout is always reported.
 */
function scanByCursor(request: Request, reply: Reply, context: Context): void {
  const { store } = context;
  const from = readInteger(request, 0);
  if (from === undefined || from < 0) return reply.respError("ERR invalid cursor");
  let pattern: Uint8Array | undefined;
  let wanted = 10;
  let isOtherType = false;
  for (let i = 1; i < request.count; i += 2) {
    if (i + 1 >= request.count) return reply.respError("ERR syntax error");
    if (request.is(i, "MATCH")) pattern = argumentBytes(request, i + 1);
    else if (request.is(i, "TYPE")) isOtherType = !request.is(i + 1, "STRING");
    else if (request.is(i, "COUNT")) {
      const count = readInteger(request, i + 1);
      if (count === undefined) return reply.error("Value is not a valid number");
      if (count < 1) return reply.respError("ERR syntax error");
      wanted = count;
    } else return reply.respError("ERR syntax error");
  }
  const keys = new KeyCollector(context.services.limits.maxReplyBytes);
  const end = Math.min(from + SLICE, store.idLimit);
  let id = from;
  // COUNT is how many entries to look at, as in Redis; matching comes after.
  for (let seen = 0; id < end && seen < wanted; id++) {
    if (!store.isUsed(id) || !store.isLive(id)) continue;
    seen++;
    if (!isOtherType) collectMatching(id, pattern, keys, context);
  }
  reply.array(2);
  reply.bulkText(String(id >= store.idLimit ? 0 : id));
  reply.array(keys.count);
  keys.forEach((bytes, offset, length) => reply.bulk(bytes, offset, length));
}

function collectMatching(
  id: number,
  pattern: Uint8Array | undefined,
  keys: KeyCollector,
  context: Context,
): void {
  context.store.read(id, found);
  const { key, keyOffset, keyLength } = found;
  if (pattern === undefined || matchesGlob(pattern, key, keyOffset, keyLength)) {
    keys.add(key, keyOffset, keyLength);
  }
}

/** The line form: `SCAN [prefix] [AFTER key] [COUNT n]`, in lexicographic order. */
function scanInOrder(request: Request, reply: Reply, context: Context): void | Promise<LateReply> {
  let prefix: Uint8Array = NOTHING;
  let after: Uint8Array | undefined;
  let wanted = Infinity;
  // An odd number of words begins with the prefix; options come in twos.
  let i = request.count % 2;
  if (i === 1) prefix = argumentBytes(request, 0);
  for (; i < request.count; i += 2) {
    if (request.is(i, "AFTER")) {
      if (!checkKey(request, i + 1, reply)) return;
      after = argumentBytes(request, i + 1);
    } else if (request.is(i, "COUNT")) {
      const count = readInteger(request, i + 1);
      if (count === undefined || count < 0) {
        return reply.error("Value is not a valid number", "COUNT takes a whole number from 0 on");
      }
      wanted = count;
    } else {
      return reply.error("Too many arguments", "SCAN [prefix] [AFTER key] [COUNT n]");
    }
  }
  return collectInOrder(prefix, after, wanted, context);
}

async function collectInOrder(
  prefix: Uint8Array,
  after: Uint8Array | undefined,
  wanted: number,
  context: Context,
): Promise<LateReply> {
  const { store } = context;
  const keys = new KeyCollector(context.services.limits.maxReplyBytes);
  let last = after;
  let isDone = wanted === 0;
  while (!isDone && !keys.isFull) {
    // The order may have changed since the last slice: find the place again by key.
    const beyond = last !== undefined && compareKeys(last, prefix) >= 0;
    let position = beyond
      ? store.order.seekAfter(last!, 0, last!.length)
      : store.order.seek(prefix, 0, prefix.length);
    isDone = true;
    for (let seen = 0; position >= 0; position = store.order.next(position)) {
      const id = store.order.at(position);
      store.read(id, found);
      if (!hasPrefix(prefix)) break;
      if (store.isLive(id)) {
        keys.add(found.key, found.keyOffset, found.keyLength);
        if (keys.count >= wanted || keys.isFull) break;
      }
      if (++seen === SLICE) {
        last = found.keyBytes();
        isDone = false;
        break;
      }
    }
    if (!isDone) await nextSlice();
  }
  return (reply) => {
    if (keys.isFull) return tooManyKeys(reply);
    reply.simple(`KEYS ${keys.count}`);
    keys.forEach((bytes, offset, length) => {
      reply.key(bytes, offset, length);
      reply.endOfLine();
    });
  };
}

const keysMatching: Run = async (request, _reply, context) => {
  const { store } = context;
  const pattern = argumentBytes(request, 0);
  const keys = new KeyCollector(context.services.limits.maxReplyBytes);
  for (let id = 0; id < store.idLimit && !keys.isFull;) {
    const end = Math.min(id + SLICE, store.idLimit);
    for (; id < end; id++) {
      if (store.isUsed(id) && store.isLive(id)) collectMatching(id, pattern, keys, context);
    }
    await nextSlice();
  }
  return (reply) => {
    if (keys.isFull) return tooManyKeys(reply);
    if (reply.isResp) reply.array(keys.count);
    else reply.simple(`KEYS ${keys.count}`);
    keys.forEach((bytes, offset, length) => {
      if (reply.isResp) return reply.bulk(bytes, offset, length);
      reply.key(bytes, offset, length);
      reply.endOfLine();
    });
  };
};

const randomKey: Run = (_request, reply, context) => {
  const { store } = context;
  const start = Math.floor(Math.random() * store.idLimit);
  for (let i = 0; i < store.idLimit; i++) {
    const id = (start + i) % store.idLimit;
    if (!store.isUsed(id) || !store.isLive(id)) continue;
    store.read(id, found);
    return reply.value(found.key, found.keyOffset, found.keyLength);
  }
  reply.missing();
};

const rename: Run = (request, reply, context) => {
  if (!checkKeys(request, 0, 1, reply)) return;
  const { store } = context;
  const { bytes } = request;
  const id = store.find(bytes, request.start(0), request.length(0));
  if (id < 0) {
    if (request.isResp) return reply.respError("ERR no such key");
    return reply.missing();
  }
  store.readValue(id, found);
  const { expiresAtMs } = found;
  const value = found.valueBytes();
  const newStart = request.start(1);
  const newLength = request.length(1);
  const outcome = store.set(bytes, newStart, newLength, value, 0, value.length, expiresAtMs);
  if (isRefused(outcome, reply)) return;
  const isSame = compareKeys(argumentBytes(request, 0), argumentBytes(request, 1)) === 0;
  if (!isSame) store.delete(bytes, request.start(0), request.length(0));
  reply.ok();
};

function tooManyKeys(reply: Reply): void {
  reply.error("Value too large", "the list exceeds network.max_output_bytes; use COUNT and AFTER");
}

function argumentBytes(request: Request, i: number): Uint8Array {
  return request.bytes.slice(request.start(i), request.start(i) + request.length(i));
}

function hasPrefix(prefix: Uint8Array): boolean {
  if (found.keyLength < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) {
    if (found.key[found.keyOffset + i] !== prefix[i]) return false;
  }
  return true;
}

function compareKeys(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

const NOTHING = new Uint8Array(0);

/** Commands on keys as such. */
export const keyspaceCommands: readonly Command[] = [
  command("DEL DELETE", "delete", SHAPE_WORDS, 1, 1, remove, {
    isWrite: true,
    keys: [1, -1, 1],
    respMost: -1,
  }),
  command("UNLINK", "delete", SHAPE_WORDS, 1, 1, remove, {
    isWrite: true,
    keys: [1, -1, 1],
    respMost: -1,
  }),
  command("EXISTS", "exists", SHAPE_WORDS, 1, -1, exists, { keys: [1, -1, 1] }),
  command("SCAN", "scan", SHAPE_WORDS, 0, 5, scan, { respLeast: 1, respMost: -1 }),
  command("KEYS", "scan", SHAPE_WORDS, 1, 1, keysMatching),
  command("RANDOMKEY", "scan", SHAPE_WORDS, 0, 0, randomKey),
  command("RENAME", "set", SHAPE_WORDS, 2, 2, rename, { isWrite: true, keys: [1, 2, 1] }),
  command("DBSIZE", "dbsize", SHAPE_WORDS, 0, 0, size),
  command("FLUSH FLUSHDB FLUSHALL TRUNCATE", "management", SHAPE_WORDS, 0, 1, flush, {
    isWrite: true,
  }),
];
