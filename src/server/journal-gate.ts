/**
 * Bounds what is written and not yet on disk: while too much of that waits, nobody's requests are
 * run. Then those that had to wait are let in one after the other, first come, first served, as far
 * as there is room again; so one that writes much does not shut out the rest.
 */
import type { Durability, SafeWaiter } from "../commands/services.ts";
import type { RunQueue } from "../timing.ts";

/** See the file header. */
export class JournalGate implements SafeWaiter {
  private readonly waiting: (() => void)[] = [];
  /** `step` will be called, by the journal or the run queue. */
  private isStepDue = false;

  constructor(
    private readonly durability: Durability,
    private readonly runQueue: RunQueue,
  ) {}

  /** Whether requests may be run. While nothing can be written they may: writes are refused then. */
  get isOpen(): boolean {
    return this.waiting.length === 0 && this.hasRoom();
  }

  /** Has `enter` called, once, when it is its turn. It runs a slice of requests at most. */
  wait(enter: () => void): void {
    this.waiting.push(enter);
    this.look();
  }

  /** What was written is safe, or will not be for a while. */
  onSafe(): void {
    this.isStepDue = false;
    this.look();
  }

  private hasRoom(): boolean {
    const { position, safePosition, failure } = this.durability;
    return position - safePosition < MOST_UNWRITTEN_BYTES || failure !== null;
  }

  private look(): void {
    if (this.isStepDue || this.waiting.length === 0) return;
    this.isStepDue = true;
    if (!this.hasRoom()) return this.durability.whenSafe(this);
    this.runQueue.add(() => {
      this.isStepDue = false;
      if (this.hasRoom()) this.waiting.shift()?.();
      this.look();
    });
  }
}

const MOST_UNWRITTEN_BYTES = 4 * 1024 * 1024;
