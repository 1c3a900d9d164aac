/** What an entry comes to, as text, to compare two. */
import { newVersion, type Entry } from "../../src/core/data/entry.ts";
import { expiryVersionOf } from "../../src/core/data/merge.ts";

/**
 * All that counts of it but the key. When a node learned of a death does not: that is each node's
 * own.
 */
export function contentsOf(entry: Entry): string {
  const { kind, timeHigh, timeLow, originHigh, originLow, expiresAtMs } = entry;
  const value = Buffer.from(entry.valueBytes()).toString("latin1");
  const expiry = newVersion();
  expiryVersionOf(entry, expiry);
  const expires = `${expiresAtMs} ${expiry.timeHigh}.${expiry.timeLow}@${expiry.originHigh}.${expiry.originLow}`;
  return `${kind} ${timeHigh}.${timeLow}@${originHigh}.${originLow} ${expires} ${value}`;
}
