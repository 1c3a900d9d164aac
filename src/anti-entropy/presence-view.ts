/** What anti-entropy sees of replication: who is there, and whether events may have been missed. */

/** What presence tells of another node. */
export interface PresentPeer {
  readonly nodeId: string;
  /** `host:port`. */
  readonly address: string;
  /** New at each start of it. */
  readonly epoch: number;
  /** Counts its connections to the broker in this epoch. */
  readonly connection: number;
  /** Its Merkle root in hex, null while unknown. */
  readonly root: string | null;
  readonly online: boolean;
}

/** How replication stands, as far as it matters here. */
export interface PresenceView {
  readonly connected: boolean;
  /** Connections to the broker since the start. */
  readonly connections: number;
  /** Writes of this node that were dropped before they were published, since the start. */
  readonly droppedEvents: number;
  readonly peers: readonly PresentPeer[];
}

/** Who is online, by address. Of several at one, who started last has taken the others' place. */
export function latestByAddress(peers: readonly PresentPeer[]): Iterable<PresentPeer> {
  const latest = new Map<string, PresentPeer>();
  for (const peer of peers) {
    const known = latest.get(peer.address);
    if (peer.online && !(known && known.epoch >= peer.epoch)) latest.set(peer.address, peer);
  }
  return latest.values();
}
