/**
 * This node among the others: announces it, follows the others, and says when publishing
 * may start after a connection came up.
 *
 * Writes that gathered during an outage wait until the peers that were there before have
 * announced themselves anew, or ANSWER_MS have passed: a broker that was restarted knows
 * no subscribers yet and would acknowledge messages that reach nobody. ANSWER_MS is the
 * longest pause between two attempts to connect, so by then everybody is back. It counts from the
 * connection of whoever came first, as far as this node has heard.
 */
import { agreeWithAll, type Agreement, type Capabilities } from "../core/data/capabilities.ts";
import { byPeer, type Series } from "../fact.ts";
import type { Cancel, Timing } from "../timing.ts";
import { Announcer } from "./announcer.ts";
import { PresenceCheck } from "./presence-check.ts";
import { PresenceTable, type PeerPresence } from "./presence.ts";
import {
  decodePresence,
  encodePresence,
  type Presence,
  type TreeRoots,
} from "./presence-message.ts";

/**
 * What the topic of a node's presence ends with: an id may hold characters that a topic may not.
 */
export function presenceTopicName(nodeId: string): string {
  return encodeURIComponent(nodeId);
}

/** The opposite; empty when that is no such name. */
export function nodeIdOf(topicName: string): string {
  try {
    return decodeURIComponent(topicName);
  } catch {
    return "";
  }
}

const ANSWER_MS = 5_000;
/** A node says for how long it has been connected as long as others may wait. */
const TELLING_MS = 2 * ANSWER_MS;
/**
 * A broker that shuts down may still pass on wills: who left so shortly before is awaited too, and
 * is there until it says otherwise. Nodes go on without a broker.
 */
const LEFT_WITH_BROKER_MS = 5_000;
/** After a connection it takes so long, in ms, until silence means that somebody has left. */
const HEARING_MS = 10_000;
/** After a connection it takes so long, in ms, until the broker has delivered what it kept. */
const DELIVERY_MS = 3_000;
/** How old the agreement on a version of messages may be, in ms, before it is made anew. */
const AGREEMENT_MS = 1_000;
/** A twin that is there is heard of again within this time, in ms. */
export const TWIN_EXPIRY_MS = 180_000;

/** What a membership is made with. */
export interface MembershipOptions {
  readonly nodeId: string;
  /** New at each start, a positive safe integer. */
  readonly epoch: number;
  /** `host:port` at which peers reach this node. */
  readonly address: () => string;
  /** The same where TLS is spoken; empty if nowhere. */
  readonly tlsAddress: () => string;
  /** Whether peers reach this node through the broker. */
  readonly isRelayed: () => boolean;
  /** The program's version. */
  readonly version: string;
  /** The Merkle trees. */
  readonly trees: () => TreeRoots;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** Number of the batch published last. */
  readonly sequence: () => number;
  /** This node's name at the broker. */
  readonly clientId: () => string;
  /** Whether this node receives what others publish, as far as it knows. */
  readonly hears: () => boolean;
  /** Publishes this node's presence, retained. `taken` is called when the broker takes it. */
  readonly publish: (message: Buffer, taken: () => void) => void;
  /** This node's presence does not come back from the broker, though that takes it. */
  readonly onUnheard: () => void;
  /** Everybody who is to be waited for is there. Called once after each `up`. */
  readonly onReady: () => void;
  /** For whom there always is room among those that are known. */
  readonly isKept: (nodeId: string) => boolean;
  /** Whether there was contact with the node of that id, at any time. */
  readonly isMember: (nodeId: string) => boolean;
  /** How many such nodes there are, whether they are there or not; 0 unless given. */
  readonly memberCount?: () => number;
  /** Whether somebody said that the node of that id is gone for good. */
  readonly isForgotten: (nodeId: string) => boolean;
  /** Whether a node may have been started with this epoch, by now and by the clocks. */
  readonly isPossibleEpoch: (epoch: number) => boolean;
  /** Another live node was seen with this node's id. */
  readonly onDuplicateNodeId: () => void;
  /** So many bytes of presence of that node came; of itself, too. */
  readonly onReceived?: (nodeId: string, bytes: number) => void;
  /** Another node announced itself; `isLive`: just now. */
  readonly onPresence: (presence: Presence, isLive: boolean) => void;
  readonly timing: Timing;
  /** What this node speaks. */
  readonly capabilities: Capabilities;
}

/** Presence of this node and its peers. */
export class Membership {
  /** For metrics. */
  static readonly series: readonly Series<Membership>[] = [
    {
      name: "peer_online",
      kind: "gauge",
      unit: "0 or 1",
      help: "Whether a peer is there, as far as it is heard of over the broker.",
      labels: ["peer"],
      read: (it) =>
        byPeer(
          it.states().map(([peer, isOnline]) => [peer, Number(isOnline)]),
          add,
        ),
    },
    {
      name: "peer_roots_equal",
      kind: "gauge",
      unit: "0 or 1",
      help: "Whether the Merkle root that a peer announced last, which is there, is this node's now.",
      labels: ["peer"],
      read: (it) => byPeer(it.equalities(), Math.min),
    },
  ];

  private readonly presences: PresenceTable;
  private connection = 0;
  /** Connections that came about. */
  private ups = 0;
  private connected = false;
  /** When a twin was seen last. */
  private twinSeenMs = -Infinity;
  /** The start before this one that was heard of last, and the latest connection of it. */
  private earlier = { epoch: 0, connection: 0 };
  /** This node has heard itself. What comes before that may have waited with the broker. */
  private hasHeardItself = false;
  /** Presences in this node's name that nobody can have sent who was started when he says. */
  impossible = 0;
  /** Peers that were there before, and were not heard of since. */
  private unheard = new Set<string>();
  /** Any of those was heard of. */
  private hasPeersBack = false;
  /** What waits to be published waits for those. */
  private isWaiting = false;
  /** The broker told of another node what it remembered, and does so to whoever comes. */
  private doesBrokerKeep = false;
  private cancelReady: Cancel | null = null;
  private announcedRoot: string | null = null;
  private readonly announcer: Announcer;
  private readonly check: PresenceCheck;
  private upMs = 0;
  /** The earliest moment since the last outage at which somebody was connected; Infinity in one. */
  private brokerUpMs = Infinity;
  /** In what way everybody was spoken to, as of when. */
  private agreed: Agreement = { version: 0, features: 0 };
  private agreedMs = -Infinity;

  constructor(private readonly options: MembershipOptions) {
    this.presences = new PresenceTable(options.isKept, () => options.trees().currentKey);
    const { timing, random } = options;
    this.check = new PresenceCheck(timing, options.onUnheard);
    this.announcer = new Announcer({
      timing,
      random,
      members: () => this.presences.count(options.isMember),
      expectedMembers: () => options.memberCount?.() ?? 0,
      announce: () => this.publishPresence(),
    });
  }

  /** The will for a connection that is about to be made. */
  nextWill(): Buffer {
    this.connection++;
    return this.presence(false);
  }

  /** The connection is up. `afterOutage`: the broker could not be reached before. */
  up(afterOutage: boolean): void {
    this.connected = true;
    this.upMs = this.options.timing.nowMs();
    this.ups++;
    this.check.begin();
    this.announcer.up();
    this.isWaiting = true;
    // Alone after an outage: others may be on their way back as well.
    if (this.unheard.size === 0 && (this.hasPeersBack || !afterOutage)) this.ready();
    else {
      this.noteConnected(0);
      this.awaitOthers();
    }
  }

  /** Waits for nobody any longer. */
  ready(): void {
    this.cancelReady?.();
    if (!this.isWaiting) return;
    this.isWaiting = false;
    this.options.onReady();
  }

  /** The connection is gone. */
  down(): void {
    if (!this.connected) return;
    this.connected = false;
    this.cancelReady?.();
    this.check.end();
    this.announcer.down();
    this.isWaiting = false;
    this.doesBrokerKeep = false;
    this.hasPeersBack = false;
    this.brokerUpMs = Infinity;
    const former = this.presences.online(this.options.timing.nowMs(), LEFT_WITH_BROKER_MS);
    // Where some were met, those that were only heard of do not keep them waiting.
    const met = former.filter(this.options.isKept);
    this.unheard = new Set(met.length > 0 ? met : former);
    this.presences.recall(this.options.timing.nowMs(), LEFT_WITH_BROKER_MS);
  }

  /** Announces this node now, with its current address and root. */
  announce(): void {
    if (this.connected) this.announcer.now();
  }

  /**
   * The root has changed and stands still: announces it, at some moment soon. Whose root is another
   * compares then.
   */
  announceRoot(): void {
    if (this.ownRoot === this.announcedRoot) return;
    this.announcer.rootChanged();
  }

  /** Whether that node is there; null when nothing is known of it. */
  isOnline(nodeId: string): boolean | null {
    return this.presences.isOnline(nodeId, this.options.timing.nowMs());
  }

  /** That node is gone for good: what it announced counts no longer, unless it is there. */
  forget(nodeId: string): void {
    this.presences.drop(nodeId, this.options.timing.nowMs());
  }

  /** Announces that this node leaves. */
  farewell(): void {
    this.check.end();
    this.options.publish(this.presence(false), () => {});
  }

  /**
   * Takes a message from the presence topic of that name; anything else is passed over, and so is
   * what one node says in the name of another.
   */
  receive(topicName: string, message: Buffer, retained: boolean): void {
    if (message.length === 0) return this.forget(nodeIdOf(topicName));
    const presence = decodePresence(message);
    if (presence === null || presenceTopicName(presence.nodeId) !== topicName) return;
    const { nodeId, online } = presence;
    this.options.onReceived?.(nodeId, message.length);
    if (nodeId === this.options.nodeId) return this.receiveOwn(presence, retained);
    // What the broker remembers of it may be older than that.
    if (retained && this.options.isForgotten(nodeId)) return;
    this.doesBrokerKeep ||= retained;
    this.options.onPresence(presence, !retained);
    // Whoever comes reads from now on what is published.
    if (!retained) this.agreedMs = -Infinity;
    if (online) this.noteThere(presence, retained);
    const isBack = this.presences.update(presence, !retained, this.options.timing.nowMs());
    if (!isBack || retained) return;
    this.announcer.answer(this.doesBrokerKeep, this.options.isMember(nodeId));
  }

  /**
   * Somebody is there. What the broker remembers counts only of who has come back since. And who is
   * heard and never was away shows that the broker was not restarted: then all others listen, too.
   */
  private noteThere(presence: Presence, retained: boolean): void {
    const { unheard } = this;
    const isAwaited = unheard.has(presence.nodeId);
    // In a large cluster few of those that this node has met are heard in time, so others count.
    if (!retained && (isAwaited || this.options.isMember(presence.nodeId))) {
      this.noteConnected(presence.connectedMs);
    }
    if (!isAwaited) return;
    const isBack = this.presences.isLater(presence);
    if (retained && !isBack) return;
    this.hasPeersBack = true;
    if (isBack) unheard.delete(presence.nodeId);
    else unheard.clear();
    if (unheard.size === 0) this.ready();
  }

  /** Somebody has been connected for so long. */
  private noteConnected(forMs: number): void {
    const sinceMs = this.options.timing.nowMs() - forMs;
    if (sinceMs >= this.brokerUpMs) return;
    this.brokerUpMs = sinceMs;
    if (this.isWaiting) this.awaitOthers();
  }

  private awaitOthers(): void {
    const { timing } = this.options;
    this.cancelReady?.();
    const leftMs = Math.max(0, this.brokerUpMs + ANSWER_MS - timing.nowMs());
    this.cancelReady = timing.after(leftMs, () => this.ready());
  }

  /** Everybody else who is known, by node id. */
  list(): PeerPresence[] {
    return this.presences.list(this.options.timing.nowMs());
  }

  private states(): [peer: string, isOnline: boolean, root: string | null][] {
    return this.presences.states(this.options.timing.nowMs());
  }

  private *equalities(): Iterable<[peer: string, value: number]> {
    const own = this.ownRoot;
    for (const [peer, isOnline, root] of this.states()) {
      if (isOnline && root !== null && own !== null) yield [peer, Number(root === own)];
    }
  }

  /** The ids of everybody else who is known. */
  nodeIds(): string[] {
    return this.presences.nodeIds();
  }

  /**
   * Of whom something was heard, each once after it was, though not of thousands at the same time;
   * who fell silent is not online.
   */
  takeChanges(): PeerPresence[] {
    const nowMs = this.options.timing.nowMs();
    const hearingMs = Math.max(HEARING_MS, this.announcer.roundMs);
    return this.presences.takeChanges(nowMs, this.connected && nowMs - this.upMs > hearingMs);
  }

  /** In what way to say what is for everybody who is there. */
  agreement(): Agreement {
    const nowMs = this.options.timing.nowMs();
    if (nowMs - this.agreedMs >= AGREEMENT_MS) {
      this.agreedMs = nowMs;
      this.agreed = agreeWithAll(this.options.capabilities, this.presences.capabilities());
    }
    return this.agreed;
  }

  /** How many nodes there was no room for. */
  get crowdedOut(): number {
    return this.presences.crowdedOut;
  }

  /** Nodes online, this one included. Only this one while disconnected. */
  count(): number {
    return this.connected ? 1 + this.presences.online(this.options.timing.nowMs()).length : 1;
  }

  private receiveOwn(presence: Presence, retained: boolean): void {
    const { options } = this;
    const { epoch, connection, online } = presence;
    if (epoch === options.epoch) {
      if (connection === this.connection) this.check.end();
      this.hasHeardItself ||= !retained;
    } else if (!options.isPossibleEpoch(epoch)) {
      this.impossible++;
      return this.announcer.urgently();
    } else if (
      epoch > options.epoch ? this.isLater(online, retained) : this.isTwin(presence, retained)
    ) {
      return this.noteTwin(epoch > options.epoch);
    }
    // The will of an earlier run, or of an earlier connection, may come at any time.
    if (!retained && !online) this.announcer.urgently();
  }

  /**
   * Of a start after this one. On the first connection the broker may still remember one that the
   * clock was ahead for.
   */
  private isLater(online: boolean, retained: boolean): boolean {
    return retained ? this.ups > 1 : online;
  }

  /**
   * Of a start before this one: an earlier run, of which the broker may remember something, or have
   * kept it for this one. Not all say that it is old. But it does not go on: it makes no further
   * connections, and is not heard of when what the broker kept has been delivered.
   */
  private isTwin({ epoch, connection, online }: Presence, retained: boolean): boolean {
    const { earlier } = this;
    const isNewer =
      epoch > earlier.epoch || (epoch === earlier.epoch && connection > earlier.connection);
    const hasGoneOn = earlier.epoch > 0 && isNewer;
    if (isNewer) this.earlier = { epoch, connection };
    if (hasGoneOn && (retained || online)) return true;
    if (retained || !online || !this.hasHeardItself) return false;
    if (this.options.timing.nowMs() - this.upMs > DELIVERY_MS) return true;
    // If it is there, it answers.
    this.announcer.urgently(DELIVERY_MS);
    return false;
  }

  /** `isLater`: it was started after this node, and waits to be answered to know of it. */
  private noteTwin(isLater: boolean): void {
    const nowMs = this.options.timing.nowMs();
    const isNews = nowMs - this.twinSeenMs > TWIN_EXPIRY_MS;
    this.twinSeenMs = nowMs;
    this.options.onDuplicateNodeId();
    if (isNews || isLater) this.announcer.urgently();
  }

  private publishPresence(): void {
    this.announcedRoot = this.ownRoot;
    this.options.publish(this.presence(true), () => this.check.noteTaken());
  }

  private get ownRoot(): string | null {
    return this.options.trees().rootHex;
  }

  /** For how long this node has been connected, as long as somebody may want to know. */
  private get connectedMs(): number {
    const forMs = Math.floor(this.options.timing.nowMs() - this.upMs);
    return this.connected && forMs <= TELLING_MS ? forMs : 0;
  }

  private presence(online: boolean): Buffer {
    const { nodeId, epoch, address, version, trees, isRelayed } = this.options;
    const { tlsAddress, clientId, sequence, hears } = this.options;
    return encodePresence({
      nodeId,
      epoch,
      connection: this.connection,
      address: address(),
      tlsAddress: tlsAddress(),
      version,
      roots: trees().roots(),
      online,
      isRelayed: isRelayed(),
      sequence: sequence(),
      clientId: clientId(),
      hears: hears(),
      refreshMs: this.announcer.refreshMs,
      connectedMs: this.connectedMs,
      capabilities: this.options.capabilities,
    });
  }
}

function add(one: number, other: number): number {
  return one + other;
}
