/**
 * How everything outside the pure parts tells time and waits: by the event loop of this process
 * (`world.ts`), or by whatever a test or a simulation puts in its place.
 */

/** Calls off what was to be run; does nothing once that has run. */
export type Cancel = () => void;

/**
 * A monotonic clock and what can be put off. It knows nothing of the wall clock, which people and
 * NTP set: how long something takes, or has been silent, is measured by this one.
 */
export interface Timing {
  /** Milliseconds since some fixed moment; never goes back, and never jumps. */
  nowMs(): number;
  /** Runs the task when so many milliseconds have passed. */
  after(delayMs: number, task: () => void): Cancel;
  /** Runs the task as soon as everything that is ready now has had its turn. */
  soon(task: () => void): Cancel;
}

/** Resolves once everything that is ready now has had its turn. */
export function nextTurn(timing: Timing): Promise<void> {
  return new Promise((resolve) => timing.soon(resolve));
}

/** Resolves when so many milliseconds have passed. */
export function delay(timing: Timing, ms: number): Promise<void> {
  return new Promise((resolve) => timing.after(ms, resolve));
}

/** Runs the task again and again, so many milliseconds after it was done last, until called off. */
export function every(timing: Timing, periodMs: number, task: () => void): Cancel {
  let cancel: Cancel;
  let isOver = false;
  const next = (): void => {
    cancel = timing.after(periodMs, () => {
      task();
      if (!isOver) next();
    });
  };
  next();
  return () => {
    isOver = true;
    cancel();
  };
}

/** Unix milliseconds in ISO 8601. A time beyond what a Date holds is given as the number it is. */
export function isoTimeOf(unixMs: number): string | number {
  return unixMs <= 8.64e15 ? new Date(unixMs).toISOString() : unixMs;
}

/** How long a turn of a RunQueue is, about. */
const TURN_MS = 1;

/**
 * Work that is too long for one turn of the event loop, cut into slices by whoever does it. What
 * shares a queue takes turns: so the event loop is held for about a millisecond at a time, however
 * many have something to do. Some slices cannot be cut, above all those that copy a large value: of
 * them a turn holds one.
 */
export class RunQueue {
  /**
   * Whoever comes now should wait in the queue: others do, or a whole slice was used in this turn.
   */
  isSpent = false;
  /** Who has used little so far goes first. */
  private readonly light: (() => void)[] = [];
  private readonly heavy: (() => void)[] = [];
  private isScheduled = false;
  /** A whole slice was used in this turn outside of the queue. */
  private isUsed = false;
  /** In the turn before there was no time for those who have used much. */
  private isHeavyDue = false;

  constructor(readonly timing: Timing) {}

  /** Whether anybody waits for a turn. */
  get isBusy(): boolean {
    return this.isScheduled;
  }

  /**
   * Runs a slice of work when its turn comes. It takes well below a millisecond where it can be cut
   * at all, never throws, and adds itself again if more is left.
   */
  add(slice: () => void, isLight = false): void {
    (isLight ? this.light : this.heavy).push(slice);
    this.schedule();
  }

  /** Says that a slice was used outside of the queue. */
  spend(): void {
    this.isSpent = this.isUsed = true;
    this.schedule();
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    this.timing.soon(() => this.drain());
  }

  private drain(): void {
    const { light, heavy, timing } = this;
    const endMs = timing.nowMs() + TURN_MS;
    const hasTime = (): boolean => timing.nowMs() < endMs;
    this.isSpent = true;
    while (light.length > 0 && hasTime()) light.shift()!();
    // Those who have used much wait for one turn at the most, whatever comes before them.
    const isHeavyNext = this.isHeavyDue || (hasTime() && !this.isUsed);
    this.isHeavyDue = heavy.length > 0 && !isHeavyNext;
    if (heavy.length > 0 && isHeavyNext) {
      heavy.shift()!();
      while (light.length + heavy.length > 0 && hasTime()) (light.shift() ?? heavy.shift()!)();
    }
    this.isUsed = this.isScheduled = false;
    this.isSpent = light.length + heavy.length > 0;
    if (this.isSpent) this.schedule();
  }
}
