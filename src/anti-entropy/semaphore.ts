/** A counting semaphore: permits, and those who wait for one in the order in which they came. */

import type { Timing } from "../timing.ts";

/** See the file header. */
export class Semaphore {
  private acquired = 0;
  private waiting: ((isAcquired: boolean) => void)[] = [];
  private isClosed = false;

  constructor(
    /** How many there are in all. */
    public permits: number,
    private readonly timing: Timing,
  ) {}

  /** Another number of permits from now on; who has one keeps it. */
  setPermits(permits: number): void {
    this.permits = permits;
    while (this.waiting.length > 0 && this.isFree) {
      this.acquired++;
      this.waiting.shift()!(true);
    }
  }

  /** Whether a permit could be had now. */
  get isFree(): boolean {
    return !this.isClosed && this.acquired < this.permits;
  }

  /**
   * Acquires a permit as soon as there is one. False when there was none in that time, or never
   * will be.
   */
  async acquire(withinMs: number): Promise<boolean> {
    if (this.isFree) {
      this.acquired++;
      return true;
    }
    if (this.isClosed) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const cancel = this.timing.after(withinMs, () => {
      this.waiting = this.waiting.filter((it) => it !== resolve);
      resolve(false);
    });
    this.waiting.push(resolve);
    const isAcquired = await promise;
    cancel();
    return isAcquired;
  }

  /** Gives a permit back; who has waited for longest gets it. */
  release(): void {
    this.acquired--;
    const next = this.isFree ? this.waiting.shift() : undefined;
    if (next === undefined) return;
    this.acquired++;
    next(true);
  }

  /** Nobody gets a permit any more. */
  close(): void {
    this.isClosed = true;
    for (const release of this.waiting.splice(0)) release(false);
  }
}
