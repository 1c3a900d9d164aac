/**
 * Whether a session gets on: how long it may take in all, and how much it has to move meanwhile. A
 * peer that sends or takes a little now and then must not keep a place for ever, nor hold back
 * what waits for the end of sessions; a slow line must not be taken for such a peer.
 *
 * Only time counts in which this node waits for the other. Everything merged stays merged, so a
 * session that is ended costs no more than another beginning.
 */

/** A session may take so many times the time of silence in all. */
const DEADLINE_SILENCES = 20;
/** For so many times the time of silence it may move nothing to speak of. */
const ALLOWED_SILENCES = 2;
/** Beyond that, each second has to have been paid for with so many bytes, in either direction. */
const MIN_BYTES_A_SECOND = 1_024;
/**
 * When somebody else waits for its place, it gives that up if it is slower than this and has had it
 * for so long, in ms. However fast it is, it gives it up after the time of silence.
 */
const FAIR_BYTES_A_SECOND = 65_536;
const FAIR_MS = 2_000;

/** What one session has moved, and in what time. All times are monotonic, in ms. */
export class SessionProgress {
  private waitedMs = 0;
  private lookedMs: number;

  /** `silenceMs` is what a peer may be silent for. */
  constructor(
    private readonly silenceMs: number,
    private readonly startedMs: number,
  ) {
    this.lookedMs = startedMs;
  }

  /**
   * Looks how far it is. `movedBytes` is the sum of both directions since the start; `isOwnTurn`:
   * this node has work of its own to do, or waits for its disk. Returns why the session has to
   * end, or null while it gets on.
   */
  look(nowMs: number, movedBytes: number, isOwnTurn: boolean): string | null {
    if (!isOwnTurn) this.waitedMs += nowMs - this.lookedMs;
    this.lookedMs = nowMs;
    const { silenceMs } = this;
    const deadlineMs = DEADLINE_SILENCES * silenceMs;
    if (nowMs - this.startedMs > deadlineMs) {
      return `it was not over within ${deadlineMs / 1000} s; what still differs is compared anew`;
    }
    const allowedMs = ALLOWED_SILENCES * silenceMs + (movedBytes / MIN_BYTES_A_SECOND) * 1000;
    if (this.waitedMs <= allowedMs) return null;
    return `it moved less than ${MIN_BYTES_A_SECOND} bytes a second`;
  }

  /** Whether it has to make room for another that waits; with more `patience`, a slow one later. */
  hasHadItsTurn(nowMs: number, movedBytes: number, patience = 1): boolean {
    if (nowMs - this.startedMs > this.silenceMs) return true;
    const waitedMs = this.waitedMs + nowMs - this.lookedMs;
    return waitedMs > FAIR_MS * patience && (movedBytes / waitedMs) * 1000 < FAIR_BYTES_A_SECOND;
  }
}
