/**
 * The peers that a scheduler knows, by address. Whom an address leads to is learned from presence
 * or when a session says so; two addresses of one node count once, this node's own not at all.
 */
import { parseHostPort, type HostPort } from "../config/address.ts";

/** One address and how things stand with the node there. Times are those of the scheduler. */
export interface Peer extends HostPort {
  readonly address: string;
  /** Whether it is in the configuration. */
  readonly isListed: boolean;
  /** Empty while unknown. */
  nodeId: string;
  /** Epoch and connection in its latest presence. */
  incarnation: string;
  isRunning: boolean;
  /** Which of the scheduler's wants the latest sync wanted at once is; null if none is. */
  want: number | null;
  /** It does not begin before this time: so many nodes do not sync at the same moment. */
  wantedFromMs: number;
  /** Keys to be fetched from it. */
  keys: Uint8Array[];
  /** Failures in a row. */
  failures: number;
  /** After a failure nothing is begun before this time. */
  notBeforeMs: number;
}

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
    const peer: Peer = {
      ...hostPort,
      address,
      isListed,
      nodeId: "",
      incarnation: "",
      isRunning: false,
      want: null,
      wantedFromMs: nowMs,
      keys: [],
      failures: 0,
      notBeforeMs: nowMs,
    };
    this.peers.set(address, peer);
    return peer;
  }

  /** Forgets everybody who is neither listed nor at one of these addresses. */
  keep(present: ReadonlySet<string>): void {
    for (const { address, isListed } of this.peers.values()) {
      if (!isListed && !present.has(address)) this.peers.delete(address);
    }
  }

  /** Every other node once, as far as is known, in the order of their addresses. */
  distinct(): Peer[] {
    const seen = new Set([this.ownNodeId]);
    const sorted = [...this.peers.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
    return sorted.filter(({ nodeId }) => {
      if (nodeId === "") return true;
      if (seen.has(nodeId)) return false;
      seen.add(nodeId);
      return true;
    });
  }

  /** An address of that node. */
  byNodeId(nodeId: string): Peer | undefined {
    for (const peer of this.peers.values()) if (peer.nodeId === nodeId) return peer;
    return undefined;
  }
}
