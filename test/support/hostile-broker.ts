/**
 * A broker in the hands of an attacker: it reads all that is published and decides for each message
 * and subscriber whether it is passed on, and as what; and it publishes what it likes.
 */
import { createServer, type Server } from "node:net";
import { Aedes } from "aedes";

/** A message as it came. */
export interface Overheard {
  readonly topic: string;
  readonly payload: Buffer;
  readonly retain: boolean;
}

interface Forwarded {
  readonly topic: string;
  readonly payload: Buffer;
}

/** See the file header. */
export class HostileBroker {
  /** All that nodes published, wills and goodbyes too. */
  readonly overheard: Overheard[] = [];
  /** Clients in the order in which they came first, and the wills they came with. */
  readonly clients: string[] = [];
  readonly wills = new Map<string, { readonly topic: string; readonly payload: Buffer }[]>();
  /** What becomes of a message on its way to a client: another, or null for none. */
  tamper: (message: Forwarded, clientId: string) => Forwarded | null = (message) => message;

  private constructor(
    private readonly aedes: Aedes,
    private readonly server: Server,
    readonly address: string,
  ) {}

  static async start(): Promise<HostileBroker> {
    const aedes = await Aedes.createBroker({
      // What is sent to somebody who may not know of it is kept for nobody.
      queueLimit: 10_000,
      authorizeForward(client, packet) {
        const message = { topic: packet.topic, payload: Buffer.from(packet.payload) };
        const changed = broker.tamper(message, client.id);
        return changed === null ? null : Object.assign(packet, changed);
      },
    });
    const server = createServer((socket) => aedes.handle(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const broker = new HostileBroker(aedes, server, `mqtt://127.0.0.1:${port}`);
    aedes.on("client", (client) => {
      const { id, will } = client as { id: string; will?: { topic: string; payload: Buffer } };
      if (!broker.clients.includes(id)) broker.clients.push(id);
      const { topic = "", payload = "" } = will ?? {};
      const known = broker.wills.get(id) ?? [];
      broker.wills.set(id, [...known, { topic, payload: Buffer.from(payload) }]);
    });
    aedes.on("publish", ({ topic, payload, retain }, client) => {
      if (topic.startsWith("$SYS") || client === null) return;
      broker.overheard.push({ topic, payload: Buffer.from(payload), retain });
    });
    return broker;
  }

  /** Publishes something of its own. */
  publish(topic: string, payload: Buffer, retain = false): Promise<void> {
    const packet = { cmd: "publish" as const, topic, payload, retain, qos: 0 as const, dup: false };
    return new Promise((resolve, reject) =>
      this.aedes.publish(packet, (error) => (error ? reject(error) : resolve())),
    );
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    await new Promise<void>((resolve) => this.aedes.close(() => resolve()));
    await closed;
  }
}
