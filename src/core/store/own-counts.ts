/**
 * How this node counts. It adds increments to its own part of a counter, under the origin of its
 * present run. It joins the parts of its former runs into one, once nobody can bring an older state
 * of them (`counter-fold.ts`).
 */
import { ScratchBytes } from "../bytes.ts";
import { unixMsOf, type HybridClock } from "../data/clock.ts";
import {
  BASE_BYTES,
  BASE_NONE,
  BASE_STRING,
  PART_BYTES,
  addToPart,
  addToTotal,
  findPart,
  isPartOf,
  partsOf,
  setVersionFromParts,
  sliceCounter,
  sumOf,
  writeBase,
} from "../data/counter.ts";
import { Int64, addInt64, parseInt64 } from "../data/int64.ts";
import { foldRuns, hasRunsToFold, nextRunOrigin, noteStart } from "../data/counter-fold.ts";
import {
  Entry,
  KIND_COUNTER,
  compareVersions,
  copyBytes,
  copyVersion,
  newVersion,
  type VersionWords,
} from "../data/entry.ts";
import { baseVersionOf } from "../data/merge.ts";
import type { Origin } from "../data/origin.ts";
import type { FlushFloor } from "./flush-floor.ts";

/** Counting, on behalf of one store. */
export class OwnCounts {
  /** When those runs of this node began that count under origins of their own. */
  readonly runStartsMs: number[] = [];
  private stableMs = 0;

  private readonly scratch = new ScratchBytes();
  /** Bytes of the counter that `start` put into `scratch`. */
  private length = 0;
  private isFolded = false;
  private readonly base: VersionWords = newVersion();
  private readonly part = new Entry();
  private readonly partBytes = new Uint8Array(BASE_BYTES + PART_BYTES);

  /**
   * `countingOrigin`: what this run counts under. In `number` there is what an increment came to.
   */
  constructor(
    private readonly clock: HybridClock,
    private countingOrigin: Origin,
    private readonly number: Int64,
  ) {}

  /** Whose increments this process adds up (see `StoreOptions.counterOrigin`). */
  get origin(): Origin {
    return this.countingOrigin;
  }

  /** Everything that this node counted before then is known here, in Unix ms; 0 for nothing. */
  get stableBeforeMs(): number {
    return this.stableMs;
  }

  /** Counts under another origin from now on, which is that of a former run. */
  resume(origin: Origin): void {
    this.countingOrigin = origin;
  }

  /** What is counted from now on is under an origin of its own, and dated from this moment on. */
  noteRun(): void {
    const { clock } = this;
    clock.next();
    noteStart(this.runStartsMs, unixMsOf(clock.high, clock.low));
  }

  /**
   * Counts under a new origin from now on, so that the next increment does not seem to follow the
   * earlier ones.
   */
  beginAnew(): void {
    this.countingOrigin = nextRunOrigin(this.countingOrigin);
    this.noteRun();
  }

  /** See `stableStartMs`. It may go back to 0. */
  noteStable(stableBeforeMs: number): void {
    this.stableMs = stableBeforeMs;
  }

  /**
   * Begins an increment: what it is added to is `present`, or nothing when there is none. `isLive`:
   * clients see it. Sets the expiry of `own`. False when it is not a number.
   */
  start(present: Entry | null, isLive: boolean, floor: FlushFloor, own: Entry): boolean {
    const { number, base, scratch } = this;
    if (present === null || !isLive) {
      own.setExpiry(0);
      const isBelowFloor = present === null || floor.covers(present);
      if (!isBelowFloor) this.readDeath(present);
      this.writeBase(BASE_NONE, isBelowFloor ? floor.version : base, number.set(0, 0));
      return true;
    }
    own.expiresAtMs = present.expiresAtMs;
    copyVersion(present.expiryVersion, own.expiryVersion);
    const { value, valueOffset, valueLength } = present;
    if (present.kind === KIND_COUNTER) {
      copyBytes(value, valueOffset, valueLength, scratch.reserve(valueLength + PART_BYTES), 0);
      this.length = valueLength;
      return true;
    }
    if (!parseInt64(value, valueOffset, valueLength, number)) return false;
    this.writeBase(BASE_STRING, present, number);
    return true;
  }

  /**
   * Adds to what was started with, at the version of `own`, which becomes the counter: its value is
   * valid until the next `start`. False when the sum, in `number`, would leave 64 bits.
   */
  add(own: Entry, delta: Int64): boolean {
    const { high, low } = this.countingOrigin;
    const payload = this.scratch.bytes;
    const foldedLength = this.fold(payload);
    this.isFolded = foldedLength !== this.length;
    own.originHigh = high;
    own.originLow = low;
    const length = addToPart(payload, foldedLength, high, low, own.timeHigh, own.timeLow, delta);
    own.kind = KIND_COUNTER;
    own.setValue(payload, 0, length);
    return sumOf(payload, 0, length, this.number);
  }

  /**
   * Adds to a counter where it lies, at the next time of the clock, which is its version then with
   * `origin`. False, with nothing changed, unless it has a part of this run, no more of other runs
   * than can stay, and a sum, in `number`, within 64 bits: otherwise it takes `start` and `add`.
   */
  addInPlace(counter: Entry, delta: Int64): boolean {
    const { clock, number } = this;
    const { value, valueOffset, valueLength } = counter;
    const { high, low } = this.countingOrigin;
    const end = valueOffset + valueLength;
    let at = valueOffset + BASE_BYTES;
    if (valueLength !== BASE_BYTES + PART_BYTES) {
      at = findPart(value, valueOffset, valueLength, high, low);
      if (this.stableMs !== 0 && hasRunsToFold(value, valueOffset, valueLength, at)) return false;
    }
    if (!isPartOf(value, at, end, high, low)) return false;
    if (!sumOf(value, valueOffset, valueLength, number) || !addInt64(number, delta)) return false;
    clock.next();
    // Below what it has seen: then the next time has to be above what is here.
    if (clock.isOutrun) return false;
    addToTotal(value, at, clock.high, clock.low, delta);
    this.isFolded = false;
    return true;
  }

  /**
   * What an increment changed of a counter, as a counter that has only this process's part. Null
   * when it changed more than that.
   */
  changeOf(counter: Entry): Entry | null {
    if (this.isFolded) return null;
    const { part, partBytes } = this;
    const { value, valueOffset, valueLength } = counter;
    const { high, low } = this.countingOrigin;
    const first = partsOf(findPart(value, valueOffset, valueLength, high, low) - valueOffset);
    sliceCounter(value, valueOffset, valueLength, first, partBytes.length, partBytes);
    part.kind = KIND_COUNTER;
    part.setKey(counter.key, counter.keyOffset, counter.keyLength).setValue(partBytes);
    part.expiresAtMs = counter.expiresAtMs;
    copyVersion(counter.expiryVersion, part.expiryVersion);
    setVersionFromParts(part);
    return part;
  }

  /**
   * Joins the parts of former runs of this node into one. Returns the counter's new length.
   */
  private fold(payload: Uint8Array): number {
    const { length, stableMs } = this;
    if (stableMs === 0 || length < BASE_BYTES + 2 * PART_BYTES) return length;
    return foldRuns(payload, length, this.countingOrigin, stableMs);
  }

  /**
   * Sets `base` to the version of the latest write that is known of a key that is dead: a counter
   * that is begun anew stands directly behind it (`merge.ts`).
   */
  private readDeath(present: Entry): void {
    baseVersionOf(present, this.base);
    if (compareVersions(present.expiryVersion, this.base) > 0) {
      copyVersion(present.expiryVersion, this.base);
    }
  }

  private writeBase(kind: number, version: VersionWords, number: Int64): void {
    const payload = this.scratch.reserve(BASE_BYTES + PART_BYTES);
    const { timeHigh, timeLow, originHigh, originLow } = version;
    writeBase(payload, kind, timeHigh, timeLow, originHigh, originLow, number);
    this.length = BASE_BYTES;
  }
}
