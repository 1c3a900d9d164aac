/** A server that takes what MQTT clients say first, and answers nothing. */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import mqttPacket, { type IConnectPacket } from "mqtt-packet";
import type { CertificateFiles } from "./certificates.ts";
import { readFileSync } from "node:fs";

/** How a client came. */
export interface Arrival {
  readonly packet: IConnectPacket;
  /** What TLS had to say; null without. */
  readonly tls: {
    readonly serverName: string | false;
    readonly alpn: string | false;
    readonly certificateName: string | undefined;
  } | null;
}

/** See the file header. */
export class ConnectPackets {
  readonly arrivals: Arrival[] = [];
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  /** Listens; with TLS if there is a certificate. */
  static async listen(files?: CertificateFiles & { caFile: string }): Promise<ConnectPackets> {
    const server =
      files === undefined
        ? createServer()
        : createTlsServer({
            cert: readFileSync(files.cert),
            key: readFileSync(files.key),
            ca: readFileSync(files.caFile),
            requestCert: true,
            rejectUnauthorized: false,
            ALPNProtocols: ["mqtt", "other"],
          });
    const it = new ConnectPackets(server);
    server.on(files === undefined ? "connection" : "secureConnection", (socket: Socket) =>
      it.take(socket, files !== undefined),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return it;
  }

  /** Its port. */
  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  /** Hangs up and listens no more. */
  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private take(socket: Socket, isTls: boolean): void {
    this.sockets.add(socket);
    socket.on("error", () => {});
    const parser = mqttPacket.parser();
    parser.on("packet", (packet) => {
      if (packet.cmd !== "connect") return;
      const secure = socket as TLSSocket & { servername: string | false };
      const tls = isTls
        ? {
            serverName: secure.servername,
            alpn: secure.alpnProtocol ?? false,
            certificateName: secure.getPeerCertificate()?.subject?.CN as string | undefined,
          }
        : null;
      this.arrivals.push({ packet, tls });
      // The next one comes when the settings change.
    });
    socket.on("data", (bytes) => parser.parse(bytes as Buffer));
  }
}
