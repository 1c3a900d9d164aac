/** Commands on keys as such: deleting, counting, renaming, choosing one, dropping all. */
import type { KeyFilter } from "../access/definition.ts";
import { READ_WRITE, WRITE } from "../access/permission.ts";
import { Entry, compareBytes } from "../core/data/entry.ts";
import type { Store } from "../core/store/store.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  LISTS_KEYS,
  answerFailure,
  checkKey,
  checkKeys,
  command,
  isRefused,
  type Command,
  type ReplyContinuation,
  type Run,
} from "./command.ts";
import { eachKeyInSlices, FIND_WORK, isShort, WRITE_WORK } from "./many-keys.ts";
import type { Durability } from "../ports.ts";
import { answerInSlices } from "./slices.ts";

const found = new Entry();

const remove: Run = (request, reply, context) => {
  const { store } = context;
  let count = 0;
  if (isShort(request)) {
    for (let i = 0; i < request.count; i++) if (!checkKey(request, i, reply)) return;
    for (let i = 0; i < request.count; i++) {
      if (store.delete(request.bytes, request.start(i), request.length(i))) count++;
    }
    return answerDeleted(count, reply);
  }
  let failure: Durability["failure"] = null;
  const each = (kept: Request, i: number): boolean => {
    failure = context.services.durability.failure;
    if (failure !== null) return false;
    if (store.delete(kept.bytes, kept.start(i), kept.length(i))) count++;
    return true;
  };
  const write: ReplyContinuation = (late) => {
    if (failure === null) answerDeleted(count, late);
    else answerFailure(failure, late, `${count} keys were deleted before`);
  };
  const work = { stride: 1, keyWork: WRITE_WORK, each, write, isRead: false } as const;
  return eachKeyInSlices(request, work, reply, context);
};

function answerDeleted(count: number, reply: Reply): void {
  if (reply.isResp) reply.count(count, "");
  else reply.simple(count > 0 ? "DELETED" : "NOT_FOUND");
}

const exists: Run = (request, reply, context) => {
  const { store } = context;
  let count = 0;
  if (isShort(request)) {
    for (let i = 0; i < request.count; i++) if (!checkKey(request, i, reply)) return;
    for (let i = 0; i < request.count; i++) {
      if (store.find(request.bytes, request.start(i), request.length(i)) >= 0) count++;
    }
    return reply.count(count, "EXISTS ");
  }
  const each = (kept: Request, i: number): boolean => {
    if (store.find(kept.bytes, kept.start(i), kept.length(i)) >= 0) count++;
    return true;
  };
  const write: ReplyContinuation = (late) => late.count(count, "EXISTS ");
  const work = { stride: 1, keyWork: FIND_WORK, each, write, isRead: true } as const;
  return eachKeyInSlices(request, work, reply, context);
};

const size: Run = (_request, reply, context) => {
  reply.count(context.store.size, "DBSIZE ");
};

const flush: Run = (request, reply, context) => {
  if (request.count === 1 && !request.is(0, "SYNC") && !request.is(0, "ASYNC")) {
    return reply.isResp ? reply.respError("ERR syntax error") : reply.error("Too many arguments");
  }
  context.store.flush();
  reply.ok();
};

/**
 * How often RANDOMKEY tries a row, and then a key of the order, before it looks at one after
 * another.
 */
const ROW_TRIES = 64;
const KEY_TRIES = 16;
/** Rows that RANDOMKEY looks at in a step. */
const STEP_ROWS = 1024;

/**
 * Every live key is as likely as any other. Where hardly any row is in use, few keys are left, and
 * one of them is found by its rank. Only among keys that have expired and are not swept yet the
 * first live one after a place by chance is taken.
 */
const randomKey: Run = (_request, reply, context) => {
  const { store, services } = context;
  const filter = context.rights?.keyFilter ?? null;
  const id = randomRow(store, services.random, filter);
  if (id >= 0) return answerKey(store, id, reply);
  if (store.size === 0) return reply.missing();
  const start = Math.floor(services.random() * store.idLimit);
  let left = store.idLimit;
  let next = -1;
  const step = (): boolean => {
    for (let i = 0; i < STEP_ROWS; i++) {
      if (left-- <= 0 || store.idLimit === 0) return true;
      const row = (start + left) % store.idLimit;
      if (!isShown(store, row, filter)) continue;
      next = row;
      return true;
    }
    return false;
  };
  const write = (late: Reply): void => {
    // Somebody may have deleted it since.
    if (next >= 0 && isShown(store, next, filter)) answerKey(store, next, late);
    else late.missing();
  };
  return answerInSlices(step, write, reply, context);
};

/** A live key's row by chance, or -1 when a number of tries did not find one. */
function randomRow(store: Store, random: () => number, filter: KeyFilter | null): number {
  for (let i = 0; i < ROW_TRIES && store.idLimit > 0; i++) {
    const row = Math.floor(random() * store.idLimit);
    if (isShown(store, row, filter)) return row;
  }
  const { order } = store;
  for (let i = 0; i < KEY_TRIES && order.size > 0; i++) {
    const row = order.atRank(Math.floor(random() * order.size));
    if (isShown(store, row, filter)) return row;
  }
  return -1;
}

/** Whether there is a live key in that row which may be shown. */
function isShown(store: Store, row: number, filter: KeyFilter | null): boolean {
  if (!store.isUsed(row) || !store.isLive(row)) return false;
  if (filter === null) return true;
  store.read(row, found);
  return filter(found.key, found.keyOffset, found.keyLength);
}

function answerKey(store: Store, id: number, reply: Reply): void {
  store.read(id, found);
  reply.value(found.key, found.keyOffset, found.keyLength);
}

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
  const oldStart = request.start(0);
  const oldLength = request.length(0);
  const isSame = compareBytes(bytes, oldStart, oldLength, bytes, newStart, newLength) === 0;
  if (!isSame) store.delete(bytes, oldStart, oldLength);
  reply.ok();
};

const manyKeys = {
  keys: [1, -1, 1],
  checksKeys: (request: Request) => !isShort(request),
} as const;
const keysToDelete = { ...manyKeys, access: WRITE, isWrite: true, respMost: -1 } as const;
const keysToFind = { ...manyKeys, access: 0 } as const;
const twoKeys = { isWrite: true, keys: [1, 2, 1], access: [READ_WRITE, WRITE] } as const;

const allKeys = { isWrite: true, wholeAccess: WRITE } as const;
const DESTROYING = "keyspace write slow dangerous";

/** Commands on keys as such. */
export const keyspaceCommands: readonly Command[] = [
  command("DEL DELETE", "delete", "keyspace write slow", SHAPE_WORDS, 1, 1, remove, keysToDelete),
  command("UNLINK", "delete", "keyspace write fast", SHAPE_WORDS, 1, 1, remove, keysToDelete),
  command("EXISTS", "exists", "keyspace read fast", SHAPE_WORDS, 1, -1, exists, keysToFind),
  command("RANDOMKEY", "scan", "keyspace read slow", SHAPE_WORDS, 0, 0, randomKey, LISTS_KEYS),
  command("RENAME", "set", "keyspace write slow", SHAPE_WORDS, 2, 2, rename, twoKeys),
  command("DBSIZE", "dbsize", "keyspace read fast", SHAPE_WORDS, 0, 0, size),
  command("FLUSHALL FLUSH TRUNCATE", "management", DESTROYING, SHAPE_WORDS, 0, 1, flush, allKeys),
  command("FLUSHDB", "management", DESTROYING, SHAPE_WORDS, 0, 1, flush, allKeys),
];
