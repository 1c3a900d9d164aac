/**
 * Makes one digest of the digests of several entries: SHA-256 over all of them in ascending order.
 *
 * Their sum or XOR would need no order, and no walk over what did not change, but it would not be
 * safe. Who chooses what is written chooses the digests too. To find a few hundred digests of 128
 * bits whose XOR is the same as that of others is linear algebra; for the sum it is hardly more
 * difficult (Wagner, "A Generalized Birthday Problem", 2002). What would be safe, a sum of vectors
 * of 2 KB (LtHash) or a product modulo a number of 3,072 bits (MSet-Mu-Hash), would need more
 * memory for a bucket than the bucket itself.
 */
import { DIGEST_BYTES } from "./record-digest.ts";

/** A digest in the tree has this many words of 32 bits. Nobody can make 128 bits collide. */
export const DIGEST_WORDS = 4;

/** Distances of Shell's sort; sorts a few dozen as fast as a call, and a few hundred in 20 µs. */
const GAPS = [301, 132, 57, 23, 10, 4, 1];
const FEW = 24;

/** A list to be filled, hashed and filled again. */
export class DigestList {
  count = 0;
  private words = new Uint32Array(64 * DIGEST_WORDS);
  private sorted = new Uint32Array(this.words.length);
  private order = new Uint32Array(64);
  /**
   * Views of the first n digests of `sorted` as bytes. Each is made once, because to make one costs
   * a third of a hash.
   */
  private views: Uint8Array[] = [];
  private readonly digest = new Uint8Array(DIGEST_BYTES);
  private readonly digestWords = new Uint32Array(this.digest.buffer);

  /** Appends the digest that lies in `words` at `at`. */
  add(words: Uint32Array, at: number): void {
    if (this.count === this.order.length) this.grow();
    const to = this.count * DIGEST_WORDS;
    for (let i = 0; i < DIGEST_WORDS; i++) this.words[to + i] = words[at + i];
    this.order[this.count] = this.count++;
  }

  /**
   * Writes the one digest of them to `at` in `out`, zeros when there are none, and empties the
   * list.
   */
  hash(out: Uint32Array, at: number): void {
    const { count, digestWords } = this;
    this.count = 0;
    if (count === 0) {
      for (let word = 0; word < DIGEST_WORDS; word++) out[at + word] = 0;
      return;
    }
    this.sort(count);
    for (let i = 0; i < count; i++) {
      const from = this.order[i] * DIGEST_WORDS;
      const to = i * DIGEST_WORDS;
      for (let word = 0; word < DIGEST_WORDS; word++)
        this.sorted[to + word] = this.words[from + word];
    }
    Bun.SHA256.hash((this.views[count] ??= this.view(count)), this.digest);
    for (let word = 0; word < DIGEST_WORDS; word++) out[at + word] = digestWords[word];
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return this.words.byteLength * 2 + this.order.byteLength;
  }

  private sort(count: number): void {
    const { order, words } = this;
    for (let g = count > FEW ? 0 : GAPS.length - 1; g < GAPS.length; g++) {
      const gap = GAPS[g];
      for (let i = gap; i < count; i++) {
        const one = order[i];
        const first = words[one * DIGEST_WORDS];
        let at = i;
        for (; at >= gap; at -= gap) {
          const other = order[at - gap];
          const otherFirst = words[other * DIGEST_WORDS];
          if (otherFirst < first || (otherFirst === first && !this.isBehind(other, one))) break;
          order[at] = other;
        }
        order[at] = one;
      }
    }
  }

  /** Whether the first of two digests, which have the same first word, comes after the second. */
  private isBehind(one: number, other: number): boolean {
    for (let word = 1; word < DIGEST_WORDS; word++) {
      const a = this.words[one * DIGEST_WORDS + word];
      const b = this.words[other * DIGEST_WORDS + word];
      if (a !== b) return a > b;
    }
    return false;
  }

  private view(count: number): Uint8Array {
    return new Uint8Array(this.sorted.buffer, 0, count * DIGEST_WORDS * 4);
  }

  private grow(): void {
    const { words, order } = this;
    this.words = new Uint32Array(words.length * 2);
    this.words.set(words);
    this.sorted = new Uint32Array(words.length * 2);
    this.order = new Uint32Array(order.length * 2);
    this.order.set(order);
    this.views = [];
  }
}
