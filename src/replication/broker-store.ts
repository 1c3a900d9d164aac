/**
 * What the embedded broker keeps: retained messages, the sessions of subscribers that come back,
 * and what waits for them. In memory, all of it within bounds, whatever strangers publish.
 *
 * - A retained message that does not fit is delivered and not retained. One that replaces another
 *   of its topic takes the other's room, so that those who were there first stay.
 * - A message that does not fit into the queue of a session is not kept for it. A node notices
 *   the gap in its peer's numbers and heals it by comparing.
 * - When there are too many sessions, the one that has been away longest goes.
 *
 * Subscriptions and wills are left to the package's own store, which implements the interface
 * that aedes asks for (`aedes-persistence`, README.md).
 */
import { Readable } from "node:stream";
import memory from "aedes-persistence";

/** How much is kept. */
export interface StoreLimits {
  /** For absent subscribers, and for present ones until they acknowledge, in bytes. */
  readonly maxQueuedBytes: number;
  /** Of retained messages, in bytes. */
  readonly maxRetainedBytes: number;
}

/** Most retained messages, however small. */
const MAX_RETAINED = 10_000;
/** Most sessions that outlast their connection. */
const MAX_SESSIONS = 1_000;
/** No session is kept longer without its client, in ms: what MQTT 5 clients of ours ask for. */
const SESSION_EXPIRY_MS = 86_400_000;
/** What one session may take of all that waits. */
const SESSION_SHARE = 0.25;
/** Memory of a message besides its topic and payload, about. */
const OVERHEAD_BYTES = 500;

/** A message as the package hands it over. */
interface BrokerPacket {
  cmd: string;
  brokerId?: string;
  brokerCounter?: number;
  messageId?: number | undefined;
  topic?: string;
  payload?: Buffer | string;
}

interface ClientId {
  readonly id: string;
}

/** The part of the broker that the store looks at. */
interface BrokerView {
  readonly id: string;
  readonly clients: Record<string, unknown>;
}

/** The package's own store, of which its types tell only what it was like before promises. */
interface PackageStore {
  setup(broker: BrokerView): Promise<void>;
  addSubscriptions(client: ClientId, subscriptions: unknown[]): Promise<void>;
  removeSubscriptions(client: ClientId, filters: string[]): Promise<void>;
  cleanSubscriptions(client: ClientId): Promise<void>;
  subscriptionsByClient(client: ClientId): Promise<unknown>;
  subscriptionsByTopic(topic: string): Promise<unknown>;
  countOffline(): Promise<unknown>;
  getClientList(topic: string): Readable;
  putWill(client: ClientId, packet: BrokerPacket): Promise<unknown>;
  getWill(client: ClientId): Promise<unknown>;
  delWill(client: ClientId): Promise<unknown>;
  streamWill(brokers: Record<string, number>): Readable;
  destroy(): Promise<void>;
}

/** What waits for one client. */
class Session {
  bytes = 0;
  seenMs: number;
  /** Outgoing messages, oldest first, by the number that the broker gave them. */
  readonly outgoing = new Map<string, BrokerPacket>();
  /** The same by the number they were sent under, once they were. */
  readonly sent = new Map<number, string>();
  /** Incoming messages of QoS 2, half way. */
  readonly incoming = new Map<number, BrokerPacket>();

  constructor(nowMs: number) {
    this.seenMs = nowMs;
  }
}

/** Implements the package's interface for stores; see the file header. */
export class BrokerStore {
  /** Messages that were not retained, or not kept for a subscriber. */
  refused = 0;
  private readonly inner = memory() as unknown as PackageStore;
  private broker: BrokerView | null = null;
  private readonly retained = new Map<string, BrokerPacket>();
  private retainedBytes = 0;
  private readonly sessions = new Map<string, Session>();
  private queuedBytes = 0;

  /** `onRefused` is told what did not fit, each time. */
  constructor(
    private readonly limits: StoreLimits,
    private readonly onRefused: (what: string, id: string) => void,
    /** Milliseconds of a monotonic clock. */
    private readonly nowMs: () => number,
  ) {}

  async setup(broker: BrokerView): Promise<void> {
    this.broker = broker;
    await this.inner.setup(broker);
  }

  // Retained messages.

  async storeRetained(packet: BrokerPacket): Promise<void> {
    const topic = packet.topic!;
    const former = this.retained.get(topic);
    const formerBytes = former === undefined ? 0 : bytesOf(former);
    const isEmpty = packet.payload === undefined || packet.payload.length === 0;
    const bytes = isEmpty ? 0 : bytesOf(packet);
    const isOneMore = former === undefined && !isEmpty && this.retained.size >= MAX_RETAINED;
    if (isOneMore || this.retainedBytes - formerBytes + bytes > this.limits.maxRetainedBytes) {
      return this.refuse("retained message", topic);
    }
    this.retainedBytes += bytes - formerBytes;
    if (isEmpty) this.retained.delete(topic);
    else this.retained.set(topic, ownCopy(packet));
  }

  createRetainedStream(filter: string): Readable {
    return this.createRetainedStreamCombi([filter]);
  }

  createRetainedStreamCombi(filters: string[]): Readable {
    return Readable.from(this.retainedFor(filters));
  }

  private *retainedFor(filters: string[]): Generator<BrokerPacket> {
    for (const filter of filters) {
      if (!/[+#]/.test(filter)) {
        const packet = this.retained.get(filter);
        if (packet !== undefined) yield packet;
        continue;
      }
      for (const [topic, packet] of this.retained) {
        if (matchesFilter(filter, topic)) yield packet;
      }
    }
  }

  // Sessions.

  async addSubscriptions(client: ClientId, subscriptions: unknown[]): Promise<void> {
    this.sessionOf(client.id);
    await this.inner.addSubscriptions(client, subscriptions);
  }

  /** The client wants no session, or none of what was before. */
  async cleanSubscriptions(client: ClientId): Promise<void> {
    await this.forget(client.id);
  }

  removeSubscriptions(client: ClientId, filters: string[]): Promise<unknown> {
    return this.inner.removeSubscriptions(client, filters);
  }

  subscriptionsByClient(client: ClientId): Promise<unknown> {
    return this.inner.subscriptionsByClient(client);
  }

  subscriptionsByTopic(topic: string): Promise<unknown> {
    return this.inner.subscriptionsByTopic(topic);
  }

  countOffline(): Promise<unknown> {
    return this.inner.countOffline();
  }

  getClientList(topic: string): Readable {
    return this.inner.getClientList(topic);
  }

  private sessionOf(id: string): Session {
    let session = this.sessions.get(id);
    if (session === undefined) {
      if (this.sessions.size >= MAX_SESSIONS) this.forgetLongestAway();
      session = new Session(this.nowMs());
      this.sessions.set(id, session);
    }
    return session;
  }

  private forgetLongestAway(): void {
    let longest = "";
    let seenMs = Infinity;
    for (const [id, session] of this.sessions) {
      if (session.seenMs >= seenMs || this.isPresent(id)) continue;
      longest = id;
      seenMs = session.seenMs;
    }
    if (longest !== "") void this.forget(longest);
  }

  private async forget(id: string): Promise<void> {
    const session = this.sessions.get(id);
    this.sessions.delete(id);
    if (session !== undefined) this.queuedBytes -= session.bytes;
    await this.inner.cleanSubscriptions({ id });
  }

  private isPresent(id: string): boolean {
    return this.broker?.clients[id] !== undefined;
  }

  // What waits to be sent.

  async outgoingEnqueue(subscription: { clientId: string }, packet: BrokerPacket): Promise<void> {
    await this.outgoingEnqueueCombi([subscription], packet);
  }

  async outgoingEnqueueCombi(
    subscriptions: { clientId: string }[],
    packet: BrokerPacket,
  ): Promise<void> {
    const bytes = bytesOf(packet);
    // One copy for all who keep it, made when the first one does.
    let copy: BrokerPacket | null = null;
    for (const { clientId } of subscriptions) {
      const session = this.sessionWithRoom(clientId, bytes);
      if (session === null) continue;
      copy ??= ownCopy(packet);
      session.outgoing.set(numberOf(packet), { ...copy });
      session.bytes += bytes;
      this.queuedBytes += bytes;
    }
  }

  private sessionWithRoom(id: string, bytes: number): Session | null {
    const session = this.sessionOf(id);
    const nowMs = this.nowMs();
    if (this.isPresent(id)) session.seenMs = nowMs;
    else if (nowMs - session.seenMs > SESSION_EXPIRY_MS) {
      void this.forget(id);
      return null;
    }
    if (this.hasRoom(session, bytes)) return session;
    this.refuse("message for a subscriber", id);
    return null;
  }

  private hasRoom(session: Session, bytes: number): boolean {
    const { maxQueuedBytes } = this.limits;
    if (session.bytes + bytes > maxQueuedBytes * SESSION_SHARE) return false;
    return this.queuedBytes + bytes <= maxQueuedBytes;
  }

  /** Notes the number a message is sent under, or that it went from PUBLISH to PUBREL. */
  async outgoingUpdate(client: ClientId, packet: BrokerPacket): Promise<void> {
    const session = this.sessions.get(client.id);
    const { messageId } = packet;
    // What was not kept is sent all the same.
    if (session === undefined || messageId === undefined) return;
    const number = numberOf(packet);
    const kept = session.outgoing.get(number);
    if (kept !== undefined) {
      if (kept.messageId !== undefined) session.sent.delete(kept.messageId);
      kept.messageId = messageId;
      session.sent.set(messageId, number);
      return;
    }
    const sentAs = session.sent.get(messageId);
    const former = sentAs === undefined ? undefined : session.outgoing.get(sentAs);
    if (former === undefined) return;
    const freed = bytesOf(former) - bytesOf(packet);
    session.outgoing.set(sentAs!, packet);
    session.bytes -= freed;
    this.queuedBytes -= freed;
  }

  async outgoingClearMessageId(
    client: ClientId,
    { messageId }: BrokerPacket,
  ): Promise<BrokerPacket | undefined> {
    const session = this.sessions.get(client.id);
    const number = messageId === undefined ? undefined : session?.sent.get(messageId);
    if (session === undefined || messageId === undefined || number === undefined) return undefined;
    const packet = session.outgoing.get(number);
    session.sent.delete(messageId);
    session.outgoing.delete(number);
    if (packet !== undefined) this.release(session, packet);
    return packet;
  }

  outgoingStream(client: ClientId): Readable {
    const packets = this.sessions.get(client.id)?.outgoing.values();
    return Readable.from(packets === undefined ? [] : [...packets]);
  }

  private release(session: Session, packet: BrokerPacket): void {
    const bytes = bytesOf(packet);
    session.bytes -= bytes;
    this.queuedBytes -= bytes;
  }

  // What came with QoS 2 and is half way.

  async incomingStorePacket(client: ClientId, packet: BrokerPacket): Promise<void> {
    const session = this.sessionOf(client.id);
    const bytes = bytesOf(packet);
    if (!this.hasRoom(session, bytes)) {
      this.refuse("message of QoS 2", client.id);
      throw new Error("too much is half way");
    }
    const former = session.incoming.get(packet.messageId!);
    if (former !== undefined) this.release(session, former);
    session.incoming.set(packet.messageId!, ownCopy(packet));
    session.bytes += bytes;
    this.queuedBytes += bytes;
  }

  async incomingGetPacket(client: ClientId, { messageId }: BrokerPacket): Promise<BrokerPacket> {
    const packet = this.sessions.get(client.id)?.incoming.get(messageId!);
    if (packet === undefined) throw new Error("no such packet");
    return packet;
  }

  async incomingDelPacket(client: ClientId, { messageId }: BrokerPacket): Promise<void> {
    const session = this.sessions.get(client.id);
    const packet = session?.incoming.get(messageId!);
    if (session === undefined || packet === undefined) throw new Error("no such packet");
    session.incoming.delete(messageId!);
    this.release(session, packet);
  }

  /** Asked for clients without a session that come or go, and for no others. */
  async cleanIncoming(client: ClientId): Promise<void> {
    await this.forget(client.id);
  }

  // Wills: one for each connection, which are bounded.

  putWill(client: ClientId, packet: BrokerPacket): Promise<unknown> {
    return this.inner.putWill(client, packet);
  }

  getWill(client: ClientId): Promise<unknown> {
    return this.inner.getWill(client);
  }

  delWill(client: ClientId): Promise<unknown> {
    return this.inner.delWill(client);
  }

  streamWill(brokers: Record<string, number>): Readable {
    return this.inner.streamWill(brokers);
  }

  async destroy(): Promise<void> {
    this.retained.clear();
    this.sessions.clear();
    await this.inner.destroy();
  }

  private refuse(what: string, id: string): void {
    this.refused++;
    this.onRefused(what, id);
  }
}

function numberOf({ brokerId, brokerCounter }: BrokerPacket): string {
  return `${brokerId}:${brokerCounter}`;
}

function bytesOf({ topic, payload }: BrokerPacket): number {
  return OVERHEAD_BYTES + 2 * (topic?.length ?? 0) + (payload?.length ?? 0);
}

/** A copy that keeps nothing of the chunk alive in which the message came. */
function ownCopy(packet: BrokerPacket): BrokerPacket {
  const { payload = "" } = packet;
  const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
  return { ...packet, payload: Buffer.from(new Uint8Array(bytes).buffer) };
}

/** Whether a topic filter with wildcards matches (MQTT 3.1.1, section 4.7). */
export function matchesFilter(filter: string, topic: string): boolean {
  if (topic.startsWith("$") && !filter.startsWith("$")) return false;
  const wanted = filter.split("/");
  const levels = topic.split("/");
  for (const [i, level] of wanted.entries()) {
    if (level === "#") return true;
    if (i >= levels.length || (level !== "+" && level !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}
