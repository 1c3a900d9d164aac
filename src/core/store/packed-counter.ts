/**
 * Counters as a store keeps those that only one origin has added to, which is nearly all of them.
 * Such a counter has one part, whose origin and time are those of the entry's version, and its
 * total mostly has a few digits: so instead of 57 bytes (`data/counter.ts`) it takes a word of the
 * entry's row, for the lower half of the total, and no byte besides if it began from nothing. What
 * else there is to know of it, its *base*, takes 1 to 22 bytes in the place of a value:
 *
 *   flags u8 · upper half of the total u32 · base: number of its origin u8, time u64, number u32
 *   or u64
 *
 * All integers are big-endian, and each is there only if the flags say so. A counter that does not
 * fit into this form is kept as it travels. Nobody but the store's table sees the packed form.
 */
import { readU32, writeU32 } from "../bytes.ts";
import { BASE_BYTES, BASE_NONE, BASE_STRING, PART_BYTES, writeBase } from "../data/counter.ts";
import { Int64, addInt64 } from "../data/int64.ts";
import type { Entry } from "../data/entry.ts";
import { NO_NUMBER, type OriginTable } from "./origin-table.ts";

/** Bytes of a counter with one part, as it travels. */
export const ONE_PART_BYTES = BASE_BYTES + PART_BYTES;

const HAS_UPPER = 1;
const HAS_VERSION = 2;
const IS_STRING = 4;
const IS_LONG = 8;
/** Length of what follows the flags, by flags. */
const LENGTHS = Uint8Array.from(
  { length: 16 },
  (_, flags) =>
    (flags & HAS_UPPER ? 4 : 0) +
    (flags & HAS_VERSION ? 9 : 0) +
    (flags & IS_STRING ? (flags & IS_LONG ? 8 : 4) : 0),
);

const total = new Int64();
const number = new Int64();

/** How many bytes the base takes that begins at `at`. */
export function packedBytes(bytes: Uint8Array, at: number): number {
  return 1 + LENGTHS[bytes[at] & 15];
}

/** One counter, packed. */
export class PackedCounter {
  /** The lower half of its total, unsigned. */
  totalLow = 0;
  /** The base is the first `length` bytes; it is left out if its flags are 0. */
  readonly bytes = new Uint8Array(1 + 4 + 9 + 8);
  length = 0;

  /** Packs the value of an entry; false when that is not possible. */
  pack(entry: Entry, origins: OriginTable): boolean {
    if (entry.valueLength !== ONE_PART_BYTES) return false;
    const { value, valueOffset: from } = entry;
    const part = from + BASE_BYTES;
    const isOfVersion =
      readU32(value, part) === entry.originHigh &&
      readU32(value, part + 4) === entry.originLow &&
      readU32(value, part + 8) === entry.timeHigh &&
      readU32(value, part + 12) === entry.timeLow;
    if (!isOfVersion) return false;
    total.set(readU32(value, part + 24), readU32(value, part + 28));
    const extension = total.high < 0 ? 0xffff_ffff : 0;
    if (readU32(value, part + 16) !== extension || readU32(value, part + 20) !== extension) {
      return false;
    }
    return this.packBase(value, from, origins);
  }

  private packBase(value: Uint8Array, from: number, origins: OriginTable): boolean {
    const { bytes } = this;
    const [originHigh, originLow] = [readU32(value, from + 9), readU32(value, from + 13)];
    const [timeHigh, timeLow] = [readU32(value, from + 1), readU32(value, from + 5)];
    let flags = 0;
    let at = 1;
    if (!isShort(total)) {
      flags |= HAS_UPPER;
      writeU32(bytes, at, total.high);
      at += 4;
    }
    if ((originHigh | originLow | timeHigh | timeLow) !== 0) {
      const originNumber = origins.numberOf(originHigh, originLow);
      if (originNumber === NO_NUMBER) return false;
      flags |= HAS_VERSION;
      bytes[at] = originNumber;
      writeU32(bytes, at + 1, timeHigh);
      writeU32(bytes, at + 5, timeLow);
      at += 9;
    }
    if (value[from] === BASE_STRING) {
      number.set(readU32(value, from + 17), readU32(value, from + 21));
      flags |= isShort(number) ? IS_STRING : IS_STRING | IS_LONG;
      if (!isShort(number)) {
        writeU32(bytes, at, number.high);
        at += 4;
      }
      writeU32(bytes, at, number.low);
      at += 4;
    }
    bytes[0] = flags;
    this.length = flags === 0 ? 0 : at;
    this.totalLow = total.low;
    return true;
  }
}

/**
 * A counter where it lies packed: points at one, and reads or changes it. `baseAt` is where its
 * base is in `bytes`, or -1 if it has none.
 */
export class PackedView {
  private bytes: Uint8Array = new Uint8Array(0);
  private baseAt = -1;
  private flags = 0;
  private totalLow = 0;

  /** Points at a counter. */
  set(bytes: Uint8Array, baseAt: number, totalLow: number): this {
    this.bytes = bytes;
    this.baseAt = baseAt;
    this.flags = baseAt < 0 ? 0 : bytes[baseAt];
    this.totalLow = totalLow;
    return this;
  }

  /** What clients see of it: the end of the range if the sum is beyond. */
  readNumber(into: Int64): void {
    this.readTotal();
    this.readBaseNumber(into);
    if (addInt64(into, total)) return;
    if (total.high < 0) into.set(0x8000_0000, 0);
    else into.set(0x7fff_ffff, 0xffff_ffff);
  }

  /**
   * What would come of adding to it: in `into` what clients see then. False when that does not fit
   * in this form, or in 64 bits.
   */
  add(delta: Int64, into: Int64): boolean {
    this.readTotal();
    if (!addInt64(total, delta)) return false;
    if ((this.flags & HAS_UPPER) === 0 && !isShort(total)) return false;
    this.readBaseNumber(into);
    return addInt64(into, total);
  }

  /** The lower half of the total that `add` was asked about last, for the row of the counter. */
  get sumLow(): number {
    return total.low;
  }

  /** Writes the upper half of that, if it has a place. */
  commit(): void {
    if ((this.flags & HAS_UPPER) !== 0) writeU32(this.bytes, this.baseAt + 1, total.high);
  }

  /** Writes it as it travels, ONE_PART_BYTES; the version of `entry` is that of its part. */
  unpack(entry: Entry, origins: OriginTable, out: Uint8Array): void {
    const { bytes, flags } = this;
    let at = this.baseAt + (flags & HAS_UPPER ? 5 : 1);
    let timeHigh = 0;
    let timeLow = 0;
    let originHigh = 0;
    let originLow = 0;
    if (flags & HAS_VERSION) {
      originHigh = origins.highs[bytes[at]];
      originLow = origins.lows[bytes[at]];
      timeHigh = readU32(bytes, at + 1);
      timeLow = readU32(bytes, at + 5);
      at += 9;
    }
    this.readBaseNumber(number);
    const kind = flags & IS_STRING ? BASE_STRING : BASE_NONE;
    writeBase(out, kind, timeHigh, timeLow, originHigh, originLow, number);
    this.readTotal();
    const extension = total.high < 0 ? 0xffff_ffff : 0;
    writeU32(out, BASE_BYTES, entry.originHigh);
    writeU32(out, BASE_BYTES + 4, entry.originLow);
    writeU32(out, BASE_BYTES + 8, entry.timeHigh);
    writeU32(out, BASE_BYTES + 12, entry.timeLow);
    writeU32(out, BASE_BYTES + 16, extension);
    writeU32(out, BASE_BYTES + 20, extension);
    writeU32(out, BASE_BYTES + 24, total.high);
    writeU32(out, BASE_BYTES + 28, total.low);
  }

  private readTotal(): void {
    const { bytes, baseAt, flags, totalLow } = this;
    total.set(flags & HAS_UPPER ? readU32(bytes, baseAt + 1) : totalLow >> 31, totalLow);
  }

  private readBaseNumber(into: Int64): void {
    const { bytes, baseAt, flags } = this;
    if ((flags & IS_STRING) === 0) return void into.set(0, 0);
    const end = baseAt + 1 + LENGTHS[flags];
    const low = readU32(bytes, end - 4);
    into.set(flags & IS_LONG ? readU32(bytes, end - 8) : low >> 31, low);
  }
}

/** Whether the lower half says all. */
function isShort({ high, low }: Int64): boolean {
  return high === low >> 31;
}
