/**
 * The ports that clients come in by: one for plain text and one for TLS. Both begin as plain text
 * for the system and the runtime; at the latter TLS takes over (`handshakes.ts`).
 */
import type { Socket, TCPSocketListener } from "bun";
import { formatHostPort, plainAddresses, type Plaintext } from "../config/address.ts";
import { OperationalError } from "../operational-error.ts";
import type { Timing } from "../timing.ts";
import type { Handshake } from "./handshakes.ts";
import type { ReadAhead } from "./read-ahead.ts";
import { SmallChunks } from "./small-chunks.ts";
import type { SocketHandler } from "./socket-handler.ts";

/** Where to listen, by the names of the config file. */
export interface DoorSettings {
  readonly bind_address: string;
  readonly bind_port: number;
  readonly tls_port: number;
  readonly plaintext: Plaintext;
}

/** What is done with those who come. */
export interface DoorOptions {
  /** Somebody speaks plain text. */
  onPlain(socket: Socket<SocketHandler>): void;
  /** Somebody is to speak TLS; null when nobody is. */
  readonly onSecure: ((socket: Socket<SocketHandler>) => void) | null;
  onClose(socket: Socket<SocketHandler>): void;
  /** What came over TLS is not what its client sent. */
  onBroken(): void;
  /** A mistake of ours. */
  reportBug(error: Error): void;
  readonly readAhead: ReadAhead;
  readonly timing: Timing;
}

/** What comes makes no TLS any more. */
const BROKEN_TLS = /^(EPROTO|ERR_SSL_.*)$/;

/** See the file header. */
export class Doors {
  private readonly plain: TCPSocketListener<SocketHandler>[] = [];
  private secure: TCPSocketListener<SocketHandler> | null = null;
  private readonly smallChunks: SmallChunks;

  constructor(
    private readonly settings: DoorSettings,
    private readonly options: DoorOptions,
  ) {
    const { readAhead, timing } = options;
    const onError = (socket: Socket<SocketHandler>, error: Error): void =>
      this.onError(socket, error);
    this.smallChunks = new SmallChunks({ readAhead, timing, onError });
  }

  /** The port for plain text; the one the system chose when 0 was asked for. Null without one. */
  get plainPort(): number | null {
    return this.plain[0]?.port ?? null;
  }

  /** The port for TLS; null without one. */
  get tlsPort(): number | null {
    return this.secure?.port ?? null;
  }

  /** Begins to accept. Throws an OperationalError when a port is in use, for one. */
  open(): void {
    const { bind_address, bind_port, tls_port, plaintext } = this.settings;
    const { onPlain, onSecure } = this.options;
    try {
      for (const address of plainAddresses(bind_address, plaintext)) {
        const port = this.plainPort ?? bind_port;
        this.plain.push(this.listen(address, port, "network.bind_port", onPlain));
      }
      if (onSecure === null) return;
      this.secure = this.listen(bind_address, tls_port, "network.tls_port", onSecure);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Accepts no more. Who is in stays, and what has come is handed on. */
  close(): void {
    this.smallChunks.flush();
    for (const door of this.plain) door.stop(false);
    this.secure?.stop(false);
  }

  /** What a socket is heard with: whoever has it is its `data`. */
  get events() {
    const { onClose } = this.options;
    const { smallChunks } = this;
    return {
      // Not a Buffer, whose slice() makes no copy and keeps the whole chunk.
      binaryType: "uint8array" as const,
      open() {},
      data: (socket: Socket<SocketHandler>, chunk: Uint8Array) => smallChunks.add(socket, chunk),
      drain: (socket: Socket<SocketHandler>) => socket.data?.onDrain(),
      end(socket: Socket<SocketHandler>) {
        smallChunks.flush();
        socket.data?.onEnd();
      },
      close(socket: Socket<SocketHandler>) {
        smallChunks.flush();
        onClose(socket);
      },
      /** Of TLS only, and the first that is heard of it. */
      handshake: (socket: Socket<SocketHandler>, isDone: boolean, error: Error | null) =>
        (socket.data as Handshake).onHandshake(socket, isDone, error),
      error: (socket: Socket<SocketHandler>, error: Error) => this.onError(socket, error),
    };
  }

  private onError(socket: Socket<SocketHandler>, error: NodeJS.ErrnoException): void {
    const { onBroken, reportBug } = this.options;
    // What the system or TLS say of a connection is an event, anything else a mistake of ours.
    if (BROKEN_TLS.test(error.code ?? "")) onBroken();
    else if (error.syscall === undefined) reportBug(error);
    socket.terminate();
  }

  private listen(
    hostname: string,
    port: number,
    key: string,
    open: (socket: Socket<SocketHandler>) => void,
  ): TCPSocketListener<SocketHandler> {
    const { handshake: _, ...events } = this.events;
    try {
      // A client that has sent all its requests and shut down its side still reads replies.
      return Bun.listen<SocketHandler>({
        hostname,
        port,
        allowHalfOpen: true,
        socket: { ...events, open },
      });
    } catch (error) {
      throw listenProblem(error, hostname, port, key);
    }
  }
}

function listenProblem(error: unknown, host: string, port: number, key: string): OperationalError {
  const { code, message } = error as { code?: string; message?: string };
  const why =
    code === "EADDRINUSE"
      ? `the port is in use; stop what uses it or set another ${key}`
      : `${code ?? message}; check network.bind_address and ${key}`;
  return new OperationalError(`cannot listen on ${formatHostPort(host, port)}: ${why}`);
}
