/**
 * The store: every entry enters through one gate, `apply`, which merges it with what is
 * there (`merge.ts`) and tells the observers. Local commands stamp an entry with the
 * next version and go through the same gate; a replicated event, an anti-entropy repair and
 * a log replay are nothing else.
 *
 * `store-view.ts` is what can be asked of it, `own-writes.ts` what its node writes itself; here is
 * what comes from elsewhere, and what happens in the background. `keyed-entries.ts` holds the
 * entries, `deletions.ts` says what may be forgotten, `own-counts.ts` counts, and `sweeper.ts`
 * does what has to be done later.
 *
 * Invariants
 * - Every entry is well-formed (`entry-check.ts`).
 * - No entry has a base below the flush floor, except while `sweep` is still
 *   removing them; until then they read as absent.
 * - The version of a counter is that of its latest part.
 * - The clock has seen every version in the store (`clock.ts`).
 */
import { MAX_ENTRY_PARTS, partsOf, setVersionFromParts } from "../data/counter.ts";
import {
  KIND_COUNTER,
  KIND_HUSK,
  KIND_TOMBSTONE,
  compareVersions,
  isNoVersion,
  type Entry,
} from "../data/entry.ts";
import { flawOf } from "../data/entry-check.ts";
import { diedMs, latestVersionOf, setExpiryOf } from "../data/merge.ts";
import type { Patch } from "../data/patch.ts";
import {
  APPLIED,
  CHANGED_VALUE,
  REFUSED_FUTURE,
  REFUSED_INVALID,
  REFUSED_LARGE,
  REFUSED_MISSING,
  REFUSED_READ_ONLY,
  UNCHANGED,
  type Outcome,
} from "./outcome.ts";
import { OwnWrites } from "./own-writes.ts";
import type { Pieces } from "./pieces.ts";
import { verifyEntries } from "./store-check.ts";
import type { StoreOptions } from "./store-options.ts";
import { Sweeper } from "./sweeper.ts";

const never = (): boolean => false;
/** Rows that `sweep` goes over for what lies in slabs that are hardly used. */
const COMPACTED_ROWS = 16_384;

/** The data set of one node. */
export class Store extends OwnWrites {
  private readonly sweeper: Sweeper;
  private isRefusing = false;

  constructor(private readonly options: StoreOptions) {
    super(options);
    this.sweeper = new Sweeper(this.entries, this.flushFloor, this.deletions);
  }

  /** Keys found to have expired, since the start. */
  get expiredCount(): number {
    return this.sweeper.expired;
  }

  /** Another limit, in bytes, from now on; 0 for none. What is there stays. */
  setMemoryLimit(bytes: number): void {
    this.entries.setLimit(bytes);
  }

  /**
   * No entry but a client's own is accepted, and `sweep` changes none: that could not be written
   * down.
   */
  get isReadOnly(): boolean {
    return this.isRefusing;
  }

  /** See `isReadOnly`. */
  setReadOnly(isReadOnly: boolean): void {
    this.isRefusing = isReadOnly;
  }

  /** Throws unless the invariants hold, of all parts too; for tests, for it looks at everything. */
  verify(): void {
    this.entries.verify();
    verifyEntries(this.entries, this.clock, this.flushFloor);
  }

  /**
   * The gate: merges an entry. Its bytes are copied; they must not lie in this store.
   * `local` is for entries this node just made with the next version of its own clock;
   * all others are checked first and may be refused.
   */
  apply(entry: Entry, local = false): Outcome {
    if (!local) {
      const refused = this.inspect(entry);
      if (refused !== 0) return refused;
      const { timeHigh, timeLow } = latestVersionOf(entry);
      this.clock.observe(timeHigh, timeLow);
      if (this.flushFloor.covers(entry)) return UNCHANGED;
    }
    const { entries } = this;
    const hash = entries.hash(entry.key, entry.keyOffset, entry.keyLength);
    const id = entries.locate(hash, entry.key, entry.keyOffset, entry.keyLength);
    // What this node just wrote is above all it ever saw: there is nothing to compare.
    if (local) {
      if (id < 0) return entries.add(hash, entry, true);
      return entries.replace(id, entry, true, CHANGED_VALUE);
    }
    return id < 0 ? this.merger.add(hash, entry) : this.merger.merge(id, entry);
  }

  /**
   * The gate for an expiry that comes without a value: merges it with that of the key. The version
   * of `entry` is that of its expiry. REFUSED_MISSING when the key is not here.
   */
  applyExpiry(entry: Entry): Outcome {
    entry.kind = KIND_HUSK;
    entry.valueLength = 0;
    const refused = this.inspect(entry);
    if (refused !== 0) return refused;
    this.clock.observe(entry.timeHigh, entry.timeLow);
    const id = this.locate(entry.key, entry.keyOffset, entry.keyLength);
    const isHere = id >= 0 && (this.flushFloor.isCarriedOut || !this.isFlushed(id));
    if (!isHere) return REFUSED_MISSING;
    return this.merger.expire(id, entry, entry.expiresAtMs, entry, false);
  }

  private inspect(entry: Entry): Outcome {
    if (flawOf(entry) !== null) return REFUSED_INVALID;
    if (entry.kind === KIND_COUNTER) {
      if (!this.entries.isRecovering && partsOf(entry.valueLength) > MAX_ENTRY_PARTS)
        return REFUSED_LARGE;
      setVersionFromParts(entry);
    }
    // There is one way to write an expiry down. What deletes writes that there is none.
    setExpiryOf(entry, entry);
    if (entry.kind === KIND_TOMBSTONE && isNoVersion(entry.expiryVersion)) entry.expiresAtMs = 0;
    if (this.isReadOnly) return REFUSED_READ_ONLY;
    const { timeHigh, timeLow } = latestVersionOf(entry);
    return this.isTooFarAhead(timeHigh, timeLow) ? REFUSED_FUTURE : 0;
  }

  /**
   * From here to `endRecovery` entries are accepted that this store has had before, as from a log:
   * however new or old they are, and beyond the memory limit. Meanwhile the order is empty.
   */
  beginRecovery(): void {
    this.entries.beginRecovery();
  }

  /** While recovering: there will be so many entries in all, about, and memory for finding them. */
  expect(count: number): void {
    this.entries.expect(count);
  }

  /**
   * Ends what `beginRecovery` began: makes the order, 0.1 s a million keys. Nothing may change
   * before all pieces of that are done.
   */
  endRecovery(): Pieces<void> {
    return this.entries.endRecovery();
  }

  /** Deletes everything, here and, as a floor that replicates, everywhere. */
  flush(): void {
    const { clock } = this;
    clock.next();
    if (clock.isOutrun) clock.raiseAbove(clock.seenHigh, clock.seenLow);
    this.raiseFloor(clock.high, clock.low, this.origin.high, this.origin.low, true);
  }

  /** Merges another node's flush floor. */
  applyFloor(timeHigh: number, timeLow: number, originHigh: number, originLow: number): Outcome {
    const given = { timeHigh, timeLow, originHigh, originLow };
    if (compareVersions(given, this.floor) <= 0) return UNCHANGED;
    if (this.isTooFarAhead(timeHigh, timeLow)) return REFUSED_FUTURE;
    if (this.isReadOnly) return REFUSED_READ_ONLY;
    this.raiseFloor(timeHigh, timeLow, originHigh, originLow, false);
    return APPLIED;
  }

  private raiseFloor(
    timeHigh: number,
    timeLow: number,
    originHigh: number,
    originLow: number,
    local: boolean,
  ): void {
    const { clock, entries } = this;
    const { seenHigh, seenLow } = clock;
    // A floor above all that the clock has seen is above every version here: drop all in one step.
    const clearsAll = local || timeHigh > seenHigh || (timeHigh === seenHigh && timeLow > seenLow);
    this.flushFloor.set(timeHigh, timeLow, originHigh, originLow);
    clock.observe(timeHigh, timeLow);
    if (clearsAll) entries.clear();
    this.flushFloor.isCarriedOut = clearsAll;
    this.sweeper.restart();
    entries.noteRoom();
    for (let i = 0; i < this.observers.length; i++) this.observers[i].flushed(local, clearsAll);
  }

  /** Unix milliseconds that nothing is written below any more. */
  clockMs(): number {
    return this.clock.latestMs();
  }

  /** See `StoreOptions`. */
  get maxClockSkewMs(): number {
    return this.options.maxClockSkewMs;
  }

  /** Lets the clock see that of another node, unless it lies too far ahead. */
  observeClock(timeHigh: number, timeLow: number): void {
    if (!this.isTooFarAhead(timeHigh, timeLow)) this.clock.observe(timeHigh, timeLow);
  }

  /**
   * Drops an entry for good, without a trace: no deletion that others would learn of. For an
   * entry that was put away elsewhere because peers refuse it.
   */
  discard(id: number): void {
    // Peers may have this node's part of a counter that it was, or that it took the place of: the
    // next one must not seem to follow on that.
    if (this.isLive(id)) this.counts.beginAnew();
    this.entries.drop(id, false);
  }

  /**
   * In a recovery: drops what was dropped before, an entry of this key and version or an older one.
   */
  dropAgain(dropped: Entry): void {
    const id = this.locate(dropped.key, dropped.keyOffset, dropped.keyLength);
    if (id < 0) return;
    const { present } = this;
    this.entries.read(id, present);
    if (compareVersions(present, dropped) > 0) return;
    if (present.kind === KIND_TOMBSTONE || this.deletions.isPurgeable(present)) {
      this.deletions.notePurgedHere(diedMs(present));
    }
    this.entries.drop(id, false);
  }

  /**
   * In a recovery: changes a string again, if it is there in exactly the version that was changed.
   * If it is not, what came after it is there already, or it was dropped.
   */
  patchAgain(patch: Patch): void {
    const { entry } = patch;
    const id = this.locate(entry.key, entry.keyOffset, entry.keyLength);
    if (id < 0 || this.flushFloor.isAbove(entry)) return;
    this.clock.observe(entry.timeHigh, entry.timeLow);
    this.patches.repeat(id, patch);
  }

  /**
   * A slice of background work over the next `rows` rows: takes what has expired out of the order
   * and lets go of its value, purges what is dead past the grace, removes what a flush left, and
   * empties sparse slabs. True while a flush is still being carried out. While `isReadOnly`
   * no entry changes, and what a flush left stays until later. `isOver` says that time is up: it is
   * asked after each entry that was changed, and once in a while besides.
   */
  sweep(rows: number, isOver: () => boolean = never): boolean {
    this.entries.compact(COMPACTED_ROWS, isOver);
    // What cannot be written down is left as it is.
    if (this.isReadOnly) return false;
    this.sweeper.sweep(rows, this.options.expiredMs?.() ?? this.clock.nowMs(), isOver);
    return !this.flushFloor.isCarriedOut;
  }

  /** Up to when, in Unix ms, versions are accepted: what is later comes from the future. */
  acceptsUpToMs(): number {
    return this.times.acceptsUpToMs();
  }

  /** Whether a version of that time would be refused as coming from the future. */
  isTooFarAhead(timeHigh: number, timeLow: number): boolean {
    return this.times.isTooFarAhead(timeHigh, timeLow);
  }

  /** See `VersionTimes.aheadUntilMs`. */
  aheadUntilMs(key: Uint8Array | null = null, offset = 0, length = 0): number {
    return this.times.aheadUntilMs(key, offset, length);
  }
}
