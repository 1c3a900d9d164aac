/**
 * What this node writes itself, mostly for clients: each write gets the next version of its clock.
 * That is above all it ever saw, so there is nothing to compare.
 */
import { Int64 } from "../data/int64.ts";
import { Entry, KIND_COUNTER, KIND_OTHER, KIND_STRING, KIND_TOMBSTONE } from "../data/entry.ts";
import { setExpiryOf } from "../data/merge.ts";
import type { Patch } from "../data/patch.ts";
import { Deletions } from "./deletions.ts";
import { LARGE_COUNTER_BYTES, Merger } from "./merger.ts";
import {
  APPLIED,
  CHANGED_VALUE,
  NOT_A_NUMBER,
  OUT_OF_RANGE,
  UNCHANGED,
  type Outcome,
} from "./outcome.ts";
import { OwnCounts } from "./own-counts.ts";
import type { StoreOptions } from "./store-options.ts";
import { StoreView } from "./store-view.ts";
import { StringPatches } from "./string-patches.ts";
import { UnknownKind } from "./unknown-kind.ts";
import { VersionTimes } from "./version-times.ts";

/** In place of an expiry: the one that the key has. */
export const KEEP_EXPIRY = -1;

/** A store, as far as it is read and its node writes. */
export abstract class OwnWrites extends StoreView {
  /** What may be forgotten, and was. */
  readonly deletions: Deletions;
  /** How this node counts. */
  readonly counts: OwnCounts;

  protected readonly times: VersionTimes;
  protected readonly merger: Merger;
  protected readonly patches: StringPatches;

  // Scratch: every operation is synchronous, so one of each is enough.
  protected readonly present = new Entry();
  private readonly own = new Entry();
  /** See `readChange`; null when what came in is what is there. */
  private change: Entry | null = null;

  constructor(options: StoreOptions) {
    super(options);
    const { clock, counterOrigin, origin, tombstoneGraceMs, mayForget } = options;
    const { entries, flushFloor } = this;
    this.deletions = new Deletions(clock, tombstoneGraceMs, mayForget);
    this.counts = new OwnCounts(clock, counterOrigin ?? origin, this.number);
    this.times = new VersionTimes(options, entries, this.floor);
    this.merger = new Merger(entries, flushFloor, this.deletions, clock);
    this.patches = new StringPatches(entries);
  }

  /**
   * Writes a string. APPLIED or REFUSED_FULL. `expiresAtMs` is 0 for never; KEEP_EXPIRY writes the
   * value alone, unless there is no such key: then it never expires.
   */
  set(
    key: Uint8Array,
    keyOffset: number,
    keyLength: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
    expiresAtMs: number,
  ): Outcome {
    const own = this.own;
    own.kind = KIND_STRING;
    own.setKey(key, keyOffset, keyLength).setValue(value, valueOffset, valueLength);
    own.setExpiry(expiresAtMs);
    this.times.stamp(own);
    if (expiresAtMs === KEEP_EXPIRY) this.keepExpiry();
    // As `apply` does; with one call more between, the lookup would not be compiled into this.
    const { entries } = this;
    const hash = entries.hash(key, keyOffset, keyLength);
    const id = entries.locate(hash, key, keyOffset, keyLength);
    if (id < 0) return entries.add(hash, own, true);
    return entries.replace(id, own, true, CHANGED_VALUE);
  }

  /** Gives `own` the expiry that its key has, if a client sees that. */
  private keepExpiry(): void {
    const { own, present } = this;
    own.expiresAtMs = 0;
    const id = this.find(own.key, own.keyOffset, own.keyLength);
    if (id < 0) return;
    this.entries.read(id, present);
    setExpiryOf(own, present);
  }

  /**
   * Gives a key another expiry, 0 for never, and writes nothing else. UNCHANGED when it is not
   * there; else APPLIED or REFUSED_FULL. The bytes of the key do not lie in this store.
   */
  expire(key: Uint8Array, offset: number, length: number, expiresAtMs: number): Outcome {
    const id = this.find(key, offset, length);
    if (id < 0) return UNCHANGED;
    const { own } = this;
    own.setKey(key, offset, length);
    this.times.stamp(own);
    return this.merger.expire(id, own, expiresAtMs, own, true);
  }

  /**
   * Puts bytes, which do not lie in this store, in the place of `removed` bytes of the string `id`,
   * from its byte `at` on, and moves as little as can be of the rest. APPLIED or REFUSED_FULL.
   */
  splice(
    id: number,
    at: number,
    removed: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): Outcome {
    const { entries, own, present } = this;
    entries.read(id, present);
    if (present.kind !== KIND_STRING || at + removed > present.valueLength) {
      throw new Error("there is no such part of a string");
    }
    own.kind = KIND_STRING;
    own.setKey(present.key, present.keyOffset, present.keyLength).setValue(bytes, offset, length);
    this.times.stamp(own);
    setExpiryOf(own, present);
    const { movedBytes } = entries;
    const outcome = this.patches.splice(id, present, own, at, removed);
    this.workedBytes += entries.movedBytes - movedBytes;
    return outcome;
  }

  /**
   * Deletes a key. False when it is not there. It is never refused: what is left takes no more
   * memory than what was there.
   */
  delete(key: Uint8Array, offset: number, length: number): boolean {
    const id = this.find(key, offset, length);
    if (id < 0) return false;
    const own = this.own;
    own.kind = KIND_TOMBSTONE;
    own.setKey(key, offset, length).setValue(key, 0, 0);
    own.setExpiry(0);
    this.times.stamp(own);
    own.learnedMs = this.deletions.learnedMs(own);
    const outcome = this.entries.replace(id, own, true, CHANGED_VALUE);
    own.learnedMs = 0;
    if (outcome !== APPLIED) throw new Error("a deletion was refused");
    return true;
  }

  /**
   * Adds `delta` to the number at the key; a missing key counts as 0. The result is in
   * `number`. APPLIED, NOT_A_NUMBER, OUT_OF_RANGE or REFUSED_FULL; nothing changes
   * unless APPLIED.
   */
  increment(key: Uint8Array, offset: number, length: number, delta: Int64): Outcome {
    const { counts, entries, own, present } = this;
    const hash = entries.hash(key, offset, length);
    const id = entries.locate(hash, key, offset, length);
    // Mostly it is one that lives for sure, and nothing but its row is needed.
    const isLasting = id >= 0 && entries.isLastingPacked(id) && this.flushFloor.isCarriedOut;
    if (isLasting && this.incrementPacked(id, delta)) return APPLIED;
    own.setKey(key, offset, length);
    const isLive = id >= 0 && this.isLive(id);
    if (isLive && entries.isPacked(id) && this.incrementPacked(id, delta)) return APPLIED;
    if (id >= 0) entries.read(id, present);
    if (isLive && present.kind === KIND_OTHER) throw new UnknownKind(present);
    if (isLive && present.kind === KIND_COUNTER && !entries.isPacked(id)) {
      if (this.incrementInPlace(id, delta)) return APPLIED;
    }
    if (!counts.start(id < 0 ? null : present, isLive, this.flushFloor, own)) return NOT_A_NUMBER;
    this.times.stamp(own);
    const isInRange = counts.add(own, delta);
    this.workedBytes += own.valueLength;
    if (!isInRange) return OUT_OF_RANGE;
    if (id < 0) return entries.add(hash, own, true);
    if (own.valueLength >= LARGE_COUNTER_BYTES) this.change = counts.changeOf(own);
    const outcome = entries.replace(id, own, true, CHANGED_VALUE);
    this.change = null;
    return outcome;
  }

  /** The same for one that lies packed. */
  private incrementPacked(id: number, delta: Int64): boolean {
    const { clock, counts, entries } = this;
    if (!entries.canAddToPacked(id, delta, counts.origin, this.number)) return false;
    clock.next();
    // Below what it has seen: then the next time has to be above what is here.
    if (clock.isOutrun) return false;
    entries.addToPacked(id, clock.high, clock.low);
    return true;
  }

  /** Adds to the counter in `present` where it lies. False, with nothing done, if it cannot be. */
  private incrementInPlace(id: number, delta: Int64): boolean {
    const { clock, counts, present } = this;
    if (!counts.addInPlace(present, delta)) return false;
    this.workedBytes += present.valueLength;
    if (present.valueLength >= LARGE_COUNTER_BYTES) {
      const { high, low } = counts.origin;
      present.setVersion(clock.high, clock.low, high, low);
      this.change = counts.changeOf(present);
    }
    this.entries.revise(id, clock.high, clock.low, counts.origin);
    this.change = null;
    return true;
  }

  /**
   * For an observer that is told of a change: points `into` at what came in. Merged with what was
   * there before, it gives what is there now, and is much less when a large counter changed in a
   * few parts.
   */
  readChange(id: number, into: Entry): void {
    const change = this.merger.change ?? this.change;
    if (change === null) return this.entries.read(id, into);
    into.pointAt(change);
  }

  /**
   * For an observer that is told of a change: what it changed of a long string, if that is all that
   * needs to be written down; null if it is not.
   */
  readPatch(id: number): Patch | null {
    return this.patches.read(id);
  }
}
