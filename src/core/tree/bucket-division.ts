/**
 * A large bucket, or a large part of one, divided in 16 by the next 4 bits of the keys' digests;
 * and what a cell holds: an id, which begins a chain, END, or a division.
 */
import { DIGEST_WORDS } from "./digest-list.ts";
import { FANOUT } from "./digest-tree.ts";
import { DIGEST_BYTES } from "./record-digest.ts";

/** In place of an id: there is none, or no further one. */
export const END = 0xffff_ffff;
/** In place of the next id: this one is in no chain. */
export const UNLINKED = 0xffff_fffe;

/** Ids are far below (`MAX_IDS`). */
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
  /** About what one takes. */
  static readonly BYTES = 500;

  /** One for each digit: the entries whose keys' digests go on with it. */
  readonly cells: Uint32Array;
  /** How many those are. */
  readonly counts: Uint32Array;
  /** Their digests, DIGEST_WORDS each. */
  readonly digests: Uint32Array;
  /** A bit for each digit whose digest is out of date. */
  dirty = 0;
  /** It is in the list of those that have such. */
  isStale = false;
  /** It has not been joined. */
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

  /** Writes the digest of all to `at` in `out`. With their number it is longer than any chain's. */
  digest(count: number, out: Uint32Array, at: number): void {
    scratch.set(this.digests);
    scratch[FANOUT * DIGEST_WORDS] = count;
    Bun.SHA256.hash(scratch, digest);
    for (let word = 0; word < DIGEST_WORDS; word++) out[at + word] = digestWords[word];
  }
}
