/**
 * A copy of the digests of all buckets, each cut short under the session's salt to a value of 48
 * bits, from which the symbols of a sketch are made. The tree may change while a sketch goes to and
 * fro; all symbols of one stream have to be made from the same values.
 *
 * The values need not be of one moment. Two that are equal mean equal entries at a moment of the
 * session on either side, which is all that a comparison says (`walk.ts`).
 *
 * It takes 390 KB and the symbols up to 720 KB, so only MAX_COPIES sessions of a node have one at a
 * time. The others walk.
 */
import { DIGEST_WORDS } from "../tree/digest-list.ts";
import { BUCKET_LEVEL, BUCKETS, type DigestTree } from "../tree/digest-tree.ts";
import { CodedSymbols } from "./coded-symbols.ts";
import { DifferenceEstimate } from "./difference-estimate.ts";
import type { DigestShortener } from "./short-digest.ts";

const MAX_COPIES = 8;
const TWO_TO_32 = 0x1_0000_0000;
/** So many are copied or added before the clock is looked at: a few tenths of a millisecond. */
const BUCKETS_A_LOOK = 1_024;

/** See the file header. */
export class BucketCopy {
  /** Of each value the lower 32 bits, and the upper 16. */
  readonly low = new Uint32Array(BUCKETS);
  readonly high = new Uint16Array(BUCKETS);
  readonly estimate: DifferenceEstimate;
  private copied = 0;
  /** The symbols that are complete, and the next bucket to be added to those that are not. */
  private added = 0;
  private nextBucket = 0;
  private isHeld = true;

  private constructor(
    private readonly tree: DigestTree,
    private readonly shortener: DigestShortener,
  ) {
    this.estimate = new DifferenceEstimate(shortener.key);
    tree.copies++;
  }

  /** Makes one; null when there are enough. Give it back with `release`. */
  static take(tree: DigestTree, shortener: DigestShortener): BucketCopy | null {
    return tree.copies < MAX_COPIES ? new BucketCopy(tree, shortener) : null;
  }

  /** It is not used any more. */
  release(): void {
    if (this.isHeld) this.tree.copies--;
    this.isHeld = false;
  }

  /**
   * Does a piece of adding all buckets to all of the symbols. False when there is nothing to do.
   */
  work(symbols: CodedSymbols): boolean {
    if (this.copied < BUCKETS) return this.copyNext();
    if (this.added === symbols.count) return false;
    const { low, high, added } = this;
    const end = this.nextBucket + BUCKETS_A_LOOK;
    for (let bucket = this.nextBucket; bucket < end; bucket++) {
      if (low[bucket] === 0 && high[bucket] === 0) continue;
      symbols.add(bucket, low[bucket], high[bucket], added, symbols.count);
    }
    this.nextBucket = end % BUCKETS;
    if (this.nextBucket === 0) this.added = symbols.count;
    return true;
  }

  private copyNext(): true {
    const { tree, shortener, low, high, estimate } = this;
    const { words } = tree;
    const end = this.copied + BUCKETS_A_LOOK;
    let at = tree.offsetOf(BUCKET_LEVEL, this.copied);
    for (let bucket = this.copied; bucket < end; bucket++, at += DIGEST_WORDS) {
      // An empty one changes nothing, and most are in a small store.
      if ((words[at] | words[at + 1] | words[at + 2] | words[at + 3]) === 0) continue;
      const value = shortener.of(words, at);
      low[bucket] = value >>> 0;
      high[bucket] = Math.floor(value / TWO_TO_32);
      estimate.add(bucket, low[bucket]);
    }
    this.copied = end;
    return true;
  }
}
