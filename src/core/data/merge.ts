/**
 * Who wins when two entries for one key meet: the only rule of replication.
 *
 * Every entry stands on a *base*: a string or a tombstone is its own base, a counter
 * carries the base it grew from. Bases are totally ordered: by version, then kind
 * (string before tombstone), then value bytes, then expiry. The entry with the higher base wins. On
 * equal bases a counter beats what it grew from, and two counters join their parts.
 *
 * Joining keeps of each origin the later part, without what a fold covers (`counter-fold.ts`).
 *
 * So the state of a key is an element of a lattice (a total order times, at each of its
 * points, a map of parts), and merging is its join: commutative, associative,
 * idempotent. `test/model/merge.test.ts` checks the three laws.
 *
 * Two consequences. SET and DEL start afresh: they are a higher base. And a string
 * that expires turns into a tombstone of the *same* version: it beats that string, but not a write
 * that had beaten the string, so nodes agree whether they expired it first or not.
 */
import { readU32 } from "../bytes.ts";
import { unixMsOf } from "./clock.ts";
import {
  BASE_BYTES,
  BASE_NONE,
  BASE_STRING,
  Int64,
  MAX_NUMBER_TEXT_BYTES,
  PART_BYTES,
  formatInt64,
  joinParts,
} from "./counter.ts";
import { removeCovered } from "./counter-fold.ts";
import {
  compareBytes,
  compareVersions,
  KIND_COUNTER,
  KIND_TOMBSTONE,
  type Entry,
  type VersionWords,
} from "./entry.ts";

/** The entry already there wins, or both are the same. */
export const KEEP = 0;
/** The arriving entry wins as it is. */
export const REPLACE = 1;
/** Two counters with one base: the result is `joinCounters` of both. */
export const JOIN = 2;

/** What `mergeRule` decides. */
export type Verdict = 0 | 1 | 2;

/** Decides between the entry that is there and one that arrives, for the same key. */
export function mergeRule(present: Entry, arriving: Entry): Verdict {
  if (present.kind !== KIND_COUNTER && arriving.kind !== KIND_COUNTER) {
    const order = compareVersions(arriving, present);
    if (order !== 0) return order > 0 ? REPLACE : KEEP;
  }
  const order = compareBases(arriving, present);
  if (order !== 0) return order > 0 ? REPLACE : KEEP;
  if (arriving.kind !== KIND_COUNTER) return KEEP;
  return present.kind === KIND_COUNTER ? JOIN : REPLACE;
}

/** Reads the version of the entry's base into `into`. */
export function baseVersionOf(entry: Entry, into: VersionWords): void {
  if (entry.kind === KIND_COUNTER) {
    const at = entry.valueOffset + 1;
    into.timeHigh = readU32(entry.value, at);
    into.timeLow = readU32(entry.value, at + 4);
    into.originHigh = readU32(entry.value, at + 8);
    into.originLow = readU32(entry.value, at + 12);
  } else {
    into.timeHigh = entry.timeHigh;
    into.timeLow = entry.timeLow;
    into.originHigh = entry.originHigh;
    into.originLow = entry.originLow;
  }
}

/**
 * When what an entry stands on was written, in Unix ms. A counter that was begun from nothing
 * stands on nothing: its latest increment must do.
 */
export function writtenMs(entry: Entry): number {
  baseVersionOf(entry, aBase);
  const { timeHigh, timeLow } = aBase.timeHigh === 0 && aBase.timeLow === 0 ? entry : aBase;
  return unixMsOf(timeHigh, timeLow);
}

/** When what a dead entry stands for died, in Unix ms: it was deleted, or expired. */
export function diedMs({ timeHigh, timeLow, expiresAtMs }: Entry): number {
  return Math.max(unixMsOf(timeHigh, timeLow), expiresAtMs);
}

const aBase: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
const bBase: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
const aText = new Uint8Array(MAX_NUMBER_TEXT_BYTES);
const bText = new Uint8Array(MAX_NUMBER_TEXT_BYTES);
const number = new Int64();

function compareBases(a: Entry, b: Entry): number {
  baseVersionOf(a, aBase);
  baseVersionOf(b, bBase);
  const order = compareVersions(aBase, bBase);
  if (order !== 0) return order;
  const aKind = baseKindOf(a);
  const bKind = baseKindOf(b);
  if (aKind !== bKind) return aKind - bKind;
  if (aKind === BASE_STRING) {
    const byValue = compareBaseValues(a, b);
    if (byValue !== 0) return byValue;
  }
  // A tombstone's expiry only tells when it came about, and a counter on none has none.
  return aKind === BASE_NONE ? 0 : a.expiresAtMs - b.expiresAtMs;
}

function baseKindOf(entry: Entry): number {
  if (entry.kind === KIND_COUNTER) return entry.value[entry.valueOffset];
  return entry.kind === KIND_TOMBSTONE ? BASE_NONE : BASE_STRING;
}

function compareBaseValues(a: Entry, b: Entry): number {
  const aCounts = a.kind === KIND_COUNTER;
  const bCounts = b.kind === KIND_COUNTER;
  return compareBytes(
    aCounts ? aText : a.value,
    aCounts ? 0 : a.valueOffset,
    aCounts ? formatBase(a, aText) : a.valueLength,
    bCounts ? bText : b.value,
    bCounts ? 0 : b.valueOffset,
    bCounts ? formatBase(b, bText) : b.valueLength,
  );
}

function formatBase(counter: Entry, out: Uint8Array): number {
  const at = counter.valueOffset + BASE_BYTES - 8;
  number.set(readU32(counter.value, at), readU32(counter.value, at + 4));
  return formatInt64(number, out, 0);
}

/** Room that `joinCounters` needs for these two, in bytes. */
export function joinedBytes(a: Entry, b: Entry): number {
  return a.valueLength + b.valueLength + PART_BYTES;
}

/**
 * Joins two counters with equal bases: writes the value bytes into `out`, which has
 * room for `joinedBytes`, and returns their length.
 */
export function joinCounters(a: Entry, b: Entry, out: Uint8Array): number {
  const length = joinParts(
    a.value,
    a.valueOffset,
    a.valueLength,
    b.value,
    b.valueOffset,
    b.valueLength,
    out,
  );
  return removeCovered(out, length);
}
