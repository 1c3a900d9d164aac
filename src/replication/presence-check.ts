/**
 * Whether what this node announces of itself comes back to it from the broker, as everybody's
 * announcements do. If it does not, a rule of the broker's keeps it from the others, too, or theirs
 * from this node: they do not know where it is, and do not compare with it. Not all brokers say so.
 */
import type { Cancel, Timing } from "../timing.ts";

/** How long after its acknowledgement an announcement may take to come back, in ms. */
const RETURN_MS = 5_000;

/** Checks it once on each connection. */
export class PresenceCheck {
  private isOver = true;
  private cancelWaiting: Cancel | null = null;

  /** `onUnheard` is called when it does not come back, once on a connection. */
  constructor(
    private readonly timing: Timing,
    private readonly onUnheard: () => void,
  ) {}

  /** There is a new connection. */
  begin(): void {
    this.end();
    this.isOver = false;
  }

  /** The broker has taken an announcement. */
  noteTaken(): void {
    if (this.isOver) return;
    this.cancelWaiting ??= this.timing.after(RETURN_MS, () => {
      this.end();
      this.onUnheard();
    });
  }

  /** One came back, or the connection is gone. */
  end(): void {
    this.isOver = true;
    this.cancelWaiting?.();
    this.cancelWaiting = null;
  }
}
