/**
 * Counts of durations by length: what is worth knowing of many things that take time, at a price
 * that does not depend on how many. Nothing is allocated when one is counted.
 */

/** Upper bounds for what usually takes microseconds, in ms. */
export const SHORT_BOUNDS_MS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 250, 1_000, 5_000,
];
/** Upper bounds for what waits for a disk or for the event loop, in ms. */
export const WAIT_BOUNDS_MS = [0.1, 0.5, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500];
/** Upper bounds for what goes from node to node, in ms. */
export const TRAVEL_BOUNDS_MS = [
  5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 600_000, 3_600_000,
];

/** See the file header. */
export class Histogram {
  /** How many were at most as long as the bound in the same place, and longer than the last. */
  readonly counts: Float64Array;
  /** All durations together, in ms. */
  sumMs = 0;

  /** `boundsMs` ascend; the last count is of what is longer than all of them. */
  constructor(readonly boundsMs: readonly number[]) {
    this.counts = new Float64Array(boundsMs.length + 1);
  }

  /** Counts a duration in ms; one below 0, of a clock that was set back, counts as 0. */
  note(ms: number): void {
    const { boundsMs, counts } = this;
    let at = 0;
    while (at < boundsMs.length && ms > boundsMs[at]) at++;
    counts[at]++;
    if (ms > 0) this.sumMs += ms;
  }
}
