/**
 * Numbers for origins, so that an entry need not hold the eight bytes of its own: few nodes and
 * runs have written what a store holds. The first MAX_ORIGINS that come get a number, which they
 * keep until `clear`; entries of any others hold their origins themselves.
 */

/** How many origins have numbers, at most. */
export const MAX_ORIGINS = 127;
/** Instead of a number. */
export const NO_NUMBER = -1;

const SLOTS = 256;

/** Origins by number, and numbers by origin. */
export class OriginTable {
  /** The upper words, by number. */
  readonly highs = new Uint32Array(MAX_ORIGINS);
  /** The lower words, by number. */
  readonly lows = new Uint32Array(MAX_ORIGINS);
  private count = 0;
  /** What was asked for last, which is most often what is asked for next. */
  private last = 0;
  /** Open addressing: a number plus one, 0 for none. */
  private readonly slots = new Uint8Array(SLOTS);

  /** The number of an origin, which is given one if there is any left; else NO_NUMBER. */
  numberOf(high: number, low: number): number {
    const { highs, lows, slots, last } = this;
    if (lows[last] === low && highs[last] === high && last < this.count) return last;
    let at = (low ^ high) & (SLOTS - 1);
    for (; slots[at] !== 0; at = (at + 1) & (SLOTS - 1)) {
      const number = slots[at] - 1;
      if (lows[number] === low && highs[number] === high) return (this.last = number);
    }
    if (this.count === MAX_ORIGINS) return NO_NUMBER;
    const number = this.count++;
    highs[number] = high;
    lows[number] = low;
    slots[at] = number + 1;
    return (this.last = number);
  }

  /** Takes all numbers back. */
  clear(): void {
    this.count = this.last = 0;
    this.slots.fill(0);
  }
}
