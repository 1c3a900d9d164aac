/**
 * The two clocks of a machine, compared with each other. PURE.
 *
 * The wall clock says what time it is, and jumps: NTP sets it, people do, a machine without a
 * battery begins in 1970, one that was suspended wakes up hours later. The monotonic clock never
 * jumps, and says only how much time has passed; some do not count the time that a machine slept.
 * How far the one is ahead of the other is its *offset*. As long as both go right it stays the
 * same; by how much it changes at once, the wall clock has *stepped*.
 */

/** From how much on a difference between the clocks is a step, in ms. */
const STEP_MS = 1_000;
/** How often the clocks are read for one comparison, at most. */
const MAX_READS = 3;
/** Between two comparisons of the clocks, in ms of the wall clock, at most. */
const LOOK_MS = 500;
/** A sleep that matters is longer, in ms. */
const MIN_SLEEP_MS = 5_000;
/** How far the time that the machine slept may be off, in ms: it is known in whole seconds. */
const SLEPT_WITHIN_MS = 2_500;

/** Where the time is read from, in ms. */
export interface MachineClocksOptions {
  /** Unix time; it may jump in either direction. */
  readonly wallMs: () => number;
  /** Since any fixed moment; never goes back. */
  readonly monotonicMs: () => number;
  /** How long the machine has slept since any fixed moment, to the second; 0 if nobody knows. */
  readonly sleptMs: () => number;
}

/** The wall clock has stepped by so much, forward if positive. */
export interface ClockStep {
  readonly stepMs: number;
  /** Whether that is how long the machine slept: then the wall clock is right. */
  readonly hasSlept: boolean;
}

/** See the file header. */
export class MachineClocks {
  /** How far the wall clock was ahead of the monotonic one when they were compared last, in ms. */
  offsetMs: number;
  /** What the wall clock said then, in Unix ms. */
  lookedAtMs: number;
  private sleptMs: number;

  constructor(private readonly options: MachineClocksOptions) {
    this.lookedAtMs = options.wallMs();
    this.offsetMs = this.lookedAtMs - options.monotonicMs();
    this.sleptMs = options.sleptMs();
  }

  /** Whether they are to be compared again, at that time of the wall clock. */
  isDue(wallMs: number): boolean {
    const passedMs = wallMs - this.lookedAtMs;
    return !(passedMs >= 0 && passedMs < LOOK_MS);
  }

  /** Compares them. Null when the wall clock has not stepped since the last time. */
  look(): ClockStep | null {
    const beforeMs = this.offsetMs;
    this.read();
    const stepMs = this.offsetMs - beforeMs;
    const sleptMs = this.options.sleptMs();
    const sleptNowMs = sleptMs - this.sleptMs;
    this.sleptMs = sleptMs;
    if (Math.abs(stepMs) < STEP_MS) return null;
    const isAsLong = Math.abs(stepMs - sleptNowMs) <= SLEPT_WITHIN_MS;
    return { stepMs, hasSlept: sleptNowMs >= MIN_SLEEP_MS && isAsLong };
  }

  /**
   * Reads them without looking for a step. Both are to be read at once: a process that is put off
   * between the two reads them again.
   */
  read(): void {
    const { wallMs, monotonicMs } = this.options;
    for (let reads = 1; ; reads++) {
      const beforeMs = monotonicMs();
      this.lookedAtMs = wallMs();
      const afterMs = monotonicMs();
      this.offsetMs = this.lookedAtMs - afterMs;
      if (afterMs - beforeMs < STEP_MS / 4 || reads === MAX_READS) return;
    }
  }
}
