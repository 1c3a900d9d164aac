/**
 * New connections are read from in turns. The runtime takes in all that wait at the door, and then
 * hands over, in a single turn of the event loop, what each of them has said meanwhile: up to
 * 64 KiB, in memory that is new to the process, which costs more than to work on it does. So of
 * many that come at once a few are heard in each turn, in the order in which they came, and those
 * who were there before are served between.
 */
import type { Timing } from "./timing.ts";

/** What can be kept from speaking. */
export interface Arriving {
  pause(): void;
  resume(): void;
}

/** As many as come at once where nobody does harm are not paused, which takes two system calls. */
export const HEARD_A_TURN = 8;

/** See the file header. */
export class Arrivals {
  private readonly waiting: Arriving[] = [];
  /** How many are to be heard in the turn that comes next. */
  private heard = 0;
  private isScheduled = false;

  constructor(private readonly timing: Timing) {}

  /** Somebody has come, and is heard at once or when the turn has come. */
  add(socket: Arriving): void {
    this.schedule();
    if (this.waiting.length === 0 && this.heard < HEARD_A_TURN) {
      this.heard++;
      return;
    }
    socket.pause();
    this.waiting.push(socket);
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    this.timing.soon(() => this.step());
  }

  private step(): void {
    this.isScheduled = false;
    this.heard = Math.min(HEARD_A_TURN, this.waiting.length);
    for (const socket of this.waiting.splice(0, this.heard)) socket.resume();
    if (this.heard > 0) this.schedule();
  }
}
