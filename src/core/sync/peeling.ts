/**
 * Finds the buckets that differ between two nodes from what their coded symbols differ by: takes
 * one out of a symbol that has just this one, then out of all others that it belongs to, which may
 * leave just one in those, and so on.
 *
 * Once in 2^32 looks several look like one, and then it may go round in circles until it is given
 * up. It is complete when all symbols are 0, and not before.
 */
import { BUCKETS } from "../tree/digest-tree.ts";
import type { CodedSymbols } from "./coded-symbols.ts";

/** So many symbols are looked at before the clock is. */
const SYMBOLS_A_LOOK = 64;
/** No bucket belongs to more of the symbols that there may be, but for once in 1e9 times. */
const MAX_SYMBOLS_OF_BUCKET = 256;

/** See the file header. */
export class Peeling {
  /** The buckets taken out, and by how much their values differ: lower 32 bits, upper 16. */
  private readonly buckets: number[] = [];
  private readonly low: number[] = [];
  private readonly high: number[] = [];
  /** Where a bucket is in these, and 1; else 0. */
  private readonly placeOf = new Uint16Array(BUCKETS);
  /** Symbols to be looked at in this round and in the next, and whether each is in the next. */
  private waiting: number[] = [];
  private changed: number[] = [];
  private isChanged = new Uint8Array(0);
  private readonly touched = new Uint32Array(MAX_SYMBOLS_OF_BUCKET);
  private known = 0;
  private taken = 0;
  private next = 0;

  constructor(private readonly symbols: CodedSymbols) {}

  /**
   * Does a piece of it; false when there is no more to do. When there are more symbols than before,
   * what was taken out of the others already is taken out of the new ones first.
   */
  work(): boolean {
    const { symbols, known } = this;
    if (known < symbols.count) {
      const end = Math.min(this.next + SYMBOLS_A_LOOK, this.buckets.length);
      for (; this.next < end; this.next++) {
        const [low, high] = [this.low[this.next], this.high[this.next]];
        symbols.add(this.buckets[this.next], low, high, known, symbols.count);
      }
      if (this.next === this.buckets.length) this.lookAtNew();
      return true;
    }
    if (this.waiting.length === 0) this.beginRound();
    for (let looks = 0; looks < SYMBOLS_A_LOOK && this.waiting.length > 0; looks++) this.lookAt();
    return this.waiting.length + this.changed.length > 0 && this.taken <= 2 * symbols.count;
  }

  /** Whether all symbols are 0: then what was taken out is all that differs. */
  get isComplete(): boolean {
    const { symbols } = this;
    for (let at = 0; at < symbols.count; at++) if (!symbols.isZero(at)) return false;
    return true;
  }

  /** The buckets that differ, in ascending order. */
  differing(): number[] {
    const { buckets, low, high } = this;
    const differing = buckets.filter((_, i) => low[i] !== 0 || high[i] !== 0);
    return [...Uint16Array.from(differing).sort()];
  }

  /** What a bucket's value differs by, as lower 32 bits and upper 16; zeros when it does not. */
  differenceOf(bucket: number): readonly [low: number, high: number] {
    const place = this.placeOf[bucket];
    return place === 0 ? [0, 0] : [this.low[place - 1], this.high[place - 1]];
  }

  private lookAtNew(): void {
    const { symbols, known } = this;
    const isChanged = new Uint8Array(symbols.count);
    isChanged.set(this.isChanged);
    this.isChanged = isChanged;
    for (let at = known; at < symbols.count; at++) this.noteChanged(at);
    this.known = symbols.count;
    this.next = 0;
  }

  private beginRound(): void {
    [this.waiting, this.changed] = [this.changed, this.waiting];
    this.isChanged.fill(0);
  }

  private lookAt(): void {
    const { symbols } = this;
    const at = this.waiting.pop()!;
    const bucket = symbols.onlyBucketOf(at);
    if (bucket >= 0) this.takeOut(bucket, symbols.low[at], symbols.high[at]);
  }

  private takeOut(bucket: number, low: number, high: number): void {
    const { symbols, touched } = this;
    this.taken++;
    const place = this.placeOf[bucket] - 1;
    if (place < 0) {
      if (this.buckets.length === BUCKETS - 1) return;
      this.buckets.push(bucket);
      this.low.push(low);
      this.high.push(high);
      this.placeOf[bucket] = this.buckets.length;
    } else {
      this.low[place] = (this.low[place] ^ low) >>> 0;
      this.high[place] ^= high;
    }
    const count = symbols.add(bucket, low, high, 0, symbols.count, touched);
    for (let i = 0; i < count; i++) if (!symbols.isZero(touched[i])) this.noteChanged(touched[i]);
  }

  private noteChanged(symbol: number): void {
    if (this.isChanged[symbol] === 1) return;
    this.isChanged[symbol] = 1;
    this.changed.push(symbol);
  }
}
