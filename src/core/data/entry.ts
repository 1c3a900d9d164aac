/**
 * The one thing everything is made of: an entry and its version.
 *
 * A client command, a replicated event, an anti-entropy repair and a log replay
 * all become an Entry and go through `Store.apply`. An Entry is a reusable view:
 * its key and value point into somebody's bytes and are valid only until that
 * somebody writes again, so the hot paths fill one Entry over and over instead
 * of making objects.
 */

/** A byte string. Last-write-wins applies to it as a whole. */
export const KIND_STRING = 0;
/** A deletion, kept so that a peer that missed it does not bring the key back. */
export const KIND_TOMBSTONE = 1;
/** A number that merges by origin; its value bytes are laid out in `counter.ts`. */
export const KIND_COUNTER = 2;
/**
 * A string that expired: its value was let go, to save memory, and everything else was kept. It is
 * no other state of the key than the string, only less knowledge of it.
 */
export const KIND_HUSK = 3;

/**
 * A value of a kind that only later versions of the program know. Its bytes begin with the number
 * of that kind, FIRST_OTHER_KIND at least, and mean nothing here: it is kept, merged by its version
 * and passed on as it is, and clients are told that they have to ask another node.
 */
export const KIND_OTHER = 4;

/** The first number that a kind may have of which this version does not know. */
export const FIRST_OTHER_KIND = 5;

/** One of the five KIND_ constants. */
export type Kind = 0 | 1 | 2 | 3 | 4;

/** The longest key, in bytes (64 KiB). */
export const MAX_KEY_BYTES = 65_536;

/** The largest expiry time, in Unix milliseconds: 48 bits, as in a version. */
export const MAX_EXPIRES_AT_MS = 2 ** 48 - 1;

/**
 * A key-value pair: a value register and an expiry register, each with the version that decides
 * who wins a merge (`merge.ts`).
 */
export class Entry {
  /** The buffer the key lies in. */
  key: Uint8Array = EMPTY;
  /** Where the key starts in `key`. */
  keyOffset = 0;
  /** Length of the key in bytes, 1 to MAX_KEY_BYTES. */
  keyLength = 0;

  kind: Kind = KIND_STRING;

  /** The buffer the value lies in. */
  value: Uint8Array = EMPTY;
  /** Where the value starts in `value`. */
  valueOffset = 0;
  /** Length of the value in bytes; 0 for a tombstone and a husk. */
  valueLength = 0;

  // The version of the value.

  /** Hybrid logical clock, upper 32 bits (see `clock.ts`). */
  timeHigh = 0;
  /** Hybrid logical clock, lower 32 bits. */
  timeLow = 0;
  /** Origin, upper 32 bits: who wrote this version. */
  originHigh = 0;
  /** Origin, lower 32 bits. */
  originLow = 0;

  /** Unix milliseconds from which the entry counts as expired; 0 means never. */
  expiresAtMs = 0;
  /**
   * The version of the expiry. Zeros when it is that of the base (see `merge.ts`), as it is for
   * what SET wrote and nobody gave another expiry since. Set it by `setExpiry`, read it by
   * `expiryVersionOf`.
   */
  readonly expiryVersion: VersionWords = newVersion();

  /**
   * Unix milliseconds when this node learned that the key is dead, if that was later than it died;
   * 0 if not. Each node's own: merging pays no heed to it.
   */
  learnedMs = 0;

  /** Where a store writes a value out that it keeps in another form; its own, made when needed. */
  room: Uint8Array | null = null;

  /** Points the key at `length` bytes of `bytes`, all of them by default. */
  setKey(bytes: Uint8Array, offset = 0, length = bytes.length): this {
    this.key = bytes;
    this.keyOffset = offset;
    this.keyLength = length;
    return this;
  }

  /** Points the value at `length` bytes of `bytes`, all of them by default. */
  setValue(bytes: Uint8Array, offset = 0, length = bytes.length): this {
    this.value = bytes;
    this.valueOffset = offset;
    this.valueLength = length;
    return this;
  }

  /** Sets the version. All four words are unsigned 32-bit. */
  setVersion(timeHigh: number, timeLow: number, originHigh: number, originLow: number): this {
    this.timeHigh = timeHigh;
    this.timeLow = timeLow;
    this.originHigh = originHigh;
    this.originLow = originLow;
    return this;
  }

  /** Sets an expiry of the same version as the base; 0 means never. */
  setExpiry(expiresAtMs: number): this {
    this.expiresAtMs = expiresAtMs;
    this.expiryVersion.timeHigh = this.expiryVersion.timeLow = 0;
    this.expiryVersion.originHigh = this.expiryVersion.originLow = 0;
    return this;
  }

  /** Points key and value at those of another entry, and makes all else the same. */
  pointAt(other: Entry): this {
    this.setKey(other.key, other.keyOffset, other.keyLength);
    this.setValue(other.value, other.valueOffset, other.valueLength);
    this.setVersion(other.timeHigh, other.timeLow, other.originHigh, other.originLow);
    this.kind = other.kind;
    this.expiresAtMs = other.expiresAtMs;
    copyVersion(other.expiryVersion, this.expiryVersion);
    this.learnedMs = other.learnedMs;
    return this;
  }

  /** A fresh copy of the key's bytes. Not for hot paths. */
  keyBytes(): Uint8Array {
    return this.key.slice(this.keyOffset, this.keyOffset + this.keyLength);
  }

  /** A fresh copy of the value's bytes. Not for hot paths. */
  valueBytes(): Uint8Array {
    return this.value.slice(this.valueOffset, this.valueOffset + this.valueLength);
  }

  /** A copy that owns its bytes, for whoever has to keep an entry. */
  clone(): Entry {
    const copy = new Entry().pointAt(this);
    copy.setKey(this.keyBytes()).setValue(this.valueBytes());
    return copy;
  }
}

const EMPTY = new Uint8Array(0);

/** A version: a hybrid time, then an origin, in unsigned 32-bit words. An entry is one, too. */
export interface VersionWords {
  timeHigh: number;
  timeLow: number;
  originHigh: number;
  originLow: number;
}

/** A version of zeros, which is below every version. */
export function newVersion(): VersionWords {
  return { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
}

/** Makes one version the same as another. */
export function copyVersion(from: Readonly<VersionWords>, to: VersionWords): void {
  to.timeHigh = from.timeHigh;
  to.timeLow = from.timeLow;
  to.originHigh = from.originHigh;
  to.originLow = from.originLow;
}

/** Whether a version is the one of zeros. */
export function isNoVersion({ timeHigh, timeLow }: Readonly<VersionWords>): boolean {
  return timeHigh === 0 && timeLow === 0;
}

/**
 * Total order of versions: time first, then origin. Negative when a is older,
 * 0 when equal, positive when a is newer.
 */
export function compareVersions(a: Readonly<VersionWords>, b: Readonly<VersionWords>): number {
  if (a.timeHigh !== b.timeHigh) return a.timeHigh < b.timeHigh ? -1 : 1;
  if (a.timeLow !== b.timeLow) return a.timeLow < b.timeLow ? -1 : 1;
  if (a.originHigh !== b.originHigh) return a.originHigh < b.originHigh ? -1 : 1;
  if (a.originLow !== b.originLow) return a.originLow < b.originLow ? -1 : 1;
  return 0;
}

const copyNatively = Buffer.prototype.copy;
/** Up to these lengths going byte by byte beats a native call. */
const LOOP_COPY_BYTES = 24;
const LOOP_COMPARE_BYTES = 64;

/** Copies `length` bytes, most often a few. The ranges do not overlap. */
export function copyBytes(
  from: Uint8Array,
  fromOffset: number,
  length: number,
  to: Uint8Array,
  toOffset: number,
): void {
  if (length <= LOOP_COPY_BYTES) {
    for (let i = 0; i < length; i++) to[toOffset + i] = from[fromOffset + i];
  } else {
    // Without a view of what is copied, which would take as long as to copy 1 KB, and be garbage.
    copyNatively.call(from, to, toOffset, fromOffset, fromOffset + length);
  }
}

/** Whether `length` bytes of `a` from `offset` on are the first of `b`. */
export function equalBytes(a: Uint8Array, offset: number, b: Uint8Array, length: number): boolean {
  if (length <= LOOP_COMPARE_BYTES) return compareBytes(a, offset, length, b, 0, length) === 0;
  return Buffer.compare(a.subarray(offset, offset + length), b.subarray(0, length)) === 0;
}

/**
 * Lexicographic order of two byte ranges (unsigned bytes, a prefix sorts first).
 * Negative, 0 or positive.
 */
export function compareBytes(
  a: Uint8Array,
  aOffset: number,
  aLength: number,
  b: Uint8Array,
  bOffset: number,
  bLength: number,
): number {
  const shared = aLength < bLength ? aLength : bLength;
  for (let i = 0; i < shared; i++) {
    const difference = a[aOffset + i] - b[bOffset + i];
    if (difference !== 0) return difference;
  }
  return aLength - bLength;
}
