/**
 * The connection of a node to its broker: there for as long as the node takes part in replication,
 * ended with a goodbye, and made anew when its settings or secrets are others. What is said over
 * it is the replicator's.
 */
import { parseBrokerAddress, type BrokerAddress } from "../config/address.ts";
import type { Config } from "../config/schema.ts";
import type { Logger } from "../observability/log.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import type { Timing } from "../timing.ts";
import type { BrokerSeal } from "./broker-seal.ts";
import type { BrokerTls, Subscription, Transport, TransportOptions } from "./transport.ts";

/** How long a goodbye goes on publishing what waits, in ms. */
const DRAIN_MS = 2_000;
/** Room for keys and field names in the longest message accepted, in bytes. */
const MESSAGE_MARGIN_BYTES = 1024 * 1024;

/** How long a message of a node with these settings may get, in bytes. */
export function maxMessageBytes(
  settings: Pick<Config["mqtt"], "max_event_bytes" | "batch_bytes">,
): number {
  return 2 * (settings.max_event_bytes + settings.batch_bytes) + MESSAGE_MARGIN_BYTES;
}

/** What one is made with. */
export interface BrokerConnectionOptions extends Pick<
  TransportOptions,
  "will" | "onUp" | "onMessage" | "onTakenOver"
> {
  /** `broker_address` is a broker's, not "embedded"; `enabled` is how it starts. */
  readonly settings: Omit<Config["mqtt"], "embedded" | "tls">;
  /** How TLS is spoken with the broker; as with anybody unless given. */
  readonly tls?: BrokerTls | undefined;
  /** Makes the connection, and seals what goes over it. */
  readonly seal: BrokerSeal;
  readonly subscriptions: readonly Subscription[];
  readonly timing: Timing;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly logger: Logger;
  /**
   * Not connected any more. As in TransportOptions; when this node has said goodbye both are false.
   */
  readonly onDown: (isHungUp: boolean, wasProven: boolean) => void;
  /** Publishes what waits, and resolves when nothing does any more. */
  readonly drain: () => Promise<void>;
  /** Says to the others, by a last message, that this node leaves. */
  readonly farewell: () => void;
}

/** See the file header. */
export class BrokerConnection {
  /** The one in use. Another takes its place when the connection is made anew. */
  transport: Transport;
  private enabled: boolean;
  private stopping = false;
  private finishing: Promise<void> | null = null;
  private leaving: Promise<void> | null = null;
  /** What is sealed with from the next connection on; null as long as it is what was before. */
  private nextSecrets: { readonly secrets: ClusterSecrets | null } | null = null;

  /** Throws an Error of one line when `broker_address` is no address of a broker. */
  constructor(private readonly options: BrokerConnectionOptions) {
    this.enabled = options.settings.enabled;
    this.transport = this.createTransport();
  }

  /** Whether this node takes part in replication now. */
  get isEnabled(): boolean {
    return this.enabled;
  }

  /** What this node is called at the broker as a client. */
  get clientId(): string {
    return this.options.settings.client_id || this.options.seal.nodeName;
  }

  /** Where the broker is. Throws an Error of one line when the settings name none. */
  get broker(): BrokerAddress {
    const { broker_address } = this.options.settings;
    const broker = parseBrokerAddress(broker_address);
    if (broker !== undefined) return broker;
    const found = JSON.stringify(broker_address);
    throw new Error(`mqtt.broker_address: ${found} is not the address of a broker`);
  }

  /** Connects, unless it is disabled, and stays connected. Returns at once. */
  start(): void {
    if (this.enabled) this.transport.open();
  }

  /**
   * Publishes what waits, for up to two seconds, says goodbye and disconnects. Prompt
   * when the broker is away.
   */
  async stop(): Promise<void> {
    await this.finish();
    await this.leave();
  }

  /** The first part of `stop`: publishes what waits. Messages still come and go meanwhile. */
  finish(): Promise<void> {
    this.stopping = true;
    this.finishing ??= this.drain();
    return this.finishing;
  }

  /** Connects again after `disable`. */
  enable(): void {
    if (this.stopping) return;
    if (!this.enabled) this.options.logger.info("Replication is enabled");
    this.enabled = true;
    this.transport.open();
  }

  /** Says goodbye as `stop` does, until `enable`. */
  async disable(): Promise<void> {
    if (!this.enabled || this.stopping) return;
    this.enabled = false;
    this.options.logger.info("Replication is disabled until REPLICATE enable or a restart");
    await this.leave();
    // It may have been enabled again meanwhile.
    if (this.enabled) this.enable();
  }

  /**
   * What is given to the broker is sealed with these from now on, or not at all. It takes another
   * connection, for this node is called otherwise there, and has to hear what is sent to each name.
   */
  renewSecrets(secrets: ClusterSecrets | null): void {
    this.nextSecrets = { secrets };
    void this.reconnect();
  }

  /** Says goodbye to the broker, and connects as the settings have it now. */
  async reconnect(): Promise<void> {
    if (this.stopping) return;
    const former = this.transport;
    await this.leave();
    // Somebody may have enabled replication meanwhile, over the connection that there was.
    await former.close();
    // Whoever came meanwhile as well has done it.
    if (this.stopping || this.transport !== former) return;
    if (this.nextSecrets !== null) this.options.seal.renew(this.nextSecrets.secrets);
    this.nextSecrets = null;
    this.transport = this.createTransport();
    if (this.enabled) this.transport.open();
  }

  /** Whoever comes meanwhile waits for the same goodbye. */
  private leave(): Promise<void> {
    this.leaving ??= this.leaveNow().finally(() => (this.leaving = null));
    return this.leaving;
  }

  private async leaveNow(): Promise<void> {
    if (!this.stopping) await this.drain();
    this.options.farewell();
    const closed = this.transport.close();
    this.options.onDown(false, false);
    await closed;
  }

  private async drain(): Promise<void> {
    if (!this.transport.connected) return;
    const late = Promise.withResolvers<void>();
    const cancel = this.options.timing.after(DRAIN_MS, late.resolve);
    await Promise.race([this.options.drain(), late.promise]);
    cancel();
  }

  private createTransport(): Transport {
    const { settings, tls, seal, subscriptions, timing, random, logger } = this.options;
    const { will, onUp, onDown, onMessage, onTakenOver } = this.options;
    return seal.connect({
      broker: this.broker,
      clientId: this.clientId,
      username: settings.username,
      password: settings.password,
      ...(tls && { tls }),
      keepAliveSeconds: settings.keep_alive,
      cleanSession: settings.clean_session,
      protocol: settings.protocol_version,
      maxPacketBytes: maxMessageBytes(settings),
      maxSentBytes: settings.max_packet_bytes,
      maxMessagesPerSecond: settings.max_messages_per_second,
      ...{ subscriptions, logger, random, timing },
      ...{ will, onUp, onDown, onMessage, onTakenOver },
    });
  }
}
