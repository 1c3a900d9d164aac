/**
 * Commands on many string values at once.
 *
 * Two things stay whole. MSET of up to WHOLE_KEYS keys is done in one go, so that nobody
 * sees half of it. MSETNX, whose point that is, takes no more than so many: it writes all or
 * nothing.
 */
import { READ, WRITE } from "../access/permission.ts";
import { Entry } from "../core/data/entry.ts";
import type { SharedValue } from "../core/store/entry-table.ts";
import { APPLIED, type Outcome } from "../core/store/outcome.ts";
import { SHAPE_PAIRS, SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  answerFailure,
  checkKey,
  command,
  isRefused,
  type Command,
  type Context,
  type ReplyContinuation,
  type Run,
} from "./command.ts";
import { ListReply } from "./list-reply.ts";
import { isLong } from "./long-value.ts";
import { eachKeyInSlices, FIND_WORK, isShort, isSound, WRITE_WORK } from "./many-keys.ts";
import type { Durability } from "../ports.ts";

/** What MSET and MSETNX do in one go: a few milliseconds at most. */
const WHOLE_KEYS = 1_000;
const WHOLE_KEY_BYTES = 262_144;
/** MGET gathers what is longer in pieces. */
const SHORT_REPLY_BYTES = 65_536;

const MEMORY_USED = "used memory > 'storage.memory_limit_mb'";

const found = new Entry();

const getMany: Run = (request, reply, context) => {
  if (!isShort(request)) return getManyInSlices(request, reply, context);
  for (let i = 0; i < request.count; i++) if (!checkKey(request, i, reply)) return;
  const start = reply.length;
  const { store } = context;
  const most = store.workedBytes + SHORT_REPLY_BYTES;
  if (reply.dialect === TAGGED) {
    const count = countFound(request, context);
    if (count === 0) return reply.missing();
    reply.simple(`VALUES ${count}`);
  } else if (reply.isResp) {
    reply.array(request.count);
  }
  for (let i = 0; i < request.count; i++) {
    const answer = answerOne(request, i, reply, context);
    if (typeof answer === "object") answer.release();
    else if (reply.length - start <= SHORT_REPLY_BYTES && store.workedBytes <= most) continue;
    reply.length = start;
    return getManyInSlices(request, reply, context);
  }
};

function getManyInSlices(request: Request, reply: Reply, context: Context): ReturnType<Run> {
  const values = new ListReply(
    reply.dialect,
    context.services.limits.maxReplyBytes,
    context.session,
  );
  let count = 0;
  const each = (kept: Request, i: number): boolean => {
    const answer = answerOne(kept, i, values.part, context);
    if (answer !== false) count++;
    return typeof answer === "object" ? values.addLong(answer) : values.add();
  };
  const write = values.after((late) => {
    if (values.isFull) {
      values.drop();
      late.error(
        "Value too large",
        "the reply exceeds network.max_output_bytes; ask for fewer keys",
      );
    } else if (late.dialect === TAGGED && count === 0) {
      values.drop();
      late.missing();
    } else if (late.dialect === TAGGED) late.simple(`VALUES ${count}`);
    else if (late.isResp) late.array(values.count);
  });
  const work = {
    stride: 1,
    keyWork: FIND_WORK,
    each,
    write,
    isRead: true,
    gathered: values,
  } as const;
  return eachKeyInSlices(request, work, reply, context);
}

/**
 * Writes the value of key argument `i`, or that there is none. Whether there is one. Of a long
 * value it writes only what comes before, and returns it.
 */
function answerOne(
  request: Request,
  i: number,
  reply: Reply,
  context: Context,
): boolean | SharedValue {
  const isTagged = reply.dialect === TAGGED;
  if (isTagged) {
    reply.key(request.bytes, request.start(i), request.length(i));
    reply.raw(" ");
  }
  const { store } = context;
  const id = store.find(request.bytes, request.start(i), request.length(i));
  if (id < 0) {
    reply.missing();
    return false;
  }
  store.readValueAlone(id, found);
  const long = isLong(found, reply, context) ? store.shareValue(id, found) : null;
  if (long === null) {
    reply.value(found.value, found.valueOffset, found.valueLength, isTagged ? "" : undefined);
    return true;
  }
  if (!isTagged) reply.beginValue(long.length);
  return long;
}

function countFound(request: Request, context: Context): number {
  let count = 0;
  for (let i = 0; i < request.count; i++) {
    if (context.store.find(request.bytes, request.start(i), request.length(i)) >= 0) count++;
  }
  return count;
}

/** Whether MSET and MSETNX do this request in one go. */
function isWhole(request: Request): boolean {
  if (request.count > WHOLE_KEYS * 2) return false;
  let bytes = 0;
  for (let i = 0; i < request.count; i += 2) bytes += request.length(i);
  return bytes <= WHOLE_KEY_BYTES;
}

/** Whether the arguments come in twos. Answers the error if not. */
function isEven(request: Request, name: string, reply: Reply): boolean {
  if (request.count % 2 === 0) return true;
  if (reply.isResp) reply.respError(`ERR wrong number of arguments for '${name}' command`);
  else reply.error("Missing arguments", "the last key has no value");
  return false;
}

const setMany: Run = (request, reply, context) => {
  if (!isEven(request, "mset", reply)) return;
  if (!isWhole(request)) return setManyInSlices(request, reply, context);
  for (let i = 0; i < request.count; i += 2) if (!isSound(request, i, 2, reply, context)) return;
  const { durability } = context.services;
  for (let i = 0; i < request.count; i += 2) {
    const { failure } = durability;
    const outcome = failure === null ? writePair(request, i, context) : APPLIED;
    if (failure !== null || outcome < 0) {
      return answerUnwritten(i / 2, request.count / 2, failure, outcome, reply);
    }
  }
  reply.ok();
};

function setManyInSlices(request: Request, reply: Reply, context: Context): ReturnType<Run> {
  const keys = request.count / 2;
  let written = 0;
  let outcome: Outcome = APPLIED;
  let failure: Durability["failure"] = null;
  const each = (from: Request, i: number): boolean => {
    failure = context.services.durability.failure;
    if (failure !== null) return false;
    outcome = writePair(from, i, context);
    if (outcome >= 0) written++;
    return outcome >= 0;
  };
  const write: ReplyContinuation = (late) => {
    if (failure === null && outcome >= 0) late.ok();
    else answerUnwritten(written, keys, failure, outcome, late);
  };
  const work = { stride: 2, keyWork: WRITE_WORK, each, write, isRead: false } as const;
  return eachKeyInSlices(request, work, reply, context);
}

/** Answers why no more keys were written, by the failure of the disk or the outcome of the last. */
function answerUnwritten(
  written: number,
  keys: number,
  failure: Durability["failure"],
  outcome: Outcome,
  reply: Reply,
): void {
  const done = `${written} of ${keys} keys were written`;
  if (failure !== null) answerFailure(failure, reply, done);
  else isRefused(outcome, reply, `${MEMORY_USED}; ${done}`);
}

const setManyIfMissing: Run = (request, reply, context) => {
  if (!isEven(request, "msetnx", reply)) return;
  if (!isWhole(request)) {
    const most = `at most ${WHOLE_KEYS} keys of ${WHOLE_KEY_BYTES} bytes together`;
    return reply.error("Too many arguments", `MSETNX takes ${most}, to write all or nothing`);
  }
  const { store } = context;
  for (let i = 0; i < request.count; i += 2) if (!isSound(request, i, 2, reply, context)) return;
  for (let i = 0; i < request.count; i += 2) {
    const id = store.find(request.bytes, request.start(i), request.length(i));
    if (id >= 0) return reply.count(0, "VALUE ");
  }
  for (let i = 0; i < request.count; i += 2) {
    const outcome = writePair(request, i, context);
    if (outcome >= 0) continue;
    // None of them was there before, so what was written of them is taken back.
    for (let j = 0; j < i; j += 2) store.delete(request.bytes, request.start(j), request.length(j));
    isRefused(outcome, reply, `${MEMORY_USED}; nothing was written`);
    return;
  }
  reply.count(1, "VALUE ");
};

/** Writes the value after key argument `i`. */
function writePair(request: Request, i: number, { store }: Context): Outcome {
  const { bytes } = request;
  const keyStart = request.start(i);
  const valueStart = request.start(i + 1);
  const keyLength = request.length(i);
  return store.set(bytes, keyStart, keyLength, bytes, valueStart, request.length(i + 1), 0);
}

const pairs = {
  isWrite: true,
  keys: [1, -1, 2],
  access: WRITE,
  checksKeys: (request: Request) => !isWhole(request),
} as const;
const manyKeys = {
  keys: [1, -1, 1],
  access: READ,
  checksKeys: (request: Request) => !isShort(request),
} as const;

/** Commands on many string values at once. */
export const bulkCommands: readonly Command[] = [
  command("MGET", "bulk", "read string fast", SHAPE_WORDS, 1, -1, getMany, manyKeys),
  command("MSET", "bulk", "write string slow", SHAPE_PAIRS, 2, -1, setMany, pairs),
  command("MSETNX", "bulk", "write string slow", SHAPE_PAIRS, 2, -1, setManyIfMissing, pairs),
];
