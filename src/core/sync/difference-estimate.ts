/**
 * Estimates in how many buckets two nodes differ, before a sketch is asked for that finds them.
 *
 * Each bucket belongs to one of LEVELS levels, to the first with a chance of 1/2, to the next of
 * 1/4, and so on (Flajolet and Martin 1985), and to one of so many columns of its level. A cell is
 * one bit: the parity of one bit of each of its buckets' values. The parities of two nodes differ
 * in a cell with n differing buckets by a chance of 1/2, whatever n is, unless it is 0. So if
 * buckets differ with a chance of d / BUCKETS, and a cell has the share p of all, its two parities
 * differ with the chance (1 - (1 - p)^d) / 2, and the most likely d is the estimate. Its standard
 * deviation is 1.3 / √columns: 46 % with 8, 16 % with 64, 6 % with 512.
 *
 * Columns are joined by XOR, so all sizes come from one table.
 */
import { BUCKETS } from "../tree/digest-tree.ts";
import { mixed } from "./coded-symbols.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import { ESTIMATE } from "./items.ts";

const LEVELS = 14;
/** Powers of two, the smallest a whole byte, the largest what the table has. */
export const COLUMNS = { few: 8, some: 64, many: 512 } as const;
/** Standard deviation of an estimate, times the root of the number of columns. */
export const ESTIMATE_ERROR = 1.3;
/** Estimates are tried in steps of this factor. */
const STEP = 2 ** (1 / 32);
/** So that levels do not follow from what the salt's key is used for besides. */
const LEVEL_KEY = 0x5bd1e995;

/** Bytes that the cells take on the wire. */
function estimateBytes(columns: number): number {
  return (LEVELS * columns) / 8;
}

/** One node's parities. */
export class DifferenceEstimate {
  private readonly cells = new Uint8Array(LEVELS * COLUMNS.many);

  /** `key`: 32 bits of the session's salt. */
  constructor(private readonly key: number) {}

  /** Takes in a bucket whose value has these lower bits. */
  add(bucket: number, low: number): void {
    const mix = mixed(bucket, this.key ^ LEVEL_KEY);
    const level = Math.min(Math.clz32(mix), LEVELS - 1);
    this.cells[level * COLUMNS.many + (mix & (COLUMNS.many - 1))] ^= low & 1;
  }

  /** Writes an ESTIMATE item. */
  write(writer: FrameWriter, columns: number): void {
    writer.reserve(2 + estimateBytes(columns));
    writer.u8(ESTIMATE);
    writer.u8(Math.log2(columns));
    for (const byte of this.bits(columns)) writer.u8(byte);
  }

  /** In how many buckets the two nodes differ, by the peer's cells. All buckets must be in. */
  differing(theirs: Uint8Array): number {
    const columns = columnsOf(theirs);
    // How many cells of each level differ.
    const ones = new Uint32Array(LEVELS);
    for (const [i, byte] of this.bits(columns).entries()) {
      ones[Math.floor((i * 8) / columns)] += onesIn(byte ^ theirs[i]);
    }
    return mostLikely(ones, columns);
  }

  /** The cells, level by level, eight to a byte. */
  private bits(columns: number): Uint8Array {
    const bits = new Uint8Array(estimateBytes(columns));
    for (let cell = 0; cell < this.cells.length; cell++) {
      const level = Math.floor(cell / COLUMNS.many);
      const at = level * columns + (cell & (columns - 1));
      bits[at >>> 3] ^= this.cells[cell] << (at & 7);
    }
    return bits;
  }
}

/** Reads the peer's cells behind the tag of an ESTIMATE. Null when it is malformed. */
export function readEstimate(reader: FrameReader): Uint8Array | null {
  const columns = 2 ** reader.u8();
  if (!(Object.values(COLUMNS) as number[]).includes(columns)) return null;
  const at = reader.skip(estimateBytes(columns));
  return reader.overrun ? null : reader.bytes.slice(at, at + estimateBytes(columns));
}

/** With how many columns an estimate was made that has so many bytes. */
export function columnsOf(estimate: Uint8Array): number {
  return (estimate.length * 8) / LEVELS;
}

/** How many differing buckets make it most likely that so many cells of each level differ. */
function mostLikely(ones: Uint32Array, columns: number): number {
  let [best, bestLog] = [1, -Infinity];
  for (let differing = 1; differing <= BUCKETS; differing *= STEP) {
    let log = 0;
    for (let level = 0; level < LEVELS; level++) {
      const share = 2 ** -Math.min(level + 1, LEVELS - 1) / columns;
      const chance = (1 - Math.exp(-share * differing)) / 2;
      log += ones[level] * Math.log(chance) + (columns - ones[level]) * Math.log(1 - chance);
    }
    if (log > bestLog) [best, bestLog] = [differing, log];
  }
  return best;
}

function onesIn(byte: number): number {
  let ones = 0;
  for (let bits = byte; bits !== 0; bits &= bits - 1) ones++;
  return ones;
}
