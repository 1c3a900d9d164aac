/**
 * What has to outlast a restart besides entries and floor.
 *
 * - The clock. Its last time is in the newest version on disk, but for what a power cut took
 *   away and what was dropped since. With this it never goes back, even when the
 *   machine's did.
 * - The purge time: with the tombstones that a snapshot leaves out goes the knowledge
 *   that they are.
 * - The contacts (see `core/sync/contacts.ts`). They are journalled after the entries they speak
 *   of, so what a crash leaves of both is true.
 * - Under which origin the node counts, and how far its disk can be trusted (`incarnation.ts`).
 */
import { readU32, writeU32, readU64, writeU64 } from "../core/bytes.ts";
import { timeHighOf, timeLowOf, type HybridClock } from "../core/data/clock.ts";
import { Contacts, MAX_MEMBERS } from "../core/sync/contacts.ts";
import type { Store } from "../core/store/store.ts";

/** A time of the hybrid clock, 8 bytes, that no version is above. */
export const CLOCK_METADATA = "clock";
/** Unix milliseconds, 8 bytes. */
export const PURGED_METADATA = "purged";
/** For each member: origin 8 bytes, Unix milliseconds 8 bytes. */
export const CONTACTS_METADATA = "contacts";
/**
 * The origin under which increments are counted, 8 bytes, then the starts of runs, 8 bytes each.
 */
export const INCARNATION_METADATA = "incarnation";
/** How the run that wrote the log synced it, one of FsyncMode as text. */
export const FSYNC_METADATA = "fsync";

/** How many entries a snapshot holds, about, 8 bytes; in front of them. */
export const ENTRIES_METADATA = "entries";

/** For each member that somebody said is gone: origin 8 bytes, when 8 bytes, Unix milliseconds. */
export const FORGOTTEN_METADATA = "forgotten";

const CONTACT_BYTES = 24;
const FORGOTTEN_BYTES = 16;

/** How many entries there are now. */
export function entriesMetadata(store: Pick<Store, "size" | "tombstoneCount">): Uint8Array {
  return u64(store.size + store.tombstoneCount);
}

/** What `entriesMetadata` told; 0 when that makes no sense. */
export function readEntries(value: Uint8Array): number {
  return value.length === 8 ? readU64(value, 0) : 0;
}

/** The latest time that the clock has seen, or its own `aheadMs` later if that is more. */
export function clockMetadata(clock: HybridClock, aheadMs = 0): Uint8Array {
  const bytes = new Uint8Array(8);
  // The milliseconds are the upper 48 bits.
  const sum = clock.low + (aheadMs % 65_536) * 65_536;
  const carry = sum > 0xffff_ffff ? 1 : 0;
  const high = clock.high + Math.floor(aheadMs / 65_536) + carry;
  const low = sum >>> 0;
  const { seenHigh, seenLow } = clock;
  const isLater = high > seenHigh || (high === seenHigh && low > seenLow);
  writeU32(bytes, 0, isLater ? high : seenHigh);
  writeU32(bytes, 4, isLater ? low : seenLow);
  return bytes;
}

/** The purge time: up to when deletions are purged. Empty when nothing was. */
export function purgedMetadata({ deletions }: Pick<Store, "deletions">): Uint8Array {
  const { purgedUpToMs } = deletions;
  return purgedUpToMs === 0 ? new Uint8Array(0) : u64(purgedUpToMs);
}

/**
 * What is asked for every second of something large that seldom changes: made anew only when
 * `changes` tells another number than the last time.
 */
export function whenChanged(changes: () => number, make: () => Uint8Array): () => Uint8Array {
  let known = NaN;
  let made: Uint8Array = new Uint8Array(0);
  return () => {
    const now = changes();
    if (now !== known) made = make();
    known = now;
    return made;
  };
}

/** The contacts; empty when there were none. */
export function contactsMetadata(contacts: Contacts): Uint8Array {
  const bytes = new Uint8Array(contacts.size * CONTACT_BYTES);
  let at = 0;
  contacts.forEach((originHigh, originLow, ms, purgedUpToMs) => {
    writeU32(bytes, at, originHigh);
    writeU32(bytes, at + 4, originLow);
    writeU64(bytes, at + 8, ms);
    writeU64(bytes, at + 16, purgedUpToMs);
    at += CONTACT_BYTES;
  });
  return bytes;
}

/** Which members are gone; empty when none is. */
export function forgottenMetadata(contacts: Contacts): Uint8Array {
  const bytes: number[] = [];
  const row = new Uint8Array(FORGOTTEN_BYTES);
  contacts.forEach((originHigh, originLow, _ms, _purged, _learned, forgottenMs) => {
    if (forgottenMs === 0) return;
    writeU32(row, 0, originHigh);
    writeU32(row, 4, originLow);
    writeU64(row, 8, forgottenMs);
    bytes.push(...row);
  });
  return Uint8Array.from(bytes);
}

/** Gives a store its clock and its purge times back. */
export function restoreStoreMetadata(
  metadata: ReadonlyMap<string, Uint8Array>,
  { clock, deletions }: Pick<Store, "clock" | "deletions">,
): void {
  const time = metadata.get(CLOCK_METADATA);
  if (time?.length === 8) clock.observe(readU32(time, 0), readU32(time, 4));
  const purged = metadata.get(PURGED_METADATA);
  if (purged?.length === 8) deletions.notePurgedHere(readU64(purged, 0));
  readContacts(metadata.get(CONTACTS_METADATA)).forEach((_high, _low, ms, purgedUpToMs) => {
    // Nothing that is written from now on may seem to have been known at a contact before.
    clock.observe(timeHighOf(ms), timeLowOf(ms) + 0xffff);
    deletions.notePurgedElsewhere(purgedUpToMs);
  });
}

/**
 * The contacts that metadata hold. All that was purged counts as learned at `learnedMs`: when it
 * was is not kept, and must be no earlier than it was.
 */
export function readContacts(
  bytes: Uint8Array | undefined,
  forgotten?: Uint8Array,
  learnedMs = Infinity,
): Contacts {
  const contacts = new Contacts();
  const length = Math.min(bytes?.length ?? 0, MAX_MEMBERS * CONTACT_BYTES);
  for (let at = 0; at + CONTACT_BYTES <= length; at += CONTACT_BYTES) {
    const [high, low] = [readU32(bytes!, at), readU32(bytes!, at + 4)];
    contacts.note(high, low, readU64(bytes!, at + 8), readU64(bytes!, at + 16), learnedMs);
  }
  for (let at = 0; at + FORGOTTEN_BYTES <= (forgotten?.length ?? 0); at += FORGOTTEN_BYTES) {
    contacts.forget(
      readU32(forgotten!, at),
      readU32(forgotten!, at + 4),
      readU64(forgotten!, at + 8),
    );
  }
  return contacts;
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  writeU64(bytes, 0, value);
  return bytes;
}
