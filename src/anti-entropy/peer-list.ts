/**
 * The peers that a scheduler knows, by address. Whom an address leads to is learned from presence
 * or when a session says so; two addresses of one node count once, this node's own not at all.
 */
import { parseHostPort } from "../config/address.ts";
import { Peer } from "./peer.ts";

/** See the file header. */
export class PeerList {
  private readonly peers = new Map<string, Peer>();

  /** `ownNodeId` is this node's. */
  constructor(private readonly ownNodeId: string) {}

  /** All addresses. */
  all(): Iterable<Peer> {
    return this.peers.values();
  }

  /** The peer at an address, taken up if it is new; undefined if that is none. */
  take(address: string, isListed: boolean, nowMs: number): Peer | undefined {
    const known = this.peers.get(address);
    if (known !== undefined) return known;
    const hostPort = parseHostPort(address);
    if (hostPort === undefined) return undefined;
    const peer = new Peer(address, isListed, hostPort, nowMs);
    this.peers.set(address, peer);
    return peer;
  }

  /** Forgets everybody who is neither listed nor at one of these addresses. */
  keep(present: ReadonlySet<string>): void {
    for (const { address, isListed } of this.peers.values()) {
      if (!isListed && !present.has(address)) this.peers.delete(address);
    }
  }

  /**
   * Every other node once, as far as is known, in the order of their addresses. Of several
   * addresses of one node it is the one that fails least: not all may be reachable from here.
   */
  distinct(): Peer[] {
    const seen = new Set([this.ownNodeId]);
    const distinct = this.fewestFailuresFirst().filter(({ nodeId }) => {
      if (nodeId === "") return true;
      if (seen.has(nodeId)) return false;
      seen.add(nodeId);
      return true;
    });
    return distinct.sort(byAddress);
  }

  /** The address of that node that fails least; undefined if none is known, or the id is empty. */
  byNodeId(nodeId: string): Peer | undefined {
    if (nodeId === "") return undefined;
    return this.fewestFailuresFirst().find((peer) => peer.nodeId === nodeId);
  }

  private fewestFailuresFirst(): Peer[] {
    return [...this.peers.values()].sort((a, b) => a.failures - b.failures || byAddress(a, b));
  }
}

function byAddress(a: Peer, b: Peer): number {
  return a.address < b.address ? -1 : 1;
}
