/**
 * The connection to the broker, kept up for as long as it is open. The only file that
 * imports mqtt.
 *
 * Every attempt is a fresh client that never reconnects by itself: the package would
 * resend what it has queued before subscribing again, and queue without bound while
 * the broker is away. Here the owner is told when the connection is up (subscribed and
 * all) and when it is down, and what was not acknowledged then is the owner's again.
 *
 * MQTT 5 is tried first. A broker that refuses it, or that hangs up on it without a
 * word, is tried with 3.1.1 at once; what worked last is tried first after that.
 */
import type { Duplex } from "node:stream";
import { connect, type IConnackPacket, type IClientOptions, type MqttClient } from "mqtt";
import { formatHostPort, type BrokerAddress } from "../config/address.ts";
import type { Logger } from "../observability/log.ts";
import type { Cancel, Timing } from "../timing.ts";
import { pipeInPieces } from "./pieces.ts";

/** How long messages are taken one after the other before others have their turn, in ms. */
const SLICE_MS = 1;
const FIRST_DELAY_MS = 200;
const MAX_DELAY_MS = 5_000;
/** A connection that lasts this long shows that all is well, and delays start afresh. */
const STABLE_MS = 5_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** How long a broker is given to answer the goodbye. */
const GOODBYE_MS = 500;
/** How long the broker keeps a persistent session without us (MQTT 5), in seconds. */
const SESSION_EXPIRY_SECONDS = 86_400;

const MQTT_5 = 5;
const MQTT_3 = 4;
/** "Unacceptable protocol version", in the codes of 3.1.1 and of 5. */
const REFUSED_VERSION_CODES = [1, 132];
/** MQTT 5: somebody else connected with our client id. */
const SESSION_TAKEN_OVER = 142;
const MAX_PACKET_BYTES = 268_435_455;
const MAX_RECEIVE_MAXIMUM = 65_535;

/** A topic to subscribe to. */
export interface Subscription {
  readonly topic: string;
  /** Whether to be sent what this client publishes itself; brokers before MQTT 5 always do. */
  readonly ownToo: boolean;
  /** 0: what the broker has no room for may be lost. 1 by default. */
  readonly qos?: 0 | 1;
}

/** What a transport is made with. */
export interface TransportOptions {
  readonly broker: BrokerAddress;
  readonly clientId: string;
  /** Empty: none. */
  readonly username: string;
  /** Empty: none. */
  readonly password: string;
  readonly keepAliveSeconds: number;
  readonly cleanSession: boolean;
  /** Longest packet this client wants to be sent, in bytes. */
  readonly maxPacketBytes: number;
  readonly subscriptions: readonly Subscription[];
  readonly logger: Logger;
  /** From 0 to below 1, for the jitter of delays. */
  readonly random: () => number;
  readonly timing: Timing;
  /** What the broker publishes, retained, when this connection dies. Asked at each attempt. */
  readonly will: () => { topic: string; payload: Buffer };
  /** Connected and subscribed. `afterOutage`: the broker could not be reached before. */
  readonly onUp: (afterOutage: boolean) => void;
  /** Not connected any more, for whatever reason but `close`. */
  readonly onDown: () => void;
  /** A message; the next one comes after `done`. */
  readonly onMessage: (topic: string, payload: Buffer, retained: boolean, done: () => void) => void;
  /** Another client took over this one's session: two nodes share a client id. */
  readonly onTakenOver: () => void;
}

/** One client of one broker. */
export class MqttTransport {
  /** Protocol version in use: 5, or 4 for MQTT 3.1.1. */
  protocolVersion: 4 | 5 = MQTT_5;
  /** Most QoS 1 messages the broker takes unacknowledged. */
  receiveMaximum = MAX_RECEIVE_MAXIMUM;
  /** Longest packet the broker takes. */
  maxPacketBytes = MAX_PACKET_BYTES;

  private client: MqttClient | null = null;
  /** Topics that this connection is subscribed to. */
  private readonly granted = new Set<string>();
  private isUp = false;
  private isOpen = false;
  private attempts = 0;
  private upSince = 0;
  private outageLogged = false;
  private lastError = "";
  private cancelAttempt: Cancel = () => {};
  /** When it is time to let others have their turn before the next message. */
  private sliceEndMs = 0;

  /** `connectTo` makes a client; tests put another in its place. */
  constructor(
    private readonly options: TransportOptions,
    private readonly connectTo: (options: IClientOptions) => MqttClient = connectInPieces(
      options.timing,
    ),
  ) {}

  /** Whether the connection is up. */
  get connected(): boolean {
    return this.isUp;
  }

  /** Starts connecting and never gives up. */
  open(): void {
    if (this.isOpen) return;
    this.isOpen = true;
    this.attempt();
  }

  /**
   * Publishes with QoS 1. `done` is called with an error when the broker refuses it, and
   * not at all when the connection ends first.
   */
  publish(topic: string, payload: Buffer, retain: boolean, done: (error?: Error) => void): void {
    const client = this.client;
    if (!this.isUp || client === null) return;
    client.publish(topic, payload, { qos: 1, retain }, (error) => {
      if (this.client === client && this.isUp) done(error ?? undefined);
    });
  }

  /**
   * Publishes with QoS 0. `sent` is called when the system has taken the bytes, and not at all when
   * the connection ends first.
   */
  send(topic: string, payload: Uint8Array, sent: () => void): void {
    const client = this.client;
    if (!this.isUp || client === null) return;
    client.publish(topic, payload as Buffer, { qos: 0 }, () => {
      if (this.client === client && this.isUp) sent();
    });
  }

  /** Whether the broker has granted this connection the subscription of that topic. */
  isGranted(topic: string): boolean {
    return this.isUp && this.granted.has(topic);
  }

  /** Says goodbye and stops. Takes at most half a second, and no time when not connected. */
  async close(): Promise<void> {
    this.isOpen = false;
    this.cancelAttempt();
    const client = this.client;
    const wasUp = this.isUp;
    this.client = null;
    this.isUp = false;
    if (client === null) return;
    if (wasUp) await this.sayGoodbye(client);
    else client.end(true);
  }

  private async sayGoodbye(client: MqttClient): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.options.timing.after(GOODBYE_MS, resolve);
    client.end(false, {}, () => resolve());
    await promise;
    cancel();
    client.stream.destroy();
  }

  private attempt(): void {
    this.attempts++;
    this.lastError = "";
    let answered = false;
    let versionRefused = false;
    const client = this.connectTo(this.clientOptions());
    this.client = client;
    const isCurrent = () => this.client === client;
    client.handleMessage = (packet, done) => {
      if (!isCurrent() || !("topic" in packet)) return done();
      const { topic, payload, retain } = packet;
      const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
      this.options.onMessage(topic, bytes, retain, () => this.receiveNext(done));
    };
    client.on("connect", (connack) => {
      answered = true;
      if (isCurrent()) this.subscribe(client, connack);
    });
    // A former client may still have something to say, of which nothing follows for this one.
    client.on("error", (error) => {
      if (!isCurrent()) return;
      const code = (error as { code?: unknown }).code;
      versionRefused ||= REFUSED_VERSION_CODES.includes(code as number);
      this.lastError = error.message || String(code);
    });
    client.on("disconnect", (packet) => {
      if (!isCurrent()) return;
      this.lastError = `the broker ended it with reason ${packet.reasonCode}`;
      if (packet.reasonCode === SESSION_TAKEN_OVER) this.options.onTakenOver();
    });
    client.on("close", () => {
      if (!isCurrent()) return;
      const hungUp = this.lastError === "" && !answered;
      this.lost(client, versionRefused || hungUp);
    });
  }

  /**
   * Asks for the next message. The package would hand out all that came in one piece, thousands
   * of small ones, without a turn of the event loop between them.
   */
  private receiveNext(done: () => void): void {
    const { timing } = this.options;
    if (timing.nowMs() < this.sliceEndMs) return done();
    timing.soon(() => {
      this.sliceEndMs = timing.nowMs() + SLICE_MS;
      done();
    });
  }

  private clientOptions(): IClientOptions {
    const { options, protocolVersion } = this;
    const { broker } = options;
    const will = options.will();
    // Host and port, not a URL, and a new object each time: the package writes into it.
    const common: IClientOptions = {
      protocol: broker.protocol,
      host: broker.host,
      port: broker.port,
      path: broker.path,
      clientId: options.clientId,
      clean: options.cleanSession,
      keepalive: options.keepAliveSeconds,
      protocolVersion,
      connectTimeout: CONNECT_TIMEOUT_MS,
      reconnectPeriod: 0,
      resubscribe: false,
      timerVariant: "native",
      will: { ...will, qos: 1, retain: true },
    };
    if (options.username !== "") common.username = options.username;
    if (options.password !== "") common.password = options.password;
    if (protocolVersion === MQTT_5) {
      common.properties = { maximumPacketSize: options.maxPacketBytes };
      if (!options.cleanSession) common.properties.sessionExpiryInterval = SESSION_EXPIRY_SECONDS;
    }
    return common;
  }

  private subscribe(client: MqttClient, connack: IConnackPacket): void {
    this.receiveMaximum = connack.properties?.receiveMaximum ?? MAX_RECEIVE_MAXIMUM;
    this.maxPacketBytes = connack.properties?.maximumPacketSize ?? MAX_PACKET_BYTES;
    this.granted.clear();
    const { subscriptions } = this.options;
    let unanswered = subscriptions.length;
    if (unanswered === 0) this.up();
    // Each in a packet of its own: a broker that refuses one of several may refuse them all.
    for (const { topic, ownToo, qos = 1 } of subscriptions) {
      client.subscribe(topic, { qos, nl: !ownToo }, (error) => {
        if (this.client !== client) return;
        if (error) this.noteRefused(topic, error);
        else this.granted.add(topic);
        if (--unanswered === 0) this.up();
      });
    }
  }

  private noteRefused(topic: string, error: Error): void {
    const reason = error.message;
    this.options.logger.warn("The broker refused a subscription", { topic, reason });
  }

  private up(): void {
    this.isUp = true;
    this.upSince = this.options.timing.nowMs();
    const { logger } = this.options;
    const afterOutage = this.outageLogged;
    const message = afterOutage ? "The broker is back" : "Connected to the broker";
    const protocol = this.protocolVersion === MQTT_5 ? "MQTT 5" : "MQTT 3.1.1";
    logger.info(message, { broker: this.place(), protocol });
    this.outageLogged = false;
    this.options.onUp(afterOutage);
  }

  private lost(client: MqttClient, tryOtherVersion: boolean): void {
    const wasUp = this.isUp;
    this.client = null;
    this.isUp = false;
    if (wasUp) {
      this.options.onDown();
      if (this.options.timing.nowMs() - this.upSince >= STABLE_MS) this.attempts = 0;
    }
    client.end(true);
    if (!this.isOpen) return;
    const fallBack = tryOtherVersion && this.protocolVersion === MQTT_5;
    if (tryOtherVersion) this.protocolVersion = fallBack ? MQTT_3 : MQTT_5;
    const delayMs = fallBack ? 0 : this.delayMs();
    this.logOutage(delayMs);
    this.cancelAttempt = this.options.timing.after(delayMs, () => this.attempt());
  }

  /** Doubles from FIRST_DELAY_MS to MAX_DELAY_MS; the upper half of it is left to chance. */
  private delayMs(): number {
    const doublings = Math.min(this.attempts, 16);
    const full = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** doublings);
    return Math.round(full * (0.5 + 0.5 * this.options.random()));
  }

  private logOutage(delayMs: number): void {
    const { logger } = this.options;
    const fields = { broker: this.place(), reason: this.lastError || "it closed the connection" };
    if (delayMs > 0 && !this.outageLogged) {
      this.outageLogged = true;
      logger.warn("The broker is away; writes wait here until it is back", fields);
    } else {
      logger.debug("The broker cannot be reached", { ...fields, retry_ms: delayMs });
    }
  }

  private place(): string {
    const { protocol, host, port } = this.options.broker;
    return `${protocol}://${formatHostPort(host, port)}`;
  }
}

/** `connect`, with a client that parses what arrives piece by piece. */
function connectInPieces(timing: Timing): (options: IClientOptions) => MqttClient {
  return (options) => {
    const client = connect({ ...options, manualConnect: true });
    const inner = client as unknown as { streamBuilder: (client: MqttClient) => Duplex };
    const build = inner.streamBuilder;
    inner.streamBuilder = (it) => pipeInPieces(build(it), timing);
    client.connect();
    return client;
  };
}
