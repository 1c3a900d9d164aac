/**
 * The levels of the Merkle tree above the entries: 65,536 buckets under four levels of
 * nodes with 16 children each. Level 0 is the root, level 4 the buckets; a node's
 * digest is SHA-256 over its children's digests in order, or zeros when those are all
 * zeros, so an empty tree has a root of zeros.
 *
 * Invariants, between two refreshes:
 * - `dirty[n]` has bit c set when child c of inner node n is out of date or has changed
 *   since n's digest was computed;
 * - a node without such bits, in itself and in all nodes under it, is up to date.
 */

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
const CHILDREN_BYTES = FANOUT * DIGEST_BYTES;

/** Where the tree gets the digests of buckets from. */
export interface BucketSource {
  /** Computes a bucket's digest into 32 bytes; false when the bucket is empty. */
  digest(bucket: number, out: Uint8Array): boolean;
}

/** Digests of buckets and inner nodes, and which of them have to be computed anew. */
export class DigestTree {
  private readonly digests = new Uint8Array(NODES * DIGEST_BYTES);
  private readonly dirty = new Uint16Array(LEVEL_START[BUCKET_LEVEL]);
  private readonly digest = new Uint8Array(DIGEST_BYTES);
  // Where a refresh goes on: the level whose nodes' children are being computed.
  private level = -1;
  private index = 0;

  /** Says that a bucket's digest is out of date. */
  mark(bucket: number): void {
    this.dirty[LEVEL_START[BUCKET_LEVEL - 1] + (bucket >>> 4)] |= 1 << (bucket & 15);
  }

  /**
   * Computes, level by level from the buckets up, what is out of date, until done or
   * until `now` reaches `untilMs`. True when there is more to do: call again. A bucket
   * marked meanwhile may be left for the next refresh.
   */
  refresh(buckets: BucketSource, untilMs: number, now: () => number): boolean {
    if (this.level < 0) {
      this.level = BUCKET_LEVEL - 1;
      this.index = 0;
    }
    while (this.level >= 0) {
      const start = LEVEL_START[this.level];
      const end = LEVEL_START[this.level + 1] - start;
      while (this.index < end) {
        const index = this.index++;
        const children = this.dirty[start + index];
        if (children === 0) continue;
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

  /** A copy of a node's digest. */
  digestOf(level: number, index: number): Uint8Array {
    const at = (LEVEL_START[level] + index) * DIGEST_BYTES;
    return this.digests.slice(at, at + DIGEST_BYTES);
  }

  /**
   * Writes the digests of the 16 children of a node, each cut to its first `digestBytes`,
   * one after the other into `out` from `offset` on. `level` is 0 to 3.
   */
  copyChildren(
    level: number,
    index: number,
    digestBytes: number,
    out: Uint8Array,
    offset: number,
  ): void {
    let from = (LEVEL_START[level + 1] + index * FANOUT) * DIGEST_BYTES;
    let to = offset;
    for (let child = 0; child < FANOUT; child++, from += DIGEST_BYTES)
      for (let i = 0; i < digestBytes; i++) out[to++] = this.digests[from + i];
  }

  /** Makes every bucket empty. */
  clear(): void {
    this.digests.fill(0);
    this.dirty.fill(0);
    this.level = -1;
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return this.digests.length + this.dirty.length * 2;
  }

  private compute(level: number, index: number, buckets: BucketSource): void {
    const { digest } = this;
    const at = (LEVEL_START[level] + index) * DIGEST_BYTES;
    const hasAny =
      level === BUCKET_LEVEL ? buckets.digest(index, digest) : this.innerDigest(level, index);
    if (hasAny) this.digests.set(digest, at);
    else this.digests.fill(0, at, at + DIGEST_BYTES);
  }

  private innerDigest(level: number, index: number): boolean {
    const at = (LEVEL_START[level + 1] + index * FANOUT) * DIGEST_BYTES;
    const children = this.digests.subarray(at, at + CHILDREN_BYTES);
    if (children.every(isZero)) return false;
    Bun.SHA256.hash(children, this.digest);
    return true;
  }
}

function isZero(byte: number): boolean {
  return byte === 0;
}
