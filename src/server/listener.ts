/**
 * Accepts clients and looks after their connections: how many, how long one may take over a
 * request, and how they end when the node stops.
 */
import type { Socket, TCPSocketListener } from "bun";
import type { Context } from "../commands/command.ts";
import { ClientSession } from "../commands/client-session.ts";
import { counter, gauge, type Fact } from "../fact.ts";
import type { Logger } from "../observability/log.ts";
import { PLAIN, Reply, TAGGED, type Dialect } from "../protocol/reply.ts";
import { RespParser } from "../protocol/resp-parser.ts";
import { every, type Cancel } from "../timing.ts";
import { Connection, type SharedByConnections } from "./connection.ts";
import { JournalGate } from "./journal-gate.ts";
import { ReadAhead } from "./read-ahead.ts";
import { ReadingTurns } from "../reading-turns.ts";
import { ClientMemory } from "./client-memory.ts";
import { Deadlines } from "./deadlines.ts";
import type { SocketHandler } from "./socket-handler.ts";
import { affordableConnections, openFiles } from "./open-files.ts";
import { ThrottledWarnings } from "./throttled-warnings.ts";
import { Reception, RESERVED_PLACES, RESERVES, type Reserve } from "./reception.ts";
import { PipelineSlice } from "./pipeline-slice.ts";

/** The keys of `[network]`, by the names of the config file. */
export interface NetworkSettings {
  readonly bind_address: string;
  readonly bind_port: number;
  readonly max_connections: number;
  /** Seconds a request may take from its first byte to its last. */
  readonly connection_timeout: number;
  /** Seconds a client may be silent between requests; 0 for ever. */
  readonly idle_timeout: number;
  readonly dialect: string;
  readonly max_line_bytes: number;
  readonly max_value_bytes: number;
  readonly max_output_bytes: number;
  /** MiB held for all clients together. */
  readonly max_client_memory_mb: number;
}

/** How often connections are checked against their time limits. */
const TICK_MS = 500;
/**
 * One that has been silent for as long has long had all replies, and gets no more time than this.
 */
const SILENT_CLOSING_MS = 500;
/** After this much discarded input the garbage that it left is collected. */
const COLLECT_AFTER_BYTES = 4 * 1024 * 1024;
/** After this much, without waiting for the end of a peak. */
const COLLECT_AT_ONCE_BYTES = 64 * 1024 * 1024;
/** Replies may gather beyond one reply's limit while a chunk is worked through. */
const GATHERED_BYTES = 1024 * 1024;

/** The client port. */
export class Listener {
  private readonly connections = new Set<Connection>();
  /** Those of them in places that are kept for what they do. */
  private readonly reserved = new Map<Connection, Reserve>();
  private readonly reception: Reception;
  /** `max_connections`, or what the limit of open files allows. */
  private connectionLimit: number;
  private readonly shared: SharedByConnections;
  private listener: TCPSocketListener<SocketHandler> | undefined;
  private cancelTicks: Cancel = () => {};
  private readonly lineDialect: Dialect;
  private nextId = 1;
  private discardedBytes = 0;
  private returnedBefore = 0;
  private whenEmpty: (() => void) | undefined;

  /** For INFO. */
  static readonly facts: readonly Fact<Listener>[] = [
    gauge(
      "connection_limit",
      "connections",
      "`network.max_connections`, or less when the limit of open files is too low for it.",
      (it) => it.connectionLimit,
    ),
    gauge(
      "reserved_connections",
      "connections",
      "Connections in the places kept for peers and administration.",
      (it) => it.reserved.size,
    ),
    gauge(
      "client_memory_bytes",
      "bytes",
      "What clients make this node hold: requests in part, and replies that are not read.",
      (it) => it.shared.memory.totalBytes,
    ),
    gauge(
      "client_memory_limit_bytes",
      "bytes",
      "`network.max_client_memory_mb`, or twice the largest request or reply if that is more.",
      (it) => it.shared.memory.limitBytes,
    ),
    gauge(
      "held_back_connections",
      "connections",
      "Connections not read from for now, because memory for clients is short.",
      (it) => it.shared.memory.heldBackCount,
    ),
    counter(
      "memory_cut_connections",
      "connections",
      "Of the cut ones, those whose memory was needed.",
      (it) => it.context.services.statistics.memoryCutConnections,
    ),
  ];

  /** `context` is completed with each connection's session as its requests run. */
  constructor(
    private readonly settings: NetworkSettings,
    private readonly context: Context,
    private readonly logger: Logger,
    private readonly reservedFiles = 0,
  ) {
    this.connectionLimit = settings.max_connections;
    this.lineDialect = settings.dialect === "tagged" ? TAGGED : PLAIN;
    const { max_value_bytes, max_line_bytes, max_output_bytes } = settings;
    const { runQueue } = context;
    const { nowMs } = runQueue.timing;
    const { statistics } = context.services;
    const notices = new ThrottledWarnings(logger, nowMs);
    this.shared = {
      context,
      limits: { maxLineBytes: max_line_bytes, maxOutputBytes: max_output_bytes },
      parser: new RespParser(max_value_bytes, max_value_bytes + max_line_bytes),
      readAhead: new ReadAhead(context.store),
      runQueue,
      readingTurns: new ReadingTurns(runQueue.timing),
      journalGate: new JournalGate(context.services.durability, runQueue),
      notices,
      slice: new PipelineSlice(nowMs),
      reply: new Reply(max_output_bytes + GATHERED_BYTES),
      memory: new ClientMemory(budgetOf(settings), this.connections, runQueue, nowMs),
      deadlines: new Deadlines(settings.connection_timeout, statistics, notices, nowMs),
      nowMs,
      onDiscarded: (bytes) => this.collectDiscarded(bytes),
    };
    this.reception = new Reception({
      admit: (socket, reserve, first) => this.admitReserved(socket, reserve, first),
      onRefused: (address) => this.noteRefused(address),
      lineDialect: this.lineDialect,
      reply: this.shared.reply,
      nowMs,
    });
  }

  /** The port listened on; the one the system chose when 0 was asked for. */
  get port(): number {
    return this.listener?.port ?? this.settings.bind_port;
  }

  /** Begins to accept. Throws the system's error, EADDRINUSE for one. */
  start(): void {
    this.limitConnections();
    this.listener = Bun.listen<SocketHandler>({
      hostname: this.settings.bind_address,
      port: this.settings.bind_port,
      // A client that has sent all its requests and shut down its side still reads replies.
      allowHalfOpen: true,
      socket: {
        // Not a Buffer, whose slice() makes no copy and keeps the whole chunk.
        binaryType: "uint8array",
        open: (socket) => this.accept(socket),
        data: (socket, chunk) => socket.data?.onData(chunk),
        drain: (socket) => socket.data?.onDrain(),
        end: (socket) => socket.data?.onEnd(),
        close: (socket) => this.close(socket),
        error: (socket, error) => {
          // What the system says of a connection is an event; anything else is a mistake of ours.
          if ((error as NodeJS.ErrnoException).syscall === undefined) {
            this.context.services.reportBug(error);
          }
          socket.terminate();
        },
      },
    });
    this.cancelTicks = every(this.context.runQueue.timing, TICK_MS, () => this.tick());
  }

  /** Accepts no more, lets every connection finish what it is sending, and closes them all. */
  async stop(): Promise<void> {
    this.listener?.stop(false);
    this.reception.close();
    this.shared.deadlines.isLast = true;
    const empty = new Promise<void>((resolve) => (this.whenEmpty = resolve));
    const sinceMs = this.shared.nowMs() - SILENT_CLOSING_MS;
    const silent = [...this.connections].filter((it) => it.isIdle && it.lastActiveMs <= sinceMs);
    for (const connection of this.connections) connection.end();
    // Many clients notice the end of a connection only when they need it next.
    const cancel = this.context.runQueue.timing.after(SILENT_CLOSING_MS, () => {
      for (const connection of silent) connection.cut();
    });
    if (this.connections.size > 0) await empty;
    cancel();
    this.cancelTicks();
  }

  /** The disk has failed: cuts the connections that wait for writes to be safe. */
  onFailure(): void {
    for (const connection of this.connections) connection.onFailure();
    this.shared.journalGate.onSafe();
  }

  /** A line about each connection, for CLIENT LIST. */
  *list(): Iterable<string> {
    const now = this.shared.nowMs();
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

  /**
   * Takes no more clients than files can be opened for, beside those that the node itself needs.
   */
  private limitConnections(): void {
    const { max_connections } = this.settings;
    const files = openFiles();
    const reserved = this.reservedFiles + RESERVED_PLACES;
    this.connectionLimit = affordableConnections(max_connections, reserved, files);
    if (files === null || this.connectionLimit === max_connections) return;
    this.logger.warn(
      `Taking ${this.connectionLimit} connections instead of network.max_connections = ` +
        `${max_connections}, for which the limit of open files is too low`,
      {
        limit: files.limit,
        needed: max_connections + files.open + reserved,
        remedy: "ulimit -n, or LimitNOFILE= in a systemd unit",
      },
    );
  }

  private accept(socket: Socket<SocketHandler>): void {
    this.context.services.statistics.totalConnections++;
    // A client that has reset its connection before it was accepted has no address any more.
    if (socket.remoteAddress === undefined) return void socket.terminate();
    if (this.connections.size - this.reserved.size < this.connectionLimit) this.admit(socket);
    else this.reception.receive(socket, addressOf(socket));
  }

  private admit(socket: Socket<SocketHandler>): Connection {
    const session = new ClientSession(
      this.nextId++,
      addressOf(socket),
      this.shared.nowMs(),
      this.lineDialect,
    );
    const connection = new Connection(socket, session, this.shared);
    socket.data = connection;
    this.connections.add(connection);
    this.context.services.statistics.activeConnections = this.connections.size;
    return connection;
  }

  private admitReserved(
    socket: Socket<SocketHandler>,
    reserve: Reserve,
    first: Uint8Array,
  ): boolean {
    let taken = 0;
    for (const other of this.reserved.values()) if (other === reserve) taken++;
    if (taken >= RESERVES[reserve]) return false;
    const connection = this.admit(socket);
    this.reserved.set(connection, reserve);
    connection.onData(first);
    return true;
  }

  private noteRefused(address: string): void {
    this.context.services.statistics.refusedConnections++;
    const limit = this.connectionLimit;
    this.shared.notices.warn("Refused a connection, there are as many as may be", {
      address,
      limit,
    });
  }

  private close(socket: Socket<SocketHandler>): void {
    const handler = socket.data;
    if (handler === undefined) return;
    handler.onClose();
    if (!(handler instanceof Connection)) return;
    this.connections.delete(handler);
    this.reserved.delete(handler);
    this.context.services.statistics.activeConnections = this.connections.size;
    if (this.connections.size === 0) this.whenEmpty?.();
  }

  /** A stream that is skipped makes garbage faster than the runtime collects it by itself. */
  private collectDiscarded(bytes: number): void {
    this.discardedBytes += bytes;
    if (this.discardedBytes < COLLECT_AFTER_BYTES) return;
    this.discardedBytes = 0;
    Bun.gc(false);
  }

  /**
   * After a peak its memory is given back, even if nothing is done any more that would need some.
   */
  private collectReturned(): void {
    const { memory } = this.shared;
    const { returnedBytes } = memory;
    const isOver = returnedBytes === this.returnedBefore || returnedBytes >= COLLECT_AT_ONCE_BYTES;
    this.returnedBefore = returnedBytes;
    if (returnedBytes < COLLECT_AFTER_BYTES || !isOver) return;
    memory.returnedBytes = 0;
    Bun.gc(false);
  }

  private tick(): void {
    const { deadlines, memory } = this.shared;
    deadlines.tick();
    memory.tick();
    this.collectReturned();
    this.reception.tick();
    this.endIdle(this.shared.nowMs());
  }

  /** Ends connections that have been silent for too long, without a word, as Redis does. */
  private endIdle(now: number): void {
    const { idle_timeout, connection_timeout } = this.settings;
    const { statistics } = this.context.services;
    const end = (connection: Connection, seconds: number): void => {
      if (!connection.isIdle || now - connection.lastActiveMs < seconds * 1000) return;
      statistics.idleConnections++;
      connection.end();
    };
    if (idle_timeout > 0) for (const each of this.connections) end(each, idle_timeout);
    // A place that is kept for administration is not to be kept by one.
    for (const [each, reserve] of this.reserved) {
      if (reserve === "administration") end(each, connection_timeout);
    }
  }
}

/** Room for the largest request or reply, and as much again for everybody else. */
function budgetOf(settings: NetworkSettings): number {
  const { max_client_memory_mb, max_value_bytes, max_line_bytes, max_output_bytes } = settings;
  const largest = Math.max(max_value_bytes + max_line_bytes, max_output_bytes);
  return Math.max(max_client_memory_mb * 1_048_576, 2 * largest);
}

function addressOf({ remoteAddress, remotePort }: Socket<SocketHandler>): string {
  const host = remoteAddress.includes(":") ? `[${remoteAddress}]` : remoteAddress;
  return `${host}:${remotePort}`;
}
