/**
 * Keeps deletions from being purged in a store while a session compares what is there. A purge that
 * happens all the same makes the session void: what it said of this node's deletions, or found by
 * what the peer said of its own, holds no longer.
 */
import type { Deletions } from "../store/deletions.ts";

/** See the file header. */
export class PurgeGuard {
  private isHolding = false;
  private purges = 0;

  constructor(private readonly deletions: Deletions) {}

  /** Holds purges back from now on. */
  begin(): void {
    this.isHolding = true;
    this.purges = this.deletions.purges;
    this.deletions.beginSession();
  }

  /** Whether something was purged meanwhile. */
  get isBroken(): boolean {
    return this.isHolding && this.purges !== this.deletions.purges;
  }

  /** Does what may purge something at the peer's word: on that both sides agree. */
  allowing<T>(work: () => T): T {
    const before = this.deletions.purges;
    const result = work();
    this.purges += this.deletions.purges - before;
    return result;
  }

  /** Holds nothing back any more. */
  end(): void {
    if (this.isHolding) this.deletions.endSession();
    this.isHolding = false;
  }
}
