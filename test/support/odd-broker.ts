/**
 * A small MQTT broker for what no installed one does on demand: limits that it does not announce,
 * versions that it ignores, publishes that it swallows, subscriptions that kill the connection.
 * Without oddities it is a plain broker of both versions, with retained messages and wills.
 */
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import {
  generate,
  parser,
  type IConnackPacket,
  type IConnectPacket,
  type IPublishPacket,
  type ISubscribePacket,
  type Packet,
} from "mqtt-packet";

/** What becomes of a packet: a reason code, the end of the connection, or nothing at all. */
export type Fate = number | "hang up" | "silence" | undefined;

/** How the broker differs from a plain one. All may be changed while it runs. */
export interface Oddities {
  /** Of a CONNECT: a code of refusal, or its end. */
  onConnect?: (packet: IConnectPacket) => Fate;
  /** What CONNACK says to clients of MQTT 5. */
  announced?: IConnackPacket["properties"];
  /** Of a PUBLISH of so many bytes in all. Silence: acknowledged by nothing, passed on to nobody. */
  onPublish?: (packet: IPublishPacket, bytes: number) => Fate;
  /** Acknowledged, and passed on to nobody. */
  swallows?: (packet: IPublishPacket) => boolean;
  /** Of a subscription of one topic. */
  onSubscribe?: (topic: string) => Fate;
  /** Acknowledgements come so much later, in ms. */
  ackDelayMs?: number;
  /** Retained messages come without the bit that says so. */
  hidesRetained?: boolean;
  /** Keeps no retained messages. */
  forgetsRetained?: boolean;
  /** A SUBSCRIBE of more topics ends the connection. */
  maxTopicsASubscription?: number;
  /**
   * Most publishes of a client that are taken in a second, and most messages without
   * acknowledgement that it is sent.
   */
  messagesPerSecond?: number;
  /** How long such a second is, in ms. */
  secondMs?: number;
  /**
   * What becomes of a publish above that: it is dropped in silence by default, or refused; or the
   * connection is ended, with a word (MQTT 5) or without.
   */
  onTooMany?: "silence" | "refuse" | "disconnect" | "hang up";
}

/** "Quota exceeded". */
const QUOTA = 0x97;

/**
 * A broker with the limits of AWS IoT Core, as its pages on quotas have them: 128 KiB a message,
 * 100 publishes a second and connection (one above is not acknowledged), 8 topics a subscription,
 * topics of at most 256 bytes and 7 slashes, QoS 0 and 1. What breaks a rule ends the connection.
 */
export function hostedLimits(): Oddities {
  const isFine = (topic: string): boolean => topic.length <= 256 && topic.split("/").length <= 8;
  return {
    announced: { maximumPacketSize: 149_504, receiveMaximum: 100, maximumQoS: 1 },
    messagesPerSecond: 100,
    onPublish: ({ topic, payload, qos }) =>
      isFine(topic) && payload.length <= 131_072 && qos < 2 ? undefined : "hang up",
    onSubscribe: (topic) => (isFine(topic) ? undefined : "hang up"),
    maxTopicsASubscription: 8,
  };
}

/** What a client may still do in this second. */
class Allowance {
  private beganMs = -Infinity;
  private used = 0;

  /** Whether one more is within `most` in so many ms. */
  take(most: number, secondMs = 1_000): boolean {
    const nowMs = performance.now();
    if (nowMs - this.beganMs >= secondMs) [this.beganMs, this.used] = [nowMs, 0];
    return ++this.used <= most;
  }
}

interface Client {
  readonly socket: Socket;
  version: number;
  id: string;
  will: IConnectPacket["will"];
  isUp: boolean;
  /** By topic filter: whether what the client publishes itself is sent to it. */
  readonly filters: Map<string, boolean>;
  nextId: number;
  unacknowledged: number;
  readonly sending: Allowance;
  readonly receiving: Allowance;
}

/** See the file header. */
export class OddBroker {
  /** Every CONNECT and every PUBLISH that came, and how often a connection was ended. */
  readonly connects: IConnectPacket[] = [];
  readonly publishes: { topic: string; bytes: number; qos: number; retain: boolean }[] = [];
  hangUps = 0;
  /** Publishes that were too many in a second. */
  throttled = 0;
  /** Most messages of one client that were not acknowledged at the same time. */
  mostUnacknowledged = 0;
  private readonly clients = new Set<Client>();
  private readonly retained = new Map<string, Buffer>();

  private constructor(
    private readonly server: Server,
    readonly oddities: Oddities,
  ) {}

  /** Starts one on a free port of 127.0.0.1, or where it is told to. */
  static async start(oddities: Oddities = {}, host = "127.0.0.1"): Promise<OddBroker> {
    const server = createServer();
    const broker = new OddBroker(server, oddities);
    server.on("connection", (socket) => broker.accept(socket));
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    return broker;
  }

  /** The address for `mqtt.broker_address`. */
  get address(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Ends every connection without a word. */
  dropAll(): void {
    for (const { socket } of this.clients) socket.destroy();
  }

  /** Ends it for good. */
  async stop(): Promise<void> {
    this.dropAll();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private accept(socket: Socket): void {
    const client: Client = {
      socket,
      ...{ version: 4, id: "", will: undefined, isUp: false, filters: new Map() },
      ...{ nextId: 1, unacknowledged: 0 },
      ...{ sending: new Allowance(), receiving: new Allowance() },
    };
    this.clients.add(client);
    const incoming = parser();
    socket.on("error", () => {});
    socket.on("close", () => this.leave(client));
    socket.on("data", (bytes) => {
      if (!socket.destroyed) incoming.parse(bytes as Buffer);
    });
    incoming.on("error", () => this.hangUp(client));
    incoming.on("packet", (packet) => {
      if (this.clients.has(client)) this.take(client, packet);
    });
  }

  private take(client: Client, packet: Packet): void {
    if (packet.cmd === "connect") this.connect(client, packet);
    else if (packet.cmd === "publish") this.publish(client, packet);
    else if (packet.cmd === "subscribe") this.subscribe(client, packet);
    else if (packet.cmd === "pingreq") this.send(client, { cmd: "pingresp" });
    else if (packet.cmd === "disconnect") {
      client.will = undefined;
      client.socket.end();
    }
  }

  private connect(client: Client, packet: IConnectPacket): void {
    this.connects.push(packet);
    client.version = packet.protocolVersion ?? 4;
    const fate = this.oddities.onConnect?.(packet);
    if (fate === "silence") return;
    if (fate === "hang up") return this.hangUp(client);
    const { announced } = this.oddities;
    const properties = client.version === 5 && announced ? { properties: announced } : {};
    const code = fate ?? 0;
    const codes = client.version === 5 ? { reasonCode: code } : { returnCode: code };
    this.send(client, { cmd: "connack", sessionPresent: false, ...codes, ...properties });
    if (code !== 0) return void client.socket.end();
    const { clientId, will } = packet;
    for (const other of this.clients) if (other.id === clientId) this.hangUp(other);
    client.id = clientId;
    client.will = will;
    client.isUp = true;
  }

  private publish(client: Client, packet: IPublishPacket): void {
    const { topic, qos, retain, messageId } = packet;
    const bytes = generate(packet, { protocolVersion: client.version }).length;
    this.publishes.push({ topic, bytes, qos, retain });
    const { messagesPerSecond = Infinity, secondMs } = this.oddities;
    const isInTime = client.sending.take(messagesPerSecond, secondMs);
    if (!isInTime) this.throttled++;
    const fate = isInTime ? this.oddities.onPublish?.(packet, bytes) : this.tooMany(client);
    if (fate === "silence") return;
    if (fate === "hang up") return this.hangUp(client);
    if (qos === 1) this.acknowledge(client, messageId!, fate ?? 0);
    if (fate !== undefined || this.oddities.swallows?.(packet)) return;
    this.passOn(client, packet);
  }

  private tooMany(client: Client): Fate {
    const { onTooMany = "silence" } = this.oddities;
    if (onTooMany === "refuse") return QUOTA;
    if (onTooMany !== "disconnect") return onTooMany;
    this.send(client, { cmd: "disconnect", reasonCode: QUOTA });
    return "hang up";
  }

  private acknowledge(client: Client, messageId: number, reasonCode: number): void {
    const { ackDelayMs = 0 } = this.oddities;
    client.unacknowledged++;
    this.mostUnacknowledged = Math.max(this.mostUnacknowledged, client.unacknowledged);
    const answer = (): void => {
      client.unacknowledged--;
      this.send(client, { cmd: "puback", messageId, reasonCode });
    };
    if (ackDelayMs === 0) answer();
    else setTimeout(answer, ackDelayMs);
  }

  private passOn(from: Client | null, { topic, payload, qos, retain }: IPublishPacket): void {
    const bytes = Buffer.from(payload);
    if (retain && !this.oddities.forgetsRetained) this.retained.set(topic, bytes);
    for (const client of this.clients) {
      const filter = [...client.filters].find(([filter]) => matches(filter, topic));
      if (filter === undefined || (client === from && !filter[1])) continue;
      this.deliver(client, topic, bytes, qos === 0 ? 0 : 1, false);
    }
  }

  private subscribe(client: Client, { subscriptions, messageId }: ISubscribePacket): void {
    const codes: number[] = [];
    const { maxTopicsASubscription = Infinity } = this.oddities;
    if (subscriptions.length > maxTopicsASubscription) return this.hangUp(client);
    for (const { topic, nl } of subscriptions) {
      const fate = this.oddities.onSubscribe?.(topic);
      if (fate === "silence") return;
      if (fate === "hang up") return this.hangUp(client);
      codes.push(fate ?? 1);
      if (fate === undefined) client.filters.set(topic, client.version !== 5 || nl !== true);
    }
    this.send(client, { cmd: "suback", messageId: messageId!, granted: codes });
    for (const [topic, payload] of this.retained) {
      if (!subscriptions.some((it) => matches(it.topic, topic))) continue;
      this.deliver(client, topic, payload, 1, !this.oddities.hidesRetained);
    }
  }

  private deliver(
    client: Client,
    topic: string,
    payload: Buffer,
    qos: 0 | 1,
    retain: boolean,
  ): void {
    const { messagesPerSecond = Infinity, secondMs } = this.oddities;
    if (qos === 0 && !client.receiving.take(messagesPerSecond, secondMs)) return;
    client.nextId = (client.nextId % 65_535) + 1;
    const id = qos === 0 ? {} : { messageId: client.nextId };
    this.send(client, { cmd: "publish", topic, payload, qos, retain, dup: false, ...id });
  }

  private send(client: Client, packet: Packet): void {
    if (client.socket.writable) {
      client.socket.write(generate(packet, { protocolVersion: client.version }));
    }
  }

  private hangUp(client: Client): void {
    this.hangUps++;
    client.socket.destroySoon();
    this.leave(client);
  }

  private leave(client: Client): void {
    if (!this.clients.delete(client)) return;
    const { will } = client;
    if (client.isUp && will) {
      const { topic, payload, qos, retain } = will as IPublishPacket;
      this.passOn(null, { cmd: "publish", topic, payload, qos, retain, dup: false });
    }
  }
}

function matches(filter: string, topic: string): boolean {
  const [wanted, found] = [filter.split("/"), topic.split("/")];
  if (wanted.at(-1) === "#") return topic.startsWith(filter.slice(0, -1));
  return (
    wanted.length === found.length && wanted.every((part, i) => part === "+" || part === found[i])
  );
}
