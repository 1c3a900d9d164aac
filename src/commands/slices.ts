/**
 * Work whose length the one who asks for it decides, done in slices, so that everybody else is
 * served on meanwhile.
 *
 * The slices of all such work take turns (`RunQueue`), so a thousand long requests at once hold up
 * the rest no more than one does; they only become slower themselves. What is done within a first
 * slice is answered at once.
 */
import type { Reply } from "../protocol/reply.ts";
import type { RunQueue } from "../timing.ts";
import type { ReplyContinuation } from "./command.ts";
import type { ClientSession } from "./client-session.ts";

/** How long a slice is: a few of them make up a turn of the queue, in ms. */
const SLICE_MS = 0.25;
/** What a step should do at most, in units of about 5 ns (see `Step`). */
export const STEP_WORK = 4096;

/**
 * Does a little, up to a twentieth of a millisecond or one indivisible thing; true when all is
 * done.
 */
export type Step = () => boolean;

/**
 * Does the steps, then answers with `write`: at once if that is possible, else later. A session
 * is given for work that has no effect but its reply, and is given up with the connection.
 */
export function answerInSlices(
  step: Step,
  write: ReplyContinuation,
  reply: Reply,
  { runQueue, session }: { readonly runQueue: RunQueue; readonly session?: ClientSession },
): void | Promise<ReplyContinuation> {
  // While others wait for their turn, a step is all that is taken out of it.
  if (!runSlice(step, runQueue.isBusy ? 0 : SLICE_MS, runQueue)) {
    return finish(step, runQueue, session).then(() => write);
  }
  // What is long is sent in pieces.
  return write(reply) === true ? Promise.resolve(write) : undefined;
}

function runSlice(step: Step, budgetMs: number, { timing }: RunQueue): boolean {
  const endMs = timing.nowMs() + budgetMs;
  do if (step()) return true;
  while (timing.nowMs() < endMs);
  return false;
}

/** Does the steps when it is their turn. With a session, they are given up with the connection. */
export function finish(step: Step, runQueue: RunQueue, session?: ClientSession): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const runTurn = (): void => {
    try {
      if (session?.isOver || runSlice(step, SLICE_MS, runQueue)) resolve();
      else runQueue.add(runTurn);
    } catch (error) {
      reject(error);
    }
  };
  runQueue.add(runTurn);
  return promise;
}
