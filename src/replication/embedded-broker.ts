/**
 * An MQTT broker in the node's own process, so that a first cluster needs nothing else:
 * QoS 1, retained messages and wills in memory, MQTT 3.1.1, TLS, and one account at most. The only
 * file that makes one with aedes.
 *
 * It trusts nobody: clients, packets, what is half sent, what waits and what is kept are bounded,
 * so that it cannot take the node's memory.
 */
import type { Socket } from "node:net";
import { Aedes, type AedesOptions } from "aedes";
import { formatHostPort } from "../config/address.ts";
import { schema, type Config } from "../config/schema.ts";
import { silentLogger, type Logger } from "../observability/log.ts";
import { LARGE_CHUNK_BYTES, ReadingTurns, type Sender } from "../reading-turns.ts";
import type { Timing } from "../timing.ts";
import { authentication, type BrokerAccount } from "./broker-account.ts";
import { BrokerDoors, type BrokerPlace } from "./broker-doors.ts";
import { BrokerStore } from "./broker-store.ts";
import { PacketGuard, UnfinishedPackets } from "./packet-guard.ts";

const MIB = 1_048_576;
const COLLECT_AFTER_BYTES = 16 * MIB;
/** How long a subscriber may leave what it was sent unread before it is cut off, in ms. */
const DRAIN_TIMEOUT_MS = 10_000;
/** How much a subscriber may leave unread, in packets of the longest kind. */
const UNREAD_PACKETS = 4;
/** How long a client may take to say CONNECT, in ms. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Places kept for clients of this machine, the node itself for one. */
const OWN_PLACES = 8;
/** Longest topic and client id, in UTF-16 units, and most subscriptions of a client. */
const MAX_TOPIC_LENGTH = 4_096;
const MAX_CLIENT_ID_LENGTH = 1_024;
const MAX_SUBSCRIPTIONS = 100;
/** Packets of one client that are looked at before others have their turn. */
const PACKETS_A_TURN = 64;
/** Messages of QoS 2 that a client may leave half way. */
const MAX_HALF_WAY = 20;

/** The bounds of a broker, by the names of the config file. */
export type BrokerLimits = Omit<
  Config["mqtt"]["embedded"],
  "bind_address" | "bind_port" | "tls_port"
>;

const DEFAULT_LIMITS: BrokerLimits = {
  max_clients: schema["mqtt.embedded.max_clients"].fallback,
  max_packet_bytes: schema["mqtt.embedded.max_packet_bytes"].fallback,
  max_queued_mb: schema["mqtt.embedded.max_queued_mb"].fallback,
  max_retained_mb: schema["mqtt.embedded.max_retained_mb"].fallback,
};

/** Who may come in, and how; everybody and in plain text unless given. */
export interface BrokerAccess extends Omit<BrokerPlace, "address" | "port"> {
  readonly account?: () => BrokerAccount | null;
}

/** A broker that listens. */
export class EmbeddedBroker {
  /** Connections, and who sends what over them. */
  private readonly sockets = new Set<Socket>();
  private readonly unfinished: UnfinishedPackets;
  private readonly readingTurns: ReadingTurns;
  private discardedBytes = 0;
  private aedes!: Aedes;
  private doors!: BrokerDoors;

  private constructor(
    private readonly timing: Timing,
    private readonly limits: BrokerLimits,
    private readonly logger: Logger,
    private readonly account: () => BrokerAccount | null,
  ) {
    this.unfinished = new UnfinishedPackets(
      () => limits.max_queued_mb * MIB,
      (bytes) => this.discard(bytes),
    );
    this.readingTurns = new ReadingTurns(timing);
  }

  /** The port for plain text, or for TLS where that is the only one. */
  get port(): number {
    return this.doors.port ?? this.doors.tlsPort!;
  }

  /** The port for plain text; null without one. */
  get plainPort(): number | null {
    return this.doors.port;
  }

  /** The port for TLS; null without one. */
  get tlsPort(): number | null {
    return this.doors.tlsPort;
  }

  /**
   * Starts listening. `port` 0 takes a free one. Rejects with an Error of one line when
   * it cannot listen there.
   */
  static async start(
    timing: Timing,
    address: string,
    port: number,
    limits: BrokerLimits = DEFAULT_LIMITS,
    logger: Logger = silentLogger,
    access: BrokerAccess = {},
  ): Promise<EmbeddedBroker> {
    const broker = new EmbeddedBroker(timing, limits, logger, access.account ?? (() => null));
    const aedes = await Aedes.createBroker(broker.options());
    broker.aedes = aedes;
    try {
      broker.doors = await BrokerDoors.open(
        { address, port, ...access },
        logger,
        (socket) => broker.meet(socket),
        (socket) => broker.accept(socket),
      );
    } catch (error) {
      await new Promise<void>((resolve) => aedes.close(() => resolve()));
      throw error;
    }
    return broker;
  }

  /** Other certificates are in use: new connections see them. */
  noteCertificates(): void {
    this.doors.noteCertificates();
  }

  /**
   * What came of a packet and is let go of lies outside of the runtime's own heap, which hardly
   * notices it: a flood of such packets took 300 MB before it collected by itself, nor does it when
   * it is only asked to. To collect takes a few milliseconds.
   */
  private discard(bytes: number): void {
    this.discardedBytes += bytes;
    if (this.discardedBytes < COLLECT_AFTER_BYTES) return;
    this.discardedBytes = 0;
    this.timing.soon(() => Bun.gc(true));
  }

  private options(): AedesOptions {
    const { limits, logger, timing } = this;
    const storeLimits = {
      get maxQueuedBytes() {
        return limits.max_queued_mb * MIB;
      },
      get maxRetainedBytes() {
        return limits.max_retained_mb * MIB;
      },
    };
    return {
      drainTimeout: DRAIN_TIMEOUT_MS,
      connectTimeout: CONNECT_TIMEOUT_MS,
      maxInflightInbound: MAX_HALF_WAY,
      persistence: new BrokerStore(
        storeLimits,
        (what, id) => logger.warn("The embedded broker has no room", { for: what, of: id }),
        timing.nowMs,
      ),
      ...authentication(this.account, timing, logger),
      preConnect(_client, { clientId }, done) {
        if (clientId.length <= MAX_CLIENT_ID_LENGTH) return done(null, true);
        done(new Error("the client id is too long"), false);
      },
      authorizePublish(_client, { topic }, done) {
        if (topic.length > MAX_TOPIC_LENGTH) return done(new Error("the topic is too long"));
        done(topic.startsWith("$SYS/") ? new Error("$SYS/ is the broker's own") : null);
      },
      authorizeSubscribe(client, subscription, done) {
        const held = Object.keys((client as unknown as WithSubscriptions).subscriptions).length;
        const isFine = subscription.topic.length <= MAX_TOPIC_LENGTH && held < MAX_SUBSCRIPTIONS;
        if (isFine) return done(null, subscription);
        // Null refuses it; the package's types leave that out.
        done(null, null);
      },
      authorizeForward(client, packet) {
        const { conn } = client;
        if (conn.writableLength <= UNREAD_PACKETS * limits.max_packet_bytes) return packet;
        logger.warn("The embedded broker cut off a client that does not read", { id: client.id });
        conn.destroy();
        return null;
      },
    };
  }

  /** Somebody is at the door; whether there is a place. */
  private meet(socket: Socket): boolean {
    socket.on("error", () => {}); // "close" follows
    const places = this.limits.max_clients + (isLoopback(socket) ? OWN_PLACES : 0);
    if (this.sockets.size >= places) {
      const refused = addressOf(socket);
      this.logger.warn("The embedded broker has too many clients", { refused });
      socket.destroy();
      return false;
    }
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    return true;
  }

  private accept(socket: Socket): void {
    const address = addressOf(socket);
    const cut = (problem: string): void => {
      this.logger.warn("The embedded broker cut off a client", { address, problem });
      socket.destroy();
    };
    const guard = new PacketGuard(this.limits.max_packet_bytes, this.unfinished, cut);
    socket.on("close", () => guard.end());
    socket.setNoDelay(true);
    this.watchReading(socket, guard);
    this.aedes.handle(socket);
  }

  /**
   * The package reads whatever has come. It sees nothing of a packet that is too long, and after a
   * large chunk no more is taken from the system before the socket's turn.
   */
  private watchReading(socket: Socket, guard: PacketGuard): void {
    const read = socket.read.bind(socket);
    // Of the runtime's own: the stream would be paused for the package, too, and its `read` goes
    // on taking what the system has.
    const { _handle: handle } = socket as unknown as WithHandle;
    let isWaiting = false;
    const sender: Sender = {
      onReadingTurn() {
        isWaiting = false;
        if (socket.destroyed) return;
        handle.resume();
        // The package was told that there was nothing.
        if (socket.readableLength > 0) socket.emit("readable");
      },
    };
    socket.on("close", () => this.readingTurns.forget(sender));
    socket.read = (size) => {
      if (isWaiting) return null;
      const came: Buffer | null = read(size);
      if (came === null) return null;
      const length = guard.lengthOf(came, PACKETS_A_TURN);
      const chunk = came.subarray(0, length);
      if (length < came.length) socket.unshift(came.subarray(length));
      if (chunk.length >= LARGE_CHUNK_BYTES || length < came.length) {
        isWaiting = true;
        this.readingTurns.wait(sender);
      }
      if (isWaiting && !socket.destroyed) handle.pause();
      return guard.look(chunk) ? chunk : null;
    };
  }

  /** Stops listening and ends every connection. */
  async stop(): Promise<void> {
    const closed = this.doors.close();
    const released = new Promise<void>((resolve) => this.aedes.close(() => resolve()));
    for (const socket of this.sockets) socket.destroy();
    await Promise.all([closed, released]);
  }
}

/** What the package's types do not tell of a client. */
interface WithSubscriptions {
  readonly subscriptions: Record<string, unknown>;
}

/** And of a socket: the runtime's own. */
interface WithHandle {
  readonly _handle: { pause(): void; resume(): void };
}

function isLoopback({ remoteAddress }: Socket): boolean {
  return /^(127\.|::1$|::ffff:127\.)/.test(remoteAddress ?? "");
}

function addressOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return formatHostPort(remoteAddress, remotePort);
}
