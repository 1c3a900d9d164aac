/**
 * The times of versions: which ones a node gives its own writes, and which ones it takes from
 * others, as they are not too far ahead.
 */
import { unixMsOf, type HybridClock } from "../data/clock.ts";
import { Entry, type VersionWords } from "../data/entry.ts";
import { baseVersionOf, latestVersionOf } from "../data/merge.ts";
import type { KeyedEntries } from "./keyed-entries.ts";
import type { StoreOptions } from "./store-options.ts";

/** The times in one store. `floor` is the version of its flush floor. */
export class VersionTimes {
  private readonly clock: HybridClock;
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  private readonly present = new Entry();

  constructor(
    private readonly options: StoreOptions,
    private readonly entries: KeyedEntries,
    private readonly floor: VersionWords,
  ) {
    this.clock = options.clock;
  }

  /** Gives an entry of this node, whose key is set, the next version. */
  stamp(own: Entry): void {
    const { clock, options } = this;
    const { origin } = options;
    clock.next();
    if (clock.isOutrun) this.outdo(own);
    own.setVersion(clock.high, clock.low, origin.high, origin.low);
  }

  /**
   * Brings the clock above the flush floor, and above what is here of the key of `own`: the clock
   * has begun anew below some of what there is.
   */
  private outdo(own: Entry): void {
    const { base, clock, entries, floor, present } = this;
    clock.raiseAbove(floor.timeHigh, floor.timeLow);
    const id = this.locate(own.key, own.keyOffset, own.keyLength);
    if (id < 0) return;
    entries.read(id, present);
    const { timeHigh, timeLow } = latestVersionOf(present);
    clock.raiseAbove(timeHigh, timeLow);
    baseVersionOf(present, base);
    clock.raiseAbove(base.timeHigh, base.timeLow);
  }

  /** Up to when, in Unix ms, versions are accepted: what is later comes from the future. */
  acceptsUpToMs(): number {
    return this.clock.nowMs() + this.options.maxClockSkewMs;
  }

  /** Whether a version of that time would be refused as coming from the future. */
  isTooFarAhead(timeHigh: number, timeLow: number): boolean {
    if (this.entries.isRecovering) return false;
    return unixMsOf(timeHigh, timeLow) > this.acceptsUpToMs();
  }

  /**
   * Until when, in Unix ms, nobody would take what is here of the key, nor what is written over it,
   * as it was written while this node's clock was ahead; 0 when it was not. Without a key: until
   * when something here may be dated so.
   */
  aheadUntilMs(key: Uint8Array | null = null, offset = 0, length = 0): number {
    const { base, clock, entries, floor, present } = this;
    if (!clock.isOutrun) return 0;
    if (key === null) return this.untilTakenMs(clock.seenHigh, clock.seenLow);
    const id = this.locate(key, offset, length);
    const floorUntilMs = this.untilTakenMs(floor.timeHigh, floor.timeLow);
    if (id < 0) return floorUntilMs;
    entries.read(id, present);
    baseVersionOf(present, base);
    const { timeHigh, timeLow } = latestVersionOf(present);
    const untilMs = this.untilTakenMs(timeHigh, timeLow);
    return Math.max(floorUntilMs, untilMs, this.untilTakenMs(base.timeHigh, base.timeLow));
  }

  private untilTakenMs(timeHigh: number, timeLow: number): number {
    if (!this.isTooFarAhead(timeHigh, timeLow)) return 0;
    return unixMsOf(timeHigh, timeLow) - this.options.maxClockSkewMs;
  }

  private locate(key: Uint8Array, offset: number, length: number): number {
    const { entries } = this;
    return entries.locate(entries.hash(key, offset, length), key, offset, length);
  }
}
