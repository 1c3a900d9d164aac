/**
 * The store's background work (what expires, what is forgotten, a flush in progress), in slices for
 * as long as a replica runs. A slice is over when its time is, however many entries expired at
 * once; then the next one follows soon.
 */
import type { Store } from "./core/store/store.ts";
import type { Cancel, Timing } from "./timing.ts";

/** How long a slice may hold up the event loop, and the pause after one that took so long. */
const SLICE_MS = 1;
const PAUSE_MS = 3;

/** What a sweeper is made with. */
export interface SweepLoopOptions {
  readonly store: Store;
  readonly timing: Timing;
  /** Called before each slice. */
  readonly prepare: () => void;
  /** How often a slice is done, in ms, and over how many rows at most. */
  readonly everyMs?: number;
  readonly sliceRows?: number;
}

/** See the file header. */
export class SweepLoop {
  private cancel: Cancel = () => {};
  private untilMs = 0;
  private wasCut = false;

  private readonly options: Required<SweepLoopOptions>;

  constructor(options: SweepLoopOptions) {
    this.options = { everyMs: 100, sliceRows: 10_000, ...options };
  }

  /** Begins. */
  start(): void {
    this.sliceIn(this.options.everyMs);
  }

  /** Ends. */
  stop(): void {
    this.cancel();
  }

  private sliceIn(delayMs: number): void {
    this.cancel = this.options.timing.after(delayMs, () => this.slice());
  }

  private slice(): void {
    const { store, timing, prepare, everyMs, sliceRows } = this.options;
    this.untilMs = timing.nowMs() + SLICE_MS;
    this.wasCut = false;
    prepare();
    const isFlushing = store.sweep(sliceRows, this.isOver);
    // A flush in progress is finished without much delay, a slice a turn of the event loop.
    if (isFlushing) this.sliceIn(0);
    else this.sliceIn(this.wasCut ? PAUSE_MS : everyMs);
  }

  private readonly isOver = (): boolean =>
    (this.wasCut = this.options.timing.nowMs() >= this.untilMs);
}
