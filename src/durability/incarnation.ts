/**
 * Under which origin a node counts.
 *
 * A counter keeps a running total for each origin, and of two totals of one origin the later
 * one counts. So a node that forgot its latest increments, and goes on from an older total,
 * would take away from its peers what it once gave them. It must go on under a new origin.
 * Everything else heals by itself, for it only wins by being newer.
 *
 * A node goes on as it was after a clean stop, and after any stop of a run in which nothing was
 * told to anyone before it was on disk. After any other it may have forgotten something, as it
 * has on an empty, a repaired or a restored directory.
 *
 * A run may also lose what it noted of itself, so what is left must not say more than is true. How
 * a run syncs is durable before it serves anybody if the one before ended cleanly (`log.ts`).
 * If it did not, only a run that loses nothing itself goes on under the origin that is on disk. And
 * a copy of a directory does not say who counted in it (`salvage.ts`).
 */
import { readU32, writeU32, readU64, writeU64 } from "../core/bytes.ts";
import type { OwnCounts } from "../core/store/own-counts.ts";
import type { FsyncMode } from "./log.ts";
import type { Journal } from "./journal.ts";
import type { Recovered } from "./recovery.ts";
import { FSYNC_METADATA, INCARNATION_METADATA } from "./store-metadata.ts";

const ORIGIN_BYTES = 8;
const START_BYTES = 8;

/**
 * Gives a store the origin it counted under before, if it goes on as it was; else it keeps
 * the new one it has. Either is remembered from now on.
 */
export function resumeIncarnation(
  counts: OwnCounts,
  journal: Journal,
  recovered: Recovered,
  fsync: FsyncMode,
): void {
  const lastFsync = new TextDecoder().decode(journal.metadata(FSYNC_METADATA));
  const losesNothing = lastFsync === "always" && fsync === "always";
  // An entry that was refused may be a later state of a counter than the one that was taken.
  const hasAll = recovered.refused === null && (recovered.wasStoppedCleanly || losesNothing);
  const known = journal.metadata(INCARNATION_METADATA);
  const isKnown = known !== undefined && known.length >= ORIGIN_BYTES;
  if (isKnown) counts.runStartsMs.push(...startsIn(known));
  if (recovered.lastSegment !== null && hasAll && isKnown) {
    counts.resume({ high: readU32(known, 0), low: readU32(known, 4) });
  } else counts.noteRun();
  journal.setMetadata(FSYNC_METADATA, new TextEncoder().encode(fsync));
  journal.setMetadata(INCARNATION_METADATA, incarnationMetadata(counts));
  journal.followMetadata(INCARNATION_METADATA, () => incarnationMetadata(counts));
}

function incarnationMetadata(counts: OwnCounts): Uint8Array {
  const { origin, runStartsMs } = counts;
  const bytes = new Uint8Array(ORIGIN_BYTES + runStartsMs.length * START_BYTES);
  writeU32(bytes, 0, origin.high);
  writeU32(bytes, 4, origin.low);
  for (const [i, startMs] of runStartsMs.entries()) {
    writeU64(bytes, ORIGIN_BYTES + i * START_BYTES, startMs);
  }
  return bytes;
}

/** When the runs of this node began, as far as it knows. Earlier versions did not note it. */
function startsIn(bytes: Uint8Array): number[] {
  const startsMs: number[] = [];
  for (let at = ORIGIN_BYTES; at + START_BYTES <= bytes.length; at += START_BYTES) {
    startsMs.push(readU64(bytes, at));
  }
  return startsMs;
}
