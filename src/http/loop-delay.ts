/**
 * How long the event loop lets wait what is due: a timer that looks, every PERIOD_MS, how late it
 * is. A request that comes in between waits no less, so this is what clients notice of long work.
 */
import { every, type Cancel, type Timing } from "../timing.ts";

const PERIOD_MS = 100;

/** Counts of delays, by length. */
export class LoopDelay {
  /** Upper bounds of the counts, in ms; the last count is of what is longer. */
  readonly boundsMs = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500] as const;
  /** How many delays were at most so long, and longer than the bound before. */
  readonly counts = new Float64Array(this.boundsMs.length + 1);
  /** All delays together, in ms. */
  sumMs = 0;
  private dueMs: number;
  private readonly cancel: Cancel;

  /** Begins to look. */
  constructor(timing: Timing) {
    this.dueMs = timing.nowMs() + PERIOD_MS;
    this.cancel = every(timing, PERIOD_MS, () => {
      const nowMs = timing.nowMs();
      this.note(Math.max(0, nowMs - this.dueMs));
      this.dueMs = nowMs + PERIOD_MS;
    });
  }

  /** Looks no more. */
  stop(): void {
    this.cancel();
  }

  private note(delayMs: number): void {
    const at = this.boundsMs.findIndex((bound) => delayMs <= bound);
    this.counts[at < 0 ? this.boundsMs.length : at]++;
    this.sumMs += delayMs;
  }
}
