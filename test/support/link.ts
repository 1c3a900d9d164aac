/** A way to a TCP server that a test can cut and restore: what a network does when it is partitioned. */
import { connect, createServer, type Server, type Socket } from "node:net";

/** How long a line is busy with what it takes at a time, in ms. */
const PIECE_MS = 20;

/** Passes connections on to a port of 127.0.0.1. */
export class Link {
  private readonly sockets = new Set<Socket>();
  private isCut = false;

  private constructor(
    private readonly server: Server,
    /** The port to connect to instead. */
    readonly port: number,
    private readonly bytesASecond: number,
  ) {}

  /** Opens a way to a port, which takes so much in either direction. */
  static async to(target: number, bytesASecond = Infinity): Promise<Link> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const link = new Link(server, (server.address() as { port: number }).port, bytesASecond);
    server.on("connection", (socket) => link.pass(socket, target));
    return link;
  }

  /** Breaks the connections there are; from now on new ones break at once. */
  cut(): void {
    this.isCut = true;
    for (const socket of this.sockets) socket.destroy();
  }

  /** Lets connections through again. */
  restore(): void {
    this.isCut = false;
  }

  /** Cuts it for good. */
  close(): void {
    this.cut();
    this.server.close();
  }

  /** Passes on a little at a time, as a thin line does; nothing more is read meanwhile. */
  private drip(from: Socket, to: Socket): void {
    const pieceBytes = Math.max(1, Math.round((this.bytesASecond * PIECE_MS) / 1_000));
    from.on("data", (bytes: Buffer) => {
      from.pause();
      const passOn = (at: number): void => {
        const end = at + pieceBytes;
        to.write(bytes.subarray(at, end));
        setTimeout(() => (end < bytes.length ? passOn(end) : from.resume()), PIECE_MS);
      };
      passOn(0);
    });
  }

  private pass(socket: Socket, target: number): void {
    if (this.isCut) return void socket.destroy();
    const other = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [socket, other],
      [other, socket],
    ] as const) {
      this.sockets.add(from);
      if (this.bytesASecond === Infinity) from.pipe(to);
      else this.drip(from, to);
      from.on("error", () => {});
      from.on("close", () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }
}
