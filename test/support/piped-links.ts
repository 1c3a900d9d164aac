/** Two ends of a connection within a test, in the place of sockets: in order, late, and held back. */
import type { Link, LinkHandler } from "../../src/ports.ts";
import type { Timing } from "../../src/timing.ts";

/** How long bytes are under way, in ms. */
const LATENCY_MS = 1;

/** One end. What its other end has not read is queued here. */
export class PipedLink implements Link {
  queuedBytes = 0;
  /** How often it was told to read no more. */
  pauses = 0;
  /** Who gets what comes; what came before is kept until there is somebody. */
  handler: LinkHandler | null = null;
  private peer!: PipedLink;
  private isPaused = false;
  private readonly unread: (() => void)[] = [];

  private constructor(
    readonly address: string,
    private readonly timing: Timing,
  ) {}

  /** A connection between who is at the one address and who is at the other. */
  static pair(timing: Timing, addresses: readonly [string, string]): [PipedLink, PipedLink] {
    const [first, second] = addresses;
    const ends = [new PipedLink(second, timing), new PipedLink(first, timing)] as const;
    ends[0].peer = ends[1];
    ends[1].peer = ends[0];
    return [ends[0], ends[1]];
  }

  send(bytes: Uint8Array): void {
    const copy = bytes.slice();
    this.queuedBytes += copy.length;
    this.carry(() => {
      this.queuedBytes -= copy.length;
      this.peer.handler?.receive(copy);
      if (this.queuedBytes === 0) this.handler?.drained();
    });
  }

  pause(): void {
    this.isPaused = true;
    this.pauses++;
  }

  resume(): void {
    this.isPaused = false;
    this.timing.soon(() => this.read());
  }

  end(): void {
    this.handler = null;
    this.carry(() => this.peer.handler?.closed());
  }

  private carry(arrival: () => void): void {
    this.timing.after(LATENCY_MS, () => {
      this.peer.unread.push(arrival);
      this.peer.read();
    });
  }

  private read(): void {
    while (!this.isPaused && this.unread.length > 0) this.unread.shift()!();
  }
}
