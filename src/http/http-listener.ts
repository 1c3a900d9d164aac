/**
 * The connections of the HTTP port: how many there may be, and how long each may wait. When there
 * are as many as may be, who comes next is let in at the cost of the one whose client has been
 * waited for the longest.
 */
import type { Socket, TCPSocketListener } from "bun";
import type { PeerCertificate } from "node:tls";
import { formatHostPort } from "../config/address.ts";
import { nameInCertificate } from "../security/certificate-name.ts";
import type { Series } from "../fact.ts";
import { Arrivals } from "../arrivals.ts";
import { LARGE_CHUNK_BYTES, ReadingTurns } from "../reading-turns.ts";
import { every, type Cancel, type Timing } from "../timing.ts";
import { HttpConnection, type Caller, type HttpRequest } from "./http-connection.ts";
import { HttpDate } from "./http-date.ts";

/** What one is made with. */
export interface HttpListenerOptions {
  readonly host: string;
  readonly timing: Timing;
  readonly mostConnections: number;
  /** How many bytes of requests may lie there that wait for the ones before them. */
  readonly mostAheadBytes: number;
  /** What time it is, in Unix ms; null while nobody knows. */
  wallMs(): number | null;
  /** What TLS is spoken with now; null for plain text. */
  tls(): HttpListenerTls | null;
  /** Answers a request of that client. */
  answer(request: HttpRequest, caller: Caller): Promise<Response>;
  /** Something went wrong that should never have. */
  onBug(error: unknown): void;
}

/** TLS, and whether clients are asked for certificates, and need one. */
export interface HttpListenerTls {
  readonly options: Bun.TLSOptions;
  readonly requestCert: boolean;
  readonly needsCertificate: boolean;
}

const TICK_MS = 500;
/**
 * An answer that has not begun after so long is held up: by a disk, or as the client's address has
 * guessed at passwords.
 */
const HELD_UP_MS = 250;

/** After so much was sent the garbage that it left is collected. */
const COLLECT_AFTER_BYTES = 32 * 1024 * 1024;
/** The same at the next tick: a list of many short keys leaves more than it is long. */
const COLLECT_AT_TICK_BYTES = 1024 * 1024;

type HttpSocket = Socket<HttpConnection | null>;

/** See the file header. */
export class HttpListener {
  /** For metrics. */
  static readonly series: readonly Series<HttpListener>[] = [
    {
      name: "http_connections",
      kind: "gauge",
      unit: "connections",
      help: "Connections to the HTTP port.",
      labels: [],
      read: (it) => [[[], it.connections.size]],
    },
    {
      name: "http_connection_limit",
      kind: "gauge",
      unit: "connections",
      help: "How many there may be.",
      labels: [],
      read: (it) => [[[], it.options.mostConnections]],
    },
    {
      name: "http_cut_connections",
      kind: "counter",
      unit: "connections",
      help: "Connections to the HTTP port that were closed as they took too long, or to make room for others.",
      labels: [],
      read: (it) => [[[], it.cutConnections]],
    },
  ];

  private readonly connections = new Set<HttpConnection>();
  private cutConnections = 0;
  /** Since garbage was collected last. */
  private sentBytes = 0;
  private readonly arrivals: Arrivals;
  private readonly readingTurns: ReadingTurns;
  private readonly date: HttpDate;
  private readonly cancelTicks: Cancel;
  private listener: TCPSocketListener<HttpConnection | null>;

  /** Begins to listen. Throws a system error. */
  constructor(
    private readonly options: HttpListenerOptions,
    port: number,
  ) {
    this.arrivals = new Arrivals(options.timing);
    this.readingTurns = new ReadingTurns(options.timing);
    this.date = new HttpDate(options.wallMs);
    this.listener = this.listen(port);
    this.cancelTicks = every(options.timing, TICK_MS, () => this.tick());
  }

  get port(): number {
    return this.listener.port;
  }

  /** Closes and opens the port in one turn of the event loop: with what TLS is spoken with now. */
  reopen(): void {
    const { port } = this;
    this.listener.stop(false);
    this.listener = this.listen(port);
  }

  /** Closes it, and all connections. */
  stop(): void {
    this.cancelTicks();
    this.listener.stop(true);
    for (const connection of this.connections) connection.cut();
  }

  private listen(port: number): TCPSocketListener<HttpConnection | null> {
    const tls = this.options.tls();
    return Bun.listen<HttpConnection | null>({
      hostname: this.options.host,
      port,
      data: null,
      ...(tls !== null && { tls: tls.options }),
      socket: {
        open: (socket) => this.admit(socket),
        handshake: (socket, isDone) => this.noteHandshake(socket, isDone, tls!),
        data: (socket, bytes) => this.take(socket, bytes),
        drain: (socket) => socket.data?.onDrain(),
        end: (socket) => socket.data?.onEnd(),
        close: (socket) => this.close(socket),
        error: (socket) => socket.terminate(),
      },
    });
  }

  private admit(socket: HttpSocket): void {
    const { options, connections } = this;
    const { timing, onBug } = options;
    const { remoteAddress, remotePort } = socket;
    socket.data = null;
    // One that was reset before it was accepted has no address any more.
    if (remoteAddress === undefined || !this.makeRoom()) return void socket.terminate();
    const address = formatHostPort(remoteAddress, remotePort);
    const answer = (request: HttpRequest): Promise<Response> =>
      options.answer(request, { address, certificateName: connection.certificateName });
    const { readingTurns } = this;
    const date = (): string | null => this.date.now();
    const onSent = (bytes: number): void => {
      this.sentBytes += bytes;
      this.collectSent(COLLECT_AFTER_BYTES);
    };
    const more = { timing, readingTurns, date, answer, onSent, onBug };
    const connection: HttpConnection = new HttpConnection(socket, more);
    socket.data = connection;
    this.arrivals.add(socket);
    connections.add(connection);
  }

  /** A handshake is over. `isDone` does not say whether the certificate shown in it is good. */
  private noteHandshake(socket: HttpSocket, isDone: boolean, tls: HttpListenerTls): void {
    if (!isDone) return void socket.terminate();
    if (!tls.requestCert) return;
    const shown = (socket as unknown as { getPeerCertificate(): unknown }).getPeerCertificate();
    const certificate = shown as PeerCertificate | undefined;
    const hasOne = certificate?.subject !== undefined;
    if (!socket.authorized && (hasOne || tls.needsCertificate)) return void socket.terminate();
    if (hasOne && socket.data) socket.data.certificateName = nameInCertificate(certificate);
  }

  private take(socket: HttpSocket, bytes: Uint8Array): void {
    socket.data?.onData(bytes);
    if (bytes.length >= LARGE_CHUNK_BYTES) this.boundAhead();
  }

  /**
   * A chunk may have half a megabyte of requests, and whoever reads no answer leaves it there. When
   * there are too many such bytes, those go who have been waited for the longest.
   */
  private boundAhead(): void {
    let bytes = 0;
    for (const each of this.connections) bytes += each.aheadBytes;
    while (bytes > this.options.mostAheadBytes) {
      const isGreedy = (it: HttpConnection): boolean => it.aheadBytes >= LARGE_CHUNK_BYTES;
      const first = this.earliest((it) => (isGreedy(it) ? it.waitingSinceMs : Infinity));
      if (first === null) return;
      bytes -= first.aheadBytes;
      this.end(first);
    }
  }

  /**
   * What answers were made of, the runtime would leave for long: it counts what was given back
   * already as memory in use, and so believes that there is not much to be gained.
   */
  private collectSent(mostBytes: number): void {
    if (this.sentBytes < mostBytes) return;
    this.sentBytes = 0;
    Bun.gc(false);
  }

  private end(connection: HttpConnection): void {
    this.cutConnections++;
    this.connections.delete(connection);
    connection.cut();
  }

  private makeRoom(): boolean {
    const { connections, options } = this;
    if (connections.size < options.mostConnections) return true;
    const beforeMs = options.timing.nowMs() - HELD_UP_MS;
    const first =
      this.earliest((it) => it.waitingSinceMs) ??
      this.earliest((it) => (it.askedSinceMs <= beforeMs ? it.askedSinceMs : Infinity));
    if (first !== null) this.end(first);
    // Whoever comes is cut off itself then.
    else this.cutConnections++;
    return first !== null;
  }

  /** The connection for which that is the earliest; null when it is never for all. */
  private earliest(sinceMs: (connection: HttpConnection) => number): HttpConnection | null {
    let [first, firstMs]: [HttpConnection | null, number] = [null, Infinity];
    for (const each of this.connections) {
      const ms = sinceMs(each);
      if (ms < firstMs) [first, firstMs] = [each, ms];
    }
    return first;
  }

  private close(socket: HttpSocket): void {
    const connection = socket.data;
    if (connection === null || connection === undefined) return;
    this.connections.delete(connection);
    connection.onClose();
  }

  private tick(): void {
    this.collectSent(COLLECT_AT_TICK_BYTES);
    const nowMs = this.options.timing.nowMs();
    for (const connection of this.connections) {
      if (!connection.isLate(nowMs)) continue;
      if (!connection.isIdle) this.cutConnections++;
      connection.cut();
    }
  }
}
