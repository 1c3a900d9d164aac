/**
 * The levels of the Merkle tree above the entries: four levels of nodes with 16 children each, over
 * 65,536 buckets. Level 0 is the root, level 4 the buckets. A node's digest is the first 128 bits
 * of SHA-256 over its children's digests in order, or zeros when those are all zeros. Of the root
 * all 256 bits are kept; the root of an empty tree is zeros.
 *
 * Invariants, between two refreshes:
 * - `dirty[n]` has bit c set when child c of inner node n is out of date, or has changed since n's
 *   digest was computed;
 * - a node is up to date when there are no such bits in it and in all nodes below it.
 */

import { DIGEST_WORDS } from "./digest-list.ts";
import { DIGEST_BYTES } from "./record-digest.ts";

/** Children of an inner node. */
export const FANOUT = 16;
/** The level of the buckets; the root's is 0. */
export const BUCKET_LEVEL = 4;
/** Number of buckets: 16 to the power of BUCKET_LEVEL. */
export const BUCKETS = 65_536;

/** Number of the first node of each level, counting from the root level by level. */
const LEVEL_START = [0, 1, 17, 273, 4369];
const NODES = 4369 + BUCKETS;
/** So many buckets are loaded at once. */
const UPCOMING_BUCKETS = 2 * FANOUT;
const CHILDREN_WORDS = FANOUT * DIGEST_WORDS;

/** Where the tree gets the digests of buckets from. */
export interface BucketSource {
  /** Writes a bucket's digest of DIGEST_WORDS to `at` in `out`; zeros when the bucket is empty. */
  digest(bucket: number, out: Uint32Array, at: number): void;
  /** Loads what the digests of the first `count` of these buckets are made of into the caches. */
  prefetch(buckets: Uint32Array, count: number): void;
}

/** Digests of buckets and inner nodes, and which of them have to be computed anew. */
export class DigestTree {
  /** The digest of each node, where `offsetOf` says. Do not change it. */
  readonly words = new Uint32Array(NODES * DIGEST_WORDS);
  /** How many sessions hold a copy of the buckets' digests; they see to it that it is bounded. */
  copies = 0;
  private readonly dirty = new Uint16Array(LEVEL_START[BUCKET_LEVEL]);
  private readonly digest = new Uint8Array(DIGEST_BYTES);
  private readonly digestWords = new Uint32Array(this.digest.buffer);
  private readonly rootDigest = new Uint8Array(DIGEST_BYTES);
  /** Whether a bucket was marked since a refresh began last. */
  private hasMarks = false;
  // Where a refresh goes on: the level whose nodes' children are being computed.
  private level = -1;
  private index = 0;
  /** Buckets below nodes in front of this one have been loaded. */
  private prefetchedTo = 0;
  private readonly upcoming = new Uint32Array(UPCOMING_BUCKETS);

  /** Says that a bucket's digest is out of date. */
  mark(bucket: number): void {
    this.hasMarks = true;
    this.dirty[LEVEL_START[BUCKET_LEVEL - 1] + (bucket >>> 4)] |= 1 << (bucket & 15);
  }

  /**
   * Computes, level by level from the buckets up, what is out of date, until done or
   * until `now` reaches `untilMs`. True when there is more to do: call again. A bucket
   * marked meanwhile may be left for the next refresh.
   */
  refresh(buckets: BucketSource, untilMs: number, now: () => number): boolean {
    if (this.level < 0) {
      if (!this.hasMarks) return false;
      this.hasMarks = false;
      this.level = BUCKET_LEVEL - 1;
      this.index = 0;
    }
    this.prefetchedTo = 0;
    while (this.level >= 0) {
      const start = LEVEL_START[this.level];
      const end = LEVEL_START[this.level + 1] - start;
      while (this.index < end) {
        const index = this.index++;
        const children = this.dirty[start + index];
        if (children === 0) continue;
        if (this.level === BUCKET_LEVEL - 1 && index >= this.prefetchedTo) {
          this.prefetch(index, buckets);
        }
        this.dirty[start + index] = 0;
        for (let child = 0; child < FANOUT; child++) {
          if ((children & (1 << child)) !== 0)
            this.compute(this.level + 1, index * FANOUT + child, buckets);
        }
        if (this.level > 0)
          this.dirty[LEVEL_START[this.level - 1] + (index >>> 4)] |= 1 << (index & 15);
        else this.compute(0, 0, buckets);
        if (now() >= untilMs) return true;
      }
      this.level--;
      this.index = 0;
    }
    return false;
  }

  /** Loads what the next buckets are made of, from those below the node of that number on. */
  private prefetch(from: number, buckets: BucketSource): void {
    const { dirty, upcoming } = this;
    const start = LEVEL_START[BUCKET_LEVEL - 1];
    let count = 0;
    let index = from;
    for (; start + index < dirty.length && count + FANOUT <= upcoming.length; index++) {
      const children = dirty[start + index];
      for (let child = 0; child < FANOUT; child++) {
        if ((children & (1 << child)) !== 0) upcoming[count++] = index * FANOUT + child;
      }
    }
    this.prefetchedTo = index;
    buckets.prefetch(upcoming, count);
  }

  /** Where in `words` a node's digest is; its siblings' follow. */
  offsetOf(level: number, index: number): number {
    return (LEVEL_START[level] + index) * DIGEST_WORDS;
  }

  /**
   * Whether all the FANOUT buckets under the node of that number in the level above them are
   * empty, as far as they have been computed.
   */
  isEmptyAboveBuckets(index: number): boolean {
    const at = this.offsetOf(BUCKET_LEVEL - 1, index);
    if (!isZero(this.words, at, at + DIGEST_WORDS)) return false;
    // In the midst of a refresh its buckets may be done, and it is still to come.
    const above = LEVEL_START[BUCKET_LEVEL - 2] + (index >>> 4);
    return (this.dirty[above] & (1 << (index & 15))) === 0;
  }

  /** A copy of the root, all 32 bytes. */
  root(): Uint8Array {
    return this.rootDigest.slice();
  }

  /** Makes every bucket empty. */
  clear(): void {
    this.words.fill(0);
    this.rootDigest.fill(0);
    this.dirty.fill(0);
    this.level = -1;
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return this.words.byteLength + this.dirty.byteLength;
  }

  /** Throws unless all digests that are not marked are as if computed anew; for tests. */
  verify(buckets: BucketSource): void {
    // In the midst of a refresh some of it is neither.
    if (this.level < 0) this.verifyNode(0, 0, buckets);
  }

  /** Whether the node and all under it are up to date. */
  private verifyNode(level: number, index: number, buckets: BucketSource): boolean {
    if (level < BUCKET_LEVEL) {
      const dirty = this.dirty[LEVEL_START[level] + index];
      let isClean = dirty === 0;
      for (let child = 0; child < FANOUT; child++) {
        if (level === BUCKET_LEVEL - 1 && (dirty & (1 << child)) !== 0) continue;
        if (!this.verifyNode(level + 1, index * FANOUT + child, buckets)) isClean = false;
      }
      if (!isClean) return false;
    }
    const { words } = this;
    const at = this.offsetOf(level, index);
    const [first, second, third, fourth] = [words[at], words[at + 1], words[at + 2], words[at + 3]];
    this.compute(level, index, buckets);
    const isSame = first === words[at] && second === words[at + 1];
    if (!isSame || third !== words[at + 2] || fourth !== words[at + 3]) {
      throw new Error(`digest tree: node ${index} of level ${level} is out of date`);
    }
    return true;
  }

  private compute(level: number, index: number, buckets: BucketSource): void {
    const { words, digestWords } = this;
    const at = this.offsetOf(level, index);
    if (level === BUCKET_LEVEL) return buckets.digest(index, words, at);
    const from = this.offsetOf(level + 1, index * FANOUT);
    if (isZero(words, from, from + CHILDREN_WORDS)) this.digest.fill(0);
    else Bun.SHA256.hash(words.subarray(from, from + CHILDREN_WORDS), this.digest);
    for (let word = 0; word < DIGEST_WORDS; word++) words[at + word] = digestWords[word];
    if (level === 0) this.rootDigest.set(this.digest);
  }
}

function isZero(words: Uint32Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (words[at] !== 0) return false;
  return true;
}
