/**
 * Bounds what is written and not yet on disk: while too much of that waits, nobody's requests are
 * run. Then those that had to wait are let in one after the other, as far as there is room again:
 * in turns one that has used little so far and one that has used much, each in the order in which
 * they came. So one that writes much does not shut out the rest.
 */
import type { Durability, SafeWaiter } from "../ports.ts";
import type { RunQueue } from "../timing.ts";

/** See the file header. */
export class JournalGate implements SafeWaiter {
  private readonly light: (() => void)[] = [];
  private readonly heavy: (() => void)[] = [];
  private isLightNext = true;
  /** `step` will be called, by the journal or the run queue. */
  private isStepDue = false;

  constructor(
    private readonly durability: Durability,
    private readonly runQueue: RunQueue,
  ) {}

  /**
   * Whether requests may be run. While nothing can be written they may: writes are refused then.
   */
  get canEnter(): boolean {
    return this.waitingCount === 0 && this.hasRoom();
  }

  /** Has `enter` called, once, when it is its turn. It runs a slice of requests at most. */
  wait(enter: () => void, isLight: boolean): void {
    (isLight ? this.light : this.heavy).push(enter);
    this.look();
  }

  /** What was written is safe, or will not be for a while. */
  onSafe(): void {
    this.isStepDue = false;
    this.look();
  }

  private get waitingCount(): number {
    return this.light.length + this.heavy.length;
  }

  private hasRoom(): boolean {
    const { position, safePosition, failure } = this.durability;
    return position - safePosition < MOST_UNWRITTEN_BYTES || failure !== null;
  }

  private look(): void {
    if (this.isStepDue || this.waitingCount === 0) return;
    this.isStepDue = true;
    if (!this.hasRoom()) return this.durability.whenSafe(this);
    this.runQueue.add(() => {
      this.isStepDue = false;
      if (this.hasRoom()) this.next()?.();
      this.look();
    });
  }

  private next(): (() => void) | undefined {
    const [first, second] = this.isLightNext ? [this.light, this.heavy] : [this.heavy, this.light];
    this.isLightNext = !this.isLightNext;
    return first.shift() ?? second.shift();
  }
}

const MOST_UNWRITTEN_BYTES = 1024 * 1024;
