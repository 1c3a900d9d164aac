/**
 * A connection to the broker over which everything is sealed. Whoever uses it sees topics and
 * payloads as they are without a secret; what the broker sees is this:
 *
 *   <prefix>/updates              sealed
 *   <prefix>/nodes/<name>         sealed: u16 length of the node's id, that id, presence
 *   <prefix>/sync/<name>/<box>    sealed
 *   <prefix>/events               as it is: other implementations cannot seal
 *
 * `<name>` is the node's name at the broker (`seal-keys.ts`). While the secret is being changed a
 * node has several, and hears what is sent to any of them.
 *
 * The box "epoch" is this file's own: there a node is told of an epoch that it has to pass by, for
 * others have heard of it and take all before it for old (`replay-guard.ts`).
 *
 * An empty message takes the place of a retained one that is to be forgotten. Anybody can publish
 * it, so it says nothing, and whoever receives it passes over it.
 */
import { nodeIdOf, presenceTopicName } from "./membership.ts";
import type { MessageSeal, SealRefusal } from "./message-seal.ts";
import { EPOCH_BYTES, SEAL_BYTES, type SealPurpose } from "./sealed-message.ts";
import type { PublishProblem, Subscription, Transport, TransportOptions } from "./transport.ts";

const EMPTY = Buffer.alloc(0);
const EPOCH_BOX = "epoch";
/** Between two times that somebody is told of his epoch, in ms: anybody can repeat what is old. */
const TELL_MS = 1_000;

/** What one is made with. */
export interface SealedTransportOptions {
  readonly seal: MessageSeal;
  readonly topicPrefix: string;
  readonly nodeId: string;
  /** Makes the connection below. */
  readonly connect: (options: TransportOptions) => Transport;
  /** Something came on that topic, of the broker's, that is not taken. */
  readonly onRefused: (reason: SealRefusal, topic: string, message: Buffer) => void;
}

/** See the file header. */
export class SealedTransport implements Transport {
  private readonly inner: Transport;
  private readonly nodesTopic: string;
  private readonly syncTopic: string;
  /** Topics, as the broker has them, that only this node has reason to publish presence on. */
  private readonly formerTopics: ReadonlySet<string>;
  /** Those of `formerTopics` of which the broker still retains something. */
  private readonly leftovers = new Set<string>();
  private toldMs = -Infinity;

  constructor(
    private readonly options: SealedTransportOptions,
    private readonly outer: TransportOptions,
  ) {
    const { topicPrefix, nodeId, seal } = options;
    this.nodesTopic = `${topicPrefix}/nodes/`;
    this.syncTopic = `${topicPrefix}/sync/`;
    const names = [presenceTopicName(nodeId), ...seal.formerNamesOfOwn()];
    this.formerTopics = new Set(names.map((name) => this.nodesTopic + name));
    seal.onOutdated = (name, latest) => this.tell(name, latest);
    this.inner = options.connect({
      ...outer,
      maxPacketBytes: outer.maxPacketBytes + SEAL_BYTES,
      subscriptions: outer.subscriptions.flatMap((each) => this.subscriptionsOf(each)),
      will: () => this.will(),
      onUp: (afterOutage) => {
        outer.onUp(afterOutage);
        this.clearLeftovers();
      },
      onMessage: (topic, message, retained, done) => this.receive(topic, message, retained, done),
    });
  }

  get connected(): boolean {
    return this.inner.connected;
  }

  get protocolVersion(): 4 | 5 {
    return this.inner.protocolVersion;
  }

  get lacks(): readonly string[] {
    return this.inner.lacks ?? [];
  }

  get remoteAddress(): string {
    return this.inner.remoteAddress;
  }

  get receiveMaximum(): number {
    return this.inner.receiveMaximum;
  }

  get maxPacketBytes(): number {
    return this.inner.maxPacketBytes - SEAL_BYTES;
  }

  get messagesPerSecond(): number {
    return this.inner.messagesPerSecond;
  }

  pauseMs(leavesRoom?: boolean): number {
    return this.inner.pauseMs(leavesRoom);
  }

  notePassed(bytes: number): void {
    this.inner.notePassed(bytes + SEAL_BYTES);
  }

  noteTooLong(bytes: number): boolean {
    return this.inner.noteTooLong(bytes + SEAL_BYTES);
  }

  hurry(): void {
    this.inner.hurry();
  }

  open(): void {
    this.inner.open();
  }

  publish(
    topic: string,
    payload: Buffer,
    retain: boolean,
    done: (problem?: PublishProblem) => void,
  ): void {
    if (!this.inner.connected) return;
    if (payload.length === 0) return this.clear(topic, done);
    const [at] = this.topicsOf(topic);
    this.inner.publish(at, this.seal(topic, at, payload), retain, done);
  }

  send(topic: string, payload: Uint8Array, sent: () => void): void {
    if (!this.inner.connected) return;
    const [at] = this.topicsOf(topic);
    this.inner.send(at, this.seal(topic, at, payload), sent);
  }

  isGranted(topic: string): boolean {
    return this.inner.isGranted(this.topicsOf(topic)[0]);
  }

  silenceOwn(topic: string): void {
    this.inner.silenceOwn(topic);
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  /** What the broker retains of a node that is gone, under whatever name. */
  private clear(topic: string, done: (problem?: PublishProblem) => void): void {
    for (const at of new Set([...this.topicsOf(topic), topic])) {
      this.inner.publish(at, EMPTY, true, done);
    }
  }

  /** What is retained may come before the connection is up, and nothing can be sent then. */
  private clearLeftovers(): void {
    if (!this.inner.connected) return;
    for (const topic of this.leftovers) this.inner.publish(topic, EMPTY, true, () => {});
    this.leftovers.clear();
  }

  private will(): { topic: string; payload: Buffer } {
    const { seal } = this.options;
    seal.begin();
    const { topic, payload } = this.outer.will();
    const [at] = this.topicsOf(topic);
    return { topic: at, payload: seal.sealWill(at, payload) };
  }

  private seal(topic: string, at: string, payload: Uint8Array): Buffer {
    return this.options.seal.seal(this.purposeOf(topic), at, payload);
  }

  private receive(topic: string, message: Buffer, isRetained: boolean, done: () => void): void {
    const { outer, options } = this;
    if (topic === `${options.topicPrefix}/events`) {
      return outer.onMessage(topic, message, isRetained, done);
    }
    if (message.length === 0) return done();
    if (isRetained && this.formerTopics.has(topic)) {
      // Of this node's, from before it sealed, or sealed as it does now.
      this.leftovers.add(topic);
      this.clearLeftovers();
      return done();
    }
    const purpose = this.purposeOf(topic);
    const opened = options.seal.open(purpose, topic, message, isRetained);
    if (typeof opened === "string") {
      options.onRefused(opened, topic, message);
      return done();
    }
    const { payload, nodeId = "" } = opened;
    if (purpose === "updates") return outer.onMessage(topic, payload, isRetained, done);
    if (purpose === "sync") {
      const box = topic.slice(topic.lastIndexOf("/"));
      if (box === `/${EPOCH_BOX}`) {
        if (payload.length === EPOCH_BYTES) options.seal.passBy(payload.toString("latin1"));
        return done();
      }
      const own = this.syncTopic + presenceTopicName(options.nodeId);
      return outer.onMessage(own + box, payload, isRetained, done);
    }
    outer.onMessage(this.nodesTopic + presenceTopicName(nodeId), payload, isRetained, done);
  }

  private tell(name: string, latestEpoch: string): void {
    const nowMs = this.outer.timing.nowMs();
    if (!this.inner.connected || nowMs - this.toldMs < TELL_MS) return;
    this.toldMs = nowMs;
    const topic = `${this.syncTopic}${name}/${EPOCH_BOX}`;
    const message = this.options.seal.seal("sync", topic, Buffer.from(latestEpoch, "latin1"));
    this.inner.send(topic, message, () => {});
  }

  private purposeOf(topic: string): SealPurpose {
    if (topic.startsWith(this.nodesTopic)) return "presence";
    return topic.startsWith(this.syncTopic) ? "sync" : "updates";
  }

  private subscriptionsOf(subscription: Subscription): Subscription[] {
    return this.topicsOf(subscription.topic).map((topic) => ({ ...subscription, topic }));
  }

  /** A topic as the broker has it, by the current secret first. */
  private topicsOf(topic: string): string[] {
    const { seal } = this.options;
    for (const prefix of [this.nodesTopic, this.syncTopic]) {
      if (!topic.startsWith(prefix)) continue;
      const [name, ...rest] = topic.slice(prefix.length).split("/");
      if (name === "+") return [topic];
      const names = seal.namesOf(nodeIdOf(name));
      return names.map((it) => prefix + [it, ...rest].join("/"));
    }
    return [topic];
  }
}
