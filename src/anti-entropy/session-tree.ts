/**
 * The tree that one session compares, and where that is found to differ: which is noted only if it
 * is the tree that this node shows, for keys lie in other places in another.
 */
import type { DifferenceWatch } from "../core/sync/options.ts";
import type { MerkleTree } from "../core/tree/merkle.ts";
import type { SessionDifferences } from "./difference-map.ts";
import type { TreeLoan, Trees } from "./trees.ts";

/** See the file header. */
export class SessionTree implements DifferenceWatch {
  private loan: TreeLoan | null = null;

  /** `secretId` tells what the session is sealed with, as in `Trees.lend`, once it begins. */
  constructor(
    private readonly trees: Trees,
    private readonly differences: SessionDifferences,
    private readonly secretId: () => string,
  ) {}

  /** As in SyncSessionOptions. */
  treeFor(features: number): MerkleTree {
    const before = this.loan;
    this.loan = this.trees.lend(this.secretId(), features);
    before?.end();
    return this.loan.tree;
  }

  get isWatched(): boolean {
    return this.isShown && this.differences.isWatched;
  }

  note(node: number): void {
    if (this.isShown) this.differences.note(node);
  }

  /** The session is over; `isHealed`: what it had found differs no more. */
  end(isHealed: boolean): void {
    this.loan?.end();
    this.differences.end(isHealed);
  }

  private get isShown(): boolean {
    return this.loan?.tree === this.trees.current;
  }
}
