/**
 * A copy of the digests of all buckets, each cut short under the session's salt to a value of 48
 * bits, from which the symbols of a sketch are made. The tree may change while a sketch goes to and
 * fro; all symbols of one stream have to be made from the same values.
 *
 * The values need not be of one moment. Two that are equal mean equal entries at a moment of the
 * session on either side, which is all that a comparison says (`walk.ts`).
 *
 * Of a store that fills most buckets it takes 400 KB, of a small one as little as there is in it;
 * and the symbols take up to 720 KB. So only MAX_COPIES sessions of a node have one at a time. The
 * others walk.
 */
import { DIGEST_WORDS } from "../tree/digest-list.ts";
import { BUCKET_LEVEL, BUCKETS, FANOUT, type DigestTree } from "../tree/digest-tree.ts";
import { CodedSymbols } from "./coded-symbols.ts";
import { DifferenceEstimate } from "./difference-estimate.ts";
import type { DigestShortener } from "./short-digest.ts";

const MAX_COPIES = 8;
const TWO_TO_32 = 0x1_0000_0000;
/** So many are copied or added before the clock is looked at: a few tenths of a millisecond. */
const BUCKETS_A_LOOK = 1_024;
/** Of the nodes above the buckets most are empty in a small store. */
const NODES = BUCKETS / FANOUT;
const NODE_SHIFT = Math.log2(FANOUT);
/** For so many buckets there is room at first. */
const FIRST_ROOM = 1_024;

/** See the file header. */
export class BucketCopy {
  /** The nodes above the buckets under which there is anything, in ascending order. */
  private readonly filled: number[] = [];
  /** Where each node is in `filled`, counted from 1; 0: nowhere. */
  private readonly places = new Uint16Array(NODES);
  /** Of the values under these nodes the lower 32 bits, and the upper 16. */
  private low = new Uint32Array(FIRST_ROOM);
  private high = new Uint16Array(FIRST_ROOM);
  readonly estimate: DifferenceEstimate;
  private copied = 0;
  /** The symbols that are complete, and the next value to be added to those that are not. */
  private added = 0;
  private next = 0;
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

  /** Whether a bucket has that value. */
  has(bucket: number, low: number, high: number): boolean {
    const place = this.places[bucket >>> NODE_SHIFT];
    if (place === 0) return low === 0 && high === 0;
    const at = (place - 1) * FANOUT + (bucket % FANOUT);
    return this.low[at] === low && this.high[at] === high;
  }

  /**
   * Does a piece of adding all buckets to all of the symbols. False when there is nothing to do.
   */
  work(symbols: CodedSymbols): boolean {
    if (this.copied < NODES) return this.copyNext();
    if (this.added === symbols.count) return false;
    const { low, high, added, filled } = this;
    const count = filled.length * FANOUT;
    const end = Math.min(this.next + BUCKETS_A_LOOK, count);
    for (let at = this.next; at < end; at++) {
      if (low[at] === 0 && high[at] === 0) continue;
      const bucket = filled[at >>> NODE_SHIFT] * FANOUT + (at % FANOUT);
      symbols.add(bucket, low[at], high[at], added, symbols.count);
    }
    this.next = end < count ? end : 0;
    if (this.next === 0) this.added = symbols.count;
    return true;
  }

  private copyNext(): true {
    const enough = this.filled.length + BUCKETS_A_LOOK / FANOUT;
    while (this.copied < NODES && this.filled.length < enough) {
      const node = this.copied++;
      if (!this.tree.isEmptyAboveBuckets(node)) this.copyUnder(node);
    }
    return true;
  }

  private copyUnder(node: number): void {
    const { tree, shortener, filled, estimate } = this;
    const { words } = tree;
    let to = filled.length * FANOUT;
    this.places[node] = filled.push(node);
    this.makeRoom(to + FANOUT);
    const { low, high } = this;
    const first = node * FANOUT;
    let at = tree.offsetOf(BUCKET_LEVEL, first);
    for (let bucket = first; bucket < first + FANOUT; bucket++, at += DIGEST_WORDS, to++) {
      if ((words[at] | words[at + 1] | words[at + 2] | words[at + 3]) === 0) continue;
      const value = shortener.of(words, at);
      low[to] = value >>> 0;
      high[to] = Math.floor(value / TWO_TO_32);
      estimate.add(bucket, low[to]);
    }
  }

  private makeRoom(count: number): void {
    if (count <= this.low.length) return;
    const [low, high] = [this.low, this.high];
    this.low = new Uint32Array(2 * low.length);
    this.high = new Uint16Array(2 * high.length);
    this.low.set(low);
    this.high.set(high);
  }
}
