/**
 * How a node behaves as one of many who all notice the same at the same moment. If each of a
 * thousand turned to the node in question, or to all others, none would be served. So it is left to
 * chance who does, in such a way that there are a few, about, if all others draw as well.
 *
 * Anybody who can publish can announce any number of nodes. Those count only among their like: of a
 * peer of whom more is known, the more there are of the same kind the less likely it is called.
 */
import type { PeerList } from "./peer-list.ts";
import type { Peer } from "./peer.ts";

/** What many ask for is spread over this time, and over so much more for each of them. */
const SPREAD_MS = 500;
const SPREAD_A_PEER_MS = 4;
/** Whoever notices the same of one node within this time draws once. */
const DRAW_MS = 10_000;
/** How much speaks for a peer being a node of the cluster, from 0 to this. */
const KNOWN = 3;
/** A node of that id was met, here or by this node before it started. */
const ACQUAINTED = 2;

/** See the file header. */
export class Crowd {
  /** For each rank how many peers have it or a higher one; null until that is asked for. */
  private counts: readonly number[] | null = null;

  /** `random` is from 0 to below 1. */
  constructor(
    private readonly peers: PeerList,
    private readonly random: () => number,
  ) {}

  /** How many peers there are of whom there is more than that they are said to be there. */
  get size(): number {
    return this.atLeast(ACQUAINTED);
  }

  /** Over how long what many ask for is to be spread, in ms. */
  get spreadMs(): number {
    return SPREAD_MS + SPREAD_A_PEER_MS * this.size;
  }

  /** Counts anew. */
  look(): void {
    this.counts = null;
  }

  /** So many of these at most, drawn at random; those that were met first. */
  few(peers: readonly Peer[], most: number): Peer[] {
    if (peers.length <= most) return [...peers];
    const drawn = peers.map((peer) => ({ peer, draw: this.random() }));
    // Those in the configuration no sooner than others that were met: they are on everybody's list.
    const classOf = (peer: Peer): number => Math.min(rankOf(peer), ACQUAINTED);
    drawn.sort((a, b) => classOf(b.peer) - classOf(a.peer) || a.draw - b.draw);
    return drawn.slice(0, most).map(({ peer }) => peer);
  }

  /** Draws whether this node is one of so many that turn to that peer. */
  draws(peer: Peer, many: number): boolean {
    return this.random() * this.atLeast(rankOf(peer)) < many;
  }

  /** The same, with one draw for all that is noticed of the peer within a while. */
  isCaller(peer: Peer, many: number, nowMs: number): boolean {
    const crowd = this.atLeast(Math.min(rankOf(peer), ACQUAINTED));
    if (crowd <= many) return true;
    if (nowMs >= peer.drawnUntilMs) {
      peer.drawnUntilMs = nowMs + DRAW_MS;
      peer.draw = this.random();
    }
    return peer.draw * crowd < many;
  }

  private atLeast(rank: number): number {
    if (this.counts === null) {
      const counts = new Array<number>(KNOWN + 1).fill(0);
      for (const peer of this.peers.all()) {
        for (let each = 0; each <= rankOf(peer); each++) counts[each]++;
      }
      this.counts = counts;
    }
    return this.counts[rank];
  }
}

function rankOf(peer: Peer): number {
  return peer.isStranger ? peer.credit : KNOWN;
}
