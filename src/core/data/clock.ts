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
 * There is one exception. A clock that was hours ahead and is right again would go on
 * hours ahead, and peers take nothing that is dated further ahead than they allow. So a
 * clock that finds itself more than `maxAheadMs` ahead of the time begins anew at the time:
 * it was *outrun* by what it gave out before, or read from disk. What it gives out then is
 * no longer above all it has seen, only above all that peers take. Whoever writes over
 * something from ahead asks `isOutrun`, and goes on to a timestamp above that (`raiseAbove`).
 *
 * What relied on a clock that never goes back, and why it still holds:
 *
 * - A write wins over what its node has seen of that key: `raiseAbove` (`Store.stamp`). Clients
 *   do not write over what is from too far ahead: that would be refused by all
 *   (`Store.aheadUntilMs`, `commands/execute.ts`).
 * - No two values of a key have the same version: per key versions go on rising.
 * - A flush is above all that it flushes: it takes a timestamp above `seen`, or is refused.
 * - Peers are told that they know all deletions up to a time (`Deletions.vouch`). A deletion
 *   that is made here with an earlier timestamp counts as one that died later, as one does
 *   that comes late from elsewhere. What a process vouched for is not forgotten at its end:
 *   `seen` never goes back, and is what is kept on disk.
 * - The Merkle tree compares as of a time below which nobody writes any more: `latestMs` is
 *   the time that timestamps go on from. A write below an earlier one is a difference until it
 *   has arrived, as any write is.
 * - What a run of this node counted is dated: a part of a counter that is dated before a later
 *   run began was counted before that. It still is: that run has `next` date its beginning.
 *
 * Invariants: (seenHigh, seenLow) never decreases; (high, low) is at or below it.
 */
export class HybridClock {
  /** Upper 32 bits of the last timestamp given out, or observed since. */
  high = 0;
  /** Lower 32 bits of that. */
  low = 0;
  /** Upper 32 bits of the latest timestamp ever given out or observed. */
  seenHigh = 0;
  /** Lower 32 bits of that. */
  seenLow = 0;
  /** Whether what this clock gives out is not above all that it has seen. */
  isOutrun = false;

  /** Physical time as `look` found it last, also as the first timestamp of that millisecond. */
  private physicalMs = 0;
  private physicalHigh = 0;
  private physicalLow = 0;
  /** Between `hold` and `release`; and whether there was a look at the time since. */
  private isHeld = false;
  private hasLooked = false;

  /**
   * `now` returns Unix milliseconds; it may jump in either direction. `maxAheadMs` is how far ahead
   * peers take what is written.
   */
  constructor(
    private readonly now: () => number,
    private readonly maxAheadMs = Infinity,
  ) {}

  /** Physical time in Unix milliseconds, for expiry and the skew limit. */
  nowMs(): number {
    if (!this.hasLooked) this.look();
    return this.physicalMs;
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

  /** Unix milliseconds that the next timestamp is not below. */
  latestMs(): number {
    const nowMs = this.nowMs();
    const givenMs = unixMsOf(this.high, this.low);
    return givenMs > nowMs + this.maxAheadMs ? nowMs : Math.max(nowMs, givenMs);
  }

  /** Unix milliseconds that no timestamp ever given out or observed was above. */
  seenMs(): number {
    return Math.max(this.nowMs(), unixMsOf(this.seenHigh, this.seenLow));
  }

  /** Begins anew at the time if it is too far ahead of it. */
  settle(): void {
    if (!this.hasLooked) this.look();
    if (!this.isTooFar) return;
    this.high = this.physicalHigh;
    this.low = this.physicalLow;
    this.isOutrun = true;
  }

  /**
   * Advances to a timestamp above every earlier one, but for those too far ahead; read it from
   * `high` and `low`.
   */
  next(): void {
    if (!this.hasLooked) this.look();
    const high = this.physicalHigh;
    const low = this.physicalLow;
    if (isAbove(high, low, this.high, this.low) || this.isTooFar) {
      this.high = high;
      this.low = low;
    } else this.increment();
    this.isOutrun = !this.see();
  }

  /** After `next`: goes on to a timestamp above this one, however far ahead that is. */
  raiseAbove(high: number, low: number): void {
    if (isAbove(this.high, this.low, high, low)) return;
    this.high = high;
    this.low = low;
    this.increment();
    this.see();
  }

  /** Makes every later `next` exceed this timestamp, unless it is too far ahead. */
  observe(high: number, low: number): void {
    if (!isAbove(high, low, this.high, this.low)) return;
    this.high = high;
    this.low = low;
    if (this.see()) this.isOutrun = false;
  }

  /** As of the last look. */
  private get isTooFar(): boolean {
    return unixMsOf(this.high, this.low) > this.physicalMs + this.maxAheadMs;
  }

  private look(): void {
    this.physicalMs = this.now();
    this.physicalHigh = timeHighOf(this.physicalMs);
    this.physicalLow = timeLowOf(this.physicalMs);
    this.hasLooked = this.isHeld;
  }

  private increment(): void {
    if (this.low === 0xffff_ffff) {
      this.low = 0;
      this.high += 1;
    } else this.low += 1;
  }

  /** Takes what it shows for seen. Whether it is above all that was seen before. */
  private see(): boolean {
    if (!isAbove(this.high, this.low, this.seenHigh, this.seenLow)) return false;
    this.seenHigh = this.high;
    this.seenLow = this.low;
    return true;
  }
}

/** Whether the first timestamp is later than the second. */
function isAbove(high: number, low: number, otherHigh: number, otherLow: number): boolean {
  return high > otherHigh || (high === otherHigh && low > otherLow);
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
