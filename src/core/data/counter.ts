/**
 * Counters that lose no concurrent increment: a base and, for each origin, a running
 * total (the PN-counter of Shapiro et al., "A comprehensive study of CRDTs", 2011, with
 * signed totals, grown from a last-write-wins base so that SET and DEL start afresh).
 *
 * Value bytes of a counter entry, all integers big-endian:
 *
 *   base      kind u8 (0 string, 1 none) · version 16 bytes · number i64
 *   parts     origin 8 bytes · time 8 bytes · total i128, sorted by origin, each origin once
 *
 * Merging is lexicographic: the higher base wins as a whole; equal bases keep each
 * origin's part with the later time. Both steps are joins of a lattice, so merging is
 * commutative, associative and idempotent. The number shown is base + sum of totals:
 * exact, held to the ends of the signed 64-bit range should concurrent writers
 * together leave it. Totals have 128 bits, so they cannot overflow themselves.
 *
 * Bases are ordered by version, then kind, then decimal text, which is the order of
 * the string entries they stand for (see `merge.ts`).
 *
 * How large a counter gets. A join has as many parts as both sides together, so no bound on
 * one entry bounds what joins make of several. Therefore being well-formed knows no number of
 * parts: logs, snapshots and backups hold a counter of any size, and nothing that was accepted is
 * ever refused there. Where there must be a bound, on the wire, a counter travels in slices: any
 * subset of its parts on its base is a counter, and the join of all of them is the whole
 * (`sliceCounter`). What strangers can do is bounded by the two constants below: one entry brings
 * at most MAX_ENTRY_PARTS, and a join that would pass MAX_JOINED_PARTS is refused as one that
 * finds no room is: nothing here changes, and it is offered again. Honest nodes never get
 * near either, for their parts are folded (`counter-fold.ts`); a node's own increments are
 * never refused for it.
 */
import { readU32, writeU32 } from "../bytes.ts";
import {
  compareBytes,
  compareVersions,
  copyBytes,
  type Entry,
  type VersionWords,
} from "./entry.ts";
import type { Int64 } from "./int64.ts";

/** Bytes before the first part. */
export const BASE_BYTES = 25;
/** Bytes of one part. */
export const PART_BYTES = 32;
/** Most parts that one entry may bring from elsewhere: 2 MiB. */
export const MAX_ENTRY_PARTS = 65_536;
/**
 * Most parts that a counter accepts from elsewhere, all entries together: 4 MiB, so that joining
 * and hashing one takes a few milliseconds. A cluster of 128 members gets there when each starts
 * 1,024 times within a grace without knowing what it counted before.
 */
export const MAX_JOINED_PARTS = 131_072;

/** Base kind: a string holding the number. */
export const BASE_STRING = 0;
/** Base kind: nothing was there (missing, deleted, expired, flushed); the number is 0. */
export const BASE_NONE = 1;

const sum = new Uint32Array(4);
const WORD = 2 ** 32;
/**
 * So many parts are added up before what is above 32 bits is carried. It would be exact up to 2^20,
 * but a function that is called often is compiled well as a whole, and a long loop in one call runs
 * on as it was when it began, ten times slower.
 */
const PARTS_A_CARRY = 1_024;
/** After so many parts in a row from one side of a join, the end of the row is looked for. */
const LONG_RUN = 8;

/** Writes a base without parts into `out`: BASE_BYTES bytes from 0 on. */
export function writeBase(
  out: Uint8Array,
  baseKind: number,
  timeHigh: number,
  timeLow: number,
  originHigh: number,
  originLow: number,
  number: Int64,
): void {
  out[0] = baseKind;
  writeU32(out, 1, timeHigh);
  writeU32(out, 5, timeLow);
  writeU32(out, 9, originHigh);
  writeU32(out, 13, originLow);
  writeU32(out, 17, number.high);
  writeU32(out, 21, number.low);
}

/**
 * Adds `delta` to the origin's total and stamps its part with the time. `payload`
 * holds `length` bytes and has room for one more part. Returns the new length.
 */
export function addToPart(
  payload: Uint8Array,
  length: number,
  originHigh: number,
  originLow: number,
  timeHigh: number,
  timeLow: number,
  delta: Int64,
): number {
  const at = findPart(payload, 0, length, originHigh, originLow);
  let newLength = length;
  if (!isPartOf(payload, at, length, originHigh, originLow)) {
    payload.copyWithin(at + PART_BYTES, at, length);
    payload.fill(0, at, at + PART_BYTES);
    writeU32(payload, at, originHigh);
    writeU32(payload, at + 4, originLow);
    newLength += PART_BYTES;
  }
  addToTotal(payload, at, timeHigh, timeLow, delta);
  return newLength;
}

/** Adds `delta` to the total of the part at `at`, and stamps it with the time. */
export function addToTotal(
  payload: Uint8Array,
  at: number,
  timeHigh: number,
  timeLow: number,
  delta: Int64,
): void {
  writeU32(payload, at + 8, timeHigh);
  writeU32(payload, at + 12, timeLow);
  const extension = delta.high < 0 ? 0xffff_ffff : 0;
  let carry = addWord(payload, at + 28, delta.low, 0);
  // The words above stay as they are: nothing is added, or all ones and a carry.
  if (delta.high >>> 0 === extension && carry === (extension & 1)) return;
  carry = addWord(payload, at + 24, delta.high >>> 0, carry);
  carry = addWord(payload, at + 20, extension, carry);
  addWord(payload, at + 16, extension, carry);
}

/** Where the part of the origin is, or would be: the first that is not below it. */
export function findPart(
  payload: Uint8Array,
  offset: number,
  length: number,
  originHigh: number,
  originLow: number,
): number {
  const partsAt = offset + BASE_BYTES;
  let below = 0;
  let above = (length - BASE_BYTES) / PART_BYTES;
  while (below < above) {
    const middle = (below + above) >>> 1;
    const at = partsAt + middle * PART_BYTES;
    if (compareOrigins(payload, at, originHigh, originLow) < 0) below = middle + 1;
    else above = middle;
  }
  return partsAt + below * PART_BYTES;
}

/**
 * The counter's number. Returns false, with the nearest end of the range in `into`,
 * when the exact sum is outside 64 bits.
 */
export function sumOf(payload: Uint8Array, offset: number, length: number, into: Int64): boolean {
  const baseHigh = readU32(payload, offset + 17);
  sum[0] = readU32(payload, offset + 21);
  sum[1] = baseHigh;
  sum[2] = sum[3] = baseHigh >>> 31 === 1 ? 0xffff_ffff : 0;
  const end = offset + length;
  for (let at = offset + BASE_BYTES; at < end; at += PARTS_A_CARRY * PART_BYTES) {
    addTotals(payload, at, Math.min(end, at + PARTS_A_CARRY * PART_BYTES));
  }
  const extension = sum[1] >>> 31 === 1 ? 0xffff_ffff : 0;
  if (sum[2] === extension && sum[3] === extension) {
    into.set(sum[1], sum[0]);
    return true;
  }
  if (sum[3] >>> 31 === 1) into.set(0x8000_0000, 0);
  else into.set(0x7fff_ffff, 0xffff_ffff);
  return false;
}

/** Adds the totals of the parts from `start` to `end` to `sum`, and carries once, at the end. */
function addTotals(payload: Uint8Array, start: number, end: number): void {
  let first = sum[0];
  let second = sum[1];
  let third = sum[2];
  let fourth = sum[3];
  for (let at = start; at < end; at += PART_BYTES) {
    first += readU32(payload, at + 28);
    second += readU32(payload, at + 24);
    third += readU32(payload, at + 20);
    fourth += readU32(payload, at + 16);
  }
  second += Math.floor(first / WORD);
  third += Math.floor(second / WORD);
  fourth += Math.floor(third / WORD);
  // What is stored keeps the lower 32 bits.
  sum[0] = first;
  sum[1] = second;
  sum[2] = third;
  sum[3] = fourth;
}

/** How many parts a counter of this length has. */
export function partsOf(length: number): number {
  return (length - BASE_BYTES) / PART_BYTES;
}

/** Whether the bytes are a well-formed counter: length, base kind, parts in strict order. */
export function isCounter(payload: Uint8Array, offset: number, length: number): boolean {
  if (length < BASE_BYTES || (length - BASE_BYTES) % PART_BYTES !== 0) return false;
  const baseKind = payload[offset];
  if (baseKind > BASE_NONE) return false;
  if (baseKind === BASE_NONE) {
    if (readU32(payload, offset + 17) !== 0 || readU32(payload, offset + 21) !== 0) return false;
  }
  const end = offset + length;
  for (let at = offset + BASE_BYTES + PART_BYTES; at < end; at += PART_BYTES) {
    if (compareParts(payload, at - PART_BYTES, payload, at) >= 0) return false;
  }
  return true;
}

/** A part's version, while `setVersionFromParts` looks at it. */
const part: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };

/**
 * Sets the version of a counter entry to the latest version in its value, base included:
 * a counter's version is no fact of its own.
 */
export function setVersionFromParts(entry: Entry): void {
  const payload = entry.value;
  let at = entry.valueOffset + 1;
  const end = entry.valueOffset + entry.valueLength;
  entry.setVersion(
    readU32(payload, at),
    readU32(payload, at + 4),
    readU32(payload, at + 8),
    readU32(payload, at + 12),
  );
  for (at += BASE_BYTES - 1; at < end; at += PART_BYTES) {
    part.originHigh = readU32(payload, at);
    part.originLow = readU32(payload, at + 4);
    part.timeHigh = readU32(payload, at + 8);
    part.timeLow = readU32(payload, at + 12);
    if (compareVersions(part, entry) > 0) {
      entry.setVersion(part.timeHigh, part.timeLow, part.originHigh, part.originLow);
    }
  }
}

/**
 * Joins the parts of two counters with equal bases into `out` (which must hold both
 * together). Returns the length of the result.
 */
export function joinParts(
  a: Uint8Array,
  aOffset: number,
  aLength: number,
  b: Uint8Array,
  bOffset: number,
  bLength: number,
  out: Uint8Array,
): number {
  copyBytes(a, aOffset, BASE_BYTES, out, 0);
  let length = BASE_BYTES;
  let aAt = aOffset + BASE_BYTES;
  let bAt = bOffset + BASE_BYTES;
  const aEnd = aOffset + aLength;
  const bEnd = bOffset + bLength;
  // Parts in a row that were those of one side.
  let fromA = 0;
  let fromB = 0;
  while (aAt < aEnd && bAt < bEnd) {
    const order = compareParts(a, aAt, b, bAt);
    // Same origin: the later running total; equal times by bytes, to stay a total order.
    const isFromA = order < 0 || (order === 0 && compareBytes(a, aAt + 8, 24, b, bAt + 8, 24) >= 0);
    fromA = order < 0 ? fromA + 1 : 0;
    fromB = order > 0 ? fromB + 1 : 0;
    const aNext = fromA > LONG_RUN ? skipBelow(a, aAt, aEnd, b, bAt) : aAt + PART_BYTES;
    const bNext = fromB > LONG_RUN ? skipBelow(b, bAt, bEnd, a, aAt) : bAt + PART_BYTES;
    const bytes = isFromA ? aNext - aAt : bNext - bAt;
    if (isFromA) copyBytes(a, aAt, bytes, out, length);
    else copyBytes(b, bAt, bytes, out, length);
    length += bytes;
    if (order <= 0) aAt = aNext;
    if (order >= 0) bAt = bNext;
  }
  copyBytes(a, aAt, aEnd - aAt, out, length);
  length += aEnd - aAt;
  copyBytes(b, bAt, bEnd - bAt, out, length);
  return length + bEnd - bAt;
}

/**
 * Writes as many parts of a counter as `maxBytes` hold into `out`, from part `first` on, behind
 * its base: a counter of its own. Returns its length; `maxBytes` hold a base and a part.
 */
export function sliceCounter(
  payload: Uint8Array,
  offset: number,
  length: number,
  first: number,
  maxBytes: number,
  out: Uint8Array,
): number {
  const from = BASE_BYTES + first * PART_BYTES;
  const room = Math.floor((maxBytes - BASE_BYTES) / PART_BYTES) * PART_BYTES;
  const bytes = Math.min(room, length - from);
  copyBytes(payload, offset, BASE_BYTES, out, 0);
  copyBytes(payload, offset + from, bytes, out, BASE_BYTES);
  return BASE_BYTES + bytes;
}

/**
 * Where the parts from `at` on that are below a part of another counter end. Looks twice as far
 * each time and then in between (Bentley and Yao, "An almost optimal algorithm for unbounded
 * searching", 1976): so a few parts join a large counter in few steps.
 */
function skipBelow(
  payload: Uint8Array,
  at: number,
  end: number,
  other: Uint8Array,
  otherAt: number,
): number {
  const parts = (end - at) / PART_BYTES;
  const isBelow = (part: number): boolean =>
    compareParts(payload, at + part * PART_BYTES, other, otherAt) < 0;
  let below = 0;
  let step = 1;
  while (below + step <= parts && isBelow(below + step - 1)) {
    below += step;
    step *= 2;
  }
  let above = Math.min(parts, below + step - 1);
  while (below < above) {
    const middle = (below + above) >>> 1;
    if (isBelow(middle)) below = middle + 1;
    else above = middle;
  }
  return at + below * PART_BYTES;
}

function compareParts(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): number {
  return compareBytes(a, aAt, 8, b, bAt, 8);
}

/** Whether the part at `at`, if there is one before `end`, is that of the origin. */
export function isPartOf(
  payload: Uint8Array,
  at: number,
  end: number,
  originHigh: number,
  originLow: number,
): boolean {
  return at < end && compareOrigins(payload, at, originHigh, originLow) === 0;
}

function compareOrigins(
  payload: Uint8Array,
  at: number,
  originHigh: number,
  originLow: number,
): number {
  const high = readU32(payload, at);
  if (high !== originHigh) return high < originHigh ? -1 : 1;
  const low = readU32(payload, at + 4);
  return low === originLow ? 0 : low < originLow ? -1 : 1;
}

/** Adds the total of one part to that of another. */
export function addTotal(into: Uint8Array, intoAt: number, from: Uint8Array, fromAt: number): void {
  let carry = 0;
  for (let at = 28; at >= 16; at -= 4) {
    carry = addWord(into, intoAt + at, readU32(from, fromAt + at), carry);
  }
}

function addWord(bytes: Uint8Array, at: number, word: number, carry: number): number {
  const total = readU32(bytes, at) + word + carry;
  writeU32(bytes, at, total);
  return total > 0xffff_ffff ? 1 : 0;
}
