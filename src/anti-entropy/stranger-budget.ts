/**
 * How many strangers are dialled. Anybody who can publish can announce any number of addresses
 * where nobody is. So there are only so many attempts at once, and a few a minute after that; a
 * session that succeeds shows that strangers are worth it, and allows as many again.
 */

const MAX_ATTEMPTS = 16;
const REFILL_MS = 5_000;

/** See the file header. Times are those of a monotonic clock, in ms. */
export class StrangerBudget {
  private attempts = MAX_ATTEMPTS;
  private refilledMs = -Infinity;

  /** Whether another stranger may be dialled. */
  allows(nowMs: number): boolean {
    if (this.attempts >= MAX_ATTEMPTS) this.refilledMs = nowMs;
    const more = Math.floor((nowMs - this.refilledMs) / REFILL_MS);
    if (more > 0) {
      this.attempts = Math.min(MAX_ATTEMPTS, this.attempts + more);
      this.refilledMs += more * REFILL_MS;
    }
    return this.attempts > 0;
  }

  /** A stranger is dialled. */
  spend(): void {
    this.attempts--;
  }

  /** A session with a stranger succeeded. */
  restore(): void {
    this.attempts = MAX_ATTEMPTS;
  }
}
