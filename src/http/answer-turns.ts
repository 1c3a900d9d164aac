/**
 * Requests of the HTTP port are answered in turns of about a millisecond, which all of them share:
 * so however many clients ask for much at a time, others have their turn between.
 */
import { ClientGone } from "../ports.ts";
import { nextTurn, type Timing } from "../timing.ts";

const TURN_MS = 1;
/** Of what holds much memory while it is answered, so many at a time. */
const FEW = 4;

/** See the file header. */
export class AnswerTurns {
  /** Until when requests are answered in this turn of the event loop; null if none was yet. */
  private endsMs: number | null = null;

  /** What those wait for who come when this turn is over. */
  private next: Promise<void> | null = null;

  /** How many of few go on, and who waits to be one of them. */
  private going = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(readonly timing: Timing) {}

  /** Does what holds much memory until it is done: with few others of the kind. */
  async amongFew<T>(work: () => Promise<T>): Promise<T> {
    if (this.going >= FEW) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.going++;
    try {
      return await work();
    } finally {
      // Whoever is next has the place that becomes free.
      const next = this.waiting.shift();
      if (next === undefined) this.going--;
      else next();
    }
  }

  /**
   * Resolves when something may be done: that takes a millisecond at the most, or cannot be cut.
   * Rejects with a ClientGone when the client has gone, for whom nothing more is to be done: least
   * of all after the node has stopped.
   */
  async enter(signal: AbortSignal | null): Promise<void> {
    while (this.isOver) await (this.next ??= this.nextTurn());
    if (signal?.aborted) throw new ClientGone("The client has gone");
  }

  /**
   * All who wait are woken together, in the order in which they came: each then does one thing
   * after the other has done one. If they were woken apart, the first would go on with all it has
   * to do until the turn is over, and be first again in the next.
   */
  private async nextTurn(): Promise<void> {
    await nextTurn(this.timing);
    this.next = null;
  }

  /** Whether whoever has more to do should enter again. */
  get isOver(): boolean {
    const nowMs = this.timing.nowMs();
    if (this.endsMs !== null) return nowMs > this.endsMs;
    this.endsMs = nowMs + TURN_MS;
    this.timing.soon(() => (this.endsMs = null));
    return false;
  }
}
