/**
 * The buckets at the foot of the Merkle tree: which entries are in which bucket, and with which
 * digest of 128 bits. The first 16 bits of a key's digest are the number of its bucket.
 *
 * A bucket's digest is the first 128 bits of SHA-256 over its entries' digests in ascending order
 * (`digest-list.ts`). A bucket with more than MAX_CHAIN_ENTRIES entries is divided into 16 parts by
 * the next 4 bits of the keys' digests. Its digest is made from the digests of the parts, in order,
 * and the number of entries; and large parts are divided likewise. So the digest depends on the
 * entries alone. A bucket that somebody fills on purpose costs no more than any other, except once
 * for dividing it: to compute its digest after a change, to remove an entry, or to find what
 * differs in it.
 *
 * How entries are linked follows the same rule, but with a delay: a bucket is divided when it has
 * become large, but joined again only when it is down to half of that, so that nobody can make it
 * divide and join all the time by adding and removing one entry.
 *
 * Memory: 22 bytes an id (digest 16, next in its chain 4, bucket 2) in chunks, and some 500 bytes
 * for each divided bucket or part.
 *
 * Invariants:
 * - an entry is in exactly one chain, once, the one that its key belongs to, from `add` to
 *   `remove`; all other ids are UNLINKED;
 * - a chain has at most MAX_CHAIN_ENTRIES entries, except at MAX_DEPTH;
 * - the digests of a division are up to date, except those marked in its `dirty`; if any is marked
 *   there, the divisions above are marked too;
 * - a division with such marks is in `stale`.
 */

import type { Leftovers } from "../store/leftovers.ts";
import { Division, divisionOf, END, isDivision } from "./bucket-division.ts";
import { digitOf, digitOfKey, MAX_DEPTH, partOf, wholeBucket, type Part } from "./bucket-part.ts";
import { BucketRows } from "./bucket-rows.ts";
import { DIGEST_WORDS, DigestList } from "./digest-list.ts";
import { BUCKETS, FANOUT } from "./digest-tree.ts";
import { DIGEST_BYTES } from "./record-digest.ts";

/** A bucket, or a part of one, that has more entries than this is compared part by part. */
export const MAX_CHAIN_ENTRIES = 256;

/** The most buckets that are prefetched: more than a processor has loads under way. */
export const PREFETCHED_BUCKETS = 64;

/** Computes the digest of an entry's key into 32 bytes. */
export type KeyDigester = (id: number, out: Uint8Array) => void;

/** Entries by bucket, named by their ids. */
export class MerkleBuckets {
  private readonly rows = new BucketRows();
  /** What each bucket begins with: an id, END, or a division. */
  private readonly heads = new Uint32Array(BUCKETS).fill(END);
  private readonly counts = new Uint32Array(BUCKETS);

  private divisions: (Division | undefined)[] = [];
  private free: number[] = [];
  /** Divisions with digests out of date; one that is above another comes before it. */
  private stale: Division[] = [];

  private readonly list = new DigestList();
  private readonly keyDigest = new Uint8Array(DIGEST_BYTES);
  /** The divisions that lead to an entry, the topmost first. */
  private readonly way: Division[] = [];
  /** Where the chains are that are being prefetched. */
  private readonly cells = new Uint32Array(PREFETCHED_BUCKETS);
  private readonly lists = Array.from({ length: FANOUT }, () => new DigestList());

  constructor(private readonly digestKey: KeyDigester) {}

  /** Whether an entry is in a bucket. */
  has(id: number): boolean {
    return this.rows.has(id);
  }

  /** The bucket an entry is in. */
  bucketOf(id: number): number {
    return this.rows.bucketOf(id);
  }

  /** Puts an entry, which must not be in any, into the bucket that its key's digest names. */
  add(id: number, keyDigest: Uint8Array): void {
    const bucket = (keyDigest[0] << 8) | keyDigest[1];
    this.rows.setBucket(id, bucket);
    const last = this.follow(bucket, keyDigest);
    if (last === null) {
      this.rows.push(this.heads, bucket, id);
      if (++this.counts[bucket] > MAX_CHAIN_ENTRIES) this.divide(this.heads, bucket, 0);
      return;
    }
    this.counts[bucket]++;
    for (const division of this.way) division.counts[digitOfKey(keyDigest, division.depth)]++;
    const digit = digitOfKey(keyDigest, last.depth);
    this.rows.push(last.cells, digit, id);
    const depth = last.depth + 1;
    if (last.counts[digit] > MAX_CHAIN_ENTRIES && depth < MAX_DEPTH)
      this.divide(last.cells, digit, depth);
  }

  /** Removes an entry from its bucket. */
  remove(id: number): void {
    const bucket = this.bucketOf(id);
    this.counts[bucket]--;
    if (!isDivision(this.heads[bucket])) {
      this.rows.unlink(this.heads, bucket, id);
      return;
    }
    const { keyDigest, way } = this;
    this.digestKey(id, keyDigest);
    const last = this.follow(bucket, keyDigest)!;
    this.rows.unlink(last.cells, digitOfKey(keyDigest, last.depth), id);
    for (const division of way) division.counts[digitOfKey(keyDigest, division.depth)]--;
    // From below, so that a division has only chains when it is joined.
    for (let i = way.length - 1; i >= 0 && way[i].total <= MAX_CHAIN_ENTRIES / 2; i--) {
      if (i === 0) this.join(this.heads, bucket);
      else this.join(way[i - 1].cells, digitOfKey(keyDigest, way[i - 1].depth));
    }
  }

  /**
   * Sets the digest, at `at` in `words`, of an entry in a bucket. False when it is the same as
   * before.
   */
  setDigest(id: number, words: Uint32Array, at = 0): boolean {
    if (!this.rows.setDigest(id, words, at)) return false;
    const bucket = this.bucketOf(id);
    if (isDivision(this.heads[bucket])) {
      this.digestKey(id, this.keyDigest);
      this.follow(bucket, this.keyDigest);
    }
    return true;
  }

  /** Writes an entry's digest to `at` in `out`. */
  copyDigest(id: number, out: Uint32Array, at: number): void {
    this.rows.copyDigest(id, out, at);
  }

  /**
   * Brings the digests of large buckets' parts up to date, until done or until `now` reaches
   * `untilMs`. True when there is more to do.
   */
  refresh(untilMs: number, now: () => number): boolean {
    while (this.stale.length > 0) {
      // No other division is below the last one, so it can be brought up to date first.
      const division = this.stale.pop()!;
      division.isStale = false;
      if (division.isInUse) this.refreshDivision(division);
      if (now() >= untilMs) return this.stale.length > 0;
    }
    return false;
  }

  /** Writes a bucket's digest to `at` in `out`; zeros when it is empty. */
  digest(bucket: number, out: Uint32Array, at: number): void {
    this.digestCell(this.heads[bucket], this.counts[bucket], out, at);
  }

  /** Whether a part is compared part by part. */
  isLarge(part: Part): boolean {
    return part.depth < MAX_DEPTH && this.count(part) > MAX_CHAIN_ENTRIES;
  }

  /** How many entries a part has. */
  count(part: Part): number {
    const { bucket, depth } = part;
    let cell = this.heads[bucket];
    let count = this.counts[bucket];
    for (let i = 0; i < depth; i++) {
      if (!isDivision(cell)) {
        count = 0;
        this.visit(part, () => count++);
        return count;
      }
      const division = this.divisions[divisionOf(cell)]!;
      count = division.counts[digitOf(part, i)];
      cell = division.cells[digitOf(part, i)];
    }
    return count;
  }

  /** Visits all entries of a part, in no order. It takes a while when it is large. */
  visit(part: Part, visit: (id: number) => void): void {
    let cell = this.heads[part.bucket];
    for (let i = 0; i < part.depth; i++) {
      if (!isDivision(cell)) {
        this.visitCell(cell, (id) => {
          this.digestKey(id, this.keyDigest);
          if (isInPart(this.keyDigest, part)) visit(id);
        });
        return;
      }
      cell = this.divisions[divisionOf(cell)]!.cells[digitOf(part, i)];
    }
    this.visitCell(cell, visit);
  }

  /** Loads what there is of an entry into the processor's caches, if it is in a bucket. */
  touch(id: number): number {
    return this.has(id) ? this.rows.touch(id) : 0;
  }

  /**
   * Goes through the chains of the first `count` of several buckets side by side, so that the
   * processor loads entries of all of them at once; what visits those buckets next finds them in
   * its cache.
   */
  prefetch(buckets: ArrayLike<number>, count = buckets.length): void {
    const { cells } = this;
    let left = 0;
    for (let i = 0; i < count && left < cells.length; i++) {
      const head = this.heads[buckets[i]];
      if (head !== END && !isDivision(head)) cells[left++] = head;
    }
    while (left > 0) {
      let kept = 0;
      for (let i = 0; i < left; i++) {
        const next = this.rows.touch(cells[i]);
        if (next !== END) cells[kept++] = next;
      }
      left = kept;
    }
  }

  /**
   * Writes the digests of the 16 parts of a part to `out`. It takes a while when those are out of
   * date.
   */
  digestParts(part: Part, out: Uint32Array): void {
    let cell = this.heads[part.bucket];
    for (let i = 0; i < part.depth && isDivision(cell); i++) {
      cell = this.divisions[divisionOf(cell)]!.cells[digitOf(part, i)];
    }
    if (isDivision(cell)) {
      const division = this.divisions[divisionOf(cell)]!;
      this.refreshDivision(division);
      out.set(division.digests);
      return;
    }
    const { lists } = this;
    this.visitCell(cell, (id) => {
      this.digestKey(id, this.keyDigest);
      if (!isInPart(this.keyDigest, part)) return;
      this.rows.list(id, lists[digitOfKey(this.keyDigest, part.depth)]);
    });
    for (let digit = 0; digit < FANOUT; digit++) lists[digit].hash(out, digit * DIGEST_WORDS);
  }

  /** Empties all buckets; the memory becomes `leftovers`. */
  clear(leftovers: Leftovers): void {
    this.rows.clear(leftovers);
    this.heads.fill(END);
    this.counts.fill(0);
    this.divisions = [];
    this.free = [];
    this.stale = [];
  }

  /** The memory of what is held of each entry. */
  blocks(): readonly Uint32Array[] {
    return this.rows.blocks();
  }

  /** Memory held, in bytes. */
  bytes(): number {
    const fixed = this.heads.byteLength + this.counts.byteLength + this.list.bytes();
    const divisions = (this.divisions.length - this.free.length) * Division.BYTES;
    return this.rows.bytes() + fixed + divisions;
  }

  /** Throws unless the invariants hold; for tests. */
  verify(): void {
    const seen = new Set<number>();
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const before = seen.size;
      if (this.heads[bucket] !== END)
        this.verifyCell(this.heads[bucket], wholeBucket(bucket), seen);
      if (seen.size - before !== this.counts[bucket]) {
        throw new Error(`merkle buckets: the entries of bucket ${bucket} are miscounted`);
      }
    }
    for (let id = 0; id < this.rows.idLimit; id++) {
      if (this.has(id) !== seen.has(id))
        throw new Error(`merkle buckets: entry ${id} is in no chain`);
    }
  }

  private verifyCell(cell: number, part: Part, seen: Set<number>): void {
    if (isDivision(cell)) return this.verifyDivision(this.divisions[divisionOf(cell)], part, seen);
    const before = seen.size;
    for (let id = cell; id !== END; id = this.rows.nextOf(id)) {
      if (seen.has(id)) throw new Error(`merkle buckets: entry ${id} is in a chain twice`);
      seen.add(id);
      this.digestKey(id, this.keyDigest);
      const bucket = (this.keyDigest[0] << 8) | this.keyDigest[1];
      const isHere = bucket === part.bucket && this.bucketOf(id) === bucket;
      if (!isHere || !isInPart(this.keyDigest, part)) {
        throw new Error(`merkle buckets: entry ${id} is in another's chain`);
      }
    }
    if (part.depth < MAX_DEPTH && seen.size - before > MAX_CHAIN_ENTRIES) {
      throw new Error(`merkle buckets: a chain in bucket ${part.bucket} is too long`);
    }
  }

  private verifyDivision(division: Division | undefined, part: Part, seen: Set<number>): void {
    const where = `the division of bucket ${part.bucket} at depth ${part.depth}`;
    if (division === undefined || !division.isInUse || division.depth !== part.depth) {
      throw new Error(`merkle buckets: ${where} is none`);
    }
    if (division.total <= MAX_CHAIN_ENTRIES / 2)
      throw new Error(`merkle buckets: ${where} was not joined`);
    if (division.dirty !== 0 && !this.stale.includes(division)) {
      throw new Error(`merkle buckets: ${where} is out of date and not in the list of those`);
    }
    const digest = new Uint32Array(DIGEST_WORDS);
    for (let digit = 0; digit < FANOUT; digit++) {
      const below = division.cells[digit];
      const before = seen.size;
      this.verifyCell(below, partOf(part, digit), seen);
      if (seen.size - before !== division.counts[digit]) {
        throw new Error(`merkle buckets: ${where} miscounts`);
      }
      if ((division.dirty & (1 << digit)) !== 0) continue;
      const isDirty = isDivision(below) && this.divisions[divisionOf(below)]!.dirty !== 0;
      if (isDirty) throw new Error(`merkle buckets: ${where} does not know what is out of date`);
      this.digestCell(below, division.counts[digit], digest, 0);
      if (digest.some((word, i) => word !== division.digests[digit * DIGEST_WORDS + i])) {
        throw new Error(`merkle buckets: a digest in ${where} is out of date`);
      }
    }
  }

  private visitCell(cell: number, visit: (id: number) => void): void {
    if (isDivision(cell)) {
      for (const below of this.divisions[divisionOf(cell)]!.cells) this.visitCell(below, visit);
    } else for (let id = cell; id !== END; id = this.rows.nextOf(id)) visit(id);
  }

  // Divisions.

  /**
   * Goes to where a key belongs, and marks all divisions on the way, which are in `way` then.
   * Returns the last of them, if there are any.
   */
  private follow(bucket: number, keyDigest: Uint8Array): Division | null {
    this.way.length = 0;
    let cell = this.heads[bucket];
    let last: Division | null = null;
    while (isDivision(cell)) {
      last = this.divisions[divisionOf(cell)]!;
      this.way.push(last);
      const digit = digitOfKey(keyDigest, last.depth);
      this.noteStale(last, 1 << digit);
      cell = last.cells[digit];
    }
    return last;
  }

  private noteStale(division: Division, digits: number): void {
    division.dirty |= digits;
    if (division.isStale) return;
    division.isStale = true;
    this.stale.push(division);
  }

  /** Divides a chain. */
  private divide(cells: Uint32Array, index: number, depth: number): void {
    const division = new Division(depth);
    const at = this.free.pop() ?? this.divisions.length;
    this.divisions[at] = division;
    let id = cells[index];
    cells[index] = Division.cellOf(at);
    const keyDigest = new Uint8Array(DIGEST_BYTES);
    while (id !== END) {
      const next = this.rows.nextOf(id);
      this.digestKey(id, keyDigest);
      const digit = digitOfKey(keyDigest, depth);
      this.rows.push(division.cells, digit, id);
      division.counts[digit]++;
      id = next;
    }
    this.noteStale(division, 0xffff);
    for (let digit = 0; digit < FANOUT && depth + 1 < MAX_DEPTH; digit++) {
      if (division.counts[digit] > MAX_CHAIN_ENTRIES) this.divide(division.cells, digit, depth + 1);
    }
  }

  /** Joins a division that has only chains into one chain. */
  private join(cells: Uint32Array, index: number): void {
    const at = divisionOf(cells[index]);
    const division = this.divisions[at]!;
    this.divisions[at] = undefined;
    division.isInUse = false;
    this.free.push(at);
    cells[index] = END;
    for (const first of division.cells) {
      for (let id = first; id !== END;) {
        const next = this.rows.nextOf(id);
        this.rows.push(cells, index, id);
        id = next;
      }
    }
  }

  private refreshDivision(division: Division): void {
    const { cells, counts, digests, dirty } = division;
    division.dirty = 0;
    for (let digit = 0; digit < FANOUT; digit++) {
      if ((dirty & (1 << digit)) === 0) continue;
      this.digestCell(cells[digit], counts[digit], digests, digit * DIGEST_WORDS);
    }
  }

  private digestCell(cell: number, count: number, out: Uint32Array, at: number): void {
    if (isDivision(cell) && count > MAX_CHAIN_ENTRIES) {
      const division = this.divisions[divisionOf(cell)]!;
      this.refreshDivision(division);
      division.digest(count, out, at);
      return;
    }
    this.gather(cell);
    this.list.hash(out, at);
  }

  private gather(cell: number): void {
    if (isDivision(cell)) {
      for (const below of this.divisions[divisionOf(cell)]!.cells) this.gather(below);
      return;
    }
    this.rows.listChain(cell, this.list);
  }
}

function isInPart(keyDigest: Uint8Array, part: Part): boolean {
  for (let i = 0; i < part.depth; i++) {
    if (digitOfKey(keyDigest, i) !== digitOf(part, i)) return false;
  }
  return true;
}
