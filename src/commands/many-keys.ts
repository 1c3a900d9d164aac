/**
 * How commands go through many keys. Short requests are done on the spot. Longer ones go through
 * their keys in slices (`slices.ts`), while others are served, and so are not of one moment: each
 * key is read, written or deleted when its turn comes.
 */
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  checkKey,
  checkValueLength,
  type Context,
  type ReplyContinuation,
  type Run,
} from "./command.ts";
import { ListReply } from "./list-reply.ts";
import { answerInSlices, STEP_WORK } from "./slices.ts";

/** Requests of no more are done on the spot. */
const SHORT_KEYS = 32;
const SHORT_BYTES = 4_096;
/** What one key costs in units of STEP_WORK to be checked. */
const CHECK_WORK = 8;
/** To be looked up. */
export const FIND_WORK = 100;
/** To be written or deleted. */
export const WRITE_WORK = 500;
const BYTES_A_WORK = 8;

/** Whether doing the request at once holds up nobody. */
export function isShort(request: Request): boolean {
  const { count } = request;
  if (count > SHORT_KEYS) return false;
  return request.start(count - 1) + request.length(count - 1) - request.start(0) <= SHORT_BYTES;
}

/**
 * Checks that argument `i` is a key, and with a stride of 2 that a value follows which is not too
 * large. Answers the error if not.
 */
export function isSound(
  request: Request,
  i: number,
  stride: number,
  reply: Reply,
  context: Context,
): boolean {
  if (!checkKey(request, i, reply)) return false;
  return stride === 1 || checkValueLength(request.length(i + 1), reply, context);
}

/** How a command goes through its keys. */
export interface KeyWork {
  /** A key every so many arguments. */
  readonly stride: 1 | 2;
  /** What one costs: FIND_WORK or WRITE_WORK. */
  readonly keyWork: number;
  /** Does the key in argument `i`; false to stop there. */
  each(request: Request, i: number): boolean;
  /** Answers when all are done, or `each` has said to stop. */
  readonly write: ReplyContinuation;
  /** Nothing but the reply comes of it, so it is given up when the connection ends. */
  readonly isRead: boolean;
  /** What `each` writes into, which is work, too. */
  readonly gathered?: ListReply;
}

/** Checks all keys of a request, then does them one after the other, in slices. */
export function eachKeyInSlices(
  given: Request,
  { stride, keyWork, each, write, isRead, gathered }: KeyWork,
  reply: Reply,
  context: Context,
): ReturnType<Run> {
  const request = given.detach();
  const { rights } = context;
  let isForbidden = false;
  let checked = 0;
  let done = 0;
  let isBad = false;
  const nothing = new ListReply(reply.dialect, Infinity, context.session);
  const workOf = (i: number): number => {
    const bytes = request.length(i) + (stride === 2 ? request.length(i + 1) : 0);
    return (bytes / BYTES_A_WORK) | 0;
  };
  const bytesBeside = (): number => (gathered?.bytes ?? 0) + context.store.workedBytes;
  const step = (): boolean => {
    let work = STEP_WORK;
    for (; checked < request.count; checked += stride) {
      if (work <= 0) return false;
      work -= CHECK_WORK + workOf(checked);
      isForbidden = rights !== null && !rights.admits(request, checked);
      isBad = isForbidden || !isSound(request, checked, stride, nothing.part, context);
      if (isBad) return true;
    }
    for (; done < request.count; done += stride) {
      if (work <= 0) return false;
      const before = bytesBeside();
      const isLast = !each(request, done);
      work -= keyWork + workOf(done) + (bytesBeside() - before) / BYTES_A_WORK;
      if (isLast) return true;
    }
    return true;
  };
  const answer: ReplyContinuation = (late) => {
    if (!isBad) return write(late);
    if (isForbidden) rights!.refuse(request, checked, late);
    else isSound(request, checked, stride, late, context);
  };
  return answerInSlices(step, answer, reply, isRead ? context : { runQueue: context.runQueue });
}
