/** Counters of many parts, as nodes would have them after as many starts, or as a stranger makes them. */
import { writeU32 } from "../../src/core/bytes.ts";
import {
  BASE_BYTES,
  BASE_NONE,
  PART_BYTES,
  setVersionFromParts,
  writeBase,
} from "../../src/core/data/counter.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry, KIND_COUNTER } from "../../src/core/data/entry.ts";
import { timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";

const NOTHING = new Int64();

/** A counter begun from nothing with `parts` parts of 1 each, of the origins from `firstOrigin` on. */
export function largeCounter(key: string, firstOrigin: number, parts: number, atMs = 1_000): Entry {
  const bytes = new Uint8Array(BASE_BYTES + parts * PART_BYTES);
  writeBase(bytes, BASE_NONE, 0, 0, 0, 0, NOTHING);
  for (let i = 0; i < parts; i++) {
    const at = BASE_BYTES + i * PART_BYTES;
    writeU32(bytes, at, firstOrigin + i);
    writeU32(bytes, at + 8, timeHighOf(atMs));
    writeU32(bytes, at + 12, timeLowOf(atMs));
    writeU32(bytes, at + 28, 1);
  }
  const entry = new Entry().setKey(new TextEncoder().encode(key)).setValue(bytes);
  entry.kind = KIND_COUNTER;
  setVersionFromParts(entry);
  return entry;
}
