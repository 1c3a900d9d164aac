/** What commands ask of a node and may make it do, as `commands/services.ts` names it. */
import { Denials } from "./access/denials.ts";
import type { User } from "./access/user.ts";
import type { AntiEntropy } from "./anti-entropy/anti-entropy.ts";
import { CommandTracing } from "./commands/command-tracing.ts";
import { CommandWatch } from "./commands/command-watch.ts";
import type { Services } from "./commands/services.ts";
import { Statistics } from "./commands/statistics.ts";
import type { LiveConfig } from "./config/live-config.ts";
import type { Backups } from "./durability/backup.ts";
import type { DiskSpace } from "./durability/disk-space.ts";
import type { Companions } from "./node-companions.ts";
import { infoOf, type NodeParts } from "./node-facts.ts";
import { settingsControl } from "./node-settings.ts";
import { membersOf } from "./node-view.ts";
import type { Logger } from "./observability/log.ts";
import { noAudit, type ReplicationControl } from "./ports.ts";
import type { Replica } from "./replica.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { Listener } from "./server/listener.ts";
import { version } from "./version.ts";
import type { World } from "./world.ts";

/** A node, as far as commands reach it. What is read of it may be made after the services. */
export interface ServedNode {
  readonly live: LiveConfig;
  readonly logger: Logger;
  readonly world: World;
  readonly replica: Replica;
  readonly companions: Companions;
  readonly backups: Backups;
  readonly diskSpace: DiskSpace;
  readonly listener: Listener;
  /** When it was started, by the monotonic clock. */
  readonly startedMs: number;
  /** Where it listens for clients. */
  readonly address: {
    readonly host: string;
    readonly port: number;
    readonly tlsPort: number | null;
  };
  /** Closes the connections of a user; returns how many. */
  endUser(user: User): number;
  /** Stops it gracefully. */
  stop(): Promise<void>;
}

/** The services of that node. */
export function createServices(node: ServedNode): Services {
  const { live, world, replica, logger, companions } = node;
  const { config } = live;
  const { journal, replicator, antiEntropy } = replica;
  const { network } = config;
  let info: Services["info"] | null = null;
  const services: Services = {
    version,
    nodeId: config.node_id,
    port: () => node.listener.port,
    uptimeMs: () => world.timing.nowMs() - node.startedMs,
    startedUnixMs: Math.round(world.wallMs() - (world.timing.nowMs() - node.startedMs)),
    random: world.random,
    randomWords: world.randomWords,
    users: companions.users.directory,
    denials: new Denials(),
    peersProveThemselves: () => companions.secrets.current !== null,
    log: logger.child("server"),
    statistics: new Statistics(),
    watch: new CommandWatch(config.slowlog),
    tracing: new CommandTracing({
      tracer: companions.tracing,
      writes: replicator?.tracedWrites ?? null,
      random: world.random,
      nowMs: world.timing.nowMs,
    }),
    limits: {
      get maxValueBytes() {
        return network.max_value_bytes;
      },
      get maxReplyBytes() {
        return network.max_output_bytes;
      },
    },
    replication: replicator === null ? null : replicationControl(replicator, antiEntropy),
    durability: journal,
    time: replica.clockWatch,
    backups: node.backups,
    audit: companions.audit ?? noAudit,
    compact: () => journal.compact(),
    memoryBytes: () => process.memoryUsage.rss(),
    heapBytes,
    synchronization: antiEntropy,
    merkleRoot: () => antiEntropy.rootHex ?? "0".repeat(64),
    merkleKey: () => antiEntropy.trees.currentKey || "name",
    clientList: () => node.listener.list(),
    // What the facts are about is made after this.
    info: () => (info ??= infoOf(partsOf(node, services)))(),
    members: () => membersOf(replica, config.node_id, node.address, world.timing.nowMs()),
    killUser: (user) => node.endUser(user),
    killClients: (idOrAddress) => node.listener.kill(idOrAddress),
    settings: settingsControl(live, logger),
    reportBug: (error) =>
      logger.error("A bug in MerkleKV", {
        error: String(error),
        stack: error instanceof Error ? error.stack : undefined,
      }),
    shutdown: () => void node.stop(),
  };
  return services;
}

/** What the facts of that node are about. */
export function partsOf(node: ServedNode, services: Services): NodeParts {
  const { replica, listener, live, diskSpace } = node;
  const { certificates, secrets, audit, tracing } = node.companions;
  return { services, replica, listener, live, diskSpace, certificates, secrets, audit, tracing };
}

/** What the program's own objects take; the data set is not among them. */
function heapBytes(): number {
  // What is used counts buffers, too, in which the data set lies.
  const { heapUsed, external } = process.memoryUsage();
  return Math.max(0, heapUsed - external);
}

function replicationControl(replicator: Replicator, antiEntropy: AntiEntropy): ReplicationControl {
  return {
    status: () => replicator.status(),
    enable: () => replicator.enable(),
    async disable() {
      // While the broker can still carry the word.
      antiEntropy.interrupt();
      await replicator.disable();
      antiEntropy.interrupt();
    },
  };
}
