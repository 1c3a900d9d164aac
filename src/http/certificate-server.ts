/**
 * HTTP for clients with certificates. `Bun.serve` and this runtime's `node:https` cannot tell what
 * certificate a client has shown, but `node:tls` can. So TLS is spoken by that, and its connections
 * are handed to `node:http`. For ports that ask for certificates only: `Bun.serve` is faster.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream as NodeStream } from "node:stream/web";
import { createServer as createTlsServer, type TLSSocket, type TlsOptions } from "node:tls";
import { formatHostPort } from "../config/address.ts";
import { nameInCertificate } from "../security/certificate-name.ts";
import type { Timing } from "../timing.ts";

/** Time for a handshake, in ms. */
const HANDSHAKE_MS = 10_000;
/** What stands in a Host header that is one. */
const HOST = /^[\w.:[\]-]+$/;

/** Who sends a request. */
export interface Caller {
  /** `host:port`. */
  readonly address: string;
  /** The name in its certificate, which was verified; null without one. */
  readonly certificateName: string | null;
}

/** What one is made with. */
export interface CertificateServerOptions {
  readonly host: string;
  readonly port: number;
  /** Certificate, key, authorities, and the terms. */
  readonly tls: TlsOptions;
  /** Whether clients without a certificate are sent away. */
  readonly needsCertificate: boolean;
  /** A connection on which nothing moves for so long is ended. */
  readonly idleSeconds: number;
  readonly maxBodyBytes: number;
  readonly timing: Timing;
  answer(request: Request, caller: Caller): Promise<Response>;
  reportBug(error: unknown): void;
}

/** See the file header. */
export class CertificateServer {
  private readonly http: Server;
  private readonly tls;
  private readonly sockets = new Set<Socket>();
  private readonly names = new WeakMap<Socket, string | null>();

  /** Listens. Throws when that is not possible. */
  constructor(private readonly options: CertificateServerOptions) {
    const { host, port, tls, idleSeconds } = options;
    this.http = createServer((request, response) => void this.serve(request, response));
    this.http.keepAliveTimeout = idleSeconds * 1_000;
    const terms = { ...tls, requestCert: true, rejectUnauthorized: false };
    this.tls = createTlsServer(terms, (socket) => this.admit(socket));
    this.tls.on("connection", (socket) => this.begin(socket));
    // Who cannot shake hands is no trouble of this node's.
    this.tls.on("tlsClientError", (_error, socket) => socket.destroy());
    let problem: Error | null = null;
    this.tls.on("error", (error) => (problem = error));
    this.tls.listen(port, host);
    if (this.tls.address() === null) throw problem ?? new Error("the port is in use");
  }

  /** Where it listens. */
  get port(): number {
    return (this.tls.address() as AddressInfo | null)?.port ?? this.options.port;
  }

  /** Listens no more; ends connections that are there only if that is said. */
  async stop(endsConnections: boolean): Promise<void> {
    this.tls.close();
    if (!endsConnections) return;
    for (const socket of this.sockets) socket.destroy();
  }

  private begin(socket: Socket): void {
    this.sockets.add(socket);
    const cancel = this.options.timing.after(HANDSHAKE_MS, () => {
      if (!this.names.has(socket)) socket.destroy();
    });
    socket.once("close", () => {
      cancel();
      this.sockets.delete(socket);
    });
    socket.on("error", () => socket.destroy());
  }

  /** The handshake is done; who shows a certificate that is not good is nobody. */
  private admit(socket: TLSSocket): void {
    const { needsCertificate, idleSeconds } = this.options;
    const certificate = socket.getPeerCertificate();
    const hasOne = certificate?.subject !== undefined;
    if (!socket.authorized && (hasOne || needsCertificate)) return void socket.destroy();
    this.sockets.add(socket);
    socket.once("close", () => this.sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    this.names.set(socket, hasOne ? nameInCertificate(certificate) : null);
    socket.setTimeout(idleSeconds * 1_000, () => socket.destroy());
    this.http.emit("connection", socket);
  }

  private async serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { socket } = incoming;
    const abort = new AbortController();
    outgoing.once("close", () => {
      if (!outgoing.writableFinished) abort.abort();
      // What is left of a body that nobody wanted would be taken for the next request.
      if (!incoming.complete) socket.destroy();
    });
    try {
      const response = await this.respond(incoming, abort.signal);
      if (!incoming.complete) outgoing.shouldKeepAlive = false;
      outgoing.writeHead(response.status, Object.fromEntries(response.headers));
      if (response.body === null) return void outgoing.end();
      const body = Readable.fromWeb(response.body as NodeStream);
      // Who goes away before the end has had enough.
      await pipeline(body, outgoing).catch(() => {});
    } catch (error) {
      this.options.reportBug(error);
      socket.destroy();
    }
  }

  private async respond(incoming: IncomingMessage, signal: AbortSignal): Promise<Response> {
    const { options } = this;
    const { host = "", "content-length": announced = "0" } = incoming.headers;
    if (Number(announced) > options.maxBodyBytes) return plain("The body is too long", 413);
    if (!HOST.test(host) || !incoming.url?.startsWith("/")) {
      return plain("The request names no host that there could be", 400);
    }
    let request: Request;
    try {
      request = requestFrom(incoming, `https://${host}${incoming.url}`, signal);
    } catch {
      return plain("No such request is served here", 400);
    }
    const { remoteAddress = "", remotePort = 0 } = incoming.socket;
    const address = formatHostPort(remoteAddress, remotePort);
    const certificateName = this.names.get(incoming.socket) ?? null;
    return options.answer(request, { address, certificateName });
  }
}

/** Throws when it can be none: for its method, or its URL. */
function requestFrom(incoming: IncomingMessage, url: string, signal: AbortSignal): Request {
  const headers = new Headers();
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    for (const value of values ?? []) headers.append(name, value);
  }
  const { method = "GET" } = incoming;
  const hasBody = "content-length" in incoming.headers || "transfer-encoding" in incoming.headers;
  if (!hasBody || method === "GET" || method === "HEAD") {
    return new Request(url, { method, headers, signal });
  }
  const body = Readable.toWeb(incoming) as unknown as ReadableStream<Uint8Array>;
  return new Request(url, { method, headers, signal, body, duplex: "half" } as RequestInit);
}

function plain(body: string, status: number): Response {
  return new Response(`${body}\n`, { status });
}
