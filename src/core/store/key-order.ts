/**
 * Keys as the ordered structures see them: named by entry id, compared in place,
 * never copied.
 */

/** Where a key lies. */
export class KeySlice {
  bytes: Uint8Array = EMPTY;
  offset = 0;
  /** In bytes. */
  length = 0;
}

/** What an ordered structure needs to know of the keys behind ids. */
export interface KeySource {
  /** Points `into` at an entry's key; good until the entry changes. */
  locateKey(id: number, into: KeySlice): void;
  /** Order of an entry's key against the given one: negative, 0 or positive, as `compareBytes`. */
  compareToKey(id: number, key: Uint8Array, offset: number, length: number): number;
  /** `prefix32` of an entry's key. */
  prefix32(id: number, skip: number): number;
}

/**
 * The four bytes from position `skip` of a key, big-endian, zeros past its end,
 * the top bit flipped: a signed 32-bit number that orders as the bytes do. `skip`
 * may lie beyond the key.
 */
export function prefix32(key: Uint8Array, offset: number, length: number, skip: number): number {
  const left = length - skip;
  const at = offset + skip;
  let word = 0;
  if (left > 3) word = (key[at] << 24) | (key[at + 1] << 16) | (key[at + 2] << 8) | key[at + 3];
  else if (left > 0) {
    word = key[at] << 24;
    if (left > 1) word |= key[at + 1] << 16;
    if (left > 2) word |= key[at + 2] << 8;
  }
  return word ^ 0x8000_0000;
}

/** How many 32-bit words of the key a `KeyProbe` holds ready. */
export const PROBE_WORDS = 8;

/** The key that is being looked for: that of an entry, or one in a buffer. */
export class KeyProbe {
  /** The key's first PROBE_WORDS * 4 bytes, as `prefix32` gives them. */
  readonly words = new Int32Array(PROBE_WORDS);
  private readonly key = new KeySlice();

  constructor(private readonly keys: KeySource) {}

  /** Looks for an entry's key. */
  setId(id: number): void {
    this.keys.locateKey(id, this.key);
    this.fillWords();
  }

  /** Looks for the key at `offset` in a buffer, which must not change meanwhile. */
  setKey(bytes: Uint8Array, offset: number, length: number): void {
    this.key.bytes = bytes;
    this.key.offset = offset;
    this.key.length = length;
    this.fillWords();
  }

  /** Order of the key looked for against an entry's. */
  compareTo(id: number): number {
    const { bytes, offset, length } = this.key;
    return -this.keys.compareToKey(id, bytes, offset, length);
  }

  /** `prefix32` of the key looked for. */
  prefix32(skip: number): number {
    const { bytes, offset, length } = this.key;
    return prefix32(bytes, offset, length, skip);
  }

  private fillWords(): void {
    const { bytes, offset, length } = this.key;
    const { words } = this;
    const filled = Math.min(PROBE_WORDS, (length + 3) >>> 2);
    for (let i = 0; i < filled; i++) words[i] = prefix32(bytes, offset, length, i * 4);
    for (let i = filled; i < PROBE_WORDS; i++) words[i] = NO_BYTES;
  }
}

/** `prefix32` beyond a key's end. */
const NO_BYTES = 0x8000_0000 | 0;

const EMPTY = new Uint8Array(0);
