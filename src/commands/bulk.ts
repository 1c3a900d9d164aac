/**
 * Commands on many keys at once. Short requests are done on the spot. Longer ones go through their
 * keys in slices (`slices.ts`), while others are served, and so are not of one moment: each key is
 * read, written or deleted when its turn comes.
 *
 * Two things stay whole. MSET of up to WHOLE_KEYS keys is done in one go, so that nobody
 * sees half of it. MSETNX, whose point that is, takes no more than so many: it writes all or nothing.
 */
import { Entry } from "../core/entry.ts";
import { APPLIED, type Outcome } from "../core/store.ts";
import { SHAPE_PAIRS, SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  answerFailure,
  checkKey,
  checkValueLength,
  command,
  isRefused,
  type Command,
  type Context,
  type LateReply,
  type Run,
} from "./command.ts";
import type { Durability } from "./services.ts";
import { LongReply } from "./long-reply.ts";
import { answerInSlices, STEP_WORK } from "./slices.ts";
import { answerValue } from "./strings.ts";

/** What MSET and MSETNX do in one go: a few milliseconds at most. */
const WHOLE_KEYS = 1_000;
const WHOLE_KEY_BYTES = 262_144;
/** Requests of no more are done on the spot. */
const SHORT_KEYS = 32;
const SHORT_BYTES = 4_096;
/** MGET gathers what is longer in pieces. */
const SHORT_REPLY_BYTES = 65_536;
/** What one key costs, in units of STEP_WORK: to be checked, looked up, and written. */
const CHECK_WORK = 8;
const FIND_WORK = 100;
const WRITE_WORK = 500;
const BYTES_A_WORK = 8;

const found = new Entry();

/** Whether doing the request at once holds up nobody. */
function isShort(request: Request): boolean {
  const { count } = request;
  if (count > SHORT_KEYS) return false;
  return request.start(count - 1) + request.length(count - 1) - request.start(0) <= SHORT_BYTES;
}

/** Checks that every `stride`th argument is a key, and the next, if there is one, a value. */
function isSound(
  request: Request,
  i: number,
  stride: number,
  reply: Reply,
  context: Context,
): boolean {
  if (!checkKey(request, i, reply)) return false;
  return stride === 1 || checkValueLength(request.length(i + 1), reply, context);
}

/** Does one key, that in argument `i`; false to stop there. */
type EachKey = (request: Request, i: number) => boolean;

/**
 * Checks all keys of a request, then does them one after the other, in slices. `write` answers
 * when all are done, or one has said to stop. What goes into `gathered` is work, too.
 */
function inSlices(
  given: Request,
  stride: 1 | 2,
  keyWork: number,
  each: EachKey,
  write: LateReply,
  reply: Reply,
  context: Context,
  isRead: boolean,
  gathered?: LongReply,
): ReturnType<Run> {
  const request = given.takeOver();
  let checked = 0;
  let done = 0;
  let isBad = false;
  const nothing = new LongReply(reply.dialect, Infinity, context.session);
  const workOf = (i: number): number => {
    const bytes = request.length(i) + (stride === 2 ? request.length(i + 1) : 0);
    return (bytes / BYTES_A_WORK) | 0;
  };
  const step = (): boolean => {
    let work = STEP_WORK;
    for (; checked < request.count; checked += stride) {
      if (work <= 0) return false;
      work -= CHECK_WORK + workOf(checked);
      isBad = !isSound(request, checked, stride, nothing.part, context);
      if (isBad) return true;
    }
    for (; done < request.count; done += stride) {
      if (work <= 0) return false;
      const before = gathered?.bytes ?? 0;
      const isLast = !each(request, done);
      work -= keyWork + workOf(done) + ((gathered?.bytes ?? 0) - before) / BYTES_A_WORK;
      if (isLast) return true;
    }
    return true;
  };
  const answer: LateReply = (late) => {
    if (!isBad) return write(late);
    isSound(request, checked, stride, late, context);
  };
  return answerInSlices(step, answer, reply, isRead ? context.session : undefined);
}

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
  const each: EachKey = (kept, i) => {
    failure = context.services.durability.failure;
    if (failure !== null) return false;
    if (store.delete(kept.bytes, kept.start(i), kept.length(i))) count++;
    return true;
  };
  const write: LateReply = (late) => {
    if (failure === null) answerDeleted(count, late);
    else answerFailure(failure, late, `${count} keys were deleted before`);
  };
  return inSlices(request, 1, WRITE_WORK, each, write, reply, context, false);
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
  const each: EachKey = (kept, i) => {
    if (store.find(kept.bytes, kept.start(i), kept.length(i)) >= 0) count++;
    return true;
  };
  const write: LateReply = (late) => late.count(count, "EXISTS ");
  return inSlices(request, 1, FIND_WORK, each, write, reply, context, true);
};

const getMany: Run = (request, reply, context) => {
  if (!isShort(request)) return getManyInSlices(request, reply, context);
  for (let i = 0; i < request.count; i++) if (!checkKey(request, i, reply)) return;
  const start = reply.length;
  if (reply.dialect === TAGGED) {
    const count = countFound(request, context);
    if (count === 0) return reply.missing();
    reply.simple(`VALUES ${count}`);
  } else if (reply.isResp) {
    reply.array(request.count);
  }
  for (let i = 0; i < request.count; i++) {
    answerOne(request, i, reply, context);
    if (reply.length - start <= SHORT_REPLY_BYTES) continue;
    reply.length = start;
    return getManyInSlices(request, reply, context);
  }
};

function getManyInSlices(request: Request, reply: Reply, context: Context): ReturnType<Run> {
  const values = new LongReply(
    reply.dialect,
    context.services.limits.maxReplyBytes,
    context.session,
  );
  let count = 0;
  const each: EachKey = (kept, i) => {
    if (answerOne(kept, i, values.part, context)) count++;
    return values.add();
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
  return inSlices(request, 1, FIND_WORK, each, write, reply, context, true, values);
}

/** Writes the value of key argument `i`, or that there is none. Whether there is one. */
function answerOne(request: Request, i: number, reply: Reply, context: Context): boolean {
  if (reply.dialect !== TAGGED) return answerValue(request, i, reply, context);
  reply.key(request.bytes, request.start(i), request.length(i));
  reply.raw(" ");
  const id = context.store.find(request.bytes, request.start(i), request.length(i));
  if (id < 0) {
    reply.missing();
    return false;
  }
  context.store.readValue(id, found);
  reply.value(found.value, found.valueOffset, found.valueLength, "");
  return true;
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
  const keys = request.count / 2;
  let written = 0;
  let outcome: Outcome = APPLIED;
  let failure: Durability["failure"] = null;
  const each: EachKey = (from, i) => {
    failure = context.services.durability.failure;
    if (failure !== null) return false;
    outcome = writePair(from, i, context);
    if (outcome >= 0) written++;
    return outcome >= 0;
  };
  const write: LateReply = (late) => {
    const done = `${written} of ${keys} keys were written`;
    if (failure !== null) answerFailure(failure, late, done);
    else if (!isRefused(outcome, late, done)) late.ok();
  };
  if (!isWhole(request)) {
    return inSlices(request, 2, WRITE_WORK, each, write, reply, context, false);
  }
  for (let i = 0; i < request.count; i += 2) if (!isSound(request, i, 2, reply, context)) return;
  for (let i = 0; i < request.count && each(request, i); i += 2);
  write(reply);
};

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
    isRefused(outcome, reply, "nothing was written");
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

const keysOnly = { keys: [1, -1, 1] } as const;
const keysToDelete = { ...keysOnly, isWrite: true, respMost: -1 } as const;
const pairs = { isWrite: true, keys: [1, -1, 2] } as const;

/** Commands on many keys at once. */
export const bulkCommands: readonly Command[] = [
  command("DEL DELETE", "delete", SHAPE_WORDS, 1, 1, remove, keysToDelete),
  command("UNLINK", "delete", SHAPE_WORDS, 1, 1, remove, keysToDelete),
  command("EXISTS", "exists", SHAPE_WORDS, 1, -1, exists, keysOnly),
  command("MGET", "bulk", SHAPE_WORDS, 1, -1, getMany, keysOnly),
  command("MSET", "bulk", SHAPE_PAIRS, 2, -1, setMany, pairs),
  command("MSETNX", "bulk", SHAPE_PAIRS, 2, -1, setManyIfMissing, pairs),
];
