/**
 * Who wins when two entries for one key meet: the only rule of replication.
 *
 * An entry is two registers, each merged by its own version, so that what comes of any number of
 * writes is what comes of making them one after the other, in the order of their versions:
 *
 *   SET, DEL                           write both registers, with one version
 *   EXPIRE, PERSIST, GETEX             write the expiry alone
 *   SET KEEPTTL, APPEND, SETRANGE, …   write the value alone, as a whole
 *   INCR, DECR                         add to the value
 *
 * A key is there while its value is not a deletion and its expiry has not passed. So an EXPIRE that
 * did not know of a deletion changes nothing that anybody sees: the value stays deleted. And it
 * does not undo a SET that it did not know of, nor does that undo a later EXPIRE.
 *
 * Values. Every value stands on a *base*: a string or a tombstone is its own base, a counter
 * carries the base it grew from. Bases are totally ordered: by version, then kind (husk before
 * string before tombstone, and what only later versions know last), then value bytes. The value
 * with the higher base wins. On equal bases a counter beats what it grew from, and two counters
 * join their parts. Joining keeps of each origin the later part, without what a fold covers
 * (`counter-fold.ts`).
 *
 * Expiries are ordered by version, then the earlier first, and never is the last of all: it wins.
 *
 * So the state of a key is an element of a lattice (a total order times, at each of its points, a
 * map of parts; and beside it, another total order), and merging is its join: commutative,
 * associative, idempotent. `test/model/merge.test.ts` checks the three laws, and that the result is
 * that of all writes in the order of their versions.
 *
 * Time passing is no write. Whether an expiry has passed each node judges by its own clock whenever
 * it is asked, so a clock that is wrong takes nothing from others. To save memory a node lets go of
 * the value of an expired string and keeps a *husk*: the lowest of all values with that version,
 * so whoever still has the value gives it back where the key turns out to live. The parts of an
 * expired counter are kept until it is purged, for nobody else may have them all.
 *
 * What clients write to a key that has expired, by the clock of the node that takes the write:
 * SET, APPEND and the like find nothing there and write both registers. INCR begins a counter anew,
 * on the base of a deletion that comes directly behind the latest write that the node knows of the
 * key, be that of its value or of its expiry; and its expiry, never, is of that same version. So
 * nodes that begin a counter anew at the same time stand on the same base and add up, and a write
 * that the node did not know of is not undone.
 */
import { readU32 } from "../bytes.ts";
import { unixMsOf } from "./clock.ts";
import { BASE_BYTES, BASE_NONE, BASE_STRING, PART_BYTES, joinParts } from "./counter.ts";
import { Int64, MAX_NUMBER_TEXT_BYTES, formatInt64 } from "./int64.ts";
import { removeCovered } from "./counter-fold.ts";
import {
  compareBytes,
  compareVersions,
  copyVersion,
  isNoVersion,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_OTHER,
  KIND_TOMBSTONE,
  newVersion,
  type Entry,
  type Kind,
  type VersionWords,
} from "./entry.ts";

/** The value already there wins, or both are the same. */
export const KEEP = 0;
/** The arriving value wins as it is. */
export const REPLACE = 1;
/** Two counters with one base: the result is `joinCounters` of both. */
export const JOIN = 2;

/** What `mergeRule` decides. */
export type Verdict = 0 | 1 | 2;

/** Decides between the value that is there and one that arrives, for the same key. */
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
  } else copyVersion(entry, into);
}

/** Reads the version of the entry's expiry into `into`. */
export function expiryVersionOf(entry: Entry, into: VersionWords): void {
  if (isNoVersion(entry.expiryVersion)) baseVersionOf(entry, into);
  else copyVersion(entry.expiryVersion, into);
}

/** Orders the expiries of two entries for one key: the higher wins. */
export function compareExpiries(a: Entry, b: Entry): number {
  expiryVersionOf(a, aExpiry);
  expiryVersionOf(b, bExpiry);
  const order = compareVersions(aExpiry, bExpiry);
  if (order !== 0 || a.expiresAtMs === b.expiresAtMs) return order;
  if (a.expiresAtMs === 0 || b.expiresAtMs === 0) return a.expiresAtMs === 0 ? 1 : -1;
  return a.expiresAtMs - b.expiresAtMs;
}

/**
 * Gives an entry, whose value is set, an expiry of that version, in the one way there is to write
 * it.
 */
export function setExpiry(entry: Entry, expiresAtMs: number, version: VersionWords): void {
  baseVersionOf(entry, aBase);
  const isOfBase = compareVersions(aBase, version) === 0;
  const { timeHigh, timeLow, originHigh, originLow } = version;
  entry.setExpiry(expiresAtMs);
  if (isOfBase) return;
  entry.expiryVersion.timeHigh = timeHigh;
  // A counter that was begun from nothing has a base of time 0, which would say here that there is
  // no version: 1 says that there is one.
  entry.expiryVersion.timeLow = timeHigh === 0 && timeLow === 0 ? 1 : timeLow;
  entry.expiryVersion.originHigh = originHigh;
  entry.expiryVersion.originLow = originLow;
}

/** Gives an entry, whose value is set, the expiry of another. */
export function setExpiryOf(entry: Entry, from: Entry): void {
  expiryVersionOf(from, aExpiry);
  setExpiry(entry, from.expiresAtMs, aExpiry);
}

/** The later of the versions of value and expiry, of which an entry is as new as. */
export function latestVersionOf(entry: Entry): VersionWords {
  return compareVersions(entry.expiryVersion, entry) > 0 ? entry.expiryVersion : entry;
}

/** Whether an entry of that kind has a value that clients may be shown. */
export function hasValue(kind: Kind): boolean {
  return kind !== KIND_TOMBSTONE && kind !== KIND_HUSK;
}

/** Whether an entry is deleted, or has expired by that time, in Unix ms. */
export function isDeadBy(nowMs: number, { kind, expiresAtMs }: Entry): boolean {
  return kind === KIND_TOMBSTONE || (expiresAtMs !== 0 && expiresAtMs <= nowMs);
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

/**
 * When what a dead entry stands for died, in Unix ms, by what all nodes know of it: when it was
 * deleted; or when it expired, and no earlier than that was written.
 */
export function endedMs({ kind, timeHigh, timeLow, expiresAtMs, expiryVersion }: Entry): number {
  const writtenMs = unixMsOf(timeHigh, timeLow);
  if (kind === KIND_TOMBSTONE) return writtenMs;
  const decidedMs = unixMsOf(expiryVersion.timeHigh, expiryVersion.timeLow);
  return Math.max(writtenMs, decidedMs, expiresAtMs);
}

/** The same, but no earlier than this node learned of it. */
export function diedMs(entry: Entry): number {
  return Math.max(endedMs(entry), entry.learnedMs);
}

const aBase = newVersion();
const bBase = newVersion();
const aExpiry = newVersion();
const bExpiry = newVersion();
/** Of the kinds of bases (`counter.ts`), that of a husk is the lowest. */
const BASE_HUSK = -1;
/** And the highest that of what only later versions know. */
const BASE_OTHER = 256;
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
  return aKind === BASE_STRING || aKind === BASE_OTHER ? compareBaseValues(a, b) : 0;
}

function baseKindOf(entry: Entry): number {
  if (entry.kind === KIND_COUNTER) return entry.value[entry.valueOffset];
  if (entry.kind === KIND_HUSK) return BASE_HUSK;
  if (entry.kind === KIND_OTHER) return BASE_OTHER;
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
