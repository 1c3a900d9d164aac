/**
 * Merges what arrives with what is here, register by register (`core/data/merge.ts`), and puts the
 * result in its place.
 */
import { ScratchBytes } from "../bytes.ts";
import type { HybridClock } from "../data/clock.ts";
import { MAX_JOINED_PARTS, partsOf } from "../data/counter.ts";
import { hasFold } from "../data/counter-fold.ts";
import {
  Entry,
  KIND_COUNTER,
  KIND_HUSK,
  compareVersions,
  equalBytes,
  type VersionWords,
} from "../data/entry.ts";
import {
  JOIN,
  KEEP,
  compareExpiries,
  joinCounters,
  joinedBytes,
  mergeRule,
  setExpiry,
  setExpiryOf,
} from "../data/merge.ts";
import type { Deletions } from "./deletions.ts";
import type { FlushFloor } from "./flush-floor.ts";
import type { KeyedEntries } from "./keyed-entries.ts";
import {
  APPLIED,
  CHANGED_EXPIRY,
  CHANGED_PARTS,
  CHANGED_VALUE,
  REFUSED_LARGE,
  UNCHANGED,
  type Change,
  type Outcome,
} from "./outcome.ts";

/** Of a counter from this size on only what changed is written down, not all of it. */
export const LARGE_COUNTER_BYTES = 1024;

/** The merging of one store. */
export class Merger {
  /** See `Store.readChange`; null when what came in is what is there. */
  change: Entry | null = null;

  private readonly present = new Entry();
  private readonly merged = new Entry();
  private readonly scratch = new ScratchBytes();

  constructor(
    private readonly entries: KeyedEntries,
    private readonly floor: FlushFloor,
    private readonly deletions: Deletions,
    private readonly clock: HybridClock,
  ) {}

  /** Adds an entry from elsewhere, whose key is not here. APPLIED or REFUSED_FULL. */
  add(hash: number, entry: Entry): Outcome {
    const { entries, merged } = this;
    merged.pointAt(entry);
    this.removeCovered();
    this.noteLearned();
    const outcome = entries.add(hash, merged, false);
    if (outcome === APPLIED && merged.kind === KIND_HUSK) {
      this.judgeHusk(entries.locate(hash, entry.key, entry.keyOffset, entry.keyLength));
    }
    return outcome;
  }

  /** Merges an entry from elsewhere with entry `id`, which has its key. */
  merge(id: number, entry: Entry): Outcome {
    const { entries, floor, present, merged } = this;
    entries.read(id, present);
    const verdict = mergeRule(present, entry);
    const isFlushed = !floor.isCarriedOut && floor.covers(present);
    const isExpiryNewer = isFlushed || compareExpiries(entry, present) > 0;
    if (verdict === JOIN) return this.join(id, entry, isExpiryNewer);
    if (verdict === KEEP) return isExpiryNewer ? this.takeExpiry(id, entry) : UNCHANGED;
    merged.pointAt(entry);
    this.removeCovered();
    setExpiryOf(merged, isExpiryNewer ? entry : present);
    return this.put(id, false, CHANGED_VALUE);
  }

  /**
   * Gives entry `id` an expiry of that version, if it is newer than the one that it has. The key is
   * that of `entry`, and its bytes do not lie in this store.
   */
  expire(
    id: number,
    entry: Entry,
    expiresAtMs: number,
    version: VersionWords,
    local: boolean,
  ): Outcome {
    const { entries, present, merged } = this;
    entries.read(id, present);
    merged.pointAt(present);
    setExpiry(merged, expiresAtMs, version);
    if (compareExpiries(merged, present) <= 0) return UNCHANGED;
    merged.setKey(entry.key, entry.keyOffset, entry.keyLength);
    return this.put(id, local, CHANGED_EXPIRY);
  }

  /** Of an entry whose value is not newer than what is here, which is in `present`, the expiry. */
  private takeExpiry(id: number, entry: Entry): Outcome {
    const { present, merged } = this;
    merged.pointAt(present).setKey(entry.key, entry.keyOffset, entry.keyLength);
    setExpiryOf(merged, entry);
    merged.learnedMs = Math.max(entry.learnedMs, present.learnedMs);
    return this.put(id, false, CHANGED_EXPIRY);
  }

  private join(id: number, entry: Entry, isExpiryNewer: boolean): Outcome {
    const { entries, present, merged } = this;
    const scratch = this.scratch.reserve(joinedBytes(present, entry));
    const length = joinCounters(present, entry, scratch);
    const { value, valueOffset, valueLength } = present;
    if (length === valueLength && equalBytes(value, valueOffset, scratch, length)) {
      return isExpiryNewer ? this.takeExpiry(id, entry) : UNCHANGED;
    }
    if (!entries.isRecovering && length > valueLength && partsOf(length) > MAX_JOINED_PARTS) {
      return REFUSED_LARGE;
    }
    // The latest of all parts is the latest of either side, and no fold covers a later one.
    if (compareVersions(present, entry) < 0) merged.pointAt(entry);
    else merged.pointAt(present).setKey(entry.key, entry.keyOffset, entry.keyLength);
    merged.setValue(scratch, 0, length);
    merged.learnedMs = Math.max(entry.learnedMs, present.learnedMs);
    setExpiryOf(merged, isExpiryNewer ? entry : present);
    if (length >= LARGE_COUNTER_BYTES && entry.valueLength < length) this.change = entry;
    const outcome = this.put(id, false, CHANGED_PARTS);
    this.change = null;
    return outcome;
  }

  /** A node of an earlier version does not know folds, and leaves what they cover. */
  private removeCovered(): void {
    const { merged } = this;
    if (merged.kind !== KIND_COUNTER) return;
    if (!hasFold(merged.value, merged.valueOffset, merged.valueLength)) return;
    const scratch = this.scratch.reserve(joinedBytes(merged, merged));
    merged.setValue(scratch, 0, joinCounters(merged, merged, scratch));
  }

  /** Puts `merged` in the place of entry `id`. */
  private put(id: number, local: boolean, change: Change): Outcome {
    this.noteLearned();
    const outcome = this.entries.replace(id, this.merged, local, change);
    if (outcome === APPLIED && this.merged.kind === KIND_HUSK) this.judgeHusk(id);
    return outcome;
  }

  private noteLearned(): void {
    if (!this.entries.isRecovering) this.merged.learnedMs = this.deletions.learnedMs(this.merged);
  }

  /** Nobody misses the value of what has expired. */
  private judgeHusk(id: number): void {
    if (this.entries.hasExpired(id, this.clock.nowMs())) this.entries.setOver(id, true);
  }
}
