/**
 * The messages of one client on their way to the broker: no more of them unacknowledged than the
 * broker takes, and no faster than it takes them (`message-pace.ts`). What it does not say of
 * either is found out when it complains.
 */
import type { Cancel, Timing } from "../timing.ts";
import type { AnswerWatch } from "./answer-watch.ts";
import type { MessagePace } from "./message-pace.ts";
import { CODES, EXCESS_CODES, meaningOf } from "./mqtt-codes.ts";
import type { PublishProblem } from "./transport.ts";

const MAX_RECEIVE_MAXIMUM = 65_535;
/** Of a broker that has more under way than it takes without having said how many: half of that. */
const FOUND_RECEIVE_MAXIMUM = 32;

/** A message, as `Transport.publish` is given it. */
export interface OutgoingMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly retain: boolean;
  readonly done: (problem?: PublishProblem) => void;
  readonly traceparent: string | undefined;
}

/** What they are made with. */
export interface OutgoingMessagesOptions {
  readonly timing: Timing;
  readonly pace: MessagePace;
  /** Holds those that the broker has to acknowledge. */
  readonly watch: AnswerWatch;
  /** Whether the broker acknowledges messages on this connection. */
  readonly isAcknowledged: () => boolean;
  /**
   * Sends a message over the connection that is up. `answered` is called at most once, while that
   * connection is up: with the code by which the broker refused the message, or null.
   */
  readonly publish: (message: OutgoingMessage, answered: (code: number | null) => void) => void;
  /** The broker has acknowledged something. */
  readonly onAcknowledged: () => void;
  /** It takes only so many messages a second. */
  readonly onExcess: (perSecond: number) => void;
}

/** See the file header. */
export class OutgoingMessages {
  /** Most messages the broker takes unacknowledged. */
  receiveMaximum = MAX_RECEIVE_MAXIMUM;
  /** The same, as far as it was found out. */
  private foundReceiveMaximum = MAX_RECEIVE_MAXIMUM;
  private queued: OutgoingMessage[] = [];
  private cancelLater: Cancel | null = null;

  constructor(private readonly options: OutgoingMessagesOptions) {}

  /** For how long nothing more is sent, in ms; see `Transport`. */
  pauseMs(leavesRoom: boolean): number {
    const pauseMs = this.options.pace.pauseMs(leavesRoom);
    return this.cancelLater === null ? pauseMs : Math.max(1, pauseMs);
  }

  /** Sends a message, now or as soon as the broker takes it. */
  add(message: OutgoingMessage): void {
    this.queued.push(message);
    this.send();
  }

  /** The connection is over. */
  stop(): void {
    this.queued = [];
    this.options.watch.stop();
    this.cancelLater?.();
    this.cancelLater = null;
  }

  /** A connection is accepted: so many messages it takes unacknowledged, if it says so. */
  noteOffered(receiveMaximum = MAX_RECEIVE_MAXIMUM): void {
    this.receiveMaximum = Math.min(receiveMaximum, this.foundReceiveMaximum);
  }

  /** With this code the broker ended the connection: perhaps there was too much of something. */
  noteLimit(code: number): void {
    if (EXCESS_CODES.includes(code)) this.slowDown();
    if (code !== CODES.receiveMaximumExceeded) return;
    const most = Math.min(this.receiveMaximum, 2 * FOUND_RECEIVE_MAXIMUM);
    this.foundReceiveMaximum = Math.max(1, Math.floor(most / 2));
  }

  /** The broker had too many messages. False when it cannot be for that. */
  slowDown(): boolean {
    const { pace, onExcess } = this.options;
    const before = pace.perSecond;
    const isExcess = pace.noteExcess();
    if (pace.perSecond < before) onExcess(pace.perSecond);
    return isExcess;
  }

  private send(): void {
    const { pace, watch } = this.options;
    while (this.queued.length > 0 && watch.size < this.receiveMaximum) {
      const pauseMs = pace.pauseMs();
      if (pauseMs > 0) return this.sendLater(pauseMs);
      this.sendNow(this.queued.shift()!);
    }
  }

  private sendLater(delayMs: number): void {
    this.cancelLater ??= this.options.timing.after(delayMs, () => {
      this.cancelLater = null;
      this.send();
    });
  }

  private sendNow(message: OutgoingMessage): void {
    const { pace, watch, isAcknowledged, publish, onAcknowledged } = this.options;
    const awaited = isAcknowledged() ? watch.add() : null;
    pace.spend();
    publish(message, (code) => {
      if (awaited !== null) {
        watch.remove(awaited);
        onAcknowledged();
      }
      const isExcess = code !== null && EXCESS_CODES.includes(code) && this.slowDown();
      if (isExcess) this.queued.unshift(message);
      else message.done(code === null ? undefined : problemOf(code));
      this.send();
    });
  }
}

function problemOf(code: number): PublishProblem {
  const { reason, advice } = meaningOf(code);
  const message = advice === "" ? reason : `${reason}; see ${advice}`;
  return { message, isTooLong: code === CODES.packetTooLarge };
}
