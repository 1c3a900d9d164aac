/**
 * Changes of strings that leave most of a string as it is: bytes put in the place of some of it.
 * As little as can be of the rest is moved, and of a long string the log need not write down more
 * than the change.
 *
 * Who reads the log does again what was done here. Bytes that come to lie elsewhere in a string
 * cost it time and the log nothing, so there is a share that both must keep: else a log of a few
 * megabytes could take hours.
 */
import { Entry, KIND_STRING, compareVersions, copyVersion } from "../data/entry.ts";
import { setExpiryOf } from "../data/merge.ts";
import { Patch } from "../data/patch.ts";
import type { KeyedEntries } from "./keyed-entries.ts";
import type { Outcome } from "./outcome.ts";

/** A string of this size is long. */
const LONG_STRING_BYTES = 1024;
/** How many bytes patches move, at most, for each byte of a string that is written whole. */
const MOVED_SHARE = 16;

/** The patches of one store. There is one at a time, while the observers are told of the change. */
export class StringPatches {
  private readonly patch = new Patch();
  private isPatching = false;
  /** Length of what was put in. */
  private patchedBytes = 0;
  /** What patches have moved that is not paid for by what was written whole. */
  private movedBytes = 0;
  private readonly present = new Entry();
  private readonly patched = new Entry();

  constructor(private readonly entries: KeyedEntries) {}

  /** See `Store.readPatch`. */
  read(id: number): Patch | null {
    if (!this.isPatching) return null;
    const { patch } = this;
    const { entry } = patch;
    this.entries.read(id, entry);
    entry.setValue(entry.value, entry.valueOffset + patch.at, this.patchedBytes);
    return patch;
  }

  /**
   * Puts the value of `entry`, a write of this node, in the place of `removed` bytes from `at` on
   * of string `id`. Of `previous`, what that was, only version and length of the value count.
   */
  splice(id: number, previous: Entry, entry: Entry, at: number, removed: number): Outcome {
    const { patch } = this;
    const { valueLength } = previous;
    const tailBytes = removed === entry.valueLength ? 0 : valueLength - at - removed;
    copyVersion(previous, patch.previous);
    patch.at = at;
    patch.removed = removed;
    this.patchedBytes = entry.valueLength;
    this.isPatching = this.isWorthIt(valueLength, tailBytes);
    const outcome = this.entries.splice(id, entry, at, removed, true);
    this.isPatching = false;
    return outcome;
  }

  /** Whether a change that moves so many bytes is to be written down as one. */
  private isWorthIt(valueLength: number, tailBytes: number): boolean {
    if (valueLength < LONG_STRING_BYTES) return false;
    const paidBytes = MOVED_SHARE * valueLength;
    const isPaid = tailBytes === 0 || this.movedBytes + tailBytes <= paidBytes;
    if (isPaid) this.movedBytes += tailBytes;
    else this.movedBytes = Math.max(0, this.movedBytes - paidBytes);
    return isPaid;
  }

  /** Changes entry `id` again, if it is in exactly the version that was changed. */
  repeat(id: number, { entry, at, removed, previous, hasExpiry }: Patch): void {
    const { entries, present, patched } = this;
    entries.read(id, present);
    if (present.kind !== KIND_STRING || compareVersions(present, previous) !== 0) return;
    if (at + removed > present.valueLength) return;
    patched.kind = KIND_STRING;
    patched.setKey(entry.key, entry.keyOffset, entry.keyLength);
    patched.setValue(entry.value, entry.valueOffset, entry.valueLength);
    copyVersion(entry, patched);
    if (hasExpiry) patched.setExpiry(entry.expiresAtMs);
    else setExpiryOf(patched, present);
    if (entries.splice(id, patched, at, removed, false) < 0)
      throw new Error("no memory for a patch");
  }
}
