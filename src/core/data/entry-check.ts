/**
 * What an entry must be like, whoever brings it: an event, a session, a file or a backup. One
 * place says so, because an entry that gets in one way and is refused on another is a node that
 * serves today and does not start tomorrow.
 *
 * Two bounds are no part of being well-formed, and only hold for what a stranger brings (see
 * `Store.apply`): how many parts a counter has, and how far ahead it is dated. What was once
 * accepted is accepted again, from a log or a backup, for ever: a counter that grew by joins has
 * more parts than any one entry brought.
 */
import { isCounter } from "./counter.ts";
import {
  FIRST_OTHER_KIND,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_OTHER,
  KIND_STRING,
  KIND_TOMBSTONE,
  MAX_EXPIRES_AT_MS,
  MAX_KEY_BYTES,
  type Entry,
} from "./entry.ts";

/** What is wrong with an entry, in a few words; null when it is well-formed. */
export function flawOf(entry: Entry): string | null {
  if (entry.keyLength < 1) return "it has no key";
  if (entry.keyLength > MAX_KEY_BYTES) return "its key is too long";
  const { kind, expiresAtMs, valueLength } = entry;
  if (!(expiresAtMs >= 0 && expiresAtMs <= MAX_EXPIRES_AT_MS)) return "its expiry is no time";
  if (kind === KIND_STRING) return null;
  if (kind === KIND_TOMBSTONE) return valueLength === 0 ? null : "a deletion has no value";
  if (kind === KIND_HUSK) return valueLength === 0 ? null : "what has expired has no value";
  if (kind === KIND_OTHER) {
    const isNamed = valueLength > 0 && entry.value[entry.valueOffset] >= FIRST_OTHER_KIND;
    return isNamed ? null : "it does not say of which kind it is";
  }
  if (kind !== KIND_COUNTER) return "it is of no known kind";
  return isCounter(entry.value, entry.valueOffset, valueLength) ? null : "it is no counter";
}
