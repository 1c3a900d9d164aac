/**
 * The flush floor: the version of the latest flush. Every entry whose base is below it is deleted,
 * on this node and on all others.
 */
import { compareVersions, type Entry, type VersionWords } from "../data/entry.ts";
import { baseVersionOf } from "../data/merge.ts";

/** The floor of one store. */
export class FlushFloor {
  /** A counter begun after a flush has it as its base. Zeros until the first flush. */
  readonly version: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  /** Entries below it are still there, to be removed by and by; until then they read as absent. */
  isCarriedOut = true;
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };

  /** Raises it. */
  set(timeHigh: number, timeLow: number, originHigh: number, originLow: number): void {
    const { version } = this;
    version.timeHigh = timeHigh;
    version.timeLow = timeLow;
    version.originHigh = originHigh;
    version.originLow = originLow;
  }

  /** Whether an entry's base is below it. */
  covers(entry: Entry): boolean {
    baseVersionOf(entry, this.base);
    return this.isAbove(this.base);
  }

  /** Whether a version is below it. */
  isAbove(version: VersionWords): boolean {
    return compareVersions(version, this.version) < 0;
  }
}
