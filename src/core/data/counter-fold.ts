/**
 * Folding: what keeps counters small. PURE.
 *
 * A run of a node that may have forgotten increments counts under an origin of its own
 * (`durability/incarnation.ts`), so each such start adds a part to each counter that it increments.
 * Runs that are over add nothing any more, and what they counted can be told in one part.
 *
 * The origins of all runs of a node have their first 36 bits in common, those of the node's
 * own origin; the last 28 tell the runs apart. The highest of these is no run but the *fold*: its
 * total is what all runs of the node counted up to its time. So a part of the same node that is no
 * later than the fold is in it already, and goes wherever the two meet:
 *
 *   join(a, b) = of each origin the later part, without those that a fold covers
 *
 * It is a join: of a fold and of each origin the later one counts as ever, the latest fold of a
 * node is never covered, and what it covers stays covered. So copies that are folded and copies
 * that are not may meet in any order and any number of times (`test/model/counter-fold.test.ts`).
 *
 * Only the node itself folds, as part of an increment. One part must not be lost in it: that of a
 * run which a power cut made forget its last increments, while a peer has them. The fold would
 * cover them without holding them. So only what was counted before a run began is folded, and only
 * once that start is *stable* (`stableStartMs`): by then there was contact with every member known
 * since, and the grace has passed, in which the broker may have brought what it had kept. A member
 * that was away for GONE_AFTER graces counts as gone, unless all were. Who was only ever heard of
 * may have been told by the broker, so until there was contact with it nothing is stable.
 */
import { readU32, writeU32 } from "../bytes.ts";
import { unixMsOf } from "./clock.ts";
import { BASE_BYTES, PART_BYTES, addTotal, findPart } from "./counter.ts";
import { compareBytes, copyBytes } from "./entry.ts";
import type { Origin } from "./origin.ts";

const RUN_MASK = 0x0fff_ffff;
/** The number that stands for all runs of a node. */
const FOLD = RUN_MASK;
/** Starts that are remembered. */
const MAX_STARTS = 64;
/** A member that was away for so many graces counts as gone. */
export const GONE_AFTER = 7;
/** With fewer parts of a node than this there is nothing to gain. */
const LEAST_PARTS = 2;

const folded = new Uint8Array(PART_BYTES);

/** Under which origin a run of a node counts. `run` is a random number of 32 bits. */
export function runOrigin(node: Origin, run: number): Origin {
  const low = ((node.low & ~RUN_MASK) | ((run & RUN_MASK) % FOLD)) >>> 0;
  return { high: node.high, low };
}

/** The next origin of the same node, for a run that must not count on. */
export function nextRunOrigin({ high, low }: Origin): Origin {
  return runOrigin({ high, low }, low + 1);
}

/** Whether the part at `at` is a fold. */
function isFold(payload: Uint8Array, at: number): boolean {
  return (readU32(payload, at + 4) & RUN_MASK) === FOLD;
}

/** Whether two parts are of one node. */
function isSameNode(payload: Uint8Array, at: number, high: number, low: number): boolean {
  return (
    readU32(payload, at) === high && (readU32(payload, at + 4) & ~RUN_MASK) === (low & ~RUN_MASK)
  );
}

/** Removes from a counter, in place, the parts that a fold covers. Returns its length then. */
export function removeCovered(payload: Uint8Array, length: number): number {
  if (!hasFold(payload, 0, length)) return length;
  let to = BASE_BYTES;
  let nodeAt = to;
  for (let from = BASE_BYTES; from < length; from += PART_BYTES) {
    const high = readU32(payload, from);
    const low = readU32(payload, from + 4);
    if (to === nodeAt || !isSameNode(payload, nodeAt, high, low)) nodeAt = to;
    if (isFold(payload, from)) to = removeUpTo(payload, nodeAt, to, from);
    if (to !== from) payload.copyWithin(to, from, from + PART_BYTES);
    to += PART_BYTES;
  }
  return to;
}

/** Whether there is a fold, without which nothing is covered. */
export function hasFold(payload: Uint8Array, offset: number, length: number): boolean {
  for (let at = offset + BASE_BYTES, end = offset + length; at < end; at += PART_BYTES) {
    if (isFold(payload, at)) return true;
  }
  return false;
}

/** Of the parts from `start` to `end` keeps those later than the fold. Returns where they end. */
function removeUpTo(payload: Uint8Array, start: number, end: number, fold: number): number {
  let to = start;
  for (let at = start; at < end; at += PART_BYTES) {
    if (compareBytes(payload, at + 8, 8, payload, fold + 8, 8) <= 0) continue;
    if (to !== at) payload.copyWithin(to, at, at + PART_BYTES);
    to += PART_BYTES;
  }
  return to;
}

/**
 * Folds, in place, the parts of a node's runs that are dated before `beforeMs` (Unix ms), but for
 * the run that counts now. Returns the length then, the same when there was nothing to gain.
 */
export function foldRuns(
  payload: Uint8Array,
  length: number,
  { high, low }: Origin,
  beforeMs: number,
): number {
  const start = findPart(payload, 0, length, high, (low & ~RUN_MASK) >>> 0);
  let end = start;
  let parts = 0;
  folded.fill(0);
  writeU32(folded, 0, high);
  writeU32(folded, 4, low | FOLD);
  for (; end < length && isSameNode(payload, end, high, low); end += PART_BYTES) {
    if (!isFoldable(payload, end, low, beforeMs)) continue;
    if (compareBytes(payload, end + 8, 8, folded, 8, 8) > 0)
      copyBytes(payload, end + 8, 8, folded, 8);
    addTotal(folded, 0, payload, end);
    parts++;
  }
  if (parts < LEAST_PARTS) return length;
  let to = start;
  for (let at = start; at < end; at += PART_BYTES) {
    if (isFoldable(payload, at, low, beforeMs)) continue;
    if (to !== at) payload.copyWithin(to, at, at + PART_BYTES);
    to += PART_BYTES;
  }
  payload.set(folded, to);
  to += PART_BYTES;
  payload.copyWithin(to, end, length);
  return length - (end - to);
}

/**
 * Whether there are enough parts of the same node beside the one at `at` that some may be folded.
 */
export function hasRunsToFold(
  payload: Uint8Array,
  offset: number,
  length: number,
  at: number,
): boolean {
  let others = 0;
  const end = offset + length;
  if (at >= end) return false;
  const high = readU32(payload, at);
  const low = readU32(payload, at + 4);
  for (let i = at + PART_BYTES; i < end && isSameNode(payload, i, high, low); i += PART_BYTES) {
    if (++others === LEAST_PARTS) return true;
  }
  const start = offset + BASE_BYTES;
  for (let i = at - PART_BYTES; i >= start && isSameNode(payload, i, high, low); i -= PART_BYTES) {
    if (++others === LEAST_PARTS) return true;
  }
  return false;
}

function isFoldable(payload: Uint8Array, at: number, low: number, beforeMs: number): boolean {
  if (isFold(payload, at)) return true;
  if (readU32(payload, at + 4) === low) return false;
  return unixMsOf(readU32(payload, at + 8), readU32(payload, at + 12)) < beforeMs;
}

/** Adds the start of a run to the starts of those before. Of many it forgets some in between. */
export function noteStart(startsMs: number[], startMs: number): void {
  startsMs.push(startMs);
  if (startsMs.length > MAX_STARTS) startsMs.splice(1, 1);
}

/** Up to when a node has all that each member had; `Contacts` in `sync/contacts.ts`. Unix ms. */
export interface ContactTimes {
  of(originHigh: number, originLow: number): number;
  forEach(visit: (originHigh: number, originLow: number, ms: number) => void): void;
}

/**
 * The latest of the starts of this node's runs before which everything is stable, 0 if none.
 * Forgets those before it. `heardOf` are those who may have been told something without any
 * contact. See the file header.
 */
export function stableStartMs(
  startsMs: number[],
  nowMs: number,
  graceMs: number,
  self: Origin,
  contacts: ContactTimes,
  heardOf: readonly Origin[],
): number {
  if (heardOf.some(({ high, low }) => contacts.of(high, low) === 0)) return 0;
  for (let i = startsMs.length - 1; i >= 0; i--) {
    const startMs = startsMs[i];
    if (startMs > nowMs - graceMs || !isKnownToAll(startMs, nowMs - GONE_AFTER * graceMs)) continue;
    startsMs.splice(0, i);
    return startMs;
  }
  return 0;

  function isKnownToAll(startMs: number, goneMs: number): boolean {
    let members = 0;
    let met = 0;
    let isMissed = false;
    contacts.forEach((high, low, ms) => {
      const isNobody = high === 0 && low === 0;
      if (isNobody || (high === self.high && low === self.low)) return;
      members++;
      if (ms > startMs) met++;
      else if (ms >= goneMs) isMissed = true;
    });
    return !isMissed && (members === 0 || met > 0);
  }
}
