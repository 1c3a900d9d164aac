/**
 * Keeps the Merkle tree up to date while nobody asks: in slices, as of a watermark a little back,
 * at every whole second. All nodes do so at about the same moment, for they go by the clock that
 * they stamp writes with. So a key that is written again a little later stands in all trees with
 * the same version, though none of them sees every version (`core/tree/merkle.ts`).
 *
 * Slices are short, for somebody may come meanwhile and wait for the end of one: a node that has
 * nothing to do at this moment may have in the next. While it is busy they keep a distance, too, so
 * that clients lose a thirtieth of its time to them at most: a tree that falls behind costs a
 * session an update of its own, nothing more, and what is overwritten meanwhile is hashed once
 * instead of every time.
 */
import { timeHighOf, timeLowOf } from "../core/data/clock.ts";
import type { MerkleTree } from "../core/tree/merkle.ts";
import type { Store } from "../core/store/store.ts";
import { WATERMARK_STEP_MS, watermarkBehind } from "../core/sync/watermark.ts";
import type { Cancel, Timing } from "../timing.ts";
import { LongestSlice } from "./longest-slice.ts";

/**
 * How far the watermark lies behind the present, in ms. It exceeds the time a write takes to
 * the other nodes, so that what is under way is no difference.
 */
export const LAG_MS = 2_000;
/** A few requests' time. */
const SLICE_MS = 0.25;
/** A turn of the event loop that takes longer than this did something else too. */
const IDLE_TURN_MS = 0.2;
/**
 * Between two slices while it does, or while there are writes: who waits for the disk looks idle.
 */
const BUSY_PAUSE_MS = 8;

/** Updates one tree until it is stopped. */
export class TreeUpdater {
  /** The root at the end of the last update, in hex; null before the first. */
  rootHex: string | null = null;
  private lastClockMs = 0;
  private cancelNext: Cancel | null = null;
  /** Calls off the next slice of the update under way; null when there is none. */
  private cancelSlice: Cancel | null = null;

  constructor(
    private readonly tree: MerkleTree,
    private readonly store: Pick<Store, "clock" | "clockMs">,
    private readonly timing: Timing,
    /** Told how long the slices of updates take. */
    readonly longestSlice: LongestSlice,
  ) {}

  /** Starts with an update at once. */
  start(): void {
    if (this.cancelSlice === null) this.update();
    const clockMs = this.store.clockMs();
    // The hybrid clock stands still while it is ahead of the machine's.
    const isStanding = clockMs === this.lastClockMs;
    this.lastClockMs = clockMs;
    const untilNextMs = WATERMARK_STEP_MS - (isStanding ? 0 : clockMs % WATERMARK_STEP_MS);
    this.cancelNext = this.timing.after(untilNextMs, () => this.start());
  }

  /** Stops, in the middle of an update if there is one. */
  stop(): void {
    this.cancelNext?.();
    this.cancelSlice?.();
  }

  /** Stops for good: the tree is empty from now on, and its memory is given back in slices. */
  end(): void {
    this.stop();
    this.tree.clear();
    this.slice(0, 0);
  }

  private update(): void {
    const watermarkMs = watermarkBehind(this.store.clockMs(), LAG_MS);
    this.slice(timeHighOf(watermarkMs), timeLowOf(watermarkMs));
  }

  private slice(timeHigh: number, timeLow: number): void {
    const { timing, tree } = this;
    this.cancelSlice = null;
    let isMore = false;
    this.longestSlice.measure(() => {
      isMore = tree.update(timeHigh, timeLow, SLICE_MS, timing.nowMs);
    });
    if (!isMore) {
      this.rootHex = tree.rootHex() ?? this.rootHex;
      return;
    }
    const next = (): void => this.slice(timeHigh, timeLow);
    const endedMs = timing.nowMs();
    const { high, low } = this.store.clock;
    this.cancelSlice = timing.soon(() => {
      const { clock } = this.store;
      const isWritten = clock.low !== low || clock.high !== high;
      const isBusy = isWritten || timing.nowMs() - endedMs >= IDLE_TURN_MS;
      if (!isBusy) next();
      else this.cancelSlice = timing.after(BUSY_PAUSE_MS, next);
    });
  }
}
