/**
 * The peers that a scheduler knows, by address and by node. Whom an address leads to is learned
 * from presence or when a session says so, and what a session says counts for more; two addresses
 * of one node count once, this node's own not at all.
 *
 * Whoever can publish can announce what he likes. So strangers, who are neither in the
 * configuration nor were ever met, are so many at most, and who has least to say for himself is
 * forgotten first.
 */
import { parseDestination } from "./destination.ts";
import { MAX_CREDIT, Peer } from "./peer.ts";

const MAX_STRANGERS = 1_024;
/** When one of them is to make room, so many are looked at of which nothing else is known. */
const LOOKED_AT = 16;
/** Peers met at addresses that are not in the configuration. */
const MAX_MET = 4_096;

/** See the file header. */
export class PeerList {
  /** Strangers that were forgotten, or not even taken up, because there were too many. */
  crowdedOut = 0;
  private readonly peers = new Map<string, Peer>();
  private readonly byId = new Map<string, readonly Peer[]>();
  /** Where the nodes whose presence is known say they are. */
  private readonly places = new Map<string, Peer>();
  /** Peers that nobody listed: those never met, and those met, in the order of the meetings. */
  private readonly strangers = new Strangers();
  private readonly met = new Set<Peer>();

  /** `ownNodeId` is this node's. */
  constructor(private readonly ownNodeId: string) {}

  /** All addresses. */
  all(): Iterable<Peer> {
    return this.peers.values();
  }

  /** The peer at an address; undefined when it is not known. */
  at(address: string): Peer | undefined {
    return this.peers.get(address);
  }

  /**
   * The peer at an address, taken up if it is new; undefined if that is none, or there is no room.
   */
  findOrAdd(address: string, isListed: boolean, credit: number, nowMs: number): Peer | undefined {
    const known = this.peers.get(address);
    if (known !== undefined && (known.isListed || !isListed)) return known;
    const destination = parseDestination(address);
    if (destination === undefined) return undefined;
    if (!isListed && !this.makeRoom(credit)) return undefined;
    const peer = new Peer(address, isListed, destination, nowMs);
    if (known !== undefined) this.remove(known);
    this.peers.set(address, peer);
    if (!isListed) this.strangers.add(peer);
    return peer;
  }

  /** Forgets a peer. */
  remove(peer: Peer): void {
    this.rename(peer, "");
    this.announce(peer, "");
    this.strangers.delete(peer);
    this.met.delete(peer);
    if (this.peers.get(peer.address) === peer) this.peers.delete(peer.address);
  }

  /**
   * The configuration names it no more: it is forgotten, unless somebody says that a node is there.
   */
  delist(peer: Peer): void {
    if (peer.announcedBy === "") return this.remove(peer);
    peer.isListed = false;
    (peer.isMet ? this.met : this.strangers).add(peer);
  }

  /** Where the node of that id says it is; undefined when it says nothing. */
  placeOf(nodeId: string): Peer | undefined {
    return this.places.get(nodeId);
  }

  /** The peers that somebody's presence tells of. */
  announced(): Iterable<Peer> {
    return this.places.values();
  }

  /** The node of that id says it is there; the empty one stands for nobody. */
  announce(peer: Peer, nodeId: string): void {
    if (peer.announcedBy === nodeId && this.places.get(nodeId) === peer) return;
    if (peer.announcedBy !== "") this.places.delete(peer.announcedBy);
    peer.announcedBy = nodeId;
    if (nodeId !== "") this.places.set(nodeId, peer);
  }

  /** The node at that address has this id; the empty one stands for not knowing. */
  rename(peer: Peer, nodeId: string): void {
    if (peer.nodeId === nodeId) return;
    const left = (this.byId.get(peer.nodeId) ?? []).filter((it) => it !== peer);
    if (left.length === 0) this.byId.delete(peer.nodeId);
    else this.byId.set(peer.nodeId, left);
    peer.nodeId = nodeId;
    if (nodeId === "") return;
    this.byId.set(nodeId, [...(this.byId.get(nodeId) ?? []), peer]);
  }

  /** A session with it succeeded. */
  noteMet(peer: Peer): void {
    peer.isMet = true;
    if (peer.isListed || this.peers.get(peer.address) !== peer) return;
    this.strangers.delete(peer);
    this.met.delete(peer);
    this.met.add(peer);
    if (this.met.size > MAX_MET) this.remove(this.met.values().next().value!);
  }

  /** Strangers, those first that are to be tried first. */
  strangersInTurn(): Peer[] {
    return this.strangers
      .all()
      .sort((a, b) => b.credit - a.credit || a.failures - b.failures || a.triedMs - b.triedMs);
  }

  /**
   * Every other node once, as far as is known, in no certain order. Of several addresses of one
   * node it is the one that fails least: not all may be reachable from here.
   */
  distinct(): Peer[] {
    const distinct = [...this.peers.values()].filter(
      (peer) => peer.nodeId === "" || this.byNodeId(peer.nodeId) === peer,
    );
    return distinct.filter(({ nodeId }) => nodeId !== this.ownNodeId);
  }

  /** All addresses that are said to be of that node. */
  namesakes(nodeId: string): Iterable<Peer> {
    return this.byId.get(nodeId) ?? [];
  }

  /** The address of that node that fails least; undefined if none is known, or the id is empty. */
  byNodeId(nodeId: string): Peer | undefined {
    let best: Peer | undefined;
    for (const peer of this.namesakes(nodeId)) {
      if (best === undefined || isBetter(peer, best)) best = peer;
    }
    return best;
  }

  /** Makes room for a stranger of that credit. False when all have more. */
  private makeRoom(credit: number): boolean {
    if (this.strangers.size < MAX_STRANGERS) return true;
    this.crowdedOut++;
    const worst = this.strangers.worst(credit);
    if (worst === undefined) return false;
    this.remove(worst);
    return true;
  }
}

/**
 * Strangers by their credit, so that one to make room for another is found at once: thousands may
 * be announced at the same moment.
 */
class Strangers {
  /** One for each credit. It may have risen since; then a peer is moved when it is come across. */
  private readonly byCredit = Array.from({ length: MAX_CREDIT + 1 }, () => new Set<Peer>());

  get size(): number {
    return this.byCredit.reduce((sum, { size }) => sum + size, 0);
  }

  add(peer: Peer): void {
    this.byCredit[peer.credit].add(peer);
  }

  delete(peer: Peer): void {
    for (const peers of this.byCredit) peers.delete(peer);
  }

  all(): Peer[] {
    return this.byCredit.flatMap((peers) => [...peers]);
  }

  /** The stranger with the least credit, if it is no more than that; undefined without one. */
  worst(mostCredit: number): Peer | undefined {
    for (let credit = 0; credit <= mostCredit; credit++) {
      const worst = this.worstOf(credit);
      if (worst !== undefined) return worst;
    }
    return undefined;
  }

  /** Of those who have had most time: who failed most, or else came first. */
  private worstOf(credit: number): Peer | undefined {
    const peers = this.byCredit[credit];
    let worst: Peer | undefined;
    let looked = 0;
    for (const peer of peers) {
      if (peer.credit !== credit) {
        peers.delete(peer);
        this.add(peer);
      } else if (!peer.isRunning) {
        if (worst === undefined || peer.failures > worst.failures) worst = peer;
        if (++looked === LOOKED_AT) break;
      }
    }
    return worst;
  }
}

/** Of two addresses of one node: who fails less, then who was met, then who comes first. */
function isBetter(a: Peer, b: Peer): boolean {
  if (a.failures !== b.failures) return a.failures < b.failures;
  if (a.isStranger !== b.isStranger) return b.isStranger;
  return byAddress(a, b) < 0;
}

/** The order of addresses. */
export function byAddress(a: Peer, b: Peer): number {
  return a.address < b.address ? -1 : 1;
}
