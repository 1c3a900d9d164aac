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
import type { Entry } from "../core/data/entry.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import type { Store } from "../core/store/store.ts";
import { counter, flag, gauge, within, type Fact } from "../fact.ts";
import type { Logger } from "../observability/log.ts";
import type { PeerTraffic, Purpose } from "../peer-traffic.ts";
import { BrokerMessenger } from "./broker-messenger.ts";
import { EchoCheck } from "./echo-check.ts";
import { Membership, presenceTopicName, TWIN_EXPIRY_MS } from "./membership.ts";
import { MEETING_MS, Misconfiguration, type FormerMembers } from "./misconfiguration.ts";
import type { MqttTransport, TransportOptions } from "./mqtt-transport.ts";
import type { PeerPresence, Presence } from "./presence.ts";
import { Publisher, type MessageSink, type PublishProblem } from "./publisher.ts";
import { Receiver } from "./receiver.ts";
import type { Cancel, Timing } from "../timing.ts";

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
/** What a packet has around topic and message, at most: an identifier, and no properties. */
const PACKET_OVERHEAD_BYTES = 10;
/** An epoch is the start in Unix milliseconds with a random number below this beneath it. */
const EPOCHS_A_MS = 1_024;

/** What other parts want to hear of. All are optional. */
export interface ReplicationHooks {
  /** Events of that node were lost on the way; its data should be compared. */
  onGap?(nodeId: string): void;
  /**
   * That node holds a version of the key whose value was too large to send. The entry
   * holds key and version and is valid for the call.
   */
  onReference?(nodeId: string, entry: Entry): void;
  /**
   * An entry is dated too far ahead and was not applied; it is valid for the call. That node has
   * it; null: nobody here does.
   */
  onFuture?(entry: Entry, nodeId: string | null): void;
  /** Whether the node of that id is one, and not only said to be: it is not forgotten. */
  isMet?(nodeId: string): boolean;
  /** Whether there was contact with the node of that id, at any time. */
  isMember?(nodeId: string): boolean;
  /** Whether somebody said that the node of that id is gone for good. */
  isForgotten?(nodeId: string): boolean;
  /** Members that this node had met when it started, and whether the node of that id was one. */
  readonly formerMembers?: FormerMembers;
}

/** What a replicator needs of its connection to the broker. */
export type Transport = Pick<
  MqttTransport,
  | "connected"
  | "protocolVersion"
  | "remoteAddress"
  | "receiveMaximum"
  | "maxPacketBytes"
  | "notePassed"
  | "noteTooLong"
  | "hurry"
  | "open"
  | "publish"
  | "send"
  | "isGranted"
  | "silenceOwn"
  | "close"
>;

/** What a replicator is made with. */
export interface ReplicatorOptions {
  readonly store: Pick<
    Store,
    | "read"
    | "apply"
    | "applyExpiry"
    | "isMissing"
    | "isLive"
    | "isTooFarAhead"
    | "applyFloor"
    | "locate"
    | "floor"
    | "deletions"
    | "origin"
  >;
  /** `broker_address` is a broker's, not "embedded"; `enabled` is how it starts. */
  readonly settings: Omit<Config["mqtt"], "embedded">;
  readonly nodeId: string;
  /** `host:port` at which peers reach this node, or "none". */
  readonly address: () => string;
  /** Whether peers may reach this node through the broker. */
  readonly isRelaying?: boolean;
  /** The program's version. */
  readonly version: string;
  /** The Merkle root in hex, null while unknown. */
  readonly rootHex: () => string | null;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly logger: Logger;
  readonly hooks?: ReplicationHooks;
  /** The epoch of the start before, 0 for none: this one is above it, whatever the clock says. */
  readonly lastEpoch?: number;
  /** As in PublisherOptions; at once by default. */
  readonly whenSafe?: (callback: () => void) => void;
  readonly timing: Timing;
  /** What this node speaks; what the program does, unless given. */
  readonly capabilities?: Capabilities;
  /** Counts what goes between the nodes. */
  readonly traffic?: PeerTraffic;
  /** Makes the connection to the broker. */
  readonly connect: (options: TransportOptions) => Transport;
}

/** How replication stands. */
export interface ReplicationStatus {
  readonly enabled: boolean;
  readonly connected: boolean;
  /** How often a connection to the broker came up since the start. */
  readonly connections: number;
  /** Nodes online, this one included; 1 while not connected. */
  readonly nodes: number;
  /** Another live node was seen with this node's id. */
  readonly duplicateNodeId: boolean;
  /** Writes that wait to be published. */
  readonly waiting: number;
  /** Batches published and not yet acknowledged. */
  readonly unacknowledged: number;
  /** Writes that the broker did not pass on, since the start. */
  readonly refused: number;
}

/** Who is there, for whoever compares nodes. */
export interface ReplicationPresence {
  readonly connected: boolean;
  /** How often a connection to the broker came up since the start. */
  readonly connections: number;
  /** Grows when writes of this node, or of others to it, did not travel over the broker. */
  readonly droppedEvents: number;
  /** Of whom something was heard since this was called last, and what is so now. */
  takeChanges(): PeerPresence[];
}

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
  private readonly publisher: Publisher;
  private readonly receiver: Receiver;
  private readonly membership: Membership;
  private readonly transport: Transport;
  private readonly echo: EchoCheck;
  private readonly misconfiguration: Misconfiguration;
  private readonly timing: Timing;
  private readonly capabilities: Capabilities;
  private readonly loggedAt = new Map<string, number>();
  private connections = 0;
  /** Nodes that are gone for good, of which the broker may remember something. */
  private readonly toClear = new Set<string>();
  /** Writes that the broker did not pass on, and how often others were to be compared with. */
  private refusedEvents = 0;
  private comparisonsAsked = 0;
  private cancelMeeting: Cancel = () => {};
  private enabled: boolean;
  private stopping = false;
  private finishing: Promise<void> | null = null;
  private leaving: Promise<void> | null = null;
  /** Whether it was heard when the others were told last. */
  private wasHeard = true;
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
      (it) => !it.echo.isUnheard,
    ),
    gauge(
      "replication_max_packet_bytes",
      "bytes",
      "Longest packet sent to the broker, as far as its limits are known.",
      (it) => it.transport.maxPacketBytes,
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
    const broker = brokerOf(settings);
    const clientId = settings.client_id || nodeId;
    const longest = maxMessageBytes(settings);
    this.misconfiguration = new Misconfiguration({
      nodeId,
      clientId,
      topicPrefix: settings.topic_prefix,
      brokerHost: broker.host,
      logger: options.logger,
    });
    this.echo = this.createEchoCheck();
    this.publisher = this.createPublisher();
    this.observer = this.publisher.outbox;
    this.receiver = this.createReceiver(longest);
    this.messenger = new BrokerMessenger(
      settings.topic_prefix,
      nodeId,
      () => this.transport,
      () => this.publisher.isBehind,
    );
    this.membership = this.createMembership();
    this.transport = this.createTransport(broker, longest);
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
    return {
      connected: this.transport.connected,
      connections: this.connections,
      droppedEvents: this.publisher.outbox.dropped + this.refusedEvents + this.comparisonsAsked,
      takeChanges: () => this.membership.takeChanges(),
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
      refused: this.refusedEvents,
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
    this.echo.stop();
    // It is known why the connection ended: the next one need not wait.
    if (this.publisher.stop(isHungUp)) this.transport.hurry();
  }

  /** Everybody who was there before is back: writes may leave. */
  private ready(): void {
    this.publisher.start(this.createSink());
    const mayHear = this.transport.isGranted(this.updatesTopic) && !this.publisher.isMuted;
    this.echo.start(mayHear);
  }

  private createSink(): MessageSink {
    const { transport, echo, updatesTopic, membership } = this;
    const overheadBytes = PACKET_OVERHEAD_BYTES + Buffer.byteLength(updatesTopic);
    return {
      get receiveMaximum() {
        return transport.receiveMaximum;
      },
      // A broker of MQTT 5 says what it does not take, and need not send it back.
      get isEchoing() {
        return echo.isHeard && transport.protocolVersion < 5;
      },
      get maxMessageBytes() {
        return transport.maxPacketBytes - overheadBytes;
      },
      get agreement() {
        return membership.agreement();
      },
      send: (message, acknowledged) => {
        this.options.traffic?.note("", "updates", message.length, 0);
        transport.publish(updatesTopic, message, false, (problem) => {
          if (problem === undefined && echo.isUnheard) this.refusedEvents++;
          acknowledged(problem);
        });
      },
      notePassed: (bytes) => transport.notePassed(bytes + overheadBytes),
      noteTooLong: (bytes) => transport.noteTooLong(bytes + overheadBytes),
    };
  }

  private createEchoCheck(): EchoCheck {
    return new EchoCheck({
      timing: this.timing,
      beat: (acknowledged) =>
        this.publisher.beat((problem) => {
          if (problem) this.noteRefused(this.updatesTopic, problem);
          acknowledged(problem);
        }),
      onChange: (isHeard) => this.noteHeard(isHeard),
      onUnheard: () => this.comparisonsAsked++,
    });
  }

  private noteHeard(isHeard: boolean): void {
    const { updatesTopic: topic, transport } = this;
    if (isHeard) transport.silenceOwn(topic);
    else if (transport.isGranted(topic) && this.isTimeToLog("unheard")) {
      const message = "What this node publishes does not come back to it; nodes compare instead";
      const see = "the broker's access rules: each node has to publish and to subscribe there";
      this.options.logger.warn(message, { topic, see });
    }
    // Others are told, unless it is as they take it to be.
    if (isHeard !== this.wasHeard) this.membership.announce();
    this.wasHeard = isHeard;
  }

  private createPublisher(): Publisher {
    const { settings, nodeId, store } = this.options;
    return new Publisher({
      store,
      nodeId,
      epoch: this.epoch,
      batchMs: settings.batch_milliseconds,
      batchBytes: settings.batch_bytes,
      maxEventBytes: settings.max_event_bytes,
      maxOutboxEvents: settings.max_outbox_events,
      timing: this.timing,
      whenSafe: this.options.whenSafe ?? ((callback) => callback()),
      onQuiet: () => this.tellTheDeaf(),
      onMissed: (events, message) => {
        this.refusedEvents += events;
        this.noteRefused(this.updatesTopic, { message });
      },
    });
  }

  /** Who does not hear what this node has published is compared with. */
  private tellTheDeaf(): void {
    for (const { nodeId, online, hears } of this.membership.list()) {
      if (online && !hears) this.options.hooks?.onGap?.(nodeId);
    }
  }

  private createReceiver(maxMessageBytes: number): Receiver {
    const { settings, nodeId, store, logger, hooks } = this.options;
    return new Receiver({
      store,
      nodeId,
      epoch: this.epoch,
      maxEventBytes: settings.max_event_bytes,
      maxMessageBytes,
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
      onOwnBatch: (sequence) => {
        this.publisher.noteHeard(sequence);
        this.echo.noteHeard();
      },
      isPossibleEpoch: (epoch) => this.isPossibleEpoch(epoch),
      onDuplicateNodeId: () => this.noteDuplicate(),
      timing: this.timing,
    });
  }

  private createMembership(): Membership {
    const { settings, nodeId, address, version, rootHex, random, hooks } = this.options;
    return new Membership({
      nodeId,
      epoch: this.epoch,
      address,
      isRelayed: () => this.messenger.isOpen,
      version,
      rootHex,
      random,
      isKept: (id) => hooks?.isMet?.(id) ?? false,
      isMember: (id) => hooks?.isMember?.(id) ?? false,
      isForgotten: (id) => hooks?.isForgotten?.(id) ?? false,
      sequence: () => this.publisher.sequence,
      clientId: settings.client_id || nodeId,
      hears: () => !this.echo.isUnheard,
      publish: (message) => {
        this.options.traffic?.note("", "presence", message.length, 0);
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
      onReady: () => this.ready(),
      isPossibleEpoch: (epoch) => this.isPossibleEpoch(epoch),
      onDuplicateNodeId: () => this.noteDuplicate(),
      timing: this.timing,
      capabilities: this.capabilities,
    });
  }

  /** What the broker sends back of this node's own is traffic, too, and no peer's. */
  private noteReceived(from: string, purpose: Purpose, bytes: number): void {
    const { traffic, nodeId } = this.options;
    traffic?.note(from === nodeId ? "" : from, purpose, 0, bytes);
  }

  /** Who speaks no version that this node does takes nothing from it, and gives it nothing. */
  private noteCapabilities({ nodeId, version, capabilities }: Presence): void {
    if (agree(this.capabilities, capabilities) !== null) return;
    if (!this.isTimeToLog("disagreement")) return;
    const reason = describeDisagreement(this.capabilities, capabilities);
    const fields = { node_id: nodeId, version, reason };
    this.options.logger.warn("A node cannot be talked to", fields);
  }

  private createTransport(broker: BrokerAddress, maxPacketBytes: number): Transport {
    const { settings, nodeId, random, logger, isRelaying } = this.options;
    const { subscription } = this.messenger;
    return this.options.connect({
      broker,
      clientId: settings.client_id || nodeId,
      username: settings.username,
      password: settings.password,
      keepAliveSeconds: settings.keep_alive,
      cleanSession: settings.clean_session,
      protocol: settings.protocol_version,
      maxPacketBytes,
      maxSentBytes: settings.max_packet_bytes,
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

function brokerOf({ broker_address }: Pick<Config["mqtt"], "broker_address">): BrokerAddress {
  const broker = parseBrokerAddress(broker_address);
  if (broker !== undefined) return broker;
  const found = JSON.stringify(broker_address);
  throw new Error(`mqtt.broker_address: ${found} is not the address of a broker`);
}
