/**
 * The keys of entries, read and compared where they lie in the arena: for the hash index and the
 * order, which know entries by their ids.
 */
import { offsetOf, slabOf, type Arena } from "./arena.ts";
import {
  FACTS,
  HASH,
  LONGEST_SHORT_KEY,
  ROW_WORDS,
  SHORT_KEY_MASK,
  keyLengthAt,
  keyOffset,
  referenceAt,
} from "./entry-layout.ts";
import { CHUNK_BITS, CHUNK_MASK, type EntryRows } from "./entry-rows.ts";
import type { IndexedKeys } from "./hash-index.ts";
import { prefix32, type KeySlice, type KeySource } from "./key-order.ts";
import { compareBytes } from "../data/entry.ts";

/** Keys by id. */
export class EntryKeys implements IndexedKeys, KeySource {
  private readonly chunks: readonly Uint32Array[];

  constructor(
    private readonly rows: EntryRows,
    private readonly arena: Arena,
  ) {
    this.chunks = rows.chunks;
  }

  /** The hash the entry was created with. */
  hashOf(id: number): number {
    return this.rows.hashOf(id);
  }

  /** Whether the entry was created with this hash, and its key equals these bytes. */
  matches(id: number, hash: number, key: Uint8Array, offset: number, length: number): boolean {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    if (row[at + HASH] !== hash) return false;
    if ((facts & SHORT_KEY_MASK) !== (length > LONGEST_SHORT_KEY ? 0 : length)) return false;
    const reference = referenceAt(row, at);
    if (length > LONGEST_SHORT_KEY && keyLengthAt(facts, reference, this.arena) !== length)
      return false;
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    for (let i = 0; i < length; i++) {
      if (bytes[start + i] !== key[offset + i]) return false;
    }
    return true;
  }

  /** Lexicographic order of the entry's key and these bytes. */
  compareToKey(id: number, key: Uint8Array, offset: number, length: number): number {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const reference = referenceAt(row, at);
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    return compareBytes(
      bytes,
      start,
      keyLengthAt(facts, reference, this.arena),
      key,
      offset,
      length,
    );
  }

  /** Points `into` at the entry's key. Valid until the next write. */
  locateKey(id: number, into: KeySlice): void {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const reference = referenceAt(row, at);
    into.bytes = this.arena.bytes[slabOf(reference)];
    into.offset = offsetOf(reference) + keyOffset(facts);
    into.length = keyLengthAt(facts, reference, this.arena);
  }

  /**
   * Four key bytes from position `skip` on, big-endian, zeros past the end, top bit
   * flipped: a signed integer in the order of the bytes (see `KeySource`).
   */
  prefix32(id: number, skip: number): number {
    const row = this.chunks[id >>> CHUNK_BITS];
    const at = (id & CHUNK_MASK) * ROW_WORDS;
    const facts = row[at + FACTS];
    const reference = referenceAt(row, at);
    const bytes = this.arena.bytes[slabOf(reference)];
    const start = offsetOf(reference) + keyOffset(facts);
    return prefix32(bytes, start, keyLengthAt(facts, reference, this.arena), skip);
  }
}
