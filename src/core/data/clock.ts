/**
 * Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014).
 *
 * A timestamp is 64 bits: 48 bits of Unix milliseconds, then a 16-bit counter,
 * held as two unsigned 32-bit words because a JavaScript number is exact only to
 * 53 bits. `next` is above everything this clock gave out or observed, so a write
 * made after seeing another write always wins over it; and it stays as close to
 * real time as that allows. A counter that overflows carries into the
 * milliseconds, which is harmless.
 *
 * Invariant: (high, low) never decreases.
 */
export class HybridClock {
  /** Upper 32 bits of the last timestamp given out or observed. */
  high = 0;
  /** Lower 32 bits of the last timestamp given out or observed. */
  low = 0;

  /** Physical time as `look` found it last, also as the first timestamp of that millisecond. */
  private physicalMs = 0;
  private physicalHigh = 0;
  private physicalLow = 0;
  /** Between `hold` and `release`; and whether there was a look at the time since. */
  private isHeld = false;
  private hasLooked = false;

  /** `now` returns Unix milliseconds; it may jump in either direction. */
  constructor(private readonly now: () => number) {}

  /** Physical time in Unix milliseconds, for expiry and the skew limit. */
  nowMs(): number {
    if (!this.hasLooked) this.look();
    return this.physicalMs;
  }

  /** Unix milliseconds by this clock, or by the real one when that is ahead. */
  latestMs(): number {
    return Math.max(this.nowMs(), unixMsOf(this.high, this.low));
  }

  /**
   * From here to `release` physical time is looked at once at the most: for a run of requests,
   * which takes well below a millisecond, and in which looking would cost as much as a lookup.
   */
  hold(): void {
    this.isHeld = true;
  }

  /** Ends what `hold` began. */
  release(): void {
    this.isHeld = this.hasLooked = false;
  }

  /** Advances to a timestamp above every earlier one; read it from `high` and `low`. */
  next(): void {
    if (!this.hasLooked) this.look();
    const high = this.physicalHigh;
    const low = this.physicalLow;
    if (high > this.high || (high === this.high && low > this.low)) {
      this.high = high;
      this.low = low;
    } else if (this.low === 0xffff_ffff) {
      this.low = 0;
      this.high += 1;
    } else {
      this.low += 1;
    }
  }

  /** Makes every later `next` exceed this timestamp. */
  observe(high: number, low: number): void {
    if (high > this.high || (high === this.high && low > this.low)) {
      this.high = high;
      this.low = low;
    }
  }

  private look(): void {
    this.physicalMs = this.now();
    this.physicalHigh = timeHighOf(this.physicalMs);
    this.physicalLow = timeLowOf(this.physicalMs);
    this.hasLooked = this.isHeld;
  }
}

/** Upper word of the first timestamp of that Unix millisecond. */
export function timeHighOf(unixMs: number): number {
  return Math.floor(unixMs / 65_536);
}

/** Lower word of the first timestamp of that Unix millisecond. */
export function timeLowOf(unixMs: number): number {
  return ((unixMs % 65_536) << 16) >>> 0;
}

/** Unix milliseconds of a timestamp, its counter dropped. */
export function unixMsOf(high: number, low: number): number {
  return high * 65_536 + (low >>> 16);
}
