/**
 * A simulated MQTT broker, and the connection to it that takes the place of the real one
 * in a Replicator. It may lose, repeat, delay and reorder what it passes on (not what
 * it acknowledged before passing on: that is lost all the same), break connections, go away and
 * come back with or without its memory.
 */
import type { Subscription, Transport, TransportOptions } from "../../src/replication/transport.ts";
import { MessagePace } from "../../src/replication/message-pace.ts";
import { PacketLimit } from "../../src/replication/packet-limit.ts";
import type { Chance } from "./chance.ts";
import type { History } from "./history.ts";
import type { Network } from "./network.ts";
import type { Timeline } from "./timeline.ts";

/** How badly it behaves: probabilities for each message and subscriber, and its rules. */
export interface BrokerFaults {
  drop: number;
  duplicate: number;
  reorder: number;
  /** Who publishes a longer packet is cut off, without a word; 0: however long. */
  maxPacketBytes: number;
  /** Who publishes more messages in a second is cut off as well; 0: however many. */
  mostASecond: number;
  /** It keeps no retained messages. */
  forgets: boolean;
  /** It acknowledges and drops the writes that this node publishes, by its number; -1: nobody's. */
  muted: number;
}

/** Of a broker that takes whatever it is sent. */
export const PLAIN_BROKER = {
  maxPacketBytes: 0,
  mostASecond: 0,
  forgets: false,
  muted: -1,
} as const;

/** How long a message that is out of order is late at most, in ms. */
const LATE_MS = 3_000;
/** A broken connection is noticed after at most so long, in ms. */
const KEEP_ALIVE_MS = 5_000;
const RETRY_MS = 2_000;
/** Most messages kept for a client that is away. */
const MAX_KEPT = 200;
const MAX_OVERHEARD = 20;

interface Message {
  readonly topic: string;
  readonly payload: Buffer;
  readonly retained: boolean;
}

/** One broker for all nodes. */
export class Broker {
  isUp = true;
  /** The latest messages from node to node: whoever may read everything has read them. */
  readonly overheard: { readonly topic: string; readonly payload: Buffer }[] = [];
  readonly counts = {
    passed: 0,
    dropped: 0,
    duplicated: 0,
    reordered: 0,
    kept: 0,
    presenceBytes: 0,
    tooLong: 0,
    tooMany: 0,
  };
  private readonly connections = new Set<Connection>();
  private readonly retained = new Map<string, Buffer>();
  /** Messages for clients that are away and have persistent sessions, by client id. */
  private readonly kept = new Map<string, Message[]>();

  constructor(
    /** Its number in the network. */
    readonly place: number,
    readonly network: Network,
    readonly timeline: Timeline,
    readonly chanceOf: (name: string) => Chance,
    readonly faults: BrokerFaults,
    readonly maxLatencyMs: number,
    /** Runs what nodes do again and again: more seldom in quiet hours. */
    readonly afterAtPace: (delayMs: number, task: () => void) => void,
    private readonly history: History,
  ) {}

  /** It never does any of that: then nothing is drawn, which takes time in a large fleet. */
  private get isOrderly(): boolean {
    const { drop, duplicate, reorder } = this.faults;
    return drop + duplicate + reorder === 0;
  }

  /** What a node connects by; `place` is the node's number, `isAlive` whether its process still is. */
  transport(options: TransportOptions, place: number, isAlive: () => boolean): BrokerTransport {
    return new BrokerTransport(this, options, place, isAlive);
  }

  /** Stops; `remembers`: retained messages and sessions outlive it. */
  stop(remembers: boolean): void {
    this.isUp = false;
    if (!remembers) {
      this.retained.clear();
      this.kept.clear();
    }
    for (const connection of [...this.connections]) this.lose(connection, false);
  }

  /** Is back. */
  start(): void {
    this.isUp = true;
  }

  /** Breaks the connections of a node, which notices later. */
  cutOff(place: number): void {
    for (const connection of [...this.connections].filter((it) => it.transport.place === place)) {
      const delayMs = connection.transport.chance.next() * KEEP_ALIVE_MS;
      this.timeline.after(delayMs, () => this.lose(connection, true));
    }
  }

  /** A transport comes; null when it is turned away. */
  accept(transport: BrokerTransport, will: { topic: string; payload: Buffer }): Connection | null {
    if (!this.isUp || !this.network.connects(transport.place, this.place)) return null;
    const { clientId } = transport.options;
    const earlier = this.clientNamed(clientId);
    if (earlier !== undefined) this.lose(earlier, true);
    const connection: Connection = {
      ...{ transport, will, waiting: [], isBusy: false, lastMs: 0 },
      ...{ secondMs: -Infinity, inSecond: 0 },
    };
    this.connections.add(connection);
    return connection;
  }

  /** A message of so many bytes has come; false if it cuts off whoever sent it. */
  admits(connection: Connection, bytes: number): boolean {
    const { counts, faults, timeline } = this;
    const isTooLong = faults.maxPacketBytes > 0 && bytes > faults.maxPacketBytes;
    if (timeline.nowMs - connection.secondMs >= 1_000) {
      connection.secondMs = timeline.nowMs;
      connection.inSecond = 0;
    }
    const isTooMany = ++connection.inSecond > faults.mostASecond && faults.mostASecond > 0;
    if (isTooLong) counts.tooLong++;
    else if (isTooMany) counts.tooMany++;
    else return true;
    this.lose(connection, true);
    return false;
  }

  /** Sends it what was retained and kept for it. */
  greet(connection: Connection): void {
    for (const [topic, payload] of this.retained) {
      this.deliver(connection, { topic, payload, retained: true });
    }
    const { clientId, cleanSession } = connection.transport.options;
    if (cleanSession) return;
    for (const message of this.kept.get(clientId) ?? []) this.deliver(connection, message);
    this.kept.set(clientId, []);
  }

  /** Takes a message from a connection, or from nobody for a will. */
  publish(from: Connection | null, topic: string, payload: Buffer, retain: boolean): void {
    if (topic.includes("/sync/")) this.overheard.push({ topic, payload });
    if (this.overheard.length > MAX_OVERHEARD) this.overheard.shift();
    if (retain && !this.faults.forgets) this.retained.set(topic, payload);
    if (from?.transport.place === this.faults.muted && topic.endsWith("/updates")) return;
    const message = { topic, payload, retained: false };
    for (const connection of this.connections) {
      const { subscriptions } = connection.transport.options;
      const subscription = subscriptions.find((it) => matches(it.topic, topic));
      if (subscription === undefined) continue;
      if (connection === from && !connection.transport.hearsOwn(subscription)) continue;
      this.passOn(connection, message);
    }
    for (const [clientId, messages] of this.kept) {
      if (this.clientNamed(clientId) !== undefined) continue;
      if (/\/(nodes|sync)\//.test(topic) || messages.length >= MAX_KEPT) continue;
      this.counts.kept++;
      messages.push(message);
    }
  }

  /** Ends a connection; with `unexpected`, its will is published. */
  lose(connection: Connection, unexpected: boolean): void {
    if (!this.connections.delete(connection)) return;
    const { transport, will, waiting } = connection;
    if (!transport.options.cleanSession && this.isUp) {
      const kept = this.kept.get(transport.options.clientId) ?? [];
      kept.push(...waiting.filter((it) => !it.retained));
      this.kept.set(transport.options.clientId, kept);
    }
    if (unexpected) this.publish(null, will.topic, will.payload, true);
    transport.lost(connection, unexpected);
  }

  private clientNamed(clientId: string): Connection | undefined {
    for (const connection of this.connections) {
      if (connection.transport.options.clientId === clientId) return connection;
    }
    return undefined;
  }

  private passOn(connection: Connection, message: Message): void {
    const { counts, faults } = this;
    const { chance } = connection.transport;
    if (this.isOrderly) return this.deliver(connection, message);
    if (chance.happens(faults.drop)) {
      counts.dropped++;
      this.noteLost(connection, message);
      return;
    }
    this.deliver(connection, message);
    if (!chance.happens(faults.duplicate)) return;
    counts.duplicated++;
    this.deliver(connection, message);
  }

  private deliver(connection: Connection, message: Message): void {
    const { timeline } = this;
    const { chance } = connection.transport;
    if (message.topic.includes("/nodes/")) {
      this.counts.presenceBytes += message.topic.length + message.payload.length;
    }
    this.counts.passed++;
    const { place } = connection.transport;
    const bytes = message.topic.length + message.payload.length;
    const thinMs = this.network.delayMs(this.place, place, bytes, timeline.nowMs, chance);
    let atMs = timeline.nowMs + chance.next() * this.maxLatencyMs + thinMs;
    if (!this.isOrderly && chance.happens(this.faults.reorder)) {
      this.counts.reordered++;
      atMs += chance.next() * LATE_MS;
    } else {
      atMs = Math.max(atMs, connection.lastMs);
      connection.lastMs = atMs;
    }
    timeline.after(atMs - timeline.nowMs, () => {
      const isThere = this.connections.has(connection);
      if (!isThere || !this.network.reaches(this.place, connection.transport.place)) {
        return this.noteLost(connection, message);
      }
      connection.waiting.push(message);
      this.handOver(connection);
    });
  }

  private noteLost({ transport }: Connection, { payload }: Message): void {
    this.history.noteBytes(payload, (keys) => `the broker keeps from n${transport.place}: ${keys}`);
  }

  /** Of what a node sends to the broker. */
  notePublished(place: number, payload: Buffer): void {
    this.history.noteBytes(payload, (keys) => `n${place} publishes ${keys}`);
  }

  /** One message at a time: the next one when the client is done with it. */
  private handOver(connection: Connection): void {
    if (connection.isBusy || connection.waiting.length === 0) return;
    if (!connection.transport.isAlive() || !connection.transport.isOn(connection)) return;
    const { topic, payload, retained } = connection.waiting[0];
    connection.isBusy = true;
    connection.transport.options.onMessage(topic, payload, retained, () => {
      connection.isBusy = false;
      connection.waiting.shift();
      if (this.connections.has(connection)) this.handOver(connection);
    });
  }
}

/** A client that is connected. */
interface Connection {
  readonly transport: BrokerTransport;
  readonly will: { topic: string; payload: Buffer };
  readonly waiting: Message[];
  isBusy: boolean;
  lastMs: number;
  /** When the second began in which so many messages have come. */
  secondMs: number;
  inSecond: number;
}

/** A node's connection to the broker, as a Replicator sees it. */
export class BrokerTransport implements Transport {
  readonly receiveMaximum = 16;
  readonly protocolVersion = 5;
  readonly remoteAddress = "";
  /** Topics of which this client's own messages are not sent to it any more. */
  private readonly silenced = new Set<string>();
  private connection: Connection | null = null;
  private isOpen = false;
  private hasFailed = false;
  /** What happens on this connection. */
  readonly chance: Chance;
  private readonly limit: PacketLimit;
  private readonly pace: MessagePace;
  /** What waits until more may be sent. */
  private queued: (() => void)[] = [];
  private isWaiting = false;

  constructor(
    private readonly broker: Broker,
    readonly options: TransportOptions,
    readonly place: number,
    /** Whether the process it belongs to still is. */
    readonly isAlive: () => boolean,
  ) {
    this.chance = broker.chanceOf(`n${place} and the broker`);
    this.limit = new PacketLimit(options.maxSentBytes, () => broker.timeline.nowMs);
    this.pace = new MessagePace(options.maxMessagesPerSecond, () => broker.timeline.nowMs);
  }

  get maxPacketBytes(): number {
    return this.limit.bytes;
  }

  get messagesPerSecond(): number {
    return this.pace.perSecond;
  }

  pauseMs(leavesRoom = false): number {
    const pauseMs = this.pace.pauseMs(leavesRoom);
    return this.isWaiting ? Math.max(1, pauseMs) : pauseMs;
  }

  get connected(): boolean {
    return this.connection !== null;
  }

  /** Whether it has not let go of this connection. */
  isOn(connection: Connection): boolean {
    return this.connection === connection;
  }

  open(): void {
    this.isOpen = true;
    const { broker } = this;
    broker.timeline.after(this.chance.next() * broker.maxLatencyMs, () => this.attempt());
  }

  publish(topic: string, payload: Buffer, retain: boolean, done: () => void): void {
    if (this.connection === null) return;
    const copy = Buffer.from(payload);
    this.queued.push(() => this.publishNow(topic, copy, retain, done));
    this.publishQueued();
  }

  private publishQueued(): void {
    while (this.queued.length > 0 && !this.isWaiting) {
      const pauseMs = this.pace.pauseMs();
      if (pauseMs === 0) this.queued.shift()!();
      else this.publishLater(pauseMs);
    }
  }

  private publishLater(delayMs: number): void {
    this.isWaiting = true;
    this.broker.timeline.after(delayMs, () => {
      this.isWaiting = false;
      if (this.isAlive()) this.publishQueued();
    });
  }

  private publishNow(topic: string, copy: Buffer, retain: boolean, done: () => void): void {
    const { broker, connection } = this;
    this.pace.spend();
    broker.notePublished(this.place, copy);
    const latencyMs = this.latencyMs(topic, copy);
    broker.timeline.after(latencyMs, () => {
      if (this.connection !== connection && !retain) return;
      if (!broker.isUp || !broker.network.reaches(this.place, broker.place)) return;
      // What is retained counts even when the connection is gone by now.
      const bytes = topic.length + copy.length + 5;
      if (connection !== null && !broker.admits(connection, bytes)) return;
      broker.publish(connection, topic, copy, retain);
      broker.timeline.after(latencyMs, () => {
        if (this.connection === connection && this.isAlive()) done();
      });
    });
  }

  send(topic: string, payload: Uint8Array, sent: () => void): void {
    const { broker, connection } = this;
    if (connection === null) return;
    const copy = Buffer.from(payload);
    this.pace.spend();
    broker.timeline.after(this.latencyMs(topic, copy), () => {
      if (this.connection !== connection) return;
      if (broker.isUp && broker.network.reaches(this.place, broker.place)) {
        if (!broker.admits(connection, 0)) return;
        broker.publish(connection, topic, copy, false);
      }
      if (this.isAlive()) sent();
    });
  }

  /** How long a message takes to the broker. */
  private latencyMs(topic: string, payload: Uint8Array): number {
    const { broker, chance, place } = this;
    const bytes = topic.length + payload.length;
    const { network, timeline } = broker;
    const thinMs = network.delayMs(place, broker.place, bytes, timeline.nowMs, chance);
    return chance.next() * broker.maxLatencyMs + thinMs;
  }

  silenceOwn(topic: string): void {
    this.silenced.add(topic);
  }

  /** Whether it is to be sent what it publishes itself. */
  hearsOwn({ topic, ownToo }: Subscription): boolean {
    return ownToo === true || (ownToo === "at first" && !this.silenced.has(topic));
  }

  notePassed(bytes: number): void {
    this.limit.notePassed(bytes);
  }

  noteTooLong(bytes: number): boolean {
    return this.limit.noteTooLong(bytes);
  }

  hurry(): void {}

  isGranted(topic: string): boolean {
    return this.connected && this.options.subscriptions.some((it) => it.topic === topic);
  }

  async close(): Promise<void> {
    this.isOpen = false;
    this.vanish();
  }

  /** The process is gone: the broker notices later, and nobody else hears of it here. */
  vanish(): void {
    const { broker, connection } = this;
    this.connection = null;
    if (connection === null) return;
    const delayMs = this.chance.next() * KEEP_ALIVE_MS;
    broker.timeline.after(delayMs, () => broker.lose(connection, true));
  }

  /** The broker let go of this connection. */
  lost(connection: Connection, isHungUp: boolean): void {
    if (this.connection !== connection || !this.isAlive()) return;
    this.connection = null;
    this.queued = [];
    this.options.onDown(isHungUp, true);
    if (isHungUp) this.pace.noteHungUp();
    this.retry();
  }

  private attempt(): void {
    if (!this.isAlive() || !this.isOpen) return;
    this.connection = this.broker.accept(this, this.options.will());
    if (this.connection === null) {
      this.hasFailed = true;
      return this.retry();
    }
    this.silenced.clear();
    const afterOutage = this.hasFailed;
    this.hasFailed = false;
    this.pace.begin(afterOutage);
    this.options.onUp(afterOutage);
    if (this.connection !== null) this.broker.greet(this.connection);
  }

  private retry(): void {
    const { broker } = this;
    broker.afterAtPace(RETRY_MS * (0.5 + this.chance.next()), () => this.attempt());
  }
}

const PLUS = "+".charCodeAt(0);

function matches(filter: string, topic: string): boolean {
  const length = filter.length - 1;
  if (filter.charCodeAt(length) !== PLUS) return filter === topic;
  if (topic.length < length) return false;
  // From the end: all topics here begin alike.
  for (let at = length - 1; at >= 0; at--) {
    if (filter.charCodeAt(at) !== topic.charCodeAt(at)) return false;
  }
  return true;
}
