/** What commands know of the connection they serve. */
import type { User } from "../access/user.ts";
import { printable } from "../core/data/name.ts";
import { PLAIN, RESP2, type Dialect } from "../protocol/reply.ts";
import type { Link, LinkHandler } from "../ports.ts";
import type { TraceContext } from "../trace-context.ts";

/** Which of its requests a client wants replies to. */
export type WantedReplies = "all" | "none" | "all but the next" | "all but this";

/** The state of one client connection that commands read and change. */
export class ClientSession {
  /** Set by CLIENT SETNAME. */
  name = "";
  /** Whether the client speaks TLS. */
  isSecure = false;
  /**
   * The name in the client's TLS certificate, which was verified; null without one: over plain
   * text, when none was asked for or given, or when it holds no name. It is the subject's common
   * name, or without one the first DNS, email or URI name in the certificate.
   */
  certificateName: string | null = null;
  /** Set by CLIENT SETINFO. */
  library = "";
  /** Replies to lines: PLAIN or TAGGED. */
  lineDialect: Dialect;
  /** Replies to RESP requests: RESP2 or, after HELLO 3, RESP3. */
  respDialect: Dialect = RESP2;
  /** Whether the client monitors in RESP; else in lines. Set by MONITOR. */
  speaksResp = false;
  /** What its commands are parts of, as set by CLIENT TRACE and TRACE; null: of nothing yet. */
  trace: TraceContext | null = null;
  /** Set by CLIENT REPLY. */
  wantedReplies: WantedReplies = "all";
  /** Set by QUIT: no further request is read, and the connection ends after the reply. */
  isClosing = false;
  /** The connection is gone: nobody waits for replies any more. */
  isOver = false;
  /** Bytes that a command holds for its reply, which is still to come or to be sent. */
  heldBytes = 0;
  /** Who holds them, and gives them back when the connection is over. */
  held: { release(): void } | null = null;
  /** Called when `heldBytes` has changed. */
  onHeld = (): void => {};
  /**
   * Sends what is no reply; false when a reply is under way, so that it has to wait. A client that
   * has not read so much as `mostUnreadBytes` of what it was sent is told so, and let go.
   */
  push: (bytes: Uint8Array, mostUnreadBytes: number) => boolean = () => true;
  /** Set by PEER: the bytes after the request are no requests but belong to this. */
  upgrade: ((link: Link) => LinkHandler) | null = null;

  constructor(
    /** Unique among the connections of this node's run. */
    readonly id: number,
    /** Where the client is, `host:port`. */
    readonly address: string,
    /** By the monotonic clock. */
    readonly connectedAtMs: number,
    lineDialect: Dialect,
    /** Who the client is. */
    public user: User,
  ) {
    this.lineDialect = lineDialect;
  }

  /** A command holds so many bytes more, or less. */
  hold(bytes: number): void {
    if (this.isOver) return;
    this.heldBytes += bytes;
    this.onHeld();
  }

  /** Nobody waits for replies any more: what is held for them is given back. */
  end(): void {
    this.isOver = true;
    this.held?.release();
    this.held = null;
    this.heldBytes = 0;
  }

  /** How a line that is no reply begins and ends, for a client that monitors. */
  get monitorLine(): readonly [begin: string, end: string] {
    return this.speaksResp ? ["+", "\r\n"] : ["", this.lineDialect === PLAIN ? "\n" : "\r\n"];
  }

  /** The line about this connection in CLIENT LIST. `idleMs` since its last request. */
  describe(nowMs: number, idleMs: number): string {
    const age = Math.floor((nowMs - this.connectedAtMs) / 1000);
    const idle = Math.floor(idleMs / 1000);
    // What a client calls itself does not end the line.
    return printable(
      `id=${this.id} addr=${this.address} age=${age} idle=${idle} name=${this.name} ` +
        `db=0 resp=${this.respDialect === RESP2 ? 2 : 3} user=${this.user.name} lib-name=${this.library}`,
      Infinity,
    );
  }
}
