/**
 * Everything that is left to chance in a simulation. A draw follows from the seed, from who draws,
 * from the moment, and from how many that one has drawn in that moment, and from nothing else. So
 * what happens elsewhere changes no draw: a failing seed from which something was left out goes on
 * as before wherever that did not matter, which is what lets it be made small (`shrink.ts`).
 */

/** Draws of one kind. The same seed, name and moments make the same draws. */
export class Chance {
  private readonly start: number;
  private momentMs = NaN;
  private state = 0;

  /** `nowMs` tells the moment; by default there is only one, and all draws follow each other. */
  constructor(
    seed: number,
    name: string,
    private readonly nowMs: () => number = () => 0,
  ) {
    const named = Bun.hash.xxHash32(name, seed >>> 0);
    this.start = mix(named ^ Math.floor(seed / 0x1_0000_0000));
  }

  /** From 0 to below 1. */
  readonly next = (): number => {
    const nowMs = this.nowMs();
    if (nowMs !== this.momentMs) {
      this.momentMs = nowMs;
      float[0] = nowMs;
      this.state = mix(mix(this.start ^ words[0]) ^ words[1]);
    }
    this.state = (this.state + 0x9e37_79b9) >>> 0;
    return mix(this.state) / 0x1_0000_0000;
  };

  /** An integer from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** An integer from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with this probability. */
  happens(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of these. */
  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }

  /** From `low` to `high`, small ones as likely as large ones (log-uniform), an integer. */
  magnitude(low: number, high: number): number {
    return Math.floor(low * (high / low) ** this.next());
  }
}

const float = new Float64Array(1);
const words = new Uint32Array(float.buffer);

/** Spreads 32 bits over 32 bits (the last step of MurmurHash3). */
function mix(bits: number): number {
  let mixed = Math.imul(bits ^ (bits >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
