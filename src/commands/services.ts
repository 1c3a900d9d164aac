/**
 * What commands need from the rest of the node, as an interface, so that commands depend on
 * no adapter. `node.ts` puts the real ones in.
 */
import type { Denials } from "../access/denials.ts";
import type { User } from "../access/user.ts";
import type { UserDirectory } from "../access/directory.ts";
import type { Outcome } from "../config/live-config.ts";
import type { KeyName } from "../config/schema.ts";
import type { FactSection } from "../fact.ts";
import type {
  Audit,
  BackupControl,
  MemberView,
  Durability,
  ReplicationControl,
  SyncControl,
  TimeControl,
} from "../ports.ts";
import type { Logger } from "../observability/log.ts";
import type { CommandTracing } from "./command-tracing.ts";
import type { CommandWatch } from "./command-watch.ts";
import type { Statistics } from "./statistics.ts";

/** The bounds that commands keep. */
export interface Limits {
  readonly maxValueBytes: number;
  /** No single reply is larger than this. */
  readonly maxReplyBytes: number;
}

/** The settings of the node, and how they change. */
export interface SettingsControl {
  /** As of LiveConfig; `by` says who wants it, for the log. */
  set(values: ReadonlyMap<KeyName, string>, by: string): Promise<Outcome>;
  unset(keys: readonly KeyName[], by: string): Promise<Outcome>;
  reload(by: string): Promise<Outcome>;
  /** By their name, `section.key`, as they are in effect; secrets are empty. */
  values(): ReadonlyMap<string, string>;
}

/** The node, as commands see it. */
export interface Services {
  readonly version: string;
  readonly nodeId: string;
  readonly port: () => number;
  /** Since the start. */
  readonly uptimeMs: () => number;
  /** When that was, by the wall clock of that moment, in Unix ms. */
  readonly startedUnixMs: number;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** So many words of 32 bits that nobody can guess. */
  readonly randomWords: (count: number) => Uint32Array;
  readonly statistics: Statistics;
  /** How long requests take, and who sees them. */
  readonly watch: CommandWatch;
  /** Which of them are traced. */
  readonly tracing: CommandTracing;
  readonly limits: Limits;
  /** null when the node runs alone. */
  readonly replication: ReplicationControl | null;
  readonly synchronization: SyncControl;
  readonly durability: Durability;
  readonly time: TimeControl;
  readonly backups: BackupControl;
  /** Who may do what. */
  readonly users: UserDirectory;
  /** What was denied of late. */
  readonly denials: Denials;
  /** Whether a peer proves by the cluster secret that it is one. */
  peersProveThemselves(): boolean;
  readonly log: Pick<Logger, "info" | "warn">;
  /** Told of what only few may do, and of who tries. */
  readonly audit: Audit;
  /** Writes the data on disk anew and drops the log so far. Rejects with an OperationalError. */
  compact(): Promise<void>;
  /** Resident memory of the process, in bytes. */
  memoryBytes(): number;
  /** Memory of JavaScript objects, in bytes. */
  heapBytes(): number;
  /** The Merkle root in hexadecimal. */
  merkleRoot(): string;
  /** What its key follows from: the id of a secret, or "name" for the cluster's name. */
  merkleKey(): string;
  /**
   * A line for each connection, made when it is asked for; the connections may change meanwhile.
   */
  clientList(): Iterable<string>;
  /** What INFO shows, of the node as it is when this is called. */
  info(): readonly FactSection<void>[];
  /** The nodes that are known, this one first. */
  members(): readonly MemberView[];
  /** Closes the connections with that id or address; returns how many. */
  killClients(idOrAddress: string): number;
  /** Closes the connections of a user; returns how many. */
  killUser(user: User): number;
  readonly settings: SettingsControl;
  /** Logs an error that should never have happened. */
  reportBug(error: unknown): void;
  /** Begins a graceful stop. */
  shutdown(): void;
}
