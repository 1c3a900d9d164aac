/**
 * A large bucket, or a large part of one, divided in 16 by the next 4 bits of the keys' digests. A
 * cell of it holds one of three things: an id, which begins a chain; END; or a further division.
 */
import { DIGEST_WORDS } from "./digest-list.ts";
import { FANOUT } from "./digest-tree.ts";
import { DIGEST_BYTES } from "./record-digest.ts";

/** In place of an id: there is none, or no further one. */
export const END = 0xffff_ffff;
/** In place of the next id: this one is in no chain. */
export const UNLINKED = 0xffff_fffe;

/** Numbers from here on name divisions; ids are far below (`MAX_IDS`). */
const DIVISION = 0x8000_0000;

/** Whether a cell holds a division. */
export function isDivision(cell: number): boolean {
  return cell >= DIVISION && cell < UNLINKED;
}

/** The number of the division that a cell holds. */
export function divisionOf(cell: number): number {
  return cell - DIVISION;
}

const scratch = new Uint32Array(FANOUT * DIGEST_WORDS + 1);
const digest = new Uint8Array(DIGEST_BYTES);
const digestWords = new Uint32Array(digest.buffer);

/** See the file header. */
export class Division {
  /** About how much memory one needs, in bytes. */
  static readonly BYTES = 500;

  /** A cell for each digit: the entries whose keys' digests have that digit next. */
  readonly cells: Uint32Array;
  /** How many entries each cell has. */
  readonly counts: Uint32Array;
  /** The digests of the cells, DIGEST_WORDS each. */
  readonly digests: Uint32Array;
  /** A bit for each digit whose digest is out of date. */
  dirty = 0;
  /** Whether it is in the list of divisions that have such digests. */
  isStale = false;
  /** Whether it is in use: it has not been joined into a chain again. */
  isInUse = true;

  /** `depth`: which digit divides, counted from 0. */
  constructor(readonly depth: number) {
    const words = new Uint32Array(FANOUT * (2 + DIGEST_WORDS));
    this.cells = words.subarray(0, FANOUT).fill(END);
    this.counts = words.subarray(FANOUT, 2 * FANOUT);
    this.digests = words.subarray(2 * FANOUT);
  }

  /** What a cell holds for the division of that number. */
  static cellOf(number: number): number {
    return DIVISION + number;
  }

  /** How many entries there are in all. */
  get total(): number {
    let total = 0;
    for (let digit = 0; digit < FANOUT; digit++) total += this.counts[digit];
    return total;
  }

  /**
   * Writes the digest of all entries to `at` in `out`. Their number is hashed too, so that what is
   * hashed is longer than it is for any chain.
   */
  digest(count: number, out: Uint32Array, at: number): void {
    scratch.set(this.digests);
    scratch[FANOUT * DIGEST_WORDS] = count;
    Bun.SHA256.hash(scratch, digest);
    for (let word = 0; word < DIGEST_WORDS; word++) out[at + word] = digestWords[word];
  }
}
