/**
 * Brings the store and its tree, in slices, to the state that a session compares: what a flush left
 * is removed, and the tree is updated to the watermark.
 */
import type { MerkleTree } from "../tree/merkle.ts";
import type { Store } from "../store/store.ts";

const ROWS_A_SWEEP = 1024;
const IDS_A_LOOK = 4096;

/** The work to be done before a comparison. `begin` may be called again at any time. */
export class TreePreparation {
  private isActive = false;
  private isSwept = false;
  /**
   * The tree's present update was begun earlier, and may miss what has changed since: do another.
   */
  private isBehind = false;
  private nextId = Infinity;
  private limitHigh = 0;
  private limitLow = 0;

  constructor(
    private readonly store: Store,
    private readonly tree: MerkleTree,
    private readonly monotonicMs: () => number,
  ) {}

  /** Whether there is more to do. */
  get isWaiting(): boolean {
    return this.isActive;
  }

  /**
   * Asks for the tree as of this version, with nothing left of a flush. With `anew` every entry is
   * hashed again, in case the tree does not match the store.
   */
  begin(limitHigh: number, limitLow: number, anew: boolean): void {
    this.isActive = true;
    this.isSwept = false;
    this.isBehind = this.tree.isUpdating;
    this.nextId = anew ? 0 : Infinity;
    this.limitHigh = limitHigh;
    this.limitLow = limitLow;
  }

  /** Works on until `untilMs`. */
  slice(untilMs: number): void {
    const { store, tree, monotonicMs } = this;
    const isOver = (): boolean => monotonicMs() >= untilMs;
    while (!this.isSwept) {
      this.isSwept = !store.sweep(ROWS_A_SWEEP, isOver);
      if (isOver()) return;
    }
    while (this.nextId < store.idLimit) {
      const end = Math.min(this.nextId + IDS_A_LOOK, store.idLimit);
      for (; this.nextId < end; this.nextId++) {
        if (store.isUsed(this.nextId)) tree.changed(this.nextId);
      }
      if (monotonicMs() >= untilMs) return;
    }
    const budgetMs = Math.max(untilMs - monotonicMs(), 0);
    if (tree.update(this.limitHigh, this.limitLow, budgetMs, monotonicMs)) return;
    this.isActive = this.isBehind;
    this.isBehind = false;
  }
}
