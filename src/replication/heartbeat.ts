/**
 * Something done a while after the last message, and then again, later and later: the last messages
 * before a silence may have been dropped, and so may be the one that tells of it.
 */
import type { Cancel, Timing } from "../timing.ts";

/** After the last message, in ms; each counts from the one before. */
const PAUSES_MS = [2_000, 4_000, 10_000, 20_000];

/** See the file header. */
export class Heartbeat {
  private cancelNext: Cancel | null = null;
  /** When there was a message last; moved on without touching the timer, for messages are many. */
  private quietSinceMs = 0;
  /** The timer under way is for a later beat than the first. */
  private isLate = false;

  constructor(
    private readonly timing: Timing,
    private readonly beat: (isFirst: boolean) => void,
  ) {}

  /** There was a message. */
  restart(): void {
    this.quietSinceMs = this.timing.nowMs();
    if (this.cancelNext === null || this.isLate) this.wait(0);
  }

  /** Nothing more, until the next message. */
  stop(): void {
    this.cancelNext?.();
    this.cancelNext = null;
  }

  private wait(index: number): void {
    this.stop();
    this.isLate = index > 0;
    if (index === PAUSES_MS.length) return;
    this.cancelNext = this.timing.after(PAUSES_MS[index], () => this.pass(index));
  }

  private pass(index: number): void {
    const { timing } = this;
    const leftMs = this.quietSinceMs + PAUSES_MS[0] - timing.nowMs();
    if (index === 0 && leftMs > 0) {
      this.cancelNext = timing.after(leftMs, () => this.pass(0));
      return;
    }
    this.wait(index + 1);
    this.beat(index === 0);
  }
}
