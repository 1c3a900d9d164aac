/**
 * Replication: publishes this node's writes to the other nodes and applies theirs, over
 * an MQTT broker. The broker is a fast hint and may lose anything; nothing here waits
 * for it, and the node serves whether it is there or not.
 */
import {
  agree,
  CURRENT,
  describeDisagreement,
  type Capabilities,
} from "../core/data/capabilities.ts";
import { timeHighOf, timeLowOf } from "../core/data/clock.ts";
import { parseBrokerAddress, parseHostPort, type BrokerAddress } from "../config/address.ts";
import type { Config } from "../config/schema.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import {
  counter,
  flag,
  gauge,
  seriesWithin,
  text,
  within,
  type Fact,
  type Series,
} from "../fact.ts";
import type { Purpose } from "../peer-traffic.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { BrokerSeal } from "./broker-seal.ts";
import { BrokerMessenger } from "./broker-messenger.ts";
import { Membership, presenceTopicName, TWIN_EXPIRY_MS } from "./membership.ts";
import { MEETING_MS, Misconfiguration } from "./misconfiguration.ts";
import type { PeerPresence, Presence } from "./presence.ts";
import { Publisher, type PublisherLimits } from "./publisher.ts";
import { Receiver } from "./receiver.ts";
import type {
  ReplicationPresence,
  ReplicationStatus,
  ReplicatorOptions,
} from "./replicator-options.ts";
import type { PublishProblem, Transport } from "./transport.ts";
import { WriteDelivery } from "./write-delivery.ts";
import type { Cancel, Timing } from "../timing.ts";
import type { TracedWrites, Tracer } from "../tracer.ts";

/** How long `stop` and `disable` go on publishing what waits, in ms. */
const DRAIN_MS = 2_000;
/** A trouble that keeps happening is logged this often, in ms. */
const REPEAT_LOG_MS = 60_000;
/** Room for keys and field names in the longest message accepted, in bytes. */
const MESSAGE_MARGIN_BYTES = 1024 * 1024;

/** How long a message of a node with these settings may get, in bytes. */
export function maxMessageBytes(
  settings: Pick<Config["mqtt"], "max_event_bytes" | "batch_bytes">,
): number {
  return 2 * (settings.max_event_bytes + settings.batch_bytes) + MESSAGE_MARGIN_BYTES;
}
/** An epoch is the start in Unix milliseconds with a random number below this beneath it. */
const EPOCHS_A_MS = 1_024;

/** Replicates one store. */
export class Replicator {
  /** Sees the store's changes; belongs into `store.observers`. */
  readonly observer: ChangeObserver;
  /** Tells this start of the node from every other. */
  readonly epoch: number;

  /** Messages to and from single nodes. */
  readonly messenger: BrokerMessenger;

  private readonly updatesTopic: string;
  private readonly eventsTopic: string;
  private readonly nodesTopic: string;
  private readonly presenceTopic: string;
  private readonly delivery: WriteDelivery;
  private readonly receiver: Receiver;
  private readonly membership: Membership;
  private readonly seal: BrokerSeal;
  private transport: Transport;
  private readonly misconfiguration: Misconfiguration;
  private readonly timing: Timing;
  private readonly capabilities: Capabilities;
  private readonly loggedAt = new Map<string, number>();
  private connections = 0;
  /** Nodes that are gone for good, of which the broker may remember something. */
  private readonly toClear = new Set<string>();
  private cancelMeeting: Cancel = () => {};
  private enabled: boolean;
  private stopping = false;
  private finishing: Promise<void> | null = null;
  private leaving: Promise<void> | null = null;
  /** What is sealed with from the next connection on; null as long as it is what was before. */
  private nextSecrets: { readonly secrets: ClusterSecrets | null } | null = null;
  /** When a node with this one's id was heard of last; anybody may have made it up, once. */
  private twinSeenMs = -Infinity;

  /** For INFO. */
  static readonly facts: readonly Fact<Replicator>[] = [
    flag("replication_connected", "Whether the broker is reached.", (it) => it.transport.connected),
    gauge(
      "replication_waiting",
      "keys",
      "Keys whose writes have yet to be sent.",
      (it) => it.publisher.waiting,
    ),
    gauge(
      "replication_unacknowledged",
      "batches",
      "Batches that the broker has yet to acknowledge.",
      (it) => it.publisher.unacknowledged,
    ),
    flag(
      "replication_duplicate_node_id",
      "Whether another live node was heard of with this one's id in the last few minutes.",
      (it) => it.hasHeardTwinWithin(TWIN_EXPIRY_MS),
    ),
    flag(
      "replication_heard",
      "Whether this node's own messages come back from the broker; without, it is compared with its peers.",
      (it) => !it.delivery.isUnheard,
    ),
    gauge(
      "replication_max_packet_bytes",
      "bytes",
      "Longest packet sent to the broker, as far as its limits are known.",
      (it) => it.transport.maxPacketBytes,
    ),
    text(
      "replication_broker_lacks",
      "What the broker does without, of what nodes use; left out when it is nothing.",
      (it) => it.transport.lacks?.join(", ") || null,
    ),
    gauge(
      "replication_max_messages_per_second",
      "",
      "Most messages sent to the broker in a second, as far as its limit is known; 0 for none.",
      ({ transport: { messagesPerSecond } }) =>
        messagesPerSecond === Infinity ? 0 : messagesPerSecond,
    ),
    ...within((it: Replicator) => it.publisher, Publisher.facts),
    ...within((it: Replicator) => it.receiver, Receiver.facts),
    counter(
      "replication_impossible_presences",
      "messages",
      "Messages in this node's name that say a start no clock can have shown.",
      (it) => it.membership.impossible,
    ),
    counter(
      "replication_outbox_dropped_events",
      "events",
      "Writes not sent because `mqtt.max_outbox_events` waited; peers get them by comparing.",
      (it) => it.publisher.outbox.dropped,
    ),
    counter(
      "replication_peers_crowded_out",
      "nodes",
      "Nodes heard of over the broker that were forgotten, as there are too many.",
      (it) => it.membership.crowdedOut,
    ),
    ...within((it: Replicator) => it.receiver, Receiver.droppedFacts),
    ...within((it: Replicator) => it.seal, BrokerSeal.facts),
  ];

  /** For metrics. */
  static readonly series: readonly Series<Replicator>[] = [
    ...seriesWithin((it: Replicator) => it.receiver, Receiver.series),
    ...seriesWithin((it: Replicator) => it.membership, Membership.series),
  ];

  /** Throws an Error of one line when `broker_address` is no address of a broker. */
  constructor(private readonly options: ReplicatorOptions) {
    const { settings, nodeId, now, random } = options;
    this.enabled = settings.enabled;
    this.timing = options.timing;
    this.capabilities = options.capabilities ?? CURRENT;
    const byTime = Math.floor(now()) * EPOCHS_A_MS + Math.floor(random() * EPOCHS_A_MS);
    this.epoch = Math.max(byTime, (options.lastEpoch ?? 0) + 1);
    this.updatesTopic = `${settings.topic_prefix}/updates`;
    this.eventsTopic = `${settings.topic_prefix}/events`;
    this.nodesTopic = `${settings.topic_prefix}/nodes/`;
    this.presenceTopic = this.nodesTopic + presenceTopicName(nodeId);
    this.seal = this.createSeal();
    this.misconfiguration = new Misconfiguration({
      nodeId,
      clientId: () => this.clientId,
      topicPrefix: settings.topic_prefix,
      brokerHost: () => brokerOf(settings).host,
      logger: options.logger,
    });
    this.delivery = this.createDelivery();
    this.observer = this.publisher.outbox;
    this.receiver = this.createReceiver();
    this.messenger = new BrokerMessenger(
      settings.topic_prefix,
      nodeId,
      () => this.transport,
      () => this.publisher.isBehind,
    );
    this.membership = this.createMembership();
    this.transport = this.createTransport();
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

  /** Resumes publishing and applying. */
  enable(): void {
    if (this.stopping) return;
    if (!this.enabled) this.options.logger.info("Replication is enabled");
    this.enabled = true;
    this.transport.open();
  }

  /**
   * Leaves the cluster until `enable`, as `stop` does; local writes gather in the outbox
   * meanwhile.
   */
  async disable(): Promise<void> {
    if (!this.enabled || this.stopping) return;
    this.enabled = false;
    this.options.logger.info("Replication is disabled until REPLICATE enable or a restart");
    await this.leave();
    // It may have been enabled again meanwhile.
    if (this.enabled) this.enable();
  }

  /** Some of the settings are others than before. `reconnects`: those that a connection has. */
  reconfigure(reconnects: boolean): void {
    this.receiver.reconfigure();
    this.publisher.reconfigure();
    if (reconnects) void this.reconnect();
    // Where this node is reached may be said otherwise.
    else if (this.transport.connected) this.membership.announce();
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
  private async reconnect(): Promise<void> {
    if (this.stopping) return;
    const former = this.transport;
    await this.leave();
    // Somebody may have enabled replication meanwhile, over the connection that there was.
    await former.close();
    // Whoever came meanwhile as well has done it.
    if (this.stopping || this.transport !== former) return;
    if (this.nextSecrets !== null) this.seal.renew(this.nextSecrets.secrets);
    this.nextSecrets = null;
    this.transport = this.createTransport();
    if (this.enabled) this.transport.open();
  }

  private get clientId(): string {
    return this.options.settings.client_id || this.seal.nodeName;
  }

  /** Whether this node takes part in replication now. */
  get isEnabled(): boolean {
    return this.enabled;
  }

  /** Every other node that is known, by node id. */
  peers(): PeerPresence[] {
    return this.membership.list();
  }

  /** What shows who is there and whether something was missed. */
  presence(): ReplicationPresence {
    const { publisher, refusedEvents, comparisonsAsked } = this.delivery;
    return {
      connected: this.transport.connected,
      connections: this.connections,
      droppedEvents: publisher.outbox.dropped + refusedEvents + comparisonsAsked,
      takeChanges: () => this.membership.takeChanges(),
      announceRoot: () => this.membership.announceRoot(),
    };
  }

  /** The ids of every other node that is known. */
  peerIds(): string[] {
    return this.membership.nodeIds();
  }

  /** What is known of one node, and how to have it forgotten. */
  directory(): { isOnline(nodeId: string): boolean | null; forget(nodeId: string): void } {
    return {
      isOnline: (nodeId) => this.membership.isOnline(nodeId),
      forget: (nodeId) => {
        this.membership.forget(nodeId);
        this.toClear.add(nodeId);
        this.clearForgotten();
      },
    };
  }

  /**
   * Drops what is known of nodes that others say are gone for good; not of those that are there.
   */
  dropForgotten(isForgotten: (nodeId: string) => boolean): void {
    for (const nodeId of this.membership.nodeIds()) {
      if (isForgotten(nodeId)) this.membership.forget(nodeId);
    }
  }

  /** Takes the messages of nodes that are gone for good from the broker, once it is there. */
  private clearForgotten(): void {
    if (!this.transport.connected) return;
    for (const nodeId of this.toClear) {
      const topic = this.nodesTopic + presenceTopicName(nodeId);
      this.transport.publish(topic, Buffer.alloc(0), true, (problem) => {
        if (problem) this.noteRefused(topic, problem);
      });
    }
    this.toClear.clear();
  }

  /** What a later start is given, as `sealing.memory`. */
  sealMemory(): { readonly changes: () => number; readonly make: () => Uint8Array } {
    return { changes: () => this.seal.changes, make: () => this.seal.memory() };
  }

  /** Whether another node with this one's id was heard of in the last so many ms. */
  hasHeardTwinWithin(ms: number): boolean {
    return this.timing.nowMs() - this.twinSeenMs < ms;
  }

  /** How it stands now. */
  status(): ReplicationStatus {
    const { publisher } = this;
    return {
      enabled: this.enabled,
      connected: this.transport.connected,
      connections: this.connections,
      nodes: this.membership.count(),
      duplicateNodeId: this.hasHeardTwinWithin(TWIN_EXPIRY_MS),
      waiting: publisher.waiting,
      unacknowledged: publisher.unacknowledged,
      refused: this.delivery.refusedEvents,
      hasUnfetched: publisher.hasUnfetched,
    };
  }

  /** Whoever comes meanwhile waits for the same goodbye. */
  private leave(): Promise<void> {
    this.leaving ??= this.leaveNow().finally(() => (this.leaving = null));
    return this.leaving;
  }

  private async drain(): Promise<void> {
    if (!this.transport.connected) return;
    this.membership.ready();
    const late = Promise.withResolvers<void>();
    const cancel = this.timing.after(DRAIN_MS, late.resolve);
    await Promise.race([this.publisher.drain(), late.promise]);
    cancel();
  }

  private async leaveNow(): Promise<void> {
    if (!this.stopping) await this.drain();
    this.membership.farewell();
    this.cancelMeeting();
    const closed = this.transport.close();
    this.down();
    await closed;
  }

  private up(afterOutage: boolean): void {
    this.connections++;
    const { nowMs, after } = this.timing;
    const { remoteAddress } = this.transport;
    const advertised = parseHostPort(this.options.address());
    this.misconfiguration.noteUp(remoteAddress, advertised?.host ?? "", nowMs());
    if (this.connections === 1) {
      this.cancelMeeting = after(MEETING_MS, () => {
        const { formerMembers } = this.options.hooks ?? {};
        if (formerMembers) this.misconfiguration.notePresent(this.membership.list(), formerMembers);
      });
    }
    this.membership.up(afterOutage);
    this.clearForgotten();
    this.messenger.up();
  }

  private down(isHungUp = false): void {
    this.membership.down();
    this.delivery.stop(isHungUp);
  }

  private get publisher(): Publisher {
    return this.delivery.publisher;
  }

  /** Told what traced commands write. */
  get tracedWrites(): TracedWrites {
    return this.publisher.traces;
  }

  private get tracing(): { readonly tracer?: Tracer } {
    const { tracer } = this.options;
    return tracer === undefined ? {} : { tracer };
  }

  private createDelivery(): WriteDelivery {
    const { settings, nodeId, store, whenSafe } = this.options;
    return new WriteDelivery({
      store,
      nodeId,
      epoch: this.epoch,
      topic: this.updatesTopic,
      transport: () => this.transport,
      limits: limitsIn(settings),
      timing: this.timing,
      whenSafe: whenSafe ?? ((callback) => callback()),
      agreement: () => this.membership.agreement(),
      onSent: (bytes) =>
        this.options.traffic?.note("", "updates", bytes + this.seal.overheadBytes, 0),
      onQuiet: () => this.tellTheDeaf(),
      onRefused: (problem) => this.noteRefused(this.updatesTopic, problem),
      ...this.tracing,
      onHeardChange: (isHeard, isNews) => {
        if (!isHeard) this.noteUnheard();
        if (isNews) this.membership.announce();
      },
    });
  }

  private noteUnheard(): void {
    const { updatesTopic: topic } = this;
    // Of what was refused something was said already.
    if (!this.transport.isGranted(topic) || !this.isTimeToLog("unheard")) return;
    const message = "What this node publishes does not come back to it; nodes compare instead";
    const see = "the broker's access rules: each node has to publish and to subscribe there";
    this.options.logger.warn(message, { topic, see });
  }

  /** Who does not hear what this node has published is compared with. */
  private tellTheDeaf(): void {
    for (const { nodeId, online, hears } of this.membership.list()) {
      if (online && !hears) this.options.hooks?.onGap?.(nodeId);
    }
  }

  private createReceiver(): Receiver {
    const { settings, nodeId, store, logger, hooks } = this.options;
    return new Receiver({
      store,
      nodeId,
      epoch: this.epoch,
      get maxEventBytes() {
        return settings.max_event_bytes;
      },
      get maxMessageBytes() {
        return maxMessageBytes(settings);
      },
      get acceptsForeign() {
        return settings.accept_foreign_events;
      },
      capabilities: this.capabilities,
      onGap: (source) => {
        logger.debug("Events were lost on the way", { source });
        hooks?.onGap?.(source);
      },
      onReference: (source, entry) => hooks?.onReference?.(source, entry),
      onFuture: (entry, source) => hooks?.onFuture?.(entry, source),
      onDropped: (reason, source) => {
        if (!this.isTimeToLog(`dropped ${reason}`)) return;
        const dropped = this.receiver.dropped[reason];
        logger.warn("Received events were dropped", { reason, source, dropped });
      },
      onReceived: (source, bytes) => this.noteReceived(source, "updates", bytes),
      onOwnBatch: (sequence) => this.delivery.noteOwnBatch(sequence),
      isPossibleEpoch: (epoch) => this.isPossibleEpoch(epoch),
      onDuplicateNodeId: () => this.noteDuplicate(),
      timing: this.timing,
      ...this.tracing,
    });
  }

  private createMembership(): Membership {
    const { settings, nodeId, address, version, rootHex, random, hooks } = this.options;
    return new Membership({
      nodeId,
      epoch: this.epoch,
      address,
      tlsAddress: this.options.tlsAddress ?? (() => ""),
      isRelayed: () => this.messenger.isOpen,
      version,
      rootHex,
      random,
      isKept: (id) => hooks?.isMet?.(id) ?? false,
      isMember: (id) => hooks?.isMember?.(id) ?? false,
      memberCount: () => hooks?.memberCount?.() ?? 0,
      isForgotten: (id) => hooks?.isForgotten?.(id) ?? false,
      sequence: () => this.publisher.sequence,
      clientId: () => settings.client_id || nodeId,
      hears: () => !this.delivery.isUnheard,
      publish: (message) => {
        const bytes = message.length + this.seal.overheadBytes;
        this.options.traffic?.note("", "presence", bytes, 0);
        this.transport.publish(this.presenceTopic, message, true, (problem) => {
          if (problem) this.noteRefused(this.presenceTopic, problem);
        });
      },
      onReceived: (from, bytes) => this.noteReceived(from, "presence", bytes),
      onPresence: (presence, isLive) => {
        this.misconfiguration.notePresence(presence);
        this.noteCapabilities(presence);
        if (!isLive || !presence.online) return;
        this.receiver.noteAnnounced(presence.nodeId, presence.epoch, presence.sequence);
      },
      onReady: () => this.delivery.start(),
      isPossibleEpoch: (epoch) => this.isPossibleEpoch(epoch),
      onDuplicateNodeId: () => this.noteDuplicate(),
      timing: this.timing,
      capabilities: this.capabilities,
    });
  }

  /** What the broker sends back of this node's own is traffic, too, and no peer's. */
  private noteReceived(from: string, purpose: Purpose, bytes: number): void {
    const { traffic, nodeId } = this.options;
    traffic?.note(from === nodeId ? "" : from, purpose, 0, bytes + this.seal.overheadBytes);
  }

  /** Who speaks no version that this node does takes nothing from it, and gives it nothing. */
  private noteCapabilities({ nodeId, version, capabilities }: Presence): void {
    if (agree(this.capabilities, capabilities) !== null) return;
    if (!this.isTimeToLog("disagreement")) return;
    const reason = describeDisagreement(this.capabilities, capabilities);
    const fields = { node_id: nodeId, version, reason };
    this.options.logger.warn("A node cannot be talked to", fields);
  }

  private createSeal(): BrokerSeal {
    const { settings, nodeId, sealing, connect, logger } = this.options;
    return new BrokerSeal({
      sealing,
      nodeId,
      topicPrefix: settings.topic_prefix,
      start: this.epoch,
      connect,
      warn: (trouble, message, fields) => {
        if (this.isTimeToLog(trouble)) logger.warn(message, fields);
      },
    });
  }

  private createTransport(): Transport {
    const { settings, nodeId, random, logger, isRelaying } = this.options;
    const { subscription } = this.messenger;
    return this.seal.connect({
      broker: brokerOf(settings),
      clientId: this.clientId,
      username: settings.username,
      password: settings.password,
      ...(this.options.brokerTls && { tls: this.options.brokerTls }),
      keepAliveSeconds: settings.keep_alive,
      cleanSession: settings.clean_session,
      protocol: settings.protocol_version,
      maxPacketBytes: maxMessageBytes(settings),
      maxSentBytes: settings.max_packet_bytes,
      maxMessagesPerSecond: settings.max_messages_per_second,
      subscriptions: [
        { topic: this.updatesTopic, ownToo: "at first" },
        { topic: this.eventsTopic, ownToo: false },
        { topic: `${this.nodesTopic}+`, ownToo: true },
        ...(isRelaying ? [{ topic: subscription, ownToo: false, qos: 0 as const }] : []),
      ],
      logger,
      random,
      timing: this.timing,
      will: () => ({ topic: this.presenceTopic, payload: this.membership.nextWill() }),
      onUp: (afterOutage) => this.up(afterOutage),
      onDown: (isHungUp, wasProven) => {
        // Before that it was over the terms of the connection, and not over a message.
        const isOverMessage = isHungUp && wasProven;
        // With messages under way, it was more likely over one of them than over the client id.
        const { unacknowledged } = this.publisher;
        if (isOverMessage && unacknowledged === 0) {
          this.misconfiguration.noteHungUp(this.timing.nowMs());
        }
        this.down(isOverMessage);
      },
      onMessage: (topic, payload, retained, done) => {
        if (topic === this.updatesTopic) return this.receiver.receiveBatch(payload, done);
        if (topic === this.eventsTopic) this.receiver.receiveEvent(payload);
        else if (!this.messenger.receive(topic, payload, retained))
          this.membership.receive(topic.slice(this.nodesTopic.length), payload, retained);
        done();
      },
      onTakenOver: () => {
        if (settings.client_id === "" || settings.client_id === nodeId) this.noteDuplicate();
        else this.misconfiguration.noteTakenOver();
      },
    });
  }

  private noteRefused(topic: string, { message: reason }: PublishProblem): void {
    if (!this.isTimeToLog(`refused ${topic}`)) return;
    this.options.logger.warn("The broker refused a message", { topic, reason });
  }

  /** Not of a node started later than any clock can say. */
  private isPossibleEpoch(epoch: number): boolean {
    const ms = Math.floor(epoch / EPOCHS_A_MS);
    return !this.options.store.isTooFarAhead(timeHighOf(ms), timeLowOf(ms));
  }

  private noteDuplicate(): void {
    this.twinSeenMs = this.timing.nowMs();
    if (!this.isTimeToLog("duplicate")) return;
    const message = "Another live node uses this node's id; give each node a node_id of its own";
    this.options.logger.error(message, { node_id: this.options.nodeId });
  }

  /** True once in REPEAT_LOG_MS for each trouble. */
  private isTimeToLog(trouble: string): boolean {
    const now = this.timing.nowMs();
    if (now - (this.loggedAt.get(trouble) ?? -Infinity) < REPEAT_LOG_MS) return false;
    this.loggedAt.set(trouble, now);
    return true;
  }
}

/** As they are whenever one is looked at. */
function limitsIn(settings: ReplicatorOptions["settings"]): PublisherLimits {
  return {
    get batchMs() {
      return settings.batch_milliseconds;
    },
    get batchBytes() {
      return settings.batch_bytes;
    },
    get maxEventBytes() {
      return settings.max_event_bytes;
    },
    get maxOutboxEvents() {
      return settings.max_outbox_events;
    },
  };
}

function brokerOf({ broker_address }: Pick<Config["mqtt"], "broker_address">): BrokerAddress {
  const broker = parseBrokerAddress(broker_address);
  if (broker !== undefined) return broker;
  const found = JSON.stringify(broker_address);
  throw new Error(`mqtt.broker_address: ${found} is not the address of a broker`);
}
