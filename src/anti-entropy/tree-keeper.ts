/**
 * Keeps the Merkle tree up to date while nobody asks: once a second, in slices, as of a
 * watermark a little back (`core/merkle.ts` says why it must not be left to the sessions).
 *
 * While the node is busy, slices keep a distance, so that clients lose a thirtieth of its time to
 * them at most: a tree that falls behind costs a session an update of its own, nothing more, and
 * what is overwritten meanwhile is hashed once instead of every time.
 */
import { timeHighOf, timeLowOf, type HybridClock } from "../core/clock.ts";
import type { MerkleTree } from "../core/merkle.ts";
import { LongestSlice } from "./longest-slice.ts";

/**
 * How far the watermark lies behind the present, in ms. It exceeds the time a write takes to
 * the other nodes, so that what is under way is no difference.
 */
export const LAG_MS = 2_000;
const EVERY_MS = 1_000;
const SLICE_MS = 1;
/** A turn of the event loop that takes longer than this did something else too. */
const IDLE_TURN_MS = 0.2;
/** Between two slices while it does, or while there are writes: who waits for the disk looks idle. */
const BUSY_PAUSE_MS = 30;

/** Updates one tree until it is stopped. */
export class TreeKeeper {
  /** The root at the end of the last update, in hex; null before the first. */
  rootHex: string | null = null;
  /** Of the slices of updates. */
  readonly longestSlice = new LongestSlice();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private immediate: ReturnType<typeof setImmediate> | undefined;
  private pause: ReturnType<typeof setTimeout> | undefined;

  /** `clock` is that of the store: it tells whether there were writes. */
  constructor(
    private readonly tree: MerkleTree,
    private readonly clock: Pick<HybridClock, "high" | "low">,
  ) {}

  /** Starts with an update at once. */
  start(): void {
    this.update();
    this.timer = setTimeout(() => this.start(), EVERY_MS - (Date.now() % EVERY_MS));
  }

  /** Stops, in the middle of an update if there is one. */
  stop(): void {
    clearTimeout(this.timer);
    clearTimeout(this.pause);
    if (this.immediate !== undefined) clearImmediate(this.immediate);
  }

  private update(): void {
    if (this.immediate !== undefined || this.pause !== undefined) return;
    // Whole seconds, so that nodes with the same entries show the same root.
    const watermarkMs = Math.floor((Date.now() - LAG_MS) / 1_000) * 1_000;
    this.slice(timeHighOf(watermarkMs), timeLowOf(watermarkMs));
  }

  private slice(timeHigh: number, timeLow: number): void {
    const startedMs = nowMs();
    const isMore = this.tree.update(timeHigh, timeLow, SLICE_MS, nowMs);
    this.longestSlice.note(startedMs);
    if (!isMore) {
      this.rootHex = this.tree.rootHex() ?? this.rootHex;
      return;
    }
    const endedMs = nowMs();
    const { high, low } = this.clock;
    this.immediate = setImmediate(() => {
      this.immediate = undefined;
      const isWritten = this.clock.low !== low || this.clock.high !== high;
      if (!isWritten && nowMs() - endedMs < IDLE_TURN_MS) return this.slice(timeHigh, timeLow);
      this.pause = setTimeout(() => {
        this.pause = undefined;
        this.slice(timeHigh, timeLow);
      }, BUSY_PAUSE_MS);
    });
  }
}

function nowMs(): number {
  return performance.now();
}
