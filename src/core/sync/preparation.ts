/**
 * Brings the store and a tree of it, in slices, to the state that a session compares: what a flush
 * left is removed, and the tree is updated to the watermark.
 */
import type { MerkleTree } from "../tree/merkle.ts";
import type { Store } from "../store/store.ts";

const ROWS_A_SWEEP = 1024;

/** The work to be done before a comparison. `begin` may be called again at any time. */
export class TreePreparation {
  private isActive = false;
  private isSwept = false;
  /**
   * The tree's present update was begun earlier, and may miss what has changed since: do another.
   */
  private isBehind = false;
  private tree: MerkleTree | null = null;
  private limitHigh = 0;
  private limitLow = 0;

  constructor(
    private readonly store: Store,
    private readonly monotonicMs: () => number,
  ) {}

  /** Whether there is more to do. */
  get isWaiting(): boolean {
    return this.isActive;
  }

  /**
   * Asks for a tree as of this version, with nothing left of a flush. With `anew` every entry is
   * hashed again, in case the tree does not match the store.
   */
  begin(tree: MerkleTree, limitHigh: number, limitLow: number, anew: boolean): void {
    this.tree = tree;
    this.isActive = true;
    this.isSwept = false;
    this.isBehind = tree.isUpdating;
    if (anew) tree.markAll();
    this.limitHigh = limitHigh;
    this.limitLow = limitLow;
  }

  /** Works on until `untilMs`. */
  slice(untilMs: number): void {
    const { store, monotonicMs } = this;
    const isOver = (): boolean => monotonicMs() >= untilMs;
    while (!this.isSwept) {
      this.isSwept = !store.sweep(ROWS_A_SWEEP, isOver);
      if (isOver()) return;
    }
    const budgetMs = Math.max(untilMs - monotonicMs(), 0);
    if (this.tree!.update(this.limitHigh, this.limitLow, budgetMs, monotonicMs)) return;
    this.isActive = this.isBehind;
    this.isBehind = false;
  }
}
