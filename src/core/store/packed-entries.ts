/**
 * Counters that lie packed in their rows, because only one origin has added to them
 * (`packed-counter.ts`): read, and added to where they lie.
 */
import { offsetOf, slabOf, type Arena } from "./arena.ts";
import {
  FACTS,
  HAS_BASE,
  HAS_ORIGIN,
  ORIGIN_MASK,
  ORIGIN_SHIFT,
  ROW_WORDS,
  TIME_HIGH,
  TIME_LOW,
  VALUE,
  keyLengthAt,
  keyOffset,
  referenceAt,
} from "./entry-layout.ts";
import { CHUNK_BITS, CHUNK_MASK, type EntryRows } from "./entry-rows.ts";
import type { OriginTable } from "./origin-table.ts";
import { ONE_PART_BYTES, PackedView } from "./packed-counter.ts";
import type { Int64 } from "../data/int64.ts";
import type { Entry } from "../data/entry.ts";
import type { Origin } from "../data/origin.ts";

/** The packed counters among some entries. */
export class PackedEntries {
  private readonly view = new PackedView();
  /** What `canAdd` would make of the lower half of a total. */
  private nextTotal = 0;

  private readonly chunks: readonly Uint32Array[];

  constructor(
    rows: EntryRows,
    private readonly arena: Arena,
    private readonly origins: OriginTable,
  ) {
    this.chunks = rows.chunks;
  }

  /** Reads the number that clients see of a packed counter. */
  readNumber(id: number, into: Int64): void {
    const row = this.chunks[id >>> CHUNK_BITS];
    this.viewOf(row, (id & CHUNK_MASK) * ROW_WORDS).readNumber(into);
  }

  /**
   * Whether an origin can add to a packed counter where it lies: it is its own, and has room. In
   * `into` what clients would see then.
   */
  canAdd(id: number, delta: Int64, { high, low }: Origin, into: Int64): boolean {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const { highs, lows } = this.origins;
    const origin = (facts >>> ORIGIN_SHIFT) & ORIGIN_MASK;
    if ((facts & HAS_ORIGIN) !== 0 || lows[origin] !== low || highs[origin] !== high) return false;
    if ((facts & HAS_BASE) !== 0 || delta.high !== delta.low >> 31) {
      const canAdd = this.viewOf(row, at).add(delta, into);
      this.nextTotal = this.view.sumLow;
      return canAdd;
    }
    // Mostly all is in the row, and within 32 bits.
    const sum = (row[at + VALUE] | 0) + (delta.low | 0);
    this.nextTotal = sum >>> 0;
    into.set(sum >> 31, sum);
    return sum === (sum | 0);
  }

  /** Adds what `canAdd` was asked about last, at that time. */
  add(id: number, timeHigh: number, timeLow: number): void {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    if ((row[at + FACTS] & HAS_BASE) !== 0) this.view.commit();
    row[at + VALUE] = this.nextTotal;
    row[at + TIME_HIGH] = timeHigh;
    row[at + TIME_LOW] = timeLow;
  }

  /**
   * Writes one out as it travels into `into`, whose version is read already: its value is valid
   * until that is pointed elsewhere. `bytes` is its slab, where its base begins, if it has one.
   */
  unpack(into: Entry, bytes: Uint8Array, baseAt: number, totalLow: number): void {
    const out = (into.room ??= new Uint8Array(ONE_PART_BYTES));
    this.view.set(bytes, baseAt, totalLow);
    this.view.unpack(into, this.origins, out);
    into.setValue(out);
  }

  private viewOf(row: Uint32Array, at: number): PackedView {
    const facts = row[at + FACTS];
    if ((facts & HAS_BASE) === 0) return this.view.set(NO_BYTES, -1, row[at + VALUE]);
    const reference = referenceAt(row, at);
    const slab = slabOf(reference);
    const keyAt = offsetOf(reference) + keyOffset(facts);
    const baseAt = keyAt + keyLengthAt(facts, reference, this.arena);
    return this.view.set(this.arena.bytes[slab], baseAt, row[at + VALUE]);
  }
}

const NO_BYTES = new Uint8Array(0);
