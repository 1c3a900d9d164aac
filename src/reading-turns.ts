/**
 * Clients that send much are read from in turns. The runtime hands over everything that lies ready
 * on all sockets, up to several megabytes of each, before anything else gets to run; so whoever
 * sent a large chunk is not read from again before its turn comes, a few in each turn of the event
 * loop.
 */
import type { Timing } from "./timing.ts";

/** One that is not read from until `onReadingTurn` is called. */
export interface Sender {
  onReadingTurn(): void;
}

/** Whoever sent so much at once waits for its turn, in bytes. */
export const LARGE_CHUNK_BYTES = 64 * 1024;
/** With chunks of 512 KiB at the most this takes about a millisecond. */
const SENDERS_A_TURN = 2;

/** See the file header. */
export class ReadingTurns {
  private readonly waiting = new Set<Sender>();
  private isScheduled = false;

  constructor(private readonly timing: Timing) {}

  /** Puts one last in line. */
  wait(sender: Sender): void {
    this.waiting.add(sender);
    this.schedule();
  }

  /** Forgets one that is gone. */
  forget(sender: Sender): void {
    this.waiting.delete(sender);
  }

  private schedule(): void {
    if (this.isScheduled || this.waiting.size === 0) return;
    this.isScheduled = true;
    this.timing.soon(() => this.step());
  }

  private step(): void {
    this.isScheduled = false;
    let count = 0;
    for (const sender of this.waiting) {
      this.waiting.delete(sender);
      sender.onReadingTurn();
      if (++count === SENDERS_A_TURN) break;
    }
    this.schedule();
  }
}
