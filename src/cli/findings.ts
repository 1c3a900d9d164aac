/**
 * What somebody who runs a node should know of it, from what it says of itself: what is wrong, and
 * what to do. One row for each, for `status` and for `doctor`.
 */

/** The facts of a node, by their names. */
export type Facts = ReadonlyMap<string, string>;

/** Something to look at. */
export interface Finding {
  /** Nothing is well until it is dealt with; else it is only worth knowing. */
  readonly isWarning: boolean;
  /** What was found, one sentence without a full stop. */
  readonly what: string;
  /** What to do, the same. */
  readonly advice: string;
}

/** What came of one look, of `doctor`. */
export interface Look {
  /** What was looked at, in a word or two. */
  readonly at: string;
  /** "note" is worth knowing, and no reason to do something at once. */
  readonly result: "ok" | "note" | "warning";
  readonly what: string;
  /** What to do; empty when there is nothing. */
  readonly advice: string;
}

type Row = (facts: Facts) => Finding | null;

const MIB = 1_048_576;
/** Certificates are to be replaced so many days before they expire. */
const CERTIFICATE_DAYS = 30;
/** Less free disk than this, in bytes, is little. */
const LITTLE_DISK_BYTES = 512 * MIB;
/** Of a limit, this much is nearly all. */
const NEARLY = 0.9;

function warning(what: string, advice: string): Finding {
  return { isWarning: true, what, advice };
}

function note(what: string, advice: string): Finding {
  return { isWarning: false, what, advice };
}

/** A number among the facts; NaN where there is none, which compares with nothing. */
export function numberOf(facts: Facts, name: string): number {
  const text = facts.get(name);
  return text === undefined ? NaN : Number(text);
}

function isOne(facts: Facts, name: string): boolean {
  return facts.get(name) === "1";
}

const storage: Row = (facts) => {
  const state = facts.get("storage_state") ?? "ok";
  if (state === "ok") return null;
  return warning(`the disk takes no writes (storage_state: ${state})`, "see the node's log");
};

const disk: Row = (facts) => {
  const free = numberOf(facts, "disk_free_bytes");
  if (!(free < LITTLE_DISK_BYTES)) return null;
  return warning(`${Math.round(free / MIB)} MiB of disk are free`, "make room at storage.path");
};

const memory: Row = (facts) => {
  const [used, limit] = [numberOf(facts, "store_bytes"), numberOf(facts, "store_limit_bytes")];
  if (!(limit > 0 && used >= limit * NEARLY)) return null;
  const percent = Math.round((100 * used) / limit);
  return warning(
    `${percent} % of storage.memory_limit_mb are used`,
    "raise it while the node runs, or delete what is not needed",
  );
};

const clock: Row = (facts) => {
  const ahead = numberOf(facts, "clock_ahead_of_peers_ms");
  const by = Math.abs(ahead) >= 1_000 ? `${Math.abs(ahead) / 1_000} s` : `${Math.abs(ahead)} ms`;
  const advice = "let NTP set it: chronyc tracking, or timedatectl";
  if (isOne(facts, "clock_off")) {
    const where = ahead < 0 ? "behind" : "ahead of";
    return warning(`its clock is ${by} ${where} most others`, advice);
  }
  const state = facts.get("clock_state") ?? "trusted";
  return state === "trusted" ? null : warning(`its clock is not trusted (${state})`, advice);
};

const broker: Row = (facts) => {
  if (!isOne(facts, "replication_enabled")) return null;
  if (facts.get("replication_connected") === "0") {
    return warning("it does not reach the broker", "see its log for the reason, and [mqtt]");
  }
  if (facts.get("replication_heard") !== "0") return null;
  return warning(
    "what it publishes does not come back from the broker",
    "let its user publish and subscribe: docs/brokers.md",
  );
};

const twin: Row = (facts) => {
  const isTwin = ["replication", "sync"].some((it) => isOne(facts, `${it}_duplicate_node_id`));
  if (!isTwin) return null;
  return warning("another node has its node_id", "give each node a node_id of its own");
};

const aside: Row = (facts) => {
  const count = numberOf(facts, "set_aside_entries");
  if (!(count > 0)) return null;
  return warning(
    `${count} entries were set aside`,
    "look at set-aside-*.jsonl in storage.path, then move it away: docs/healing.md",
  );
};

const missing: Row = (facts) => {
  const count = numberOf(facts, "missing_values");
  if (!(count > 0)) return null;
  return warning(`${count} values are missing`, "bring a peer that has them back");
};

const certificates: Row = (facts) => {
  for (const prefix of ["tls", "mqtt_tls"]) {
    const section = prefix.replace("_", ".");
    const problem = facts.get(`${prefix}_certificate_problem`);
    if (problem !== undefined) {
      return warning(`new certificates of [${section}] are not used: ${problem}`, "mend the files");
    }
    const days = numberOf(facts, `${prefix}_certificate_days_left`);
    if (!(days < CERTIFICATE_DAYS)) continue;
    const what = days < 0 ? "has expired" : `expires in ${days} days`;
    return warning(
      `the certificate of [${section}] ${what}`,
      "put a new one in its place; nothing need be restarted",
    );
  }
  return null;
};

const settings: Row = (facts) => {
  const problem = facts.get("config_problem");
  if (problem === undefined) return null;
  return warning(`its file of settings is not in effect: ${problem}`, "mend the file");
};

const restart: Row = (facts) => {
  const keys = facts.get("config_needs_restart");
  if (keys === undefined) return null;
  return note(`settings wait for a restart: ${keys}`, "restart it when that suits");
};

const connections: Row = (facts) => {
  const [used, limit] = [numberOf(facts, "connected_clients"), numberOf(facts, "connection_limit")];
  if (!(limit > 0 && used >= limit * NEARLY)) return null;
  return warning(
    `${used} of ${limit} connections are taken`,
    "raise network.max_connections, and the limit of open files",
  );
};

const lacks: Row = (facts) => {
  const what = facts.get("replication_broker_lacks");
  if (what === undefined) return null;
  return note(`the broker does without ${what}`, "see docs/brokers.md for what follows");
};

const ROWS = [
  ...[storage, disk, memory, clock, broker, twin, aside, missing, certificates, settings],
  ...[connections, restart, lacks],
];

/** What is to be said of a node, the gravest first. */
export function findingsIn(facts: Facts): Finding[] {
  return ROWS.map((row) => row(facts)).filter((it) => it !== null);
}
