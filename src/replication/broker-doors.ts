/** Where the embedded broker listens: in plain text, over TLS, or both. */
import { createServer, type Server, type Socket } from "node:net";
import {
  createServer as createTlsServer,
  type Server as TlsServer,
  type TLSSocket,
} from "node:tls";
import { formatHostPort, plainAddresses, type Plaintext } from "../config/address.ts";
import type { Logger } from "../observability/log.ts";
import { TLS_TERMS, type TlsMaterial } from "../security/tls-material.ts";

/** What TLS is served with. */
export interface BrokerTlsService {
  /** 0 takes a free one. */
  readonly port: number;
  /** What is in use now. */
  material(): TlsMaterial;
  readonly clientCertificates: "none" | "request" | "require";
}

/** Where to listen. */
export interface BrokerPlace {
  readonly address: string;
  /** For plain text; 0 takes a free one. */
  readonly port: number;
  /** Who may speak plain text; everybody unless given. */
  readonly plaintext?: Plaintext;
  readonly tls?: BrokerTlsService | null;
}

/** What a handshake may take, in ms. */
const HANDSHAKE_MS = 10_000;

/** See the file header. */
export class BrokerDoors {
  private readonly plain: Server[] = [];
  private secure: TlsServer | null = null;

  private constructor(
    private readonly place: BrokerPlace,
    private readonly logger: Logger,
  ) {}

  /** The port for plain text; null without one. */
  get port(): number | null {
    return this.plain.length === 0 ? null : portOf(this.plain[0]);
  }

  /** The port for TLS; null without one. */
  get tlsPort(): number | null {
    return this.secure && portOf(this.secure);
  }

  /**
   * Listens. `meet` is told of every connection and says whether it may stay, `accept` of those
   * that may say something. Rejects with an Error of one line when that is not possible.
   */
  static async open(
    place: BrokerPlace,
    logger: Logger,
    meet: (socket: Socket) => boolean,
    accept: (socket: Socket) => void,
  ): Promise<BrokerDoors> {
    const doors = new BrokerDoors(place, logger);
    try {
      for (const address of plainAddresses(place.address, place.plaintext ?? "on")) {
        const server = createServer((socket) => meet(socket) && accept(socket));
        await listen(server, address, doors.port ?? place.port, "bind_port");
        doors.plain.push(server);
      }
      if (place.tls) await doors.openSecure(place.tls, meet, accept);
    } catch (error) {
      await doors.close();
      throw error;
    }
    return doors;
  }

  /** Other certificates are in use: new connections see them. */
  noteCertificates(): void {
    const { tls } = this.place;
    if (tls) this.secure?.setSecureContext(contextOf(tls.material()));
  }

  /** Listens no more. Resolves when every connection has ended, too. */
  async close(): Promise<void> {
    const servers = [...this.plain, ...(this.secure === null ? [] : [this.secure])];
    await Promise.all(
      servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))),
    );
  }

  private async openSecure(
    tls: BrokerTlsService,
    meet: (socket: Socket) => boolean,
    accept: (socket: Socket) => void,
  ): Promise<void> {
    const { clientCertificates, port } = tls;
    const server = createTlsServer({
      ...contextOf(tls.material()),
      requestCert: clientCertificates !== "none",
      rejectUnauthorized: clientCertificates === "require",
      handshakeTimeout: HANDSHAKE_MS,
    });
    // Before the handshake, which takes a place, too.
    server.on("connection", (socket: Socket) => void meet(socket));
    server.on("secureConnection", (socket: TLSSocket) => {
      if (socket.destroyed) return;
      const hasOne = socket.getPeerCertificate()?.subject !== undefined;
      const isBad = hasOne && clientCertificates !== "none" && !socket.authorized;
      if (isBad) this.refuse(socket, socket.authorizationError);
      else accept(socket);
    });
    server.on("tlsClientError", (error, socket) => this.refuse(socket, error));
    await listen(server, this.place.address, port, "tls_port");
    this.secure = server;
  }

  private refuse(socket: TLSSocket, error: Error | null): void {
    const address = formatHostPort(socket.remoteAddress ?? "", socket.remotePort ?? 0);
    const problem = error?.message.replace(/^.*OPENSSL_internal:/, "") ?? "no valid certificate";
    this.logger.warn("The embedded broker sent away a TLS client", { address, problem });
    socket.destroy();
  }
}

function contextOf({ pem }: TlsMaterial): object {
  return { ...pem, ...TLS_TERMS };
}

function portOf(server: Server): number {
  return (server.address() as { port: number }).port;
}

async function listen(server: Server, host: string, port: number, key: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, resolve);
    });
  } catch (error) {
    throw new Error(describeListenError(error as NodeJS.ErrnoException, host, port, key));
  }
}

function describeListenError(
  error: NodeJS.ErrnoException,
  address: string,
  port: number,
  key: string,
): string {
  const place = `mqtt.embedded: cannot listen on ${formatHostPort(address, port)}`;
  if (error.code === "EADDRINUSE") {
    return `${place}: the port is in use; stop what uses it or set mqtt.embedded.${key}`;
  }
  if (error.code === "EACCES") {
    return `${place}: not allowed; choose a port from 1024 on`;
  }
  if (error.code === "EADDRNOTAVAIL") {
    return `${place}: this machine has no such address; set mqtt.embedded.bind_address`;
  }
  return `${place}: ${error.message}`;
}
