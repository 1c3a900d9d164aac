/** A client for tests that talks lines over TCP, byte for byte what somebody types into `nc`. */
import { connect, type Socket } from "node:net";
import { DEADLINE_MS } from "./eventually.ts";

/** One connection. Replies are queued as they arrive, so `send` may be called in a row (pipelining). */
export class LineClient {
  /** Resolves when the connection is over, whichever side ended it. */
  readonly closed: Promise<void>;
  private pending = Buffer.alloc(0);
  private ended = false;
  private lastRead: Promise<unknown> = Promise.resolve();
  private wake: () => void = () => {};

  private constructor(private readonly socket: Socket) {
    socket.on("data", (chunk: Buffer) => {
      this.pending = Buffer.concat([this.pending, chunk]);
      this.wake();
    });
    socket.on("error", () => {}); // "close" follows
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    socket.on("close", () => {
      this.ended = true;
      this.wake();
      resolve();
    });
  }

  /** Connects; rejects when nobody listens there. */
  static async connect(port: number, host = "127.0.0.1"): Promise<LineClient> {
    const socket = connect({ host, port, noDelay: true });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once("connect", resolve).once("error", reject);
    await promise;
    return new LineClient(socket);
  }

  /** Sends one line, its LF added here, and awaits the first line of the reply. */
  send(line: string): Promise<string> {
    this.sendRaw(`${line}\n`);
    return this.readLine();
  }

  /** Sends bytes as they are. */
  sendRaw(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  /** The next line without its line end. Rejects after a deadline, or when the connection ends first. */
  async readLine(): Promise<string> {
    return (await this.takeLine()).toString().replace(/\r?\n$/, "");
  }

  /** The next line with its line end, byte for byte, as latin1. */
  async readRawLine(): Promise<string> {
    return (await this.takeLine()).toString("latin1");
  }

  /** That many lines, in order. */
  async readLines(count: number): Promise<string[]> {
    const lines: string[] = [];
    while (lines.length < count) lines.push(await this.readLine());
    return lines;
  }

  /** Exactly that many bytes, for replies that are not lines (RESP). */
  readBytes(count: number): Promise<Buffer> {
    return this.take(() => (this.pending.length < count ? -1 : count));
  }

  /** All that has come and was not taken, as latin1. */
  unread(): string {
    return this.pending.toString("latin1");
  }

  /** Ends the connection; resolves when it is over. */
  close(): Promise<void> {
    this.socket.destroy();
    return this.closed;
  }

  private takeLine(): Promise<Buffer> {
    return this.take(() => this.pending.indexOf(10) + 1 || -1);
  }

  /** Reads take turns, so that each gets its own reply. */
  private take(measure: () => number): Promise<Buffer> {
    const piece = this.lastRead.then(() => this.cut(measure));
    this.lastRead = piece.catch(() => {});
    return piece;
  }

  /** Waits until `measure` finds a whole piece (-1: not yet), then cuts that many bytes off. */
  private async cut(measure: () => number): Promise<Buffer> {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const length = measure();
      if (length !== -1) {
        const piece = this.pending.subarray(0, length);
        this.pending = this.pending.subarray(length);
        return piece;
      }
      const found = `so far ${JSON.stringify(this.pending.toString().slice(0, 200))}`;
      if (this.ended) throw new Error(`the connection was closed before a reply, ${found}`);
      if (Date.now() >= deadline) throw new Error(`no reply within ${DEADLINE_MS} ms, ${found}`);
      await this.arrival(deadline);
    }
  }

  private arrival(deadline: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, deadline - Date.now());
    this.wake = () => {
      clearTimeout(timer);
      resolve();
    };
    return promise;
  }
}
