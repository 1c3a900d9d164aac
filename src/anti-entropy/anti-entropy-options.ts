/** What anti-entropy is made with. */
import type { Config } from "../config/schema.ts";
import type { Capabilities } from "../core/data/capabilities.ts";
import type { TrustedClock } from "../core/data/trusted-clock.ts";
import type { Store } from "../core/store/store.ts";
import type { SetAsideEntry } from "../core/sync/options.ts";
import type { Logger } from "../observability/log.ts";
import type { PeerTraffic } from "../peer-traffic.ts";
import type { Durability, Messenger } from "../ports.ts";
import type { ClusterSecrets } from "../security/cluster-secrets.ts";
import type { Timing } from "../timing.ts";
import type { Tracer } from "../tracer.ts";
import type { Dial } from "./dial.ts";
import type { Members } from "./members.ts";
import type { PresenceDirectory, PresenceView } from "./presence-view.ts";

/** See the file header. */
export interface AntiEntropyOptions {
  readonly timing: Timing;
  /** Processor time of this thread, in ms. */
  readonly threadCpuMs: () => number;
  /** Unix milliseconds, and what peers say of them. */
  readonly clock: Pick<TrustedClock, "nowMs" | "state" | "isSure" | "noteTime">;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** So many random words of 32 bits. */
  readonly randomWords: (count: number) => Uint32Array;
  /** How peers are reached at their client ports. */
  readonly dial: Dial;
  /** Whether they are reached where TLS is spoken, if they say where; no unless given. */
  readonly prefersTls?: () => boolean;
  /** How messages reach them through the broker; null without one. */
  readonly messenger: Messenger | null;
  /** A session produces no more while so many bytes of it wait to be sent; 256 KiB by default. */
  readonly maxQueuedBytes?: number;
  readonly store: Store;
  /** Tells how far what the store holds is safe. */
  readonly durability: Durability;
  readonly settings: Config["anti_entropy"];
  /** Takes what goes no further; `entries` counts it. */
  readonly setAside: {
    readonly entries: number;
    readonly limitBytes: number;
    readonly put: SetAsideEntry;
  };
  /**
   * Who belongs to the cluster, and what this node has of each; kept over restarts by the caller.
   */
  readonly members: Members;
  /** Nodes sync only within one: the topic prefix. */
  readonly cluster: string;
  /** What sessions are sealed with; null, and unless given: they are not. */
  readonly secrets?: ClusterSecrets | null;
  readonly nodeId: string;
  /** New at each start, a positive safe integer. */
  readonly epoch: number;
  /** Longest frame, able to hold the largest entry. */
  readonly maxFrameBytes: number;
  /** Counts what goes between the nodes. */
  readonly traffic?: PeerTraffic;
  /** What this node speaks; what the program does, unless given. */
  readonly capabilities?: Capabilities;
  /** A peer that is silent for so long in a session is given up, in ms. */
  readonly silenceMs: number;
  /** How replication stands; null without a broker. */
  readonly presence: () => PresenceView | null;
  /** The same, of one node; null without a broker. */
  readonly directory: () => PresenceDirectory | null;
  /** Whether this node takes part in the cluster now: false after REPLICATE disable. */
  readonly isTakingPart: () => boolean;
  readonly logger: Logger;
  /** Told of what belongs to traces; nobody is unless given. */
  readonly tracer?: Tracer;
}
