/**
 * How an entry lies in memory: a row of six 32-bit words, and a slot in the arena for its key and
 * value.
 *
 * Row      0 arena reference, lower 32 bits · 1 facts · 2 hash of the key · 3 value length, or of a
 *          packed counter the lower half of its total · 4, 5 time
 * Facts    from the lowest bit: key length 8, 0 for a longer one · kind 3, FREE for a row not in
 *          use · flags 8 · number of the origin 7 (`origin-table.ts`) · upper 6 of the reference
 * Slot     header · key · value, or the base of a packed counter (`packed-counter.ts`)
 * Header   length of a long key (4 bytes) · origin, if it has no number (8) · expiry in Unix ms (8)
 *          · its version (16) · when its death was learned of, in Unix ms (8): each only if there
 *          is one, as flags say; mostly there is none
 */
import { offsetOf, slabOf, type Arena } from "./arena.ts";
import { packedBytes } from "./packed-counter.ts";
import type { Entry } from "../data/entry.ts";

/** Words of a row. */
export const ROW_WORDS = 6;
// Which is which. What is only written comes last, as some rows are in two lines of a cache.
/** The word of a row that has its facts. */
export const FACTS = 1;
/** The word with the hash of the key. */
export const HASH = 2;
/** The word with the length of the value, or the lower half of a total. */
export const VALUE = 3;
/** The word with the upper half of the version's time. */
export const TIME_HIGH = 4;
/** The word with the lower half of it. */
export const TIME_LOW = 5;

/** The facts' length of the key. No key is empty: 0 says that the header has it. */
export const SHORT_KEY_MASK = 0xff;
/** Keys up to this length have it in the facts. */
export const LONGEST_SHORT_KEY = 255;
/** Where in the facts the kind begins. */
export const KIND_SHIFT = 8;
/** The kind's bits. */
export const KIND_MASK = 7;
/** In place of a kind: nobody has the row. */
export const FREE = KIND_MASK << KIND_SHIFT;
/** The header has the length of the key. */
export const HAS_LONG_KEY = 1 << 11;
/** The header has the origin. */
export const HAS_ORIGIN = 1 << 12;
/** The header has an expiry. */
export const HAS_EXPIRY = 1 << 13;
/** The header has the version of the expiry. */
export const HAS_EXPIRY_VERSION = 1 << 14;
/** The header has when the death was learned of. */
export const HAS_LEARNED = 1 << 15;
const HEADER_SHIFT = 11;
/** There is a header. */
export const HEADER_MASK =
  HAS_LONG_KEY | HAS_ORIGIN | HAS_EXPIRY | HAS_EXPIRY_VERSION | HAS_LEARNED;
/** The entry is a packed counter. */
export const IS_PACKED = 1 << 16;
/** It is one that has a base. */
export const HAS_BASE = 1 << 17;
/** The entry's time is over, and was found to be. */
export const IS_OVER = 1 << 18;
/** Where in the facts the number of the origin begins. */
export const ORIGIN_SHIFT = 19;
/** The bits of that number. */
export const ORIGIN_MASK = 127;
/** What lies above this in the facts belongs to the reference. */
const REFERENCE_SHIFT = 26;
const BELOW_REFERENCE = (1 << REFERENCE_SHIFT) - 1;
/** Where in a slot the key begins, by the flags of the header. */
const KEY_OFFSETS = Uint8Array.from(
  { length: 32 },
  (_, flags) =>
    (flags & 1 ? 4 : 0) +
    (flags & 2 ? 8 : 0) +
    (flags & 4 ? 8 : 0) +
    (flags & 8 ? 16 : 0) +
    (flags & 16 ? 8 : 0),
);
const WORD = 2 ** 32;

/** Where in a slot the key begins. Of `facts` only the flags of the header count. */
export function keyOffset(facts: number): number {
  return KEY_OFFSETS[(facts & HEADER_MASK) >>> HEADER_SHIFT];
}

/** Length of the key of the entry that lies at a reference and has those facts. */
export function keyLengthAt(facts: number, reference: number, arena: Arena): number {
  const length = facts & SHORT_KEY_MASK;
  if (length !== 0) return length;
  return arena.words[slabOf(reference)][offsetOf(reference) >>> 2];
}

/** Bytes in use of the slot of the row that begins at `at`. */
export function slotBytes(row: Uint32Array, at: number, arena: Arena): number {
  const facts = row[at + FACTS];
  const reference = referenceAt(row, at);
  const keyBytes = keyOffset(facts) + keyLengthAt(facts, reference, arena);
  if ((facts & IS_PACKED) === 0) return keyBytes + row[at + VALUE];
  if ((facts & HAS_BASE) === 0) return keyBytes;
  return keyBytes + packedBytes(arena.bytes[slabOf(reference)], offsetOf(reference) + keyBytes);
}

/** Whether key and value are all there is, and lie as they are. */
export function isPlain(facts: number): boolean {
  return (facts & (HEADER_MASK | IS_PACKED | IS_OVER)) === 0;
}

/** The facts of a row without what belongs to the reference. */
export function factsAlone(facts: number): number {
  return facts & BELOW_REFERENCE;
}

/** Reads the header that begins `offset` bytes into a slab; returns its length in bytes. */
export function readHeader(words: Uint32Array, offset: number, facts: number, into: Entry): number {
  let at = offset >>> 2;
  if (facts & HAS_LONG_KEY) into.keyLength = words[at++];
  if (facts & HAS_ORIGIN) {
    into.originHigh = words[at++];
    into.originLow = words[at++];
  }
  if (facts & HAS_EXPIRY) {
    into.expiresAtMs = words[at] * WORD + words[at + 1];
    at += 2;
  }
  if (facts & HAS_EXPIRY_VERSION) {
    into.expiryVersion.timeHigh = words[at];
    into.expiryVersion.timeLow = words[at + 1];
    into.expiryVersion.originHigh = words[at + 2];
    into.expiryVersion.originLow = words[at + 3];
    at += 4;
  }
  if (facts & HAS_LEARNED) {
    into.learnedMs = words[at] * WORD + words[at + 1];
    at += 2;
  }
  return (at << 2) - offset;
}

/** Writes the header that begins `offset` bytes into a slab. */
export function writeHeader(words: Uint32Array, offset: number, facts: number, entry: Entry): void {
  let at = offset >>> 2;
  if (facts & HAS_LONG_KEY) words[at++] = entry.keyLength;
  if (facts & HAS_ORIGIN) {
    words[at++] = entry.originHigh;
    words[at++] = entry.originLow;
  }
  if (facts & HAS_EXPIRY) {
    words[at++] = Math.floor(entry.expiresAtMs / WORD);
    words[at++] = entry.expiresAtMs >>> 0;
  }
  if (facts & HAS_EXPIRY_VERSION) {
    const { timeHigh, timeLow, originHigh, originLow } = entry.expiryVersion;
    words[at++] = timeHigh;
    words[at++] = timeLow;
    words[at++] = originHigh;
    words[at++] = originLow;
  }
  if (facts & HAS_LEARNED) {
    words[at++] = Math.floor(entry.learnedMs / WORD);
    words[at++] = entry.learnedMs >>> 0;
  }
}

/** The reference in the row that begins at `at`. */
export function referenceAt(row: Uint32Array, at: number): number {
  const high = row[at + FACTS] >>> REFERENCE_SHIFT;
  return high === 0 ? row[at] : high * WORD + row[at];
}

/** Writes words 0 and 1 of a row. Of `facts` only what lies below the reference counts. */
export function setReference(row: Uint32Array, at: number, reference: number, facts: number): void {
  row[at] = reference;
  const below = facts & BELOW_REFERENCE;
  row[at + FACTS] =
    reference < WORD ? below : below | (Math.floor(reference / WORD) << REFERENCE_SHIFT);
}
