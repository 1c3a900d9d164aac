/**
 * Keeps the list of peers as presence has it: who is where, and who has come anew with other data
 * than this node's; and notices when this node may have missed what others published.
 */
import { formatNodeAddress, NO_ADDRESS, parseHostPort } from "../config/address.ts";
import { relayAddress } from "./destination.ts";
import type { PeerList } from "./peer-list.ts";
import type { Peer } from "./peer.ts";
import type { PresenceChange, PresenceView } from "./presence-view.ts";
import { RootWatch } from "./root-watch.ts";

/** What it is made with; as in SchedulerOptions. */
export interface PresenceWatchOptions {
  readonly presence: () => PresenceView;
  readonly prefersTls: () => boolean;
  readonly isAcquainted: (nodeId: string) => boolean;
  readonly rootHex: () => string | null;
}

/** What a look at presence has shown. */
export interface PresenceNews {
  /**
   * Those that have come anew with another root, or at another place, and those that hold something
   * else while nothing is under way (`root-watch.ts`).
   */
  readonly different: readonly Peer[];
  /** This node was not connected, or did not publish all it should have. */
  readonly hasMissed: boolean;
}

/** See the file header. */
export class PresenceWatch {
  /** Whether there was a broker when it was looked last. */
  isConnected = false;
  private connections = 0;
  private droppedEvents = 0;
  /** This node did not publish all it should have, and nobody was there to compare with. */
  private isUntold = false;
  private nowMs = 0;
  private moved: Peer[] = [];
  private readonly roots = new RootWatch();

  constructor(
    private readonly peers: PeerList,
    private readonly options: PresenceWatchOptions,
  ) {}

  /** Takes up all that has changed since the last look. */
  look(nowMs: number): PresenceNews {
    this.nowMs = nowMs;
    const presence = this.options.presence();
    const { connections, droppedEvents, connected } = presence;
    this.isUntold ||= droppedEvents > this.droppedEvents;
    const hasMissed = connections !== this.connections || this.isUntold;
    this.connections = connections;
    this.droppedEvents = droppedEvents;
    this.isConnected = connected;
    const different = new Set<Peer>();
    if (this.roots.look(this.options.rootHex(), nowMs)) presence.announceRoot();
    for (const each of presence.takeChanges()) {
      const peer = this.notePresence(each);
      if (peer === null) continue;
      if (this.isFresh(peer, each)) different.add(this.peers.byNodeId(each.nodeId) ?? peer);
      else if (each.isLive) this.roots.note(peer, each.root, nowMs);
    }
    for (const peer of this.roots.takeDiffering(nowMs)) {
      if (peer.announcedBy !== "") different.add(this.peers.byNodeId(peer.announcedBy) ?? peer);
    }
    for (const peer of this.moved.splice(0)) different.add(peer);
    // As long as nobody is there it stays so: the root that a node announces when it comes may be
    // from before those writes, and does not show that it misses them.
    this.isUntold &&= [...this.peers.announced()].length === 0;
    return { different: [...different], hasMissed };
  }

  /** Takes up what presence says of a node. Returns it if it is there. */
  private notePresence(each: PresenceChange): Peer | null {
    const { nodeId, epoch, online } = each;
    const former = this.peers.placeOf(nodeId);
    const address = this.placeFor(each);
    if (former !== undefined && (!online || former.address !== address)) this.noteLeft(former);
    if (!online || address === null) return null;
    const isAcquainted = this.options.isAcquainted(nodeId);
    const credit = isAcquainted ? 2 : each.isLive ? 1 : 0;
    const peer = this.peers.findOrAdd(address, false, credit, this.nowMs);
    if (peer === undefined) return null;
    const displaced = peer.announcedBy;
    if (displaced !== "" && displaced !== nodeId && peer.relayTo !== "") this.moveToBroker(peer);
    this.peers.announce(peer, nodeId);
    peer.relayTo = each.isRelayed ? nodeId : "";
    peer.epoch = epoch;
    peer.isLive ||= each.isLive;
    peer.isAcquainted ||= isAcquainted;
    if (!peer.isProven) this.peers.rename(peer, nodeId);
    return peer;
  }

  /**
   * The address under which a node is kept; null when it can only be reached where another is. Of
   * several nodes at one address, who started last has taken the others' place.
   */
  private placeFor(change: PresenceChange): string | null {
    const { nodeId, epoch, isRelayed } = change;
    const throughBroker = isRelayed ? relayAddress(nodeId) : null;
    const address = this.addressOf(change);
    if (address === NO_ADDRESS) return throughBroker;
    const holder = this.peers.at(address);
    const isClaimed = holder !== undefined && !["", nodeId].includes(holder.announcedBy);
    return isClaimed && holder.epoch >= epoch ? throughBroker : address;
  }

  private addressOf({ address, tlsAddress }: PresenceChange): string {
    const hostPort = tlsAddress === "" ? undefined : parseHostPort(tlsAddress);
    if (hostPort === undefined || !this.options.prefersTls()) return address;
    return formatNodeAddress({ ...hostPort, isSecure: true });
  }

  /** Another node is at the address of this one, which can still be reached through the broker. */
  private moveToBroker({ announcedBy, credit, epoch, isLive, isAcquainted }: Peer): void {
    const address = relayAddress(announcedBy);
    const peer = this.peers.findOrAdd(address, false, credit, this.nowMs);
    if (peer === undefined) return;
    this.peers.announce(peer, announcedBy);
    this.peers.rename(peer, announcedBy);
    Object.assign(peer, { epoch, isLive, isAcquainted });
    this.moved.push(peer);
  }

  private isFresh(peer: Peer, { epoch, connection, root }: PresenceChange): boolean {
    if (epoch === peer.seenEpoch && connection === peer.seenConnection) return false;
    peer.seenEpoch = epoch;
    peer.seenConnection = connection;
    peer.forgive(this.nowMs);
    return root === null || root !== this.options.rootHex();
  }

  /**
   * Nobody is announced there any more. Who was met is forgotten only if that turns out to be true.
   */
  private noteLeft(peer: Peer): void {
    this.peers.announce(peer, "");
    peer.seenEpoch = peer.seenConnection = 0;
    if (peer.isStranger) this.peers.remove(peer);
  }
}
