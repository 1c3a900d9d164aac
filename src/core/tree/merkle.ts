/**
 * The Merkle tree that two nodes compare to find out where they differ: entries in 65,536 buckets
 * (`merkle-buckets.ts`) under four levels of nodes (`digest-tree.ts`). Its root depends on the set
 * of entries alone, not on their order, on duplicates, restarts, or what was there before.
 *
 * A write only marks its entry. `update` hashes the marked entries, in slices: a key that is
 * written a thousand times between two updates is hashed once.
 *
 * Watermark. While writes go on, two nodes that miss nothing still hold different entries at any
 * moment, because some writes are on their way between them. So they compare as of a time W a
 * little back. But when an entry is overwritten after W, its version of before is gone from the
 * store; and to leave the key out would be a difference too, until the peer has the new version.
 * The tree therefore keeps what it had: `update(W)` takes in the marked entries at or below W. A
 * newer entry has to wait, and its key stays in the tree with the digest of the version that was
 * replaced, or stays out if it is new. So the tree as of W shows the state at W, which is the same
 * on all nodes that have received what was written up to W, however many writes are on their way.
 *
 * There are two exceptions, which do no harm. First, if a key is written twice between two updates,
 * the version in between is never hashed, and nodes that update at different moments may show
 * different versions. For that reason nodes update at every whole second, and not only when a
 * session starts. Second, an update never takes an entry out again. So after an update with a later
 * W the tree shows some entries early. Such a key is sent once too often; that is right, as it may
 * stand in place of a deletion from before W that the peer lacks. When no more is written, every
 * version comes to lie below W, and then equal roots mean equal entries.
 *
 * The two sides agree on the earlier of their clocks minus the lag as W, so that neither writes an
 * entry below W afterwards. The lag has to be longer than an event takes to arrive.
 *
 * Memory: 22.1 bytes an id, and 1.7 MB for buckets and levels.
 *
 * Invariants:
 * - an entry is in its bucket from the first update that takes it in until `removed`;
 * - what the buckets have of an entry is its current version, or else the entry is marked, or is
 *   to be (`markAll`);
 * - a bucket that changed is marked in the DigestTree until that is refreshed.
 */

import { DIGEST_WORDS } from "./digest-list.ts";
import { DigestTree, FANOUT } from "./digest-tree.ts";
import { Entry } from "../data/entry.ts";
import { Leftovers } from "../store/leftovers.ts";
import { latestVersionOf } from "../data/merge.ts";
import { IdMarks } from "./id-marks.ts";
import { MerkleBuckets } from "./merkle-buckets.ts";
import { DIGEST_BYTES, type RecordDigester } from "./record-digest.ts";
import type { ChangeObserver } from "../store/outcome.ts";

/** How the tree reads entries: the store. */
export interface RecordSource {
  /** Loads what says when an entry was written into the processor's caches. */
  touchRow(id: number): number;
  /**
   * The same with the keys and values of the first `count` of several, once that of before is
   * there. Both return no meaning.
   */
  touchSlots(ids: Int32Array, count: number): number;
  /** Points `into` at the entry; valid until the next write. */
  read(id: number, into: Entry): void;
  /** Whether its value should be there and is not. */
  isMissing(id: number): boolean;
  /** Every id is below this. */
  readonly idLimit: number;
  /** Whether an id names an entry. */
  isUsed(id: number): boolean;
}

/** Both words of the watermark that is above every version. */
export const LATEST = 0xffff_ffff;

/** So many entries are looked at together; a processor has about as many loads under way. */
const BATCH_ENTRIES = 32;
/** The clock is looked at after so many entries, or so many bytes. */
const ENTRIES_A_LOOK = 16;
const BYTES_A_LOOK = 65_536;
/** The same while nothing but marks is made. */
const IDS_A_LOOK = 4096;

/** The tree over a store's entries, named by the store's ids. */
export class MerkleTree implements ChangeObserver {
  /** The entries by bucket, with their digests; sync looks into them. Do not change it. */
  readonly buckets: MerkleBuckets;
  /** Buckets and the levels above. Read it between updates; do not change it. */
  readonly levels = new DigestTree();
  /** The watermark of the last completed update, upper word of a `HybridClock` timestamp. */
  watermarkHigh = 0;
  /** Lower word of that. */
  watermarkLow = 0;

  /** The entries that have changed and wait for an update to take them in. */
  private readonly marks = new IdMarks();
  private readonly leftovers = new Leftovers();
  /** From here to below `unmarkedEnd` are the ids of entries that are still to be marked. */
  private nextUnmarked = 0;
  private unmarkedEnd = 0;

  // The update under way.
  private stage: "none" | "entries" | "parts" | "levels" = "none";
  private nextId = 0;
  private limitHigh = 0;
  private limitLow = 0;

  /** Of no meaning, but written, so that no load is optimised away. */
  private touched = 0;
  private readonly batch = new Int32Array(BATCH_ENTRIES);
  private readonly entry = new Entry();
  private readonly digest = new Uint8Array(DIGEST_BYTES);
  private readonly digestWords = new Uint32Array(this.digest.buffer);

  /** Trees whose digesters have different keys cannot be compared. */
  constructor(
    private readonly source: RecordSource,
    private readonly digester: Pick<RecordDigester, "ofEntry" | "ofKey">,
  ) {
    const entry = new Entry();
    this.buckets = new MerkleBuckets((id, out) => {
      source.read(id, entry);
      digester.ofKey(entry, out);
    });
  }

  /** How many entries have changed and wait for an update to take them in. */
  get waiting(): number {
    return this.marks.count;
  }

  // What the store reports.

  /** Marks an entry that was added or replaced. */
  changed(id: number): void {
    this.marks.mark(id);
  }

  touch(ids: Int32Array, count: number): void {
    this.touched ^= this.marks.touch(ids, count);
  }

  /** Marks an entry whose value is found to be missing, or not to be. */
  missed(id: number): void {
    this.changed(id);
  }

  /** Forgets an entry that is about to be dropped. */
  removed(id: number): void {
    this.marks.unmark(id);
    if (!this.buckets.has(id)) return;
    this.levels.mark(this.buckets.bucketOf(id));
    this.buckets.remove(id);
  }

  /** The flush floor moved; with `cleared` all entries are gone, else `removed` tells of each. */
  flushed(_local: boolean, cleared: boolean): void {
    if (cleared) this.clear();
  }

  /**
   * Has all entries that the source holds now hashed, whatever the tree has of them: the next
   * update marks them first, in slices.
   */
  markAll(): void {
    this.nextUnmarked = 0;
    this.unmarkedEnd = this.source.idLimit;
  }

  /** Forgets all entries and lets go of their memory. */
  clear(): void {
    this.unmarkedEnd = 0;
    this.leftovers.giveBackFew();
    this.buckets.clear(this.leftovers);
    this.levels.clear();
    this.marks.clear();
    this.stage = "none";
  }

  // Bringing it up to date.

  /**
   * Takes in the entries that wait at or below a watermark, all of them with (LATEST, LATEST), and
   * computes the digests that this changes, for about `budgetMs` by `now`, which is in
   * milliseconds. True when there is more to do: call again with the same watermark. The store may
   * change between two calls. What changes where the update has been already waits for the next
   * one.
   */
  update(timeHigh: number, timeLow: number, budgetMs: number, now: () => number): boolean {
    const untilMs = now() + budgetMs;
    if (this.leftovers.giveBack(() => now() >= untilMs)) return true;
    if (this.markMore(untilMs, now)) return true;
    if (this.stage === "none") {
      this.stage = "entries";
      this.nextId = 0;
      this.limitHigh = timeHigh;
      this.limitLow = timeLow;
    }
    if (this.stage === "entries") {
      if (this.absorb(untilMs, now)) return true;
      this.stage = "parts";
    }
    if (this.stage === "parts") {
      if (this.buckets.refresh(untilMs, now)) return true;
      this.stage = "levels";
    }
    if (this.levels.refresh(this.buckets, untilMs, now)) return true;
    this.stage = "none";
    this.watermarkHigh = this.limitHigh;
    this.watermarkLow = this.limitLow;
    // Someone else may have begun this update, with a watermark further back.
    return !isAtOrBelow(timeHigh, timeLow, this.limitHigh, this.limitLow);
  }

  /** Whether an update is under way; it misses some of what has changed since it began. */
  get isUpdating(): boolean {
    return this.stage !== "none";
  }

  /** The 32-byte root as of the last update, zeros without entries; null while digests change. */
  root(): Uint8Array | null {
    return this.stage === "levels" ? null : this.levels.root();
  }

  /** `root` as 64 hexadecimal digits. */
  rootHex(): string | null {
    return this.root()?.toHex() ?? null;
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return this.buckets.bytes() + this.levels.bytes() + this.marks.bytes();
  }

  /** The node above the bucket in which an entry of that key belongs, whether it is here or not. */
  nodeAbove(entry: Entry): number {
    this.digester.ofKey(entry, this.digest);
    return Math.floor(((this.digest[0] << 8) | this.digest[1]) / FANOUT);
  }

  /**
   * Throws unless the invariants hold, of buckets and levels too; for tests. `isUsed`: whether an
   * id below `idLimit` names an entry that the tree was told of.
   */
  verify(idLimit: number, isUsed: (id: number) => boolean): void {
    const { buckets, digester, digest, digestWords, entry } = this;
    buckets.verify();
    this.levels.verify(buckets);
    const shown = new Uint32Array(DIGEST_WORDS);
    let waiting = 0;
    for (let id = 0; id < Math.max(idLimit, this.marks.idLimit); id++) {
      const isMarked = this.marks.has(id);
      if (isMarked) waiting++;
      if (id >= idLimit || !isUsed(id)) {
        if (isMarked || buckets.has(id)) throw new Error(`merkle tree: entry ${id} is gone`);
        continue;
      }
      const isToBeMarked = id >= this.nextUnmarked && id < this.unmarkedEnd;
      if (isMarked || isToBeMarked) continue;
      if (!buckets.has(id)) throw new Error(`merkle tree: entry ${id} is missing`);
      this.source.read(id, entry);
      digester.ofEntry(entry, digest, this.source.isMissing(id));
      buckets.copyDigest(id, shown, 0);
      if (shown.some((word, i) => word !== digestWords[i])) {
        throw new Error(`merkle tree: entry ${id} has changed and is not marked`);
      }
    }
    if (waiting !== this.waiting) {
      throw new Error(`merkle tree: ${waiting} entries wait, not ${this.waiting}`);
    }
  }

  /** Marks what is still to be marked. True when time is up before all is. */
  private markMore(untilMs: number, now: () => number): boolean {
    while (this.nextUnmarked < this.unmarkedEnd) {
      const end = Math.min(this.nextUnmarked + IDS_A_LOOK, this.unmarkedEnd);
      for (; this.nextUnmarked < end; this.nextUnmarked++) {
        if (this.source.isUsed(this.nextUnmarked)) this.marks.mark(this.nextUnmarked);
      }
      if (now() >= untilMs) return this.nextUnmarked < this.unmarkedEnd;
    }
    return false;
  }

  /** Goes over the marks from `nextId` on. True when time is up. */
  private absorb(untilMs: number, now: () => number): boolean {
    const { batch, marks } = this;
    let looks = 0;
    while (this.nextId < marks.idLimit) {
      const marked = marks.copyFrom(this.nextId, batch);
      const after = marked < batch.length ? marks.idLimit : batch[marked - 1] + 1;
      const count = this.prefetchDue(marked);
      looks += (marked - count) / (4 * ENTRIES_A_LOOK);
      for (let i = 0; i < count; i++) {
        const hashedBytes = this.absorbEntry(batch[i]);
        looks += 1 / ENTRIES_A_LOOK + hashedBytes / BYTES_A_LOOK;
        if (looks < 1) continue;
        looks = 0;
        if (now() < untilMs) continue;
        this.nextId = batch[i] + 1;
        return true;
      }
      this.nextId = after;
      if (looks >= 1 && now() >= untilMs) return true;
    }
    return false;
  }

  /**
   * Of the first `marked` entries in `batch` keeps those at or below the watermark, and loads what
   * taking them in needs, a step at a time for all of them, so that the processor waits for many
   * loads at once. Returns how many there are.
   */
  private prefetchDue(marked: number): number {
    const { batch, buckets, entry, source } = this;
    let sum = 0;
    for (let i = 0; i < marked; i++) sum ^= source.touchRow(batch[i]);
    let count = 0;
    for (let i = 0; i < marked; i++) {
      source.read(batch[i], entry);
      const { timeHigh, timeLow } = latestVersionOf(entry);
      if (isAtOrBelow(timeHigh, timeLow, this.limitHigh, this.limitLow)) batch[count++] = batch[i];
    }
    sum ^= source.touchSlots(batch, count);
    for (let i = 0; i < count; i++) sum ^= buckets.touch(batch[i]);
    this.touched ^= sum;
    return count;
  }

  /** Hashes a waiting entry. Returns how many bytes it read for that. */
  private absorbEntry(id: number): number {
    const { buckets, digester, digest, entry } = this;
    this.marks.unmark(id);
    this.source.read(id, entry);
    const isNew = !buckets.has(id);
    if (isNew) {
      digester.ofKey(entry, digest);
      buckets.add(id, digest);
    }
    digester.ofEntry(entry, digest, this.source.isMissing(id));
    if (buckets.setDigest(id, this.digestWords) || isNew) this.levels.mark(buckets.bucketOf(id));
    return entry.keyLength + entry.valueLength;
  }
}

function isAtOrBelow(high: number, low: number, limitHigh: number, limitLow: number): boolean {
  return high < limitHigh || (high === limitHigh && low <= limitLow);
}
