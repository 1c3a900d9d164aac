/**
 * What must be true of all entries of a store together with its clock and its flush floor; for
 * tests.
 */
import type { HybridClock } from "../data/clock.ts";
import { setVersionFromParts } from "../data/counter.ts";
import { Entry, KIND_COUNTER, compareVersions } from "../data/entry.ts";
import { flawOf } from "../data/entry-check.ts";
import { latestVersionOf } from "../data/merge.ts";
import type { FlushFloor } from "./flush-floor.ts";
import type { KeyedEntries } from "./keyed-entries.ts";

/** Throws unless every entry is well-formed, below the clock, and above the floor. */
export function verifyEntries(entries: KeyedEntries, clock: HybridClock, floor: FlushFloor): void {
  const present = new Entry();
  const counter = new Entry();
  for (let id = 0; id < entries.idLimit; id++) {
    if (!entries.isUsed(id)) continue;
    entries.read(id, present);
    const flaw = flawOf(present);
    if (flaw !== null) throw new Error(`store: entry ${id} is malformed: ${flaw}`);
    const { timeHigh, timeLow } = latestVersionOf(present);
    if (present.kind === KIND_COUNTER) {
      counter.pointAt(present);
      setVersionFromParts(counter);
      if (compareVersions(counter, present) !== 0) {
        throw new Error(`store: the version of counter ${id} is not that of its latest part`);
      }
    }
    const { seenHigh, seenLow } = clock;
    if (timeHigh > seenHigh || (timeHigh === seenHigh && timeLow > seenLow)) {
      throw new Error(`store: entry ${id} is ahead of the clock`);
    }
    if (floor.isCarriedOut && floor.covers(present)) {
      throw new Error(`store: entry ${id} has outlived a flush`);
    }
  }
}
