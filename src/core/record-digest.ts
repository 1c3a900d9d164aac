/**
 * SHA-256 of an entry as the Merkle tree sees it. The canonical bytes, all integers
 * big-endian:
 *
 *   kind u8 · expiry u64 (Unix ms) · time u64 · origin u64 ·
 *   key length u32 · key · value length u32 · value
 *
 * Two entries that `merge.ts` holds to be the same must have the same digest, or two
 * nodes would differ for ever: a tombstone's expiry, to which merging pays no heed, counts
 * as 0. And a string with an expiry counts as the tombstone that it will turn into, with
 * the same version and no value, so that nodes do not differ by which of them expired it
 * first. Its version stands for its value: no two writes have the same.
 */

import { KIND_STRING, KIND_TOMBSTONE } from "./entry.ts";
import type { Entry } from "./entry.ts";

/** Length of a SHA-256 digest in bytes. */
export const DIGEST_BYTES = 32;

const FIXED_BYTES = 33;
/** Records up to this are put together in one buffer, longer ones hashed where they lie. */
const SMALL_BYTES = 1024;

const scratch = new Uint8Array(SMALL_BYTES);
const scratchView = new DataView(scratch.buffer);
/** The first n bytes of `scratch`, made once each: a fresh view costs as much as a third of a hash. */
const firstBytes: Uint8Array[] = [];

/** Writes the 32-byte digest of an entry's canonical bytes into `out`, which is that long. */
export function digestRecord(entry: Entry, out: Uint8Array): void {
  const { key, keyOffset, keyLength, value, valueOffset } = entry;
  const ends = entry.kind === KIND_STRING && entry.expiresAtMs !== 0;
  const kind = ends ? KIND_TOMBSTONE : entry.kind;
  const expiresAtMs = kind === KIND_TOMBSTONE ? 0 : entry.expiresAtMs;
  const valueLength = ends ? 0 : entry.valueLength;
  scratch[0] = kind;
  scratchView.setUint32(1, Math.floor(expiresAtMs / 0x1_0000_0000));
  scratchView.setUint32(5, expiresAtMs >>> 0);
  scratchView.setUint32(9, entry.timeHigh);
  scratchView.setUint32(13, entry.timeLow);
  scratchView.setUint32(17, entry.originHigh);
  scratchView.setUint32(21, entry.originLow);
  scratchView.setUint32(25, keyLength);
  const length = FIXED_BYTES + keyLength + valueLength;
  if (length <= SMALL_BYTES) {
    let at = 29;
    for (let i = 0; i < keyLength; i++) scratch[at++] = key[keyOffset + i];
    scratchView.setUint32(at, valueLength);
    at += 4;
    for (let i = 0; i < valueLength; i++) scratch[at++] = value[valueOffset + i];
    Bun.SHA256.hash(small(length), out);
  } else {
    const hasher = new Bun.SHA256();
    hasher.update(small(29));
    hasher.update(key.subarray(keyOffset, keyOffset + keyLength));
    scratchView.setUint32(0, valueLength);
    hasher.update(small(4));
    hasher.update(value.subarray(valueOffset, valueOffset + valueLength));
    hasher.digest(out);
  }
}

/** Writes the 32-byte SHA-256 of an entry's key into `out`. */
export function digestKey(entry: Entry, out: Uint8Array): void {
  const { key, keyOffset, keyLength } = entry;
  if (keyLength <= SMALL_BYTES) {
    for (let i = 0; i < keyLength; i++) scratch[i] = key[keyOffset + i];
    Bun.SHA256.hash(small(keyLength), out);
  } else Bun.SHA256.hash(key.subarray(keyOffset, keyOffset + keyLength), out);
}

function small(length: number): Uint8Array {
  return (firstBytes[length] ??= scratch.subarray(0, length));
}
