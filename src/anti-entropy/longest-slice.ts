/**
 * How long the longest piece of work held the event loop: the promise that nothing holds it for
 * more than a few milliseconds, as INFO lets anybody check it. It is time on the clock, with what
 * else happened meanwhile: a garbage collection, or another process on the same core.
 */

/** A gauge that only rises until it is reset. */
export class LongestSlice {
  /** Of the pieces since the last reset, in ms. */
  ms = 0;

  /** Takes a piece into account that began at `startedMs` by `performance.now` and ends now. */
  note(startedMs: number): void {
    const ms = performance.now() - startedMs;
    if (ms > this.ms) this.ms = ms;
  }

  /** Begins anew. */
  reset(): void {
    this.ms = 0;
  }
}
