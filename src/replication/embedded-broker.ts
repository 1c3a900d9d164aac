/**
 * An MQTT broker in the node's own process, so that a first cluster needs nothing else:
 * QoS 1, retained messages and wills in memory, MQTT 3.1.1, no authentication. The only
 * file that imports aedes.
 */
import { createServer, type Server, type Socket } from "node:net";
import { Aedes } from "aedes";
import { formatHostPort } from "../config/address.ts";

/** How long a subscriber may leave what it was sent unread before it is cut off, in ms. */
const DRAIN_TIMEOUT_MS = 10_000;

/** A broker that listens. */
export class EmbeddedBroker {
  private constructor(
    private readonly aedes: Aedes,
    private readonly server: Server,
    private readonly sockets: Set<Socket>,
    /** The port it listens on. */
    readonly port: number,
  ) {}

  /**
   * Starts listening. `port` 0 takes a free one. Rejects with an Error of one line when
   * it cannot listen there.
   */
  static async start(address: string, port: number): Promise<EmbeddedBroker> {
    const aedes = await Aedes.createBroker({ drainTimeout: DRAIN_TIMEOUT_MS });
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => {}); // "close" follows
      socket.setNoDelay(true);
      aedes.handle(socket);
    });
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host: address, port }, resolve);
      });
    } catch (error) {
      await new Promise<void>((resolve) => aedes.close(() => resolve()));
      throw new Error(describeListenError(error as NodeJS.ErrnoException, address, port));
    }
    const bound = server.address() as { port: number };
    return new EmbeddedBroker(aedes, server, sockets, bound.port);
  }

  /** Stops listening and ends every connection. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    const released = new Promise<void>((resolve) => this.aedes.close(() => resolve()));
    for (const socket of this.sockets) socket.destroy();
    await Promise.all([closed, released]);
  }
}

function describeListenError(error: NodeJS.ErrnoException, address: string, port: number): string {
  const place = `mqtt.embedded: cannot listen on ${formatHostPort(address, port)}`;
  if (error.code === "EADDRINUSE") {
    return `${place}: the port is in use; stop what uses it or set mqtt.embedded.bind_port`;
  }
  if (error.code === "EACCES") {
    return `${place}: not allowed; choose a port from 1024 on`;
  }
  if (error.code === "EADDRNOTAVAIL") {
    return `${place}: this machine has no such address; set mqtt.embedded.bind_address`;
  }
  return `${place}: ${error.message}`;
}
