/** What anti-entropy sees of replication: who is there, and whether events may have been missed. */

/** What presence tells of another node. */
export interface PresenceChange {
  readonly nodeId: string;
  /** `host:port`, or NO_ADDRESS. */
  readonly address: string;
  /** `host:port` where it speaks TLS; empty if nowhere. */
  readonly tlsAddress: string;
  /** Whether it can be reached through the broker. */
  readonly isRelayed: boolean;
  /** New at each start of it. */
  readonly epoch: number;
  /** Counts its connections to the broker in this epoch. */
  readonly connection: number;
  /** Its Merkle root in hex, null while unknown. */
  readonly root: string | null;
  /** False when it left, fell silent, or was forgotten. */
  readonly online: boolean;
  /** Whether it said so just now; else the broker only remembers that somebody did. */
  readonly isLive: boolean;
}

/** What presence knows of one node, and can be told of it. */
export interface PresenceDirectory {
  /** Whether that node is there now; null when nothing is known of it. */
  isOnline(nodeId: string): boolean | null;
  /** That node is gone for good: what the broker remembers of it is to be forgotten. */
  forget(nodeId: string): void;
}

/** How replication stands, as far as it matters here. */
export interface PresenceView {
  readonly connected: boolean;
  /** Connections to the broker since the start. */
  readonly connections: number;
  /** Writes of this node that were dropped before they were published, since the start. */
  readonly droppedEvents: number;
  /** Of whom something was heard, each once after it was; of thousands, some with later calls. */
  takeChanges(): Iterable<PresenceChange>;
  /** This node's root has changed and stands still: others are to be told soon. */
  announceRoot(): void;
}
