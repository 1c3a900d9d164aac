/**
 * Requests of the HTTP port are answered in turns of about a millisecond, which all of them share:
 * so however many clients ask for much at a time, others have their turn between.
 */
import { BodyProblem } from "./request-body.ts";
import { nextTurn, type Timing } from "../timing.ts";

const TURN_MS = 1;

/** See the file header. */
export class AnswerTurns {
  /** Until when requests are answered in this turn of the event loop; null if none was yet. */
  private endsMs: number | null = null;

  constructor(readonly timing: Timing) {}

  /**
   * Resolves when something may be done: that takes a millisecond at the most, or cannot be cut.
   * Rejects with a BodyProblem when the client has gone, for whom nothing more is to be done: least
   * of all after the node has stopped.
   */
  async enter(signal: AbortSignal | null): Promise<void> {
    while (this.isOver()) await nextTurn(this.timing);
    if (signal?.aborted) throw new BodyProblem(400, "The client has gone");
  }

  private isOver(): boolean {
    const nowMs = this.timing.nowMs();
    if (this.endsMs !== null) return nowMs > this.endsMs;
    this.endsMs = nowMs + TURN_MS;
    this.timing.soon(() => (this.endsMs = null));
    return false;
  }
}
