/**
 * Messages that were sent, until it is certain that they arrived: those under way, which are
 * bounded in number and bytes; those acknowledged a moment ago, for what a dying broker
 * acknowledged it may not have passed on; and those that have yet to come back, where the broker
 * sends them back.
 */
import type { Timing } from "../timing.ts";
import type { BatchTraces } from "./batch-traces.ts";
import type { Suspect } from "./suspects.ts";

/** Most messages under way. */
const WINDOW_MESSAGES = 64;
/** No further message is sent while more bytes than this are under way. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** How long an acknowledged message is remembered, in ms, and how many of them at most. */
const REMEMBER_MS = 1_000;
const MAX_REMEMBERED_MESSAGES = 256;
/** Most messages whose return is waited for. */
const MAX_UNHEARD_MESSAGES = 1_024;

/** A message, by what it holds. */
export interface SentMessage extends Suspect {
  readonly sequence: number;
  readonly events: number;
  /** Nothing else was under way with it. */
  readonly isAlone: boolean;
  /** What events in it belong to; null when none is traced. */
  readonly traces: BatchTraces | null;
  /** By the timing's clock, once it is. */
  acknowledgedAtMs: number;
}

/** See the file header. */
export class SentMessages {
  private readonly inFlight = new Set<SentMessage>();
  private inFlightBytes = 0;
  /** In the order in which they were. */
  private acknowledged: SentMessage[] = [];
  private unheard: SentMessage[] = [];

  constructor(private readonly timing: Timing) {}

  /** How many were sent and not acknowledged. */
  get underWay(): number {
    return this.inFlight.size;
  }

  /** Whether no other may be sent now to a broker that takes so many unacknowledged. */
  isFull(receiveMaximum: number): boolean {
    if (this.inFlight.size >= Math.min(WINDOW_MESSAGES, receiveMaximum)) return true;
    if (this.inFlightBytes >= WINDOW_BYTES) return true;
    for (const message of this.inFlight) if (message.isAlone) return true;
    return false;
  }

  /** It is sent, or about to be. */
  add(message: SentMessage): void {
    this.inFlight.add(message);
    this.inFlightBytes += message.bytes;
  }

  /** Whether it was sent over this connection, and not acknowledged. */
  isUnderWay(message: SentMessage): boolean {
    return this.inFlight.has(message);
  }

  /** It is to come back from the broker, unless that drops it. */
  awaitReturn(message: SentMessage): void {
    this.unheard.push(message);
    if (this.unheard.length > MAX_UNHEARD_MESSAGES) this.unheard.shift();
  }

  /** The broker has answered to it. False when that is of no account any more. */
  conclude(message: SentMessage): boolean {
    if (!this.inFlight.delete(message)) return false;
    message.acknowledgedAtMs = this.timing.nowMs();
    this.inFlightBytes -= message.bytes;
    return true;
  }

  /** The broker has taken it: it is remembered for a moment. */
  remember(message: SentMessage): void {
    this.acknowledged.push(message);
    this.forgetOld();
  }

  /** The one of that number has come back, null if none was to, and those before it will not. */
  takeHeard(sequence: number): { dropped: SentMessage[]; heard: SentMessage | null } {
    const { unheard } = this;
    let before = 0;
    while (before < unheard.length && unheard[before].sequence < sequence) before++;
    const dropped = unheard.splice(0, before);
    const heard = unheard[0]?.sequence === sequence ? unheard.shift()! : null;
    return { dropped, heard };
  }

  /**
   * The connection is over: those that were not acknowledged, and the others of which it is not
   * certain that they arrived. Some may be among the latter twice.
   */
  takeAll(): { unanswered: SentMessage[]; uncertain: SentMessage[] } {
    this.forgetOld();
    const unanswered = [...this.inFlight];
    const uncertain = [...this.acknowledged, ...this.unheard];
    this.acknowledged = [];
    this.unheard = [];
    this.inFlight.clear();
    this.inFlightBytes = 0;
    return { unanswered, uncertain };
  }

  private forgetOld(): void {
    const { acknowledged } = this;
    const sinceMs = this.timing.nowMs() - REMEMBER_MS;
    let old = Math.max(0, acknowledged.length - MAX_REMEMBERED_MESSAGES);
    while (old < acknowledged.length && acknowledged[old].acknowledgedAtMs < sinceMs) old++;
    if (old > 0) acknowledged.splice(0, old);
  }
}
