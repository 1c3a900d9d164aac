/**
 * The buckets at the foot of the Merkle tree: which entries lie in which, and under what
 * digest each stands there. A key's bucket is the first 16 bits of its SHA-256. A bucket's
 * digest is SHA-256 over its entries' 8-byte digests, ascending as little-endian integers.
 *
 * Memory: 14 bytes an id (digest 8, next in its bucket 4, bucket 2) in chunks. Digest and
 * next lie together: to walk a bucket is one cache miss an entry.
 *
 * Invariant: an entry is linked into exactly the bucket of its key, once, from `add` to
 * `remove`; all other ids are UNLINKED.
 */

import { BUCKETS } from "./digest-tree.ts";

/** Length in bytes of an entry's digest as buckets hold it: the head of its SHA-256. */
export const ENTRY_DIGEST_BYTES = 8;

const CHUNK_SHIFT = 15;
const CHUNK_IDS = 1 << CHUNK_SHIFT;
const CHUNK_MASK = CHUNK_IDS - 1;

const ROW_WORDS = 3;
const NEXT = 2;

/** In place of an id: the bucket's last. */
const END = 0xffff_ffff;
/** In place of the next id: this one is in no bucket. */
const UNLINKED = 0xffff_fffe;

/** Entries by bucket, named by their ids. An entry's digest is given as two 32-bit words. */
export class MerkleBuckets {
  /** Three words an id: digest, digest, next. */
  private rows: Uint32Array[] = [];
  private buckets: Uint16Array[] = [];
  private readonly heads = new Uint32Array(BUCKETS).fill(END);

  /** One bucket's digests, to be sorted; grows to the largest bucket. */
  private sorted = new BigUint64Array(8);
  private sortedWords = new Uint32Array(this.sorted.buffer);

  /** Whether an entry is in a bucket. */
  has(id: number): boolean {
    return id >>> CHUNK_SHIFT < this.rows.length && this.nextOf(id) !== UNLINKED;
  }

  /** The bucket an entry is in. */
  bucketOf(id: number): number {
    return this.buckets[id >>> CHUNK_SHIFT][id & CHUNK_MASK];
  }

  /** Puts an entry that is in none into a bucket. */
  add(id: number, bucket: number): void {
    const chunk = id >>> CHUNK_SHIFT;
    while (chunk >= this.rows.length) this.grow();
    this.buckets[chunk][id & CHUNK_MASK] = bucket;
    this.setNext(id, this.heads[bucket]);
    this.heads[bucket] = id;
  }

  /** Takes an entry out of its bucket. */
  remove(id: number): void {
    const bucket = this.bucketOf(id);
    const next = this.nextOf(id);
    let before = this.heads[bucket];
    if (before === id) this.heads[bucket] = next;
    else {
      while (this.nextOf(before) !== id) before = this.nextOf(before);
      this.setNext(before, next);
    }
    this.setNext(id, UNLINKED);
  }

  /** Sets the digest of an entry in a bucket. False when it is the same as before. */
  setDigest(id: number, word0: number, word1: number): boolean {
    const rows = this.rows[id >>> CHUNK_SHIFT];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if (rows[at] === word0 && rows[at + 1] === word1) return false;
    rows[at] = word0;
    rows[at + 1] = word1;
    return true;
  }

  /** Writes an entry's ENTRY_DIGEST_BYTES to `offset` in `out`. */
  copyDigest(id: number, out: Uint8Array, offset: number): void {
    const rows = this.rows[id >>> CHUNK_SHIFT];
    for (let word = 0; word < 2; word++) {
      const bytes = rows[(id & CHUNK_MASK) * ROW_WORDS + word];
      for (let i = 0; i < 4; i++) out[offset++] = bytes >>> (i * 8);
    }
  }

  /** The first entry of a bucket, or -1. They come in no order. */
  first(bucket: number): number {
    const id = this.heads[bucket];
    return id === END ? -1 : id;
  }

  /** The entry after this one in its bucket, or -1. */
  next(id: number): number {
    const next = this.nextOf(id);
    return next === END ? -1 : next;
  }

  /** Computes a bucket's digest into 32 bytes; false when it is empty. */
  digest(bucket: number, out: Uint8Array): boolean {
    let count = 0;
    let id = this.heads[bucket];
    while (id !== END) {
      if (count === this.sorted.length) this.growSorted();
      const rows = this.rows[id >>> CHUNK_SHIFT];
      const at = (id & CHUNK_MASK) * ROW_WORDS;
      this.sortedWords[count * 2] = rows[at];
      this.sortedWords[count * 2 + 1] = rows[at + 1];
      count++;
      id = rows[at + NEXT];
    }
    if (count === 0) return false;
    Bun.SHA256.hash(this.sorted.subarray(0, count).sort(), out);
    return true;
  }

  /** Empties all buckets and lets go of their memory. */
  clear(): void {
    this.rows = [];
    this.buckets = [];
    this.heads.fill(END);
  }

  /** Memory held, in bytes. */
  bytes(): number {
    const fixed = this.heads.byteLength + this.sorted.byteLength;
    return this.rows.length * CHUNK_IDS * (ROW_WORDS * 4 + 2) + fixed;
  }

  private nextOf(id: number): number {
    return this.rows[id >>> CHUNK_SHIFT][(id & CHUNK_MASK) * ROW_WORDS + NEXT];
  }

  private setNext(id: number, next: number): void {
    this.rows[id >>> CHUNK_SHIFT][(id & CHUNK_MASK) * ROW_WORDS + NEXT] = next;
  }

  private grow(): void {
    this.rows.push(new Uint32Array(CHUNK_IDS * ROW_WORDS).fill(UNLINKED));
    this.buckets.push(new Uint16Array(CHUNK_IDS));
  }

  private growSorted(): void {
    const larger = new BigUint64Array(this.sorted.length * 2);
    larger.set(this.sorted);
    this.sorted = larger;
    this.sortedWords = new Uint32Array(larger.buffer);
  }
}
