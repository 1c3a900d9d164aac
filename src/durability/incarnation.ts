/**
 * Counts the times a node may have forgotten what it told others.
 *
 * A counter keeps a running total for each origin, and of two totals of one origin the later
 * one counts. So a node that forgot its latest increments, and goes on from an older total,
 * would take away from its peers what it once gave them. It must count under a new origin
 * instead: one for each incarnation. Everything else heals by itself, for it only wins by
 * being newer.
 *
 * A new incarnation begins on an empty or restored directory, and after a crash unless every
 * write had been synced before it was told to anyone.
 */
import type { Origin } from "../core/origin.ts";
import type { Journal } from "./journal.ts";
import { readU32 } from "./frame.ts";

const FACT = "incarnation";

/**
 * The origin under which this start of the node counts. `mayHaveForgotten`: it does not go on
 * exactly where it once was. `random` is 8 random bytes.
 */
export function countingOrigin(
  journal: Journal,
  mayHaveForgotten: boolean,
  random: Uint8Array,
): Origin {
  const known = journal.fact(FACT);
  const bytes = mayHaveForgotten || known?.length !== 8 ? random : known;
  if (bytes !== known) journal.setFact(FACT, bytes);
  return { high: readU32(bytes, 0), low: readU32(bytes, 4) };
}
