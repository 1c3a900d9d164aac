/**
 * Coded symbols of a sketch: sums over buckets, from which the few buckets that differ between two
 * nodes can be found. Each bucket has a value of 48 bits: its digest cut short under the session's
 * salt, or 0 when it is empty. A symbol is a sum over the buckets that belong to it, and addition
 * is XOR:
 *
 *   the sum of the values, 6 bytes · the sum of (bucket × value), 6 bytes: each of the three parts
 *   of 16 bits of a value is multiplied in GF(2^16)
 *
 * The sum of one node's symbol and the other's depends on those buckets alone that differ. If there
 * is just one of them in it, its number is the quotient of the two sums, in all three parts; by
 * chance that looks so once in 2^32 times. So there is one unknown for each bucket that differs,
 * and not one for each node's value of it.
 *
 * Which buckets belong to which symbols is the mapping of Yang, Gilad, Alizadeh, "Practical
 * Rateless Set Reconciliation" (SIGCOMM 2024): to symbol j with probability 1 / (1 + j / 2), by
 * jumps that a small generator draws, seeded by bucket and salt. The symbols are a stream without
 * an end, each longer beginning of which finds more: about 1.36 of them are needed for each bucket
 * that differs, where those are many, and up to 1.75 where they are few.
 */
import { Field } from "./gf16.ts";

/** Length of a symbol as it travels. */
export const SYMBOL_BYTES = 12;

const TWO_TO_16 = 0x1_0000;

/** Mixes the bits of a number under a key, both of 32 bits: a bijection (MurmurHash3, twice). */
export function mixed(value: number, key: number): number {
  let mix = value ^ key;
  for (let round = 0; round < 2; round++) {
    mix = Math.imul(mix ^ (mix >>> 16), 0x85ebca6b);
    mix = Math.imul(mix ^ (mix >>> 13), 0xc2b2ae35);
    mix = (mix ^ (mix >>> 16)) + key;
  }
  return mix | 0;
}

/** Symbols from the first on, or what two nodes' symbols differ by. */
export class CodedSymbols {
  /** How many there are. */
  count = 0;
  /** Of each symbol's sum of values the lower 32 bits, and the upper 16. */
  low = new Uint32Array(64);
  high = new Uint16Array(64);
  /** The same of its sum of products, each part where the one that was multiplied is. */
  lowProducts = new Uint32Array(64);
  highProducts = new Uint16Array(64);
  private readonly field = Field.get();

  /** `key`: 32 bits of the session's salt. */
  constructor(private readonly key: number) {}

  /** Makes more of them, which are 0. */
  grow(count: number): void {
    this.count = count;
    if (count <= this.low.length) return;
    const length = Math.max(count, 2 * this.low.length);
    this.low = lengthened(this.low, new Uint32Array(length));
    this.high = lengthened(this.high, new Uint16Array(length));
    this.lowProducts = lengthened(this.lowProducts, new Uint32Array(length));
    this.highProducts = lengthened(this.highProducts, new Uint16Array(length));
  }

  /**
   * Adds a bucket's value to those of the symbols from `from` to before `to` that it belongs to,
   * and lists them in `into`, from its beginning on, if given. Returns how many it listed.
   */
  add(
    bucket: number,
    low: number,
    high: number,
    from: number,
    to: number,
    into: Uint32Array | null = null,
  ): number {
    const { low: lows, high: highs, lowProducts, highProducts } = this;
    const lowProduct = this.lowProductOf(bucket, low);
    const highProduct = this.field.multiply(bucket, high);
    let listed = 0;
    let state = this.seedOf(bucket);
    for (let at = 0; at < to; at += jumpFrom(at, state)) {
      state = following(state);
      if (at < from) continue;
      lows[at] ^= low;
      highs[at] ^= high;
      lowProducts[at] ^= lowProduct;
      highProducts[at] ^= highProduct;
      if (into !== null) into[listed++] = at;
    }
    return listed;
  }

  /** Whether nothing, or an even number of the same, was added to a symbol. */
  isZero(at: number): boolean {
    const products = this.lowProducts[at] | this.highProducts[at];
    return (this.low[at] | this.high[at] | products) === 0;
  }

  /** The one bucket that was added to a symbol; -1 when it is not just one. */
  onlyBucketOf(at: number): number {
    const { field } = this;
    const [low, high] = [this.low[at], this.high[at]];
    // A part that is 0 has no quotient. That two are happens to one bucket in 2^32; then the sketch
    // fails.
    const bucket =
      (low & 0xffff) !== 0
        ? field.divide(this.lowProducts[at] & 0xffff, low & 0xffff)
        : high !== 0
          ? field.divide(this.highProducts[at], high)
          : -1;
    const isIt =
      bucket >= 0 &&
      this.lowProductOf(bucket, low) === this.lowProducts[at] &&
      field.multiply(bucket, high) === this.highProducts[at] &&
      this.belongs(bucket, at);
    return isIt ? bucket : -1;
  }

  private belongs(bucket: number, symbol: number): boolean {
    let state = this.seedOf(bucket);
    let at = 0;
    while (at < symbol) {
      state = following(state);
      at += jumpFrom(at, state);
    }
    return at === symbol;
  }

  /** The products of a bucket with the two parts of a value that are its lower 32 bits. */
  private lowProductOf(bucket: number, low: number): number {
    const upper = this.field.multiply(bucket, low >>> 16);
    return ((upper << 16) | this.field.multiply(bucket, low & 0xffff)) >>> 0;
  }

  private seedOf(bucket: number): number {
    return mixed(bucket, this.key) || 1;
  }
}

/** The generator: xorshift of 32 bits (Marsaglia 2003). */
function following(state: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  return state ^ (state << 5);
}

/**
 * From one symbol of a bucket to the next. The same everywhere: a square root is rounded exactly.
 */
function jumpFrom(at: number, state: number): number {
  return Math.ceil((at + 1.5) * (TWO_TO_16 / Math.sqrt((state >>> 0) + 1) - 1)) || 1;
}

function lengthened<T extends Uint32Array | Uint16Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
