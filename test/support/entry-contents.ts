/** What an entry comes to, as text, to compare two. */
import { KIND_TOMBSTONE, type Entry } from "../../src/core/data/entry.ts";

/** All that counts of it but the key. When a tombstone came about does not: that is each node's own. */
export function contentsOf(entry: Entry): string {
  const { kind, timeHigh, timeLow, originHigh, originLow, expiresAtMs } = entry;
  const expiresAt = kind === KIND_TOMBSTONE ? 0 : expiresAtMs;
  const value = Buffer.from(entry.valueBytes()).toString("latin1");
  return `${kind} ${timeHigh}.${timeLow}@${originHigh}.${originLow} ${expiresAt} ${value}`;
}
