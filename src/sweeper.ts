/**
 * The store's background work (what expires, what is forgotten, a flush in progress), in slices for
 * as long as a replica runs. A slice is over when its time is, however many entries expired at once;
 * then the next one follows soon.
 */
import type { Store } from "./core/store/store.ts";
import type { Cancel, Timing } from "./timing.ts";

/** How often a slice is done, and over how many rows at most. */
const EVERY_MS = 100;
const SLICE_ROWS = 10_000;
/** How long a slice may hold up the event loop, and the pause after one that took so long. */
const SLICE_MS = 1;
const PAUSE_MS = 3;

/** See the file header. */
export class Sweeper {
  private cancel: Cancel = () => {};
  private untilMs = 0;
  private wasCut = false;

  /** `prepare` is called before each slice. */
  constructor(
    private readonly store: Store,
    private readonly timing: Timing,
    private readonly prepare: () => void,
  ) {}

  /** Begins. */
  start(): void {
    this.sliceIn(EVERY_MS);
  }

  /** Ends. */
  stop(): void {
    this.cancel();
  }

  private sliceIn(delayMs: number): void {
    this.cancel = this.timing.after(delayMs, () => this.slice());
  }

  private slice(): void {
    this.untilMs = this.timing.nowMs() + SLICE_MS;
    this.wasCut = false;
    this.prepare();
    const isFlushing = this.store.sweep(SLICE_ROWS, this.isOver);
    // A flush in progress is finished without much delay, a slice a turn of the event loop.
    if (isFlushing) this.sliceIn(0);
    else this.sliceIn(this.wasCut ? PAUSE_MS : EVERY_MS);
  }

  private readonly isOver = (): boolean => (this.wasCut = this.timing.nowMs() >= this.untilMs);
}
