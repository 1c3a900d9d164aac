/**
 * SHA-256 of an entry, and of its key, as the Merkle tree sees them. The canonical bytes of an
 * entry, all integers big-endian:
 *
 *   the cluster's tree key, 16 bytes · kind u8 · expiry u64 (Unix ms, 0 for never) · version of the
 *   value 16 bytes · version of the expiry 16 bytes, zeros when it is that of the base · key length
 *   u32 · key · value length u32 · value
 *
 * and those of a key: the cluster's tree key · key.
 *
 * Two entries that `merge.ts` holds to be the same must have the same digest, or two nodes would
 * differ for ever; so when a node learned of a death is not in it. And two nodes must not differ by
 * which of them has noticed first that something expired. So a string with an expiry counts as a
 * husk from the beginning: its version stands for its value, as no two writes have the same. What a
 * node let go of too early it does miss, and a husk whose time is not over counts as one of another
 * kind, MISSING. An expired counter keeps its parts, and counts as before.
 *
 * The tree key is the same on both sides of a comparison. Who does not know it can neither aim at a
 * bucket nor make digests collide. In a cluster with a secret it follows from that; without one it
 * follows from the cluster's name, and is no secret: who knows the name can fill a bucket on
 * purpose, and then what that costs is bounded by dividing the bucket (`merkle-buckets.ts`). A
 * collision of 128 bits is beyond anybody with or without it.
 */

import { KIND_HUSK, KIND_STRING, type Entry, type VersionWords } from "../data/entry.ts";

/** Length of a SHA-256 digest in bytes. */
export const DIGEST_BYTES = 32;
/** Length of a tree key in bytes. */
export const TREE_KEY_BYTES = 16;

const FIXED_BYTES = TREE_KEY_BYTES + 49;
/** In the place of the kind of an entry whose value is missed. */
const MISSING = 255;
/** Records up to this are put together in one buffer, longer ones hashed where they lie. */
const SMALL_BYTES = 1024;

/** Names the tree key that follows from the cluster's name; others go by the ids of secrets. */
export const KEYED_BY_NAME = "";

/** The tree key that follows from a cluster's name. */
export function treeKeyOf(cluster: string): Uint8Array {
  const digest = new Uint8Array(DIGEST_BYTES);
  Bun.SHA256.hash(`MerkleKV tree ${cluster}`, digest);
  return digest.subarray(0, TREE_KEY_BYTES);
}

/** Digests under one tree key. */
export class RecordDigester {
  /** Begins with the tree key. */
  private readonly scratch = new Uint8Array(SMALL_BYTES);
  private readonly view = new DataView(this.scratch.buffer);
  /**
   * The first n bytes of `scratch`, made once each: a fresh view costs as much as a third of a
   * hash.
   */
  private readonly firstBytes: Uint8Array[] = [];

  /** `treeKey` has TREE_KEY_BYTES. */
  constructor(treeKey: Uint8Array) {
    this.scratch.set(treeKey);
  }

  /**
   * Writes the 32-byte digest of an entry's canonical bytes into `out`, which is that long.
   * `isMissing`: it is a husk, and its time is not over.
   */
  ofEntry(entry: Entry, out: Uint8Array, isMissing = false): void {
    const { scratch, view } = this;
    const { key, keyOffset, keyLength, value, valueOffset } = entry;
    const { kind, expiresAtMs } = entry;
    const ends = kind === KIND_STRING && expiresAtMs !== 0;
    const valueLength = ends ? 0 : entry.valueLength;
    let at = TREE_KEY_BYTES;
    scratch[at] = isMissing ? MISSING : ends ? KIND_HUSK : kind;
    view.setUint32(at + 1, Math.floor(expiresAtMs / 0x1_0000_0000));
    view.setUint32(at + 5, expiresAtMs >>> 0);
    this.writeVersion(at + 9, entry);
    this.writeVersion(at + 25, entry.expiryVersion);
    view.setUint32(at + 41, keyLength);
    at += 45;
    const length = FIXED_BYTES + keyLength + valueLength;
    if (length <= SMALL_BYTES) {
      for (let i = 0; i < keyLength; i++) scratch[at++] = key[keyOffset + i];
      view.setUint32(at, valueLength);
      at += 4;
      for (let i = 0; i < valueLength; i++) scratch[at++] = value[valueOffset + i];
      Bun.SHA256.hash(this.first(length), out);
      return;
    }
    const hasher = new Bun.SHA256();
    hasher.update(this.first(at));
    hasher.update(key.subarray(keyOffset, keyOffset + keyLength));
    view.setUint32(at, valueLength);
    hasher.update(scratch.subarray(at, at + 4));
    hasher.update(value.subarray(valueOffset, valueOffset + valueLength));
    hasher.digest(out);
  }

  /** Writes the 32-byte digest of an entry's key into `out`. */
  ofKey({ key, keyOffset, keyLength }: Entry, out: Uint8Array): void {
    const { scratch } = this;
    const length = TREE_KEY_BYTES + keyLength;
    if (length <= SMALL_BYTES) {
      for (let i = 0; i < keyLength; i++) scratch[TREE_KEY_BYTES + i] = key[keyOffset + i];
      Bun.SHA256.hash(this.first(length), out);
      return;
    }
    const hasher = new Bun.SHA256();
    hasher.update(this.first(TREE_KEY_BYTES));
    hasher.update(key.subarray(keyOffset, keyOffset + keyLength));
    hasher.digest(out);
  }

  private writeVersion(at: number, version: VersionWords): void {
    const { view } = this;
    view.setUint32(at, version.timeHigh);
    view.setUint32(at + 4, version.timeLow);
    view.setUint32(at + 8, version.originHigh);
    view.setUint32(at + 12, version.originLow);
  }

  private first(length: number): Uint8Array {
    return (this.firstBytes[length] ??= this.scratch.subarray(0, length));
  }
}
