/**
 * Accepts clients and looks after their connections: how many, how long one may take over a
 * request, and how they end when the node stops.
 */
import type { Socket } from "bun";
import type { User } from "../access/user.ts";
import type { Context } from "../commands/command.ts";
import { ClientSession } from "../commands/client-session.ts";
import { counter, gauge, within, type Fact } from "../fact.ts";
import type { Logger } from "../observability/log.ts";
import { PLAIN, Reply, TAGGED, type Dialect } from "../protocol/reply.ts";
import { RespParser } from "../protocol/resp-parser.ts";
import { every, type Cancel } from "../timing.ts";
import { Connection, type SharedByConnections } from "./connection.ts";
import { JournalGate } from "./journal-gate.ts";
import { ReadAhead } from "./read-ahead.ts";
import { ReadingTurns } from "../reading-turns.ts";
import { Arrivals } from "../arrivals.ts";
import { ClientMemory } from "./client-memory.ts";
import { Deadlines } from "./deadlines.ts";
import type { Arrival, SocketHandler } from "./socket-handler.ts";
import { affordableConnections, openFiles } from "./open-files.ts";
import { handshakeFacts, Handshakes, LEAST_HANDSHAKES, type TlsService } from "./handshakes.ts";
import { Doors, type DoorSettings } from "./doors.ts";
import { ThrottledWarnings } from "./throttled-warnings.ts";
import { Reception, RESERVED_PLACES, RESERVES, type Reserve } from "./reception.ts";
import { PipelineSlice } from "./pipeline-slice.ts";

/** The keys of `[network]`, by the names of the config file. */
export interface NetworkSettings extends DoorSettings {
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
  /** Connections in places that are kept for peers and administration, and which places. */
  private readonly reserved = new Map<Connection, Reserve>();
  private readonly arrivals: Arrivals;
  private readonly reception: Reception;
  /** `max_connections`, or what the limit of open files allows. */
  private connectionLimit: number;
  /** `max_connections` when it was last looked at. */
  private wantedConnections = 0;
  private readonly shared: SharedByConnections;
  private readonly doors: Doors;
  /** Null when nobody is to speak TLS. */
  private readonly handshakes: Handshakes | null;
  private cancelTicks: Cancel = () => {};
  private nextId = 1;
  private brokenConnections = 0;
  /** Of the connections, those that speak TLS. */
  private secureConnections = 0;
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

  /** For INFO, too. */
  static readonly tlsFacts: readonly Fact<Listener>[] = [
    gauge(
      "tls_port",
      "port",
      "Where clients speak TLS; 0 where nobody does.",
      (it) => it.doors.tlsPort ?? 0,
    ),
    gauge(
      "tls_connections",
      "connections",
      "Of the connected clients, those that speak TLS.",
      (it) => (it.handshakes === null ? null : it.secureConnections),
    ),
    counter(
      "tls_broken_connections",
      "connections",
      "TLS connections that ended because what came was damaged, or was ended by a TLS alert.",
      (it) => (it.handshakes === null ? null : it.brokenConnections),
    ),
    ...within((it: Listener) => it.handshakes, handshakeFacts),
  ];

  /** `context` is completed with each connection's session as its requests run. */
  constructor(
    private readonly settings: NetworkSettings,
    private readonly context: Context,
    journalGate: JournalGate,
    private readonly logger: Logger,
    private readonly reservedFiles = 0,
    tls: TlsService | null = null,
  ) {
    this.connectionLimit = settings.max_connections;
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
      journalGate,
      notices,
      slice: new PipelineSlice(nowMs),
      reply: new Reply(max_output_bytes + GATHERED_BYTES),
      memory: new ClientMemory(budgetOf(settings), this.connections, runQueue, nowMs),
      deadlines: new Deadlines(() => settings.connection_timeout, statistics, notices, nowMs),
      nowMs,
      onDiscarded: (bytes) => this.collectDiscarded(bytes),
    };
    this.arrivals = new Arrivals(runQueue.timing);
    this.reception = new Reception({
      admit: (arrival, reserve, first) => this.admitReserved(arrival, reserve, first),
      onRefused: (address) => this.noteRefused(address),
      lineDialect: () => this.lineDialect,
      reply: this.shared.reply,
      nowMs,
    });
    this.doors = new Doors(settings, {
      onPlain: (socket) => this.meet(socket, (it) => this.accept(it)),
      onSecure: tls && ((socket) => this.meet(socket, (it) => this.handshakes!.receive(it))),
      onClose: (socket) => this.close(socket),
      onBroken: () => this.brokenConnections++,
      reportBug: context.services.reportBug,
      readAhead: this.shared.readAhead,
      timing: runQueue.timing,
    });
    this.handshakes = tls && this.createHandshakes(tls);
  }

  private createHandshakes(tls: TlsService): Handshakes {
    const { nowMs, runQueue, notices } = this.shared;
    return new Handshakes({
      ...tls,
      timeoutMs: () => this.settings.connection_timeout * 1_000,
      places: () => this.freePlaces,
      onSecure: (arrival) => this.accept(arrival),
      events: this.doors.events,
      runQueue,
      notices,
      nowMs,
    });
  }

  private get lineDialect(): Dialect {
    return this.settings.dialect === "tagged" ? TAGGED : PLAIN;
  }

  /** Some of the settings are others than before: takes what was made of them anew. */
  reconfigure(): void {
    const { settings, shared } = this;
    const { max_value_bytes, max_line_bytes, max_output_bytes, max_connections } = settings;
    shared.limits.maxLineBytes = max_line_bytes;
    shared.limits.maxOutputBytes = max_output_bytes;
    shared.parser.setLimits(max_value_bytes, max_value_bytes + max_line_bytes);
    shared.reply.maxBytes = max_output_bytes + GATHERED_BYTES;
    shared.memory.limitBytes = budgetOf(settings);
    if (max_connections !== this.wantedConnections) this.limitConnections();
  }

  /** The port for plain text, or for TLS where that is the only one. */
  get port(): number {
    return this.plainPort ?? this.tlsPort ?? this.settings.bind_port;
  }

  /** The port for plain text; the one the system chose when 0 was asked for. Null without one. */
  get plainPort(): number | null {
    return this.doors.plainPort;
  }

  /** The port for TLS; null without one. */
  get tlsPort(): number | null {
    return this.doors.tlsPort;
  }

  /** Begins to accept. Throws an OperationalError when a port is in use, for one. */
  start(): void {
    this.limitConnections();
    this.doors.open();
    this.cancelTicks = every(this.context.runQueue.timing, TICK_MS, () => this.tick());
  }

  /** Accepts no more, lets every connection finish what it is sending, and closes them all. */
  async stop(): Promise<void> {
    this.doors.close();
    this.handshakes?.close();
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

  /** Ends the connections of a user; returns how many. */
  endUser(user: User): number {
    let count = 0;
    for (const connection of this.connections) {
      // By name: clients elsewhere may be the default user in another way than those here.
      if (connection.session.user.name !== user.name) continue;
      connection.session.isClosing = true;
      connection.end();
      count++;
    }
    return count;
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
    this.wantedConnections = max_connections;
    const files = openFiles();
    const forHandshakes = this.handshakes === null ? 0 : LEAST_HANDSHAKES;
    const reserved = this.reservedFiles + RESERVED_PLACES + forHandshakes;
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

  /** Somebody is at the door. */
  private meet(socket: Socket<SocketHandler>, receive: (arrival: Arrival) => void): void {
    this.context.services.statistics.totalConnections++;
    // A client that has reset its connection before it was accepted has no address any more.
    if (socket.remoteAddress === undefined) return void socket.terminate();
    receive({ socket, address: addressOf(socket), isSecure: false, certificateName: null });
    this.arrivals.add(socket);
  }

  /** How many may still come in by ordinary places. */
  private get freePlaces(): number {
    return this.connectionLimit - (this.connections.size - this.reserved.size);
  }

  private accept(arrival: Arrival): void {
    // Those who are about to come in have taken files, too.
    const coming = Math.max(0, (this.handshakes?.pending ?? 0) - LEAST_HANDSHAKES);
    if (this.freePlaces > coming) this.admit(arrival);
    else this.reception.receive(arrival);
  }

  private admit({ socket, address, isSecure, certificateName }: Arrival): Connection {
    const session = new ClientSession(
      this.nextId++,
      address,
      this.shared.nowMs(),
      this.lineDialect,
      this.context.services.users.arrive(address, certificateName),
    );
    session.isSecure = isSecure;
    session.certificateName = certificateName;
    const connection = new Connection(socket, session, this.shared);
    socket.data = connection;
    this.connections.add(connection);
    if (isSecure) this.secureConnections++;
    this.context.services.statistics.activeConnections = this.connections.size;
    return connection;
  }

  private admitReserved(arrival: Arrival, reserve: Reserve, first: Uint8Array): boolean {
    let taken = 0;
    for (const other of this.reserved.values()) if (other === reserve) taken++;
    if (taken >= RESERVES[reserve]) return false;
    const connection = this.admit(arrival);
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
    if (handler.session.isSecure) this.secureConnections--;
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
    this.handshakes?.tick();
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
