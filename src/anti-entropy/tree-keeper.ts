/**
 * Keeps the Merkle tree up to date while nobody asks: once a second, in slices, as of a
 * watermark a little back (`core/merkle.ts` says why it must not be left to the sessions).
 */
import { timeHighOf, timeLowOf } from "../core/clock.ts";
import type { MerkleTree } from "../core/merkle.ts";

/**
 * How far the watermark lies behind the present, in ms. It exceeds the time a write takes to
 * the other nodes, so that what is under way is no difference.
 */
export const LAG_MS = 2_000;
const EVERY_MS = 1_000;
const SLICE_MS = 2;

/** Updates one tree until it is stopped. */
export class TreeKeeper {
  /** The root at the end of the last update, in hex; null before the first. */
  rootHex: string | null = null;
  private timer: ReturnType<typeof setInterval> | undefined;
  private immediate: ReturnType<typeof setImmediate> | undefined;

  constructor(private readonly tree: MerkleTree) {}

  /** Starts with an update at once. */
  start(): void {
    this.timer = setInterval(() => this.update(), EVERY_MS);
    this.update();
  }

  /** Stops, in the middle of an update if there is one. */
  stop(): void {
    clearInterval(this.timer);
    if (this.immediate !== undefined) clearImmediate(this.immediate);
  }

  private update(): void {
    if (this.immediate !== undefined) return;
    // Whole seconds, so that nodes with the same entries show the same root.
    const watermarkMs = Math.floor((Date.now() - LAG_MS) / 1_000) * 1_000;
    this.slice(timeHighOf(watermarkMs), timeLowOf(watermarkMs));
  }

  private slice(timeHigh: number, timeLow: number): void {
    this.immediate = undefined;
    if (this.tree.update(timeHigh, timeLow, SLICE_MS, nowMs)) {
      this.immediate = setImmediate(() => this.slice(timeHigh, timeLow));
    } else {
      this.rootHex = this.tree.rootHex() ?? this.rootHex;
    }
  }
}

function nowMs(): number {
  return performance.now();
}
