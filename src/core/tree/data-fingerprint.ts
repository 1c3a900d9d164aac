/**
 * The fingerprint that `HASH` prints. It depends on keys and values alone, so that any two nodes,
 * of any implementation, can be compared by eye.
 *
 *   leaf = SHA-256(u32be key length, key, u32be value length, value), in lexicographic order of
 *   keys parent = SHA-256(left, right); the odd last node of a level moves up unchanged no leaves:
 *   32 zero bytes
 *
 * Leaves stream in. Only the roots of complete subtrees are kept, one for each bit that is set in
 * the number of leaves: for a thousand million keys that is at most 30.
 */
import type { Entry } from "../data/entry.ts";
import { DIGEST_BYTES } from "./record-digest.ts";

/** A tree of 2^53 leaves has no more levels. */
const MAX_LEVELS = 54;
/** Records up to this are put together in one buffer, longer ones hashed where they lie. */
const SMALL_BYTES = 1024;

/** Takes leaves in order, then gives the root. */
export class DataFingerprint {
  private leaves = 0;
  /** The roots of complete subtrees, the largest first, and room for one more. */
  private readonly stack = new Uint8Array((MAX_LEVELS + 1) * DIGEST_BYTES);
  private depth = 0;
  /**
   * Views of `stack`, one root and two each, and the first n bytes of `scratch`: made once, as a
   * fresh one costs as much as a third of a hash, and has to be collected.
   */
  private readonly nodes = Array.from({ length: MAX_LEVELS + 1 }, (_, i) => this.roots(i, 1));
  private readonly pairs = Array.from({ length: MAX_LEVELS }, (_, i) => this.roots(i, 2));
  private readonly firstBytes: Uint8Array[] = [];
  private readonly scratch = new Uint8Array(SMALL_BYTES);
  private readonly scratchView = new DataView(this.scratch.buffer);

  /** Adds the next leaf. A counter's value must be its decimal text, as clients see it. */
  add(entry: Entry): void {
    this.hashLeaf(entry, this.nodes[this.depth++]);
    this.leaves++;
    // Two subtrees of the same size become one, as a carry does in a binary counter.
    for (let bit = 1; this.leaves % (bit * 2) === 0; bit *= 2) this.joinLastTwo();
  }

  /** The 32-byte root. No leaf may be added afterwards. */
  root(): Uint8Array {
    if (this.leaves === 0) return new Uint8Array(DIGEST_BYTES);
    while (this.depth > 1) this.joinLastTwo();
    return this.nodes[0].slice();
  }

  private hashLeaf(entry: Entry, out: Uint8Array): void {
    const { key, keyOffset, keyLength, value, valueOffset, valueLength } = entry;
    const { scratch, scratchView } = this;
    const length = 8 + keyLength + valueLength;
    scratchView.setUint32(0, keyLength);
    if (length <= SMALL_BYTES) {
      let at = 4;
      for (let i = 0; i < keyLength; i++) scratch[at++] = key[keyOffset + i];
      scratchView.setUint32(at, valueLength);
      at += 4;
      for (let i = 0; i < valueLength; i++) scratch[at++] = value[valueOffset + i];
      Bun.SHA256.hash((this.firstBytes[length] ??= scratch.subarray(0, length)), out);
      return;
    }
    scratchView.setUint32(4, valueLength);
    new Bun.SHA256()
      .update(scratch.subarray(0, 4))
      .update(key.subarray(keyOffset, keyOffset + keyLength))
      .update(scratch.subarray(4, 8))
      .update(value.subarray(valueOffset, valueOffset + valueLength))
      .digest(out);
  }

  private joinLastTwo(): void {
    const first = this.depth - 2;
    Bun.SHA256.hash(this.pairs[first], this.nodes[first]);
    this.depth--;
  }

  private roots(first: number, count: number): Uint8Array {
    return this.stack.subarray(first * DIGEST_BYTES, (first + count) * DIGEST_BYTES);
  }
}
