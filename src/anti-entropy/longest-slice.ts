/**
 * How long the longest piece of work held the event loop: the promise that nothing holds it for
 * more than a few milliseconds, as INFO lets anybody check it.
 *
 * It is told twice. Time on the clock is what clients wait for, with whatever else happened
 * meanwhile: another process on the same processor, or another thread of this one. Processor time
 * is the work's own, and the only one of the two that this program decides.
 */

import { gauge, type Fact } from "../fact.ts";

/** A pair of gauges that only rise until they are reset. */
export class LongestSlice {
  /** By the clock, in ms: of the pieces since the last reset. */
  ms = 0;
  /**
   * In processor time, in ms; perhaps that of another piece. Linux may account for it in ticks, so
   * it is too much by up to one of those, 4 ms mostly.
   */
  cpuMs = 0;

  /** `nowMs` is monotonic, `threadCpuMs` tells the processor time of this thread. */
  constructor(
    private readonly nowMs: () => number,
    private readonly threadCpuMs: () => number,
  ) {}

  /** Does a piece of work and takes it into account. */
  measure(piece: () => void): void {
    const startedMs = this.nowMs();
    const startedCpuMs = this.threadCpuMs();
    piece();
    const ms = this.nowMs() - startedMs;
    this.ms = Math.max(this.ms, ms);
    this.cpuMs = Math.max(this.cpuMs, Math.min(this.threadCpuMs() - startedCpuMs, ms));
  }

  /** Begins anew. */
  reset(): void {
    this.ms = this.cpuMs = 0;
  }
}

/** What INFO says of the pieces of one kind of work, such as `comparing`. */
export function longestSliceFacts(name: string, work: string): readonly Fact<LongestSlice>[] {
  const help = `How long ${work} held up all else at most since \`CONFIG RESETSTAT\``;
  const digits = { digits: 2 };
  return [
    gauge(`${name}_longest_slice_ms`, "ms", `${help}, by the clock.`, (it) => it.ms, digits),
    gauge(
      `${name}_longest_slice_cpu_ms`,
      "ms",
      `${help}, in processor time.`,
      (it) => it.cpuMs,
      digits,
    ),
  ];
}
