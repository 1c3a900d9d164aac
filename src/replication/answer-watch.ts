/**
 * Notices messages that the broker never answers. It may be slow, or the link may be: so a message
 * that has waited for a while is followed by a ping. What came before the ping is through when that
 * is answered, and what is not acknowledged a while later never will be.
 */
import { every, type Cancel, type Timing } from "../timing.ts";

const LOOK_MS = 1_000;
/** A message without an answer for so long is followed by a ping, in ms. */
const PATIENCE_MS = 5_000;
/** A message that is not answered so long after the ping was is given up, in ms. */
const GRACE_MS = 5_000;

/** A message that waits for its answer. */
export interface Awaited {
  readonly sinceMs: number;
  /** It was sent before the ping that is under way. */
  isBeforePing: boolean;
}

/** See the file header. */
export class AnswerWatch {
  private readonly awaited = new Set<Awaited>();
  private isPinged = false;
  private answeredMs: number | null = null;
  private cancelLook: Cancel | null = null;

  /** `ping` sends one; `onUnanswered`: something will not be answered. */
  constructor(
    private readonly timing: Timing,
    private readonly ping: () => void,
    private readonly onUnanswered: () => void,
  ) {}

  /** How many wait. */
  get size(): number {
    return this.awaited.size;
  }

  /** A message was sent. */
  add(): Awaited {
    const it = { sinceMs: this.timing.nowMs(), isBeforePing: false };
    this.awaited.add(it);
    this.cancelLook ??= every(this.timing, LOOK_MS, () => this.look());
    return it;
  }

  /** Its answer came. */
  remove(it: Awaited): void {
    this.awaited.delete(it);
  }

  /** A ping was answered. */
  pong(): void {
    if (this.isPinged) this.answeredMs ??= this.timing.nowMs();
  }

  /** The connection is over. */
  stop(): void {
    this.awaited.clear();
    this.cancelLook?.();
    this.cancelLook = null;
    this.isPinged = false;
    this.answeredMs = null;
  }

  private look(): void {
    const nowMs = this.timing.nowMs();
    if (this.isPinged) {
      if (this.answeredMs === null || nowMs - this.answeredMs < GRACE_MS) return;
      this.isPinged = false;
      this.answeredMs = null;
      for (const it of this.awaited) if (it.isBeforePing) return this.onUnanswered();
    }
    const [oldest] = this.awaited;
    if (oldest === undefined) {
      this.cancelLook?.();
      this.cancelLook = null;
    } else if (nowMs - oldest.sinceMs >= PATIENCE_MS) {
      for (const it of this.awaited) it.isBeforePing = true;
      this.isPinged = true;
      this.ping();
    }
  }
}
