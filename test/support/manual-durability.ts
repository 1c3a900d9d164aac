/** A journal of which a test says how far it has come. */
import type { Durability, SafeWaiter } from "../../src/ports.ts";

/** Positions move when the test moves them. */
export class ManualDurability implements Durability {
  position = 0;
  safePosition = 0;
  failure: Durability["failure"] = null;
  private waiters: [number, SafeWaiter][] = [];

  whenSafe(waiter: SafeWaiter): void {
    this.waiters.push([this.position, waiter]);
  }

  /** Everything up to there is safe now. */
  reach(position: number): void {
    this.safePosition = position;
    const due = this.waiters.filter(([wanted]) => wanted <= position);
    this.waiters = this.waiters.filter(([wanted]) => wanted > position);
    for (const [, waiter] of due) waiter.onSafe();
  }
}
