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
import { parseHostPort } from "../config/address.ts";
import type { ChangeObserver } from "../core/store/outcome.ts";
import { seriesWithin, within, type Fact, type Series } from "../fact.ts";
import type { Purpose } from "../peer-traffic.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import { BrokerConnection, maxMessageBytes } from "./broker-connection.ts";
import { BrokerSeal } from "./broker-seal.ts";
import { BrokerMessenger } from "./broker-messenger.ts";
import { BrokerTroubles } from "./broker-troubles.ts";
import { Membership, presenceTopicName, TWIN_EXPIRY_MS } from "./membership.ts";
import { MEETING_MS, Misconfiguration } from "./misconfiguration.ts";
import type { PeerPresence } from "./presence.ts";
import type { Presence } from "./presence-message.ts";
import type { Publisher } from "./publisher.ts";
import type { PublisherLimits } from "./publisher-options.ts";
import { Receiver } from "./receiver.ts";
import { replicationFacts, replicationSeries, type ReplicationParts } from "./replication-facts.ts";
import type {
  ReplicationPresence,
  ReplicationStatus,
  ReplicatorOptions,
} from "./replicator-options.ts";
import type { Transport } from "./transport.ts";
import { WriteDelivery } from "./write-delivery.ts";
import type { Cancel, Timing } from "../timing.ts";
import type { TracedWrites, Tracer } from "../tracer.ts";

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
  private readonly connection: BrokerConnection;
  private readonly troubles: BrokerTroubles;
  private readonly misconfiguration: Misconfiguration;
  private readonly timing: Timing;
  private readonly capabilities: Capabilities;
  private connections = 0;
  /** Nodes that are gone for good, of which the broker may remember something. */
  private readonly toClear = new Set<string>();
  private cancelMeeting: Cancel = () => {};
  /** When a node with this one's id was heard of last; anybody may have made it up, once. */
  private twinSeenMs = -Infinity;

  /** For INFO. */
  static readonly facts: readonly Fact<Replicator>[] = within(
    (it: Replicator) => it.parts,
    replicationFacts,
  );

  /** For metrics. */
  static readonly series: readonly Series<Replicator>[] = seriesWithin(
    (it: Replicator) => it.parts,
    replicationSeries,
  );

  /** Throws an Error of one line when `broker_address` is no address of a broker. */
  constructor(private readonly options: ReplicatorOptions) {
    const { settings, nodeId, now, random } = options;
    this.timing = options.timing;
    this.capabilities = options.capabilities ?? CURRENT;
    const byTime = Math.floor(now()) * EPOCHS_A_MS + Math.floor(random() * EPOCHS_A_MS);
    this.epoch = Math.max(byTime, (options.lastEpoch ?? 0) + 1);
    this.updatesTopic = `${settings.topic_prefix}/updates`;
    this.eventsTopic = `${settings.topic_prefix}/events`;
    this.nodesTopic = `${settings.topic_prefix}/nodes/`;
    this.presenceTopic = this.nodesTopic + presenceTopicName(nodeId);
    this.troubles = new BrokerTroubles(nodeId, this.timing, options.logger);
    this.seal = this.createSeal();
    this.misconfiguration = new Misconfiguration({
      nodeId,
      clientId: () => this.connection.clientId,
      topicPrefix: settings.topic_prefix,
      brokerHost: () => this.connection.broker.host,
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
    this.connection = this.createConnection();
  }

  /** Connects to the broker, unless it is disabled, and stays connected. Returns at once. */
  start(): void {
    this.connection.start();
  }

  /**
   * Publishes what waits, for up to two seconds, says goodbye and disconnects. Prompt
   * when the broker is away.
   */
  stop(): Promise<void> {
    return this.connection.stop();
  }

  /** The first part of `stop`: publishes what waits. Messages still come and go meanwhile. */
  finish(): Promise<void> {
    return this.connection.finish();
  }

  /** Resumes publishing and applying. */
  enable(): void {
    this.connection.enable();
  }

  /**
   * Leaves the cluster until `enable`, as `stop` does; local writes gather in the outbox
   * meanwhile.
   */
  disable(): Promise<void> {
    return this.connection.disable();
  }

  /** Some of the settings are others than before. `reconnects`: those that a connection has. */
  reconfigure(reconnects: boolean): void {
    this.receiver.reconfigure();
    this.publisher.reconfigure();
    if (reconnects) void this.connection.reconnect();
    // Where this node is reached may be said otherwise.
    else if (this.transport.connected) this.membership.announce();
  }

  /** What is given to the broker is sealed with these from now on, or not at all. */
  renewSecrets(secrets: ClusterSecrets | null): void {
    this.connection.renewSecrets(secrets);
  }

  /** Whether this node takes part in replication now. */
  get isEnabled(): boolean {
    return this.connection.isEnabled;
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
        if (problem) this.troubles.noteRefused(topic, problem);
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

  private get parts(): ReplicationParts {
    const { connection, delivery, receiver, membership, seal } = this;
    const hasTwin = (): boolean => this.hasHeardTwinWithin(TWIN_EXPIRY_MS);
    return { connection, delivery, receiver, membership, seal, hasTwin };
  }

  /** How it stands now. */
  status(): ReplicationStatus {
    const { publisher } = this;
    return {
      enabled: this.isEnabled,
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

  /** `isOverMessage`: by the broker's hand, perhaps for something that it was sent. */
  private down(isOverMessage: boolean): void {
    // With messages under way, it was more likely over one of them than over the client id.
    if (isOverMessage && this.publisher.unacknowledged === 0) {
      this.misconfiguration.noteHungUp(this.timing.nowMs());
    }
    this.membership.down();
    this.delivery.stop(isOverMessage);
  }

  private get transport(): Transport {
    return this.connection.transport;
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
      onRefused: (problem) => this.troubles.noteRefused(this.updatesTopic, problem),
      ...this.tracing,
      onHeardChange: (isHeard, isNews) => {
        if (!isHeard) this.noteUnheard();
        if (isNews) this.membership.announce();
      },
    });
  }

  private noteUnheard(): void {
    // Of what was refused something was said already.
    if (this.transport.isGranted(this.updatesTopic)) this.troubles.noteUnheard(this.updatesTopic);
  }

  /** Has this node compared with nodes that do not hear what it publishes. */
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
      onDropped: (reason, source) =>
        this.troubles.noteDropped(reason, source, this.receiver.dropped[reason]),
      onReceived: (source, bytes) => this.noteReceived(source, "updates", bytes),
      onOwnBatch: (sequence) => this.delivery.noteOwnBatch(sequence),
      isPossibleEpoch: (epoch) => this.isPossibleEpoch(epoch),
      onDuplicateNodeId: () => this.noteDuplicate(),
      timing: this.timing,
      ...this.tracing,
    });
  }

  private createMembership(): Membership {
    const { settings, nodeId, address, version, trees, random, hooks } = this.options;
    return new Membership({
      nodeId,
      epoch: this.epoch,
      address,
      tlsAddress: this.options.tlsAddress ?? (() => ""),
      isRelayed: () => this.messenger.isOpen,
      version,
      trees,
      random,
      isKept: (id) => hooks?.isMet?.(id) ?? false,
      isMember: (id) => hooks?.isMember?.(id) ?? false,
      memberCount: () => hooks?.memberCount?.() ?? 0,
      isForgotten: (id) => hooks?.isForgotten?.(id) ?? false,
      sequence: () => this.publisher.sequence,
      clientId: () => settings.client_id || nodeId,
      hears: () => !this.delivery.isUnheard,
      publish: (message, taken) => {
        const bytes = message.length + this.seal.overheadBytes;
        this.options.traffic?.note("", "presence", bytes, 0);
        this.transport.publish(this.presenceTopic, message, true, (problem) => {
          if (problem) this.troubles.noteRefused(this.presenceTopic, problem);
          else taken();
        });
      },
      onUnheard: () => {
        // Of what was refused something was said already.
        if (!this.transport.isGranted(`${this.nodesTopic}+`)) return;
        this.troubles.notePresenceUnheard(this.presenceTopic);
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

  /** Says so if the two nodes speak no version in common: neither takes anything from the other. */
  private noteCapabilities({ nodeId, version, capabilities }: Presence): void {
    if (agree(this.capabilities, capabilities) !== null) return;
    const reason = describeDisagreement(this.capabilities, capabilities);
    this.troubles.noteDisagreement(nodeId, version, reason);
  }

  private createSeal(): BrokerSeal {
    const { settings, nodeId, sealing, connect } = this.options;
    return new BrokerSeal({
      sealing,
      nodeId,
      topicPrefix: settings.topic_prefix,
      start: this.epoch,
      connect,
      warn: (trouble, message, fields) => this.troubles.warn(trouble, message, fields),
    });
  }

  private createConnection(): BrokerConnection {
    const { settings, random, logger, isRelaying, brokerTls: tls } = this.options;
    const { subscription } = this.messenger;
    return new BrokerConnection({
      ...{ settings, tls, seal: this.seal, timing: this.timing, random, logger },
      subscriptions: [
        { topic: this.updatesTopic, ownToo: "at first" },
        { topic: this.eventsTopic, ownToo: false },
        { topic: `${this.nodesTopic}+`, ownToo: true },
        ...(isRelaying ? [{ topic: subscription, ownToo: false, qos: 0 as const }] : []),
      ],
      will: () => ({ topic: this.presenceTopic, payload: this.membership.nextWill() }),
      onUp: (afterOutage) => this.up(afterOutage),
      // Before that it was over the terms of the connection, and not over a message.
      onDown: (isHungUp, wasProven) => this.down(isHungUp && wasProven),
      onMessage: (topic, payload, retained, done) => {
        if (topic === this.updatesTopic) return this.receiver.receiveBatch(payload, done);
        if (topic === this.eventsTopic) this.receiver.receiveEvent(payload);
        else if (!this.messenger.receive(topic, payload, retained))
          this.membership.receive(topic.slice(this.nodesTopic.length), payload, retained);
        done();
      },
      onTakenOver: () => this.noteTakenOver(),
      drain: () => {
        this.membership.ready();
        return this.publisher.drain();
      },
      farewell: () => {
        this.membership.farewell();
        this.cancelMeeting();
      },
    });
  }

  private noteTakenOver(): void {
    const { settings, nodeId } = this.options;
    if (settings.client_id === "" || settings.client_id === nodeId) this.noteDuplicate();
    else this.misconfiguration.noteTakenOver();
  }

  /** Not of a node started later than any clock can say. */
  private isPossibleEpoch(epoch: number): boolean {
    const ms = Math.floor(epoch / EPOCHS_A_MS);
    return !this.options.store.isTooFarAhead(timeHighOf(ms), timeLowOf(ms));
  }

  private noteDuplicate(): void {
    this.twinSeenMs = this.timing.nowMs();
    this.troubles.noteDuplicate();
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
