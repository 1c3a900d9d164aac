/** What a replicator is made with, and what it says of itself. */
import type { Capabilities } from "../core/data/capabilities.ts";
import type { Config } from "../config/schema.ts";
import type { Entry } from "../core/data/entry.ts";
import type { Store } from "../core/store/store.ts";
import type { Logger } from "../observability/log.ts";
import type { PeerTraffic } from "../peer-traffic.ts";
import type { Timing } from "../timing.ts";
import type { Tracer } from "../tracer.ts";
import type { Sealing } from "./broker-seal.ts";
import type { FormerMembers } from "./misconfiguration.ts";
import type { PeerPresence } from "./presence.ts";
import type { TreeRoots } from "./presence-message.ts";
import type { BrokerTls, Transport, TransportOptions } from "./transport.ts";

/** What other parts want to hear of. All are optional. */
export interface ReplicationHooks {
  /** Events of that node were lost on the way; its data should be compared. */
  onGap?(nodeId: string): void;
  /**
   * That node holds a version of the key whose value was too large to send. The entry
   * holds key and version and is valid for the call.
   */
  onReference?(nodeId: string, entry: Entry): void;
  /**
   * An entry is dated too far ahead and was not applied; it is valid for the call. That node has
   * it; null: nobody here does.
   */
  onFuture?(entry: Entry, nodeId: string | null): void;
  /** Whether the node of that id is one, and not only said to be: it is not forgotten. */
  isMet?(nodeId: string): boolean;
  /** Whether there was contact with the node of that id, at any time. */
  isMember?(nodeId: string): boolean;
  /** How many nodes there was contact with, by this node or another. */
  memberCount?(): number;
  /** Whether somebody said that the node of that id is gone for good. */
  isForgotten?(nodeId: string): boolean;
  /** Members that this node had met when it started, and whether the node of that id was one. */
  readonly formerMembers?: FormerMembers;
}

/** What a replicator is made with. */
export interface ReplicatorOptions {
  readonly store: Pick<
    Store,
    | "read"
    | "clock"
    | "apply"
    | "applyExpiry"
    | "isMissing"
    | "isLive"
    | "isTooFarAhead"
    | "applyFloor"
    | "locate"
    | "floor"
    | "deletions"
    | "origin"
  >;
  /** `broker_address` is a broker's, not "embedded"; `enabled` is how it starts. */
  readonly settings: Omit<Config["mqtt"], "embedded" | "tls">;
  /** How TLS is spoken with the broker; as with anybody unless given. */
  readonly brokerTls?: BrokerTls;
  readonly nodeId: string;
  /** `host:port` at which peers reach this node, or "none". */
  readonly address: () => string;
  /** `host:port` where TLS is spoken; empty, and unless given: nowhere. */
  readonly tlsAddress?: () => string;
  /** Whether peers may reach this node through the broker. */
  readonly isRelaying?: boolean;
  /** The program's version. */
  readonly version: string;
  /** The Merkle trees. */
  readonly trees: () => TreeRoots;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly logger: Logger;
  readonly hooks?: ReplicationHooks;
  /** The epoch of the start before, 0 for none: this one is above it, whatever the clock says. */
  readonly lastEpoch?: number;
  /** What is given to the broker is sealed with, if there are secrets. */
  readonly sealing: Sealing;
  /** As in PublisherOptions; at once by default. */
  readonly whenSafe?: (callback: () => void) => void;
  readonly timing: Timing;
  /** What this node speaks; what the program does, unless given. */
  readonly capabilities?: Capabilities;
  /** Told of what belongs to traces; nobody is unless given. */
  readonly tracer?: Tracer;
  /** Counts what goes between the nodes. */
  readonly traffic?: PeerTraffic;
  /** Makes the connection to the broker. */
  readonly connect: (options: TransportOptions) => Transport;
}

/** How replication stands. */
export interface ReplicationStatus {
  readonly enabled: boolean;
  readonly connected: boolean;
  /** How often a connection to the broker came up since the start. */
  readonly connections: number;
  /** Nodes online, this one included; 1 while not connected. */
  readonly nodes: number;
  /** Another live node was seen with this node's id. */
  readonly duplicateNodeId: boolean;
  /** Writes that wait to be published. */
  readonly waiting: number;
  /** Batches published and not yet acknowledged. */
  readonly unacknowledged: number;
  /** Writes that the broker did not pass on, since the start. */
  readonly refused: number;
  /** A value went without its bytes so lately that nobody may have fetched them. */
  readonly hasUnfetched: boolean;
}

/** Who is there, for whoever compares nodes. */
export interface ReplicationPresence {
  readonly connected: boolean;
  /** How often a connection to the broker came up since the start. */
  readonly connections: number;
  /** Grows when writes of this node, or of others to it, did not travel over the broker. */
  readonly droppedEvents: number;
  /** Of whom something was heard, each once after it was; of thousands, some with later calls. */
  takeChanges(): PeerPresence[];
  /** The root has changed and stands still: others are to be told soon. */
  announceRoot(): void;
}
