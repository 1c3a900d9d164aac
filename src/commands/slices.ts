/**
 * Work whose length the one who asks for it decides, done in slices, so that everybody else is
 * served on meanwhile.
 *
 * All such work of a node shares one slice a turn of the event loop, about a millisecond, and
 * takes turns at it. So a thousand long requests at once hold up the rest no more than one does;
 * they only become slower themselves. Work that is done within what is left of this turn's slice
 * never waits at all.
 */
import type { LateReply } from "./command.ts";
import type { Session } from "./session.ts";
import type { Reply } from "../protocol/reply.ts";

/** How long one slice may hold up the event loop, in ms. */
const SLICE_MS = 1;
/** What a step should do at most, in units of about 5 ns (see `Step`). */
export const STEP_WORK = 4096;

/** Does a little, up to a twentieth of a millisecond or one indivisible thing; true when all is done. */
export type Step = () => boolean;

/** See the file header. */
class SliceQueue {
  /** What has been begun and waits for its next slice, in turn. */
  private readonly waiting: (() => void)[] = [];
  /** When this turn's slice is over. */
  private deadlineMs = 0;
  /** A slice was given out in this turn, so the next turn is asked for. */
  private hasBegun = false;

  /**
   * Does the steps. Returns nothing when they are done at once, else a promise. Given up without
   * a word when `session` is given and its connection ends, for there is nobody left to tell.
   */
  run(step: Step, session?: Session): void | Promise<void> {
    if (this.waiting.length === 0) {
      if (!this.hasBegun) this.begin();
      if (this.slice(step)) return;
    }
    return this.goOn(step, session);
  }

  private async goOn(step: Step, session?: Session): Promise<void> {
    do {
      await this.turn();
      if (session?.isOver) return;
    } while (!this.slice(step));
  }

  private turn(): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      if (!this.hasBegun) this.askForTurn();
    });
  }

  private slice(step: Step): boolean {
    while (performance.now() < this.deadlineMs) if (step()) return true;
    return false;
  }

  private begin(): void {
    this.deadlineMs = performance.now() + SLICE_MS;
    this.askForTurn();
  }

  private askForTurn(): void {
    this.hasBegun = true;
    setImmediate(() => {
      this.hasBegun = false;
      const next = this.waiting.shift();
      if (next === undefined) return;
      this.begin();
      next();
    });
  }
}

const queue = new SliceQueue();

/**
 * Does the steps, then answers with `write`: at once if that is possible, else later. `session`
 * is given for work that has no effect but its reply, and is given up with the connection.
 */
export function answerInSlices(
  step: Step,
  write: LateReply,
  reply: Reply,
  session?: Session,
): void | Promise<LateReply> {
  const rest = queue.run(step, session);
  if (rest !== undefined) return rest.then(() => write);
  while (write(reply) === true);
}
