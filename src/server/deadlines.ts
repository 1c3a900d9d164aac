/**
 * Connections that may take only so long for something: to say something at all, to complete a
 * request that has come in part, to read some of their replies, and to close when everything is
 * said. Who reads, however slowly, gets on: what such replies may take is bounded elsewhere.
 */
import type { Statistics } from "../commands/statistics.ts";
import type { Reply } from "../protocol/reply.ts";
import type { ThrottledWarnings } from "./throttled-warnings.ts";

/** A connection as it is held to its deadlines. */
export interface DeadlineHolder {
  readonly session: { readonly address: string };
  end(lastWords?: (reply: Reply) => void): void;
  /** Sends what the kernel takes now of what is queued; whether it took any. */
  sendOn(): boolean;
  cut(): void;
}

/** A connection that was told the end has this long to close, in ms. */
const CLOSING_MS = 5_000;

/**
 * See the file header. Whoever has sent a whole request may be silent for as long as it likes. Each
 * map says since when, oldest first, by a monotonic clock.
 */
export class Deadlines {
  /** Connections that have not sent a whole request yet. */
  readonly mute = new Map<DeadlineHolder, number>();
  /** Connections with a request begun and not completed. */
  readonly halfSent = new Map<DeadlineHolder, number>();
  /** Connections whose replies the kernel does not accept; since when none was read. */
  readonly unread = new Map<DeadlineHolder, number>();
  /** Connections that have said all and are being closed. */
  readonly closing = new Map<DeadlineHolder, number>();
  /** The node stops: who is being closed has its time and no more, even if it reads. */
  isLast = false;

  /** `timeoutSeconds`: for completing a request, and for reading some of the replies. */
  constructor(
    private readonly timeoutSeconds: () => number,
    private readonly statistics: Statistics,
    private readonly notices: ThrottledWarnings,
    private readonly nowMs: () => number,
  ) {}

  /** Notes a new connection. */
  noteOpened(connection: DeadlineHolder): void {
    this.mute.set(connection, this.nowMs());
  }

  /** Notes that a connection has sent its first request. */
  noteSpoken(connection: DeadlineHolder): void {
    this.mute.delete(connection);
  }

  /** Notes whether a request has come in part. With `isAnother` it is not the one of before. */
  noteHalfSent(connection: DeadlineHolder, isHalfSent: boolean, isAnother: boolean): void {
    const { halfSent } = this;
    if (!isHalfSent) {
      if (halfSent.size > 0) halfSent.delete(connection);
    } else if (isAnother || !halfSent.has(connection)) restart(halfSent, connection, this.nowMs());
  }

  /** Notes whether there are replies to read. `hasRead`: the client has read some just now. */
  noteUnread(connection: DeadlineHolder, isUnread: boolean, hasRead: boolean): void {
    const { unread } = this;
    if (unread.has(connection) === isUnread && !hasRead) return;
    if (isUnread) restart(unread, connection, this.nowMs());
    else unread.delete(connection);
  }

  /** Whether there are replies that the connection has not read. */
  isUnread(connection: DeadlineHolder): boolean {
    return this.unread.size > 0 && this.unread.has(connection);
  }

  /** Notes that a connection has said all. `hasRead`: the client has read some of it just now. */
  noteClosing(connection: DeadlineHolder, hasRead: boolean): void {
    this.mute.delete(connection);
    this.halfSent.delete(connection);
    const isLater = hasRead && !this.isLast;
    if (isLater || !this.closing.has(connection)) restart(this.closing, connection, this.nowMs());
  }

  /** Forgets a connection. */
  forget(connection: DeadlineHolder): void {
    this.mute.delete(connection);
    this.halfSent.delete(connection);
    this.closing.delete(connection);
    this.unread.delete(connection);
  }

  /** Ends those whose time is over. Called a few times a second. */
  tick(): void {
    const nowMs = this.nowMs();
    const timeoutMs = this.timeoutSeconds() * 1000;
    const words = `not completed within ${this.timeoutSeconds()} s; closing`;
    for (const [connection, sinceMs] of this.halfSent) {
      if (nowMs - sinceMs < timeoutMs) break;
      this.statistics.cutConnections++;
      connection.end((reply) => reply.error("Invalid command", words));
    }
    for (const [connection, sinceMs] of this.mute) {
      if (nowMs - sinceMs < timeoutMs) break;
      this.statistics.idleConnections++;
      const isHalfSent = this.halfSent.has(connection);
      connection.end((reply) => {
        if (isHalfSent) reply.error("Invalid command", words);
      });
    }
    // The kernel says that there is room when there is much of it; who reads slowly makes little.
    for (const [connection, sinceMs] of this.closing) {
      if (nowMs - sinceMs < CLOSING_MS) break;
      if (!connection.sendOn() || this.isLast) connection.cut();
    }
    for (const [connection, sinceMs] of this.unread) {
      if (nowMs - sinceMs < timeoutMs) break;
      if (connection.sendOn()) continue;
      this.statistics.cutConnections++;
      const { address } = connection.session;
      this.notices.warn("Cut a connection that does not read its replies", { address });
      connection.cut();
    }
  }
}

/** Puts a connection last, with the time of now. */
function restart(
  since: Map<DeadlineHolder, number>,
  connection: DeadlineHolder,
  nowMs: number,
): void {
  since.delete(connection);
  since.set(connection, nowMs);
}
