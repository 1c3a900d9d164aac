/** Who waits for which position, in order of position. */
import type { SafeWaiter } from "../ports.ts";

/** A queue of waiters. Positions never decrease, so it is always sorted. */
export class WaiterQueue {
  private readonly positions: number[] = [];
  private readonly waiters: SafeWaiter[] = [];
  private first = 0;

  add(position: number, waiter: SafeWaiter): void {
    this.positions.push(position);
    this.waiters.push(waiter);
  }

  /** Calls everybody who waits for `position` or less. They may wait again. */
  release(position: number): void {
    // A waiter that waits again joins the end, for a later position.
    while (this.first < this.positions.length && this.positions[this.first] <= position) {
      this.waiters[this.first++].onSafe();
    }
    if (this.first === this.positions.length) {
      this.positions.length = this.waiters.length = this.first = 0;
    } else if (this.first >= 1024) {
      this.positions.splice(0, this.first);
      this.waiters.splice(0, this.first);
      this.first = 0;
    }
  }
}
