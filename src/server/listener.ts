/**
 * Accepts clients and looks after their connections: how many, how long one may take over a
 * request, and how they end when the node stops.
 */
import type { Socket, TCPSocketListener } from "bun";
import type { Context } from "../commands/command.ts";
import { Session } from "../commands/session.ts";
import type { Logger } from "../observability/log.ts";
import { PLAIN, Reply, TAGGED } from "../protocol/reply.ts";
import { RespParser } from "../protocol/resp-parser.ts";
import { runQueue } from "../timing.ts";
import { Connection, type Shared } from "./connection.ts";
import { JournalGate } from "./journal-gate.ts";
import { ReadAhead } from "./read-ahead.ts";
import { Notices } from "./notices.ts";
import { Slice } from "./slice.ts";

/** The keys of `[network]`, by the names of the config file. */
export interface NetworkSettings {
  readonly bind_address: string;
  readonly bind_port: number;
  readonly max_connections: number;
  /** Seconds a request may take from its first byte to its last. */
  readonly connection_timeout: number;
  readonly dialect: string;
  readonly max_line_bytes: number;
  readonly max_value_bytes: number;
  readonly max_output_bytes: number;
}

/** How often connections are checked against their time limits. */
const TICK_MS = 500;
/** A connection that was told the end has this long to close. */
const CLOSING_MS = 5_000;
/** After this much discarded input the garbage that it left is collected. */
const COLLECT_AFTER_BYTES = 4 * 1024 * 1024;
/** Replies may gather beyond one reply's limit while a chunk is worked through. */
const GATHERED_BYTES = 1024 * 1024;

/** The client port. */
export class Listener {
  private readonly connections = new Set<Connection>();
  private readonly shared: Shared;
  private listener: TCPSocketListener<Connection> | undefined;
  private ticker: ReturnType<typeof setInterval> | undefined;
  private nextId = 1;
  private discardedBytes = 0;
  private whenEmpty: (() => void) | undefined;

  /** `context` is completed with each connection's session as its requests run. */
  constructor(
    private readonly settings: NetworkSettings,
    private readonly context: Context,
    logger: Logger,
  ) {
    const { max_value_bytes, max_line_bytes, max_output_bytes } = settings;
    this.shared = {
      context,
      limits: { maxLineBytes: max_line_bytes, maxOutputBytes: max_output_bytes },
      parser: new RespParser(max_value_bytes, max_value_bytes + max_line_bytes),
      readAhead: new ReadAhead(context.store),
      runQueue,
      journalGate: new JournalGate(context.services.durability, runQueue),
      notices: new Notices(logger, Date.now),
      slice: new Slice(() => performance.now()),
      reply: new Reply(max_output_bytes + GATHERED_BYTES),
      halfSent: new Set(),
      closing: new Set(),
      nowMs: Date.now,
      onDiscarded: (bytes) => this.collectDiscarded(bytes),
    };
  }

  /** The port listened on; the one the system chose when 0 was asked for. */
  get port(): number {
    return this.listener?.port ?? this.settings.bind_port;
  }

  /** Begins to accept. Throws the system's error, EADDRINUSE for one. */
  start(): void {
    this.listener = Bun.listen<Connection>({
      hostname: this.settings.bind_address,
      port: this.settings.bind_port,
      // A client that has sent all its requests and shut down its side still reads replies.
      allowHalfOpen: true,
      socket: {
        open: (socket) => this.open(socket),
        data: (socket, chunk) => socket.data?.onData(chunk),
        drain: (socket) => socket.data?.onDrain(),
        end: (socket) => socket.data?.onEnd(),
        close: (socket) => this.close(socket),
        error: (socket, error) => {
          // What the system says of a connection is an event; anything else is a mistake of ours.
          if ((error as NodeJS.ErrnoException).syscall === undefined) {
            this.context.services.reportBug(error);
          }
          socket.data?.cut();
        },
      },
    });
    this.ticker = setInterval(() => this.tick(), TICK_MS);
  }

  /** Accepts no more, lets every connection finish what it is sending, and closes them all. */
  async stop(): Promise<void> {
    this.listener?.stop(false);
    const empty = new Promise<void>((resolve) => (this.whenEmpty = resolve));
    for (const connection of this.connections) connection.end();
    if (this.connections.size > 0) await empty;
    clearInterval(this.ticker);
  }

  /** The disk has failed: cuts the connections that wait for writes to be safe. */
  onFailure(): void {
    for (const connection of this.connections) connection.onFailure();
    this.shared.journalGate.onSafe();
  }

  /** A line about each connection, for CLIENT LIST. */
  *list(): Iterable<string> {
    const now = Date.now();
    for (const { session, lastActiveMs } of this.connections) {
      yield session.describe(now, now - lastActiveMs);
    }
  }

  /** Ends the connections with this id or address; returns how many. */
  kill(idOrAddress: string): number {
    let count = 0;
    for (const connection of this.connections) {
      const { session } = connection;
      if (String(session.id) !== idOrAddress && session.address !== idOrAddress) continue;
      session.isClosing = true;
      connection.end();
      count++;
    }
    return count;
  }

  private open(socket: Socket<Connection>): void {
    const { statistics } = this.context.services;
    statistics.totalConnections++;
    if (this.connections.size >= this.settings.max_connections) {
      statistics.refusedConnections++;
      // The line fits an empty send buffer.
      socket.write("ERROR: Too many connections\n");
      socket.shutdown();
      setTimeout(() => socket.terminate(), TICK_MS);
      return;
    }
    // A client that has reset its connection before it was accepted has no address any more.
    if (socket.remoteAddress === undefined) return void socket.terminate();
    const isIpv6 = socket.remoteAddress.includes(":");
    const host = isIpv6 ? `[${socket.remoteAddress}]` : socket.remoteAddress;
    const dialect = this.settings.dialect === "tagged" ? TAGGED : PLAIN;
    const address = `${host}:${socket.remotePort}`;
    const session = new Session(this.nextId++, address, Date.now(), dialect);
    const connection = new Connection(socket, session, this.shared);
    socket.data = connection;
    this.connections.add(connection);
    statistics.activeConnections = this.connections.size;
  }

  private close(socket: Socket<Connection>): void {
    const connection = socket.data;
    if (connection === undefined) return;
    connection.onClose();
    this.connections.delete(connection);
    this.context.services.statistics.activeConnections = this.connections.size;
    if (this.connections.size === 0) this.whenEmpty?.();
  }

  /** A stream that is skipped makes garbage faster than the runtime collects it by itself. */
  private collectDiscarded(bytes: number): void {
    this.discardedBytes += bytes;
    if (this.discardedBytes < COLLECT_AFTER_BYTES) return;
    this.discardedBytes = 0;
    Bun.gc(true);
  }

  private tick(): void {
    const { halfSent, closing } = this.shared;
    const now = Date.now();
    const { connection_timeout } = this.settings;
    // Both sets are in the order in which their members' time began.
    for (const connection of halfSent) {
      if (now - connection.sinceMs < connection_timeout * 1000) break;
      this.context.services.statistics.cutConnections++;
      connection.end((reply) =>
        reply.error("Invalid command", `not completed within ${connection_timeout} s; closing`),
      );
    }
    for (const connection of closing) {
      if (now - connection.sinceMs < CLOSING_MS) break;
      connection.cut();
    }
  }
}
