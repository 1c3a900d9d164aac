/**
 * Changes of long strings that leave most of a string as it is: bytes written over some of it.
 * Nothing else of the string is copied, and the log need not write down more than the change.
 */
import { Entry, KIND_STRING, compareVersions, copyBytes, copyVersion } from "../data/entry.ts";
import { setExpiryOf } from "../data/merge.ts";
import { Patch } from "../data/patch.ts";
import type { KeyedEntries } from "./keyed-entries.ts";
import { CHANGED_VALUE, type Outcome } from "./outcome.ts";

/** A string of this size is long. */
const LONG_STRING_BYTES = 1024;
const NO_PATCH = -1;

/** The patches of one store. There is one at a time, while the observers are told of the change. */
export class StringPatches {
  private readonly patch = new Patch();
  private patchedBytes = NO_PATCH;
  private readonly present = new Entry();
  private readonly patched = new Entry();

  constructor(private readonly entries: KeyedEntries) {}

  /** See `Store.readPatch`. */
  read(id: number): Patch | null {
    if (this.patchedBytes === NO_PATCH) return null;
    const { patch } = this;
    const { entry } = patch;
    this.entries.read(id, entry);
    entry.setValue(entry.value, entry.valueOffset + patch.at, this.patchedBytes);
    return patch;
  }

  /**
   * Replaces entry `id` by one of this node that differs in `length` bytes from `at` on. Of
   * `previous`, what it was, only the version and the length of the value count.
   */
  replaceWithin(id: number, previous: Entry, entry: Entry, at: number, length: number): Outcome {
    const { entries, patch } = this;
    if (previous.valueLength < LONG_STRING_BYTES)
      return entries.replace(id, entry, true, CHANGED_VALUE);
    copyVersion(previous, patch.previous);
    patch.at = at;
    this.patchedBytes = length;
    const outcome = entries.replace(id, entry, true, CHANGED_VALUE);
    this.patchedBytes = NO_PATCH;
    return outcome;
  }

  /** Changes entry `id` again, if it is in exactly the version that was changed. */
  repeat(id: number, { entry, at, previous, hasExpiry }: Patch): void {
    const { entries, present, patched } = this;
    if (!entries.readToWrite(id, present)) return;
    if (present.kind !== KIND_STRING || compareVersions(present, previous) !== 0) return;
    if (at + entry.valueLength > present.valueLength) return;
    const { value, valueOffset, valueLength } = present;
    copyBytes(entry.value, entry.valueOffset, entry.valueLength, value, valueOffset + at);
    patched.kind = KIND_STRING;
    patched.setKey(entry.key, entry.keyOffset, entry.keyLength);
    patched.setValue(value, valueOffset, valueLength);
    copyVersion(entry, patched);
    if (hasExpiry) patched.setExpiry(entry.expiresAtMs);
    else setExpiryOf(patched, present);
    entries.replace(id, patched, false, CHANGED_VALUE);
  }
}
