/**
 * What a session compares: in which mode, as of when, and which Merkle tree, which is brought to
 * that time in slices before anything is said of it.
 */
import { timeHighOf, timeLowOf } from "../data/clock.ts";
import { LATEST, type MerkleTree } from "../tree/merkle.ts";
import type { Greeting } from "./greeting.ts";
import { ROOT_BYTES } from "./items.ts";
import type { SyncMode, SyncSessionOptions } from "./options.ts";
import { TreePreparation } from "./preparation.ts";

/** See the file header. */
export class Comparison {
  /** The initiator's wish; the responder is told with the HELLO. */
  mode: SyncMode;
  /**
   * One side may have missed a deletion that the other has forgotten, so all is compared as of
   * now. Below a watermark a newer write would hide the entry that the deletion was of, and after
   * the session nobody would ask about it again.
   */
  isThorough = false;
  /** What is newer than this is not compared. */
  private limitHigh = LATEST;
  private limitLow = LATEST;
  private chosen: MerkleTree | null = null;
  private readonly preparation: TreePreparation;
  private afterwards = (): void => {};

  constructor(
    private readonly options: SyncSessionOptions,
    private readonly greeting: Greeting,
  ) {
    this.mode = options.mode ?? "watermark";
    this.preparation = new TreePreparation(options.store, options.monotonicMs);
  }

  /** The tree that is compared; it has to be chosen first. */
  get tree(): MerkleTree {
    if (this.chosen === null) throw new Error("a session has not chosen its tree yet");
    return this.chosen;
  }

  /**
   * Compares the tree for who has these features in common with this node. True when it is another
   * than before.
   */
  choose(features: number): boolean {
    const before = this.chosen;
    this.chosen = this.options.treeFor(features);
    return this.chosen !== before;
  }

  /** Whether entries go over; not when somebody only looks. */
  get isMerging(): boolean {
    return this.mode !== "inspect";
  }

  /** Whether the buckets that differ are found by a walk down the tree. */
  get isWalking(): boolean {
    return this.mode === "watermark" || this.mode === "now" || this.mode === "verify";
  }

  /** Whether equal roots in the HELLOs say that there is nothing to heal. */
  get isDecidedByRoots(): boolean {
    return this.isWalking && (this.mode !== "watermark" || !this.isThorough);
  }

  /** Compares as of the watermark, or as of now when the mode says so or `isLatest`. */
  setLimit(isLatest = this.mode !== "watermark" || this.isThorough): void {
    const { watermarkMs } = this.greeting;
    this.limitHigh = isLatest ? LATEST : timeHighOf(watermarkMs);
    this.limitLow = isLatest ? LATEST : timeLowOf(watermarkMs);
  }

  /** Has the tree brought to the limit, then goes on with `afterwards`. */
  prepare(afterwards: () => void): void {
    if (this.mode === "fetch") return afterwards();
    this.afterwards = afterwards;
    this.preparation.begin(this.tree, this.limitHigh, this.limitLow, this.mode === "full");
  }

  /** Whether the tree is being brought there: then call `slice`. */
  get isPreparing(): boolean {
    return this.preparation.isWaiting;
  }

  /** Works on the tree until `untilMs`. */
  slice(untilMs: number): void {
    this.preparation.slice(untilMs);
    if (!this.preparation.isWaiting) this.afterwards();
  }

  /** The tree's root as it is told to peers: ROOT_BYTES, zeros while there is none. */
  root(): Uint8Array {
    return this.tree.root()?.subarray(0, ROOT_BYTES) ?? new Uint8Array(ROOT_BYTES);
  }

  /** Whether the root that starts at `offset` is this tree's. */
  hasRoot(bytes: Uint8Array, offset = 0): boolean {
    return this.root().every((byte, i) => byte === bytes[offset + i]);
  }
}
