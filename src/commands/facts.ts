/** What commands know of the node by themselves, as rows of `INFO` and `STATS`. */
import type { Store } from "../core/store/store.ts";
import { counter, flag, gauge, text, type Fact } from "../fact.ts";
import type { Services } from "./services.ts";
import { FAMILIES, FAMILY_NAMES } from "./statistics.ts";

/** The node when somebody asks: two facts that say the same thing agree. */
export interface NodeState {
  readonly services: Services;
  readonly store: Store;
  /** Unix milliseconds. */
  readonly nowMs: number;
  readonly uptimeSeconds: number;
  /** Resident memory of the process. */
  readonly memoryBytes: number;
}

/** The node as it is now. */
export function nodeStateOf(services: Services, store: Store): NodeState {
  return {
    services,
    store,
    nowMs: store.clock.nowMs(),
    uptimeSeconds: Math.floor(services.uptimeMs() / 1000),
    memoryBytes: services.memoryBytes(),
  };
}

type Rows = readonly Fact<NodeState>[];

/** What the node is. */
export const serverFacts: Rows = [
  text("version", "The program's version.", ({ services }) => services.version),
  text("node_id", "This node's `node_id`.", ({ services }) => services.nodeId),
  gauge("tcp_port", "", "The port clients connect to.", ({ services }) => services.port()),
  gauge("process_id", "", "The number of the process.", () => process.pid),
  gauge("uptime_seconds", "seconds", "Since the start of the node.", uptimeSeconds),
  gauge(
    "started_unix",
    "Unix seconds",
    "When the node was started.",
    ({ services }) => services.startedUnixMs / 1000,
  ),
  // What Redis' clients and tools look for.
  text("redis_version", "What Redis' clients look for; always `7.0.0`.", () => "7.0.0"),
  text("redis_mode", "What Redis' clients look for; always `standalone`.", () => "standalone"),
  gauge("uptime_in_seconds", "seconds", "The same as `uptime_seconds`.", uptimeSeconds),
  flag("loading", "Always 0: a node that loads its data does not answer yet.", () => false),
];

/** What is counted of connections. */
export const clientFacts: Rows = [
  gauge(
    "connected_clients",
    "connections",
    "Connections that are open.",
    ({ services }) => services.statistics.activeConnections,
  ),
  counter(
    "refused_connections",
    "connections",
    "Turned away because there were as many as may be.",
    ({ services }) => services.statistics.refusedConnections,
  ),
  counter(
    "cut_connections",
    "connections",
    "Cut because they did not read, did not finish a request, or held memory that was needed.",
    ({ services }) => services.statistics.cutConnections,
  ),
  counter(
    "idle_connections_ended",
    "connections",
    "Ended because nothing came for `network.idle_timeout`.",
    ({ services }) => services.statistics.idleConnections,
  ),
];

/** Who may do what, and who tried. */
export const accessFacts: Rows = [
  gauge("users", "users", "Users of this node.", ({ services }) => services.users.list().length),
  counter("acl_access_denied_auth", "logins", "Logins that failed.", ({ services }) =>
    services.denials.countOf("auth"),
  ),
  counter(
    "acl_access_denied_cmd",
    "commands",
    "Commands that were denied to their users.",
    ({ services }) => services.denials.countOf("command"),
  ),
  counter(
    "acl_access_denied_key",
    "commands",
    "Commands that were denied because of a key.",
    ({ services }) => services.denials.countOf("key"),
  ),
  counter(
    "access_denied_before_login",
    "commands",
    "Commands that were denied to clients that had not logged in.",
    ({ services }) => services.denials.countOf("login"),
  ),
  gauge(
    "login_delayed_addresses",
    "addresses",
    "Addresses from which logins have failed of late, so that the next one waits.",
    ({ services }) => services.users.delayedAddresses,
  ),
];

const MEMORY_PART_HELP =
  "Memory by part: of the data set `entries`, `index` and `order`, and the JavaScript `heap`.";

const MEMORY_PARTS: readonly (readonly [
  name: string,
  part: string,
  help: string,
  read: (moment: NodeState) => number,
])[] = [
  [
    "store_entries_bytes",
    "entries",
    "keys, values and what is known of each",
    ({ store }) => store.memory().entries,
  ],
  [
    "store_index_bytes",
    "index",
    "the index by which keys are found",
    ({ store }) => store.memory().index,
  ],
  [
    "store_order_bytes",
    "order",
    "the order in which keys are listed",
    ({ store }) => store.memory().order,
  ],
  ["heap_bytes", "heap", "JavaScript objects", ({ services }) => services.heapBytes()],
];

/** What the process holds. */
export const memoryFacts: Rows = [
  gauge(
    "memory_usage_mb",
    "MiB",
    "Resident memory of the process.",
    ({ memoryBytes }) => memoryBytes / 1_048_576,
    { digits: 2 },
  ),
  gauge("used_memory", "bytes", "The same in bytes.", ({ memoryBytes }) => memoryBytes),
  gauge(
    "store_bytes",
    "bytes",
    "Memory of the data set, which `storage.memory_limit_mb` bounds.",
    ({ store }) => store.bytes(),
  ),
  gauge(
    "store_limit_bytes",
    "bytes",
    "`storage.memory_limit_mb` in bytes; 0 sets no limit.",
    ({ store }) => store.limitBytes,
  ),
  flag(
    "memory_full",
    "Whether writes of clients or of other nodes were refused at `storage.memory_limit_mb`, and nothing was removed since.",
    ({ store }) => store.isFull || store.isFullForClients,
  ),
  gauge(
    "maxmemory",
    "bytes",
    "The same, by the name that Redis' tools look for.",
    ({ store }) => store.limitBytes,
    { only: "resp" },
  ),
  ...MEMORY_PARTS.map(([name, part, help, read]) =>
    gauge<NodeState>(name, "bytes", `Memory: ${help}.`, read, {
      metric: { name: "memory_part_bytes", help: MEMORY_PART_HELP, labels: { part } },
    }),
  ),
];

/** What was done. */
export const trafficFacts: Rows = [
  counter(
    "total_connections_received",
    "connections",
    "Connections that clients have made.",
    ({ services }) => services.statistics.totalConnections,
  ),
  counter(
    "total_commands_processed",
    "commands",
    "Commands that were run.",
    ({ services }) => services.statistics.totalCommands,
  ),
  counter(
    "protocol_errors",
    "requests",
    "Requests answered with an error of the protocol itself.",
    ({ services }) => services.statistics.protocolErrors,
  ),
  counter(
    "total_error_replies",
    "commands",
    "Commands that were answered with an error.",
    ({ services }) => services.statistics.totalErrors,
  ),
  counter(
    "total_net_input_bytes",
    "bytes",
    "Bytes that clients have sent.",
    ({ services }) => services.statistics.receivedBytes,
  ),
  counter(
    "total_net_output_bytes",
    "bytes",
    "Bytes that clients were answered with.",
    ({ services }) => services.statistics.sentBytes,
  ),
  counter(
    "slow_commands",
    "commands",
    "Commands that took longer than `slowlog.log_slower_than`.",
    ({ services }) => services.watch.slowLog.total,
  ),
  gauge(
    "monitors",
    "connections",
    "Clients that have said `MONITOR`.",
    ({ services }) => services.watch.monitors.count,
  ),
];

/** How replication stands, also where there is none. */
export const replicationFacts: Rows = [
  text("role", "What Redis' clients look for; always `master`.", () => "master"),
  flag(
    "replication_enabled",
    "Whether this node takes part in replication.",
    ({ services }) => services.replication?.status().enabled ?? false,
  ),
  gauge(
    "replication_nodes",
    "nodes",
    "Nodes known to be online, this one included.",
    ({ services }) => services.replication?.status().nodes ?? 1,
  ),
];

/** What is stored. */
export const keyspaceFacts: Rows = [
  gauge("total_keys", "keys", "Keys that are there.", ({ store }) => store.size),
  gauge(
    "expiring_keys",
    "keys",
    "Of those, the ones that have an expiry.",
    ({ store }) => store.expiringCount,
  ),
  counter(
    "expired_keys",
    "keys",
    "Keys that were found to have expired.",
    ({ store }) => store.expiredCount,
  ),
  gauge(
    "tombstones",
    "keys",
    "Deleted and expired keys that are remembered, for `storage.tombstone_grace_seconds`.",
    ({ store }) => store.tombstoneCount,
  ),
  gauge(
    "missing_values",
    "keys",
    "Keys that live, and whose value this node let go of by a clock that was wrong.",
    ({ store }) => store.missingCount,
  ),
  text(
    "merkle_root",
    "Digest of all data as of a few seconds ago; nodes with equal data have equal roots, if " +
      "`merkle_key` is the same.",
    ({ services }) => services.merkleRoot(),
  ),
  text(
    "merkle_key",
    "What the key of that digest follows from: the id of the cluster secret, or `name` for the " +
      "cluster's name; only roots of one key can be compared.",
    ({ services }) => services.merkleKey(),
  ),
  text(
    "db0",
    "What Redis' clients look for: the number of keys, unless it is 0.",
    ({ store }) => (store.size === 0 ? null : dbLine(store)),
    { only: "resp" },
  ),
];

function dbLine({ size, expiringCount }: Store): string {
  return `keys=${size},expires=${expiringCount},avg_ttl=0`;
}

const TAGGED = { only: "tagged" } as const;

/** What tools of the tagged dialect look for. */
export const taggedFacts: Rows = [
  gauge("uptime", "seconds", "The same as `uptime_seconds`.", uptimeSeconds, TAGGED),
  gauge(
    "server_time_unix",
    "Unix seconds",
    "The time of this machine.",
    ({ nowMs }) => Math.floor(nowMs / 1000),
    TAGGED,
  ),
  gauge("db_keys", "keys", "The same as `total_keys`.", ({ store }) => store.size, TAGGED),
];

/** All of `STATS`. */
export const statsFacts: Rows = [
  gauge("uptime_seconds", "seconds", "Since the start of the node.", uptimeSeconds),
  text("uptime", "The same, to be read by people.", (moment) => humanUptime(moment.uptimeSeconds)),
  counter(
    "total_connections",
    "connections",
    "Connections that clients have made.",
    ({ services }) => services.statistics.totalConnections,
  ),
  gauge(
    "active_connections",
    "connections",
    "Connections that are open.",
    ({ services }) => services.statistics.activeConnections,
  ),
  counter(
    "total_commands",
    "commands",
    "Commands that were run.",
    ({ services }) => services.statistics.totalCommands,
  ),
  text(
    "clock_state",
    "What is thought of the wall clock; `trusted` when all is well.",
    ({ services }) => services.time.state,
  ),
  ...FAMILY_NAMES.map((family) =>
    counter<NodeState>(
      `${family}_commands`,
      "commands",
      `Of those, how many were ${FAMILIES[family]}.`,
      ({ services }) => services.statistics.commandsOf(family),
    ),
  ),
  gauge("used_memory_kb", "KiB", "Resident memory of the process.", ({ memoryBytes }) =>
    Math.floor(memoryBytes / 1024),
  ),
];

function uptimeSeconds(moment: NodeState): number {
  return moment.uptimeSeconds;
}

function humanUptime(seconds: number): string {
  const days = Math.floor(seconds / 86_400);
  const hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  return `${days}d ${hours}h ${minutes}m ${seconds % 60}s`;
}
