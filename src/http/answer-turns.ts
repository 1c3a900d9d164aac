/**
 * Requests of the HTTP port are answered in turns of about a millisecond, which all of them share:
 * so however many clients ask for much at a time, others have their turn between.
 */
import { nextTurn, type Timing } from "../timing.ts";

const TURN_MS = 1;

/** See the file header. */
export class AnswerTurns {
  /** Until when requests are answered in this turn of the event loop; null if none was yet. */
  private endsMs: number | null = null;

  constructor(readonly timing: Timing) {}

  /**
   * Resolves when something may be done: that takes a millisecond at the most, or cannot be cut.
   */
  async enter(): Promise<void> {
    while (this.isOver()) await nextTurn(this.timing);
  }

  private isOver(): boolean {
    const nowMs = this.timing.nowMs();
    if (this.endsMs !== null) return nowMs > this.endsMs;
    this.endsMs = nowMs + TURN_MS;
    this.timing.soon(() => (this.endsMs = null));
    return false;
  }
}
