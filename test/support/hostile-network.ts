/**
 * A network between two nodes that belongs to somebody else: he sees each connection from one to the
 * other, and does with what is said on it what he likes. He knows the format: he takes what is said
 * apart into its units (`sealed-format.ts`).
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** A piece of what is said that means something by itself. */
export interface Unit {
  /** The request that begins all, an opening, an answer, a refusal, a message, or no such thing. */
  readonly kind: "line" | "opening" | "answer" | "refusal" | "message" | "other";
  readonly fromCaller: boolean;
  /** Which unit of its connection it is, both directions together. */
  readonly index: number;
  readonly bytes: Buffer;
}

/** What goes on in place of a unit; null ends the connection there. */
export type Meddling = (unit: Unit) => readonly Uint8Array[] | null;

const HONEST: Meddling = ({ bytes }) => [bytes];

/** See the file header. A way to one port of 127.0.0.1. */
export class HostileNetwork {
  /** What is done to what is said. */
  meddle: Meddling = HONEST;
  /** All that was said, by connection. */
  readonly heard: Unit[][] = [];
  private readonly sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    private readonly target: number,
  ) {}

  /** Takes over the way to a port. */
  static async to(target: number): Promise<HostileNetwork> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const network = new HostileNetwork(server, target);
    server.on("connection", (socket) => network.pass(socket));
    return network;
  }

  /** Where the other node seems to be. */
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Lets everything through. */
  relent(): void {
    this.meddle = HONEST;
  }

  /** What was said last, on one connection. */
  get lastHeard(): readonly Unit[] {
    return this.heard.at(-1) ?? [];
  }

  /** All bytes of all connections. */
  everything(): Buffer {
    return Buffer.concat(this.heard.flat().map(({ bytes }) => bytes));
  }

  /** Ends it. */
  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private pass(caller: Socket): void {
    const callee = connect(this.target, "127.0.0.1");
    const units: Unit[] = [];
    this.heard.push(units);
    const end = (): void => {
      caller.destroy();
      callee.destroy();
    };
    for (const [from, to, fromCaller] of [
      [caller, callee, true],
      [callee, caller, false],
    ] as const) {
      const splitter = new Splitter(fromCaller);
      this.sockets.add(from);
      from.on("data", (chunk: Buffer) => {
        for (const [kind, bytes] of splitter.push(chunk)) {
          const unit = { kind, fromCaller, index: units.length, bytes };
          units.push(unit);
          const passed = this.meddle(unit);
          if (passed === null) return end();
          for (const piece of passed) if (!to.destroyed) to.write(piece);
        }
      });
      from.on("end", () => to.end());
      from.on("error", () => {});
      from.on("close", () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }
}

/** Takes one direction apart. */
class Splitter {
  private rest: Buffer = Buffer.alloc(0);
  private isBegun = false;
  private isSealed = false;

  constructor(private readonly fromCaller: boolean) {}

  *push(chunk: Buffer): Generator<[Unit["kind"], Buffer]> {
    this.rest = Buffer.concat([this.rest, chunk]);
    for (let next; (next = this.next()) !== null;) {
      const [kind, length] = next;
      if (this.rest.length < length || length === 0) return;
      const bytes = this.rest.subarray(0, length);
      this.rest = this.rest.subarray(length);
      yield [kind, bytes];
    }
  }

  /** What comes next and how long it is, 0 for not known yet; null when nothing has come. */
  private next(): [Unit["kind"], number] | null {
    const { rest } = this;
    if (rest.length === 0) return null;
    if (this.fromCaller && !this.isBegun) {
      const length = rest.indexOf(10) + 1;
      if (length > 0) this.isBegun = true;
      return ["line", length];
    }
    if (this.isSealed) return ["message", rest.length < 2 ? 0 : 2 + rest.readUInt16BE(0)];
    const first = rest[0];
    if (first === 0xc4 && !this.fromCaller) return ["refusal", 2];
    const isOpening = this.fromCaller && (first === 0xc1 || first === 0xc2);
    const isAnswer = !this.fromCaller && first === 0xc3;
    if (!isOpening && !isAnswer) return ["other", rest.length];
    const headerBytes = isAnswer ? 3 : 7;
    if (rest.length < headerBytes) return ["other", 0];
    const length = headerBytes + rest.readUInt16BE(headerBytes - 2);
    if (rest.length >= length) this.isSealed = true;
    return [isOpening ? "opening" : "answer", length];
  }
}
