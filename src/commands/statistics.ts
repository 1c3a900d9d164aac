/** What is counted of connections and commands. */

/** The families of commands, each counted as `<family>_commands`, and what belongs to them. */
export const FAMILIES = {
  get: "`GET` and `GETEX`",
  set: "commands that set one value, its name or its expiry",
  delete: "`DEL`, `GETDEL` and `UNLINK`",
  numeric: "`INCR`, `DECR`, `INCRBY` and `DECRBY`",
  string: "commands on parts, length, type or expiry of a value",
  bulk: "`MGET`, `MSET` and `MSETNX`",
  stat: "`INFO`, `STATS`, `MEMORY` and `TIME`",
  scan: "`SCAN`, `KEYS` and `RANDOMKEY`",
  exists: "`EXISTS`",
  ping: "`PING`",
  echo: "`ECHO`",
  dbsize: "`DBSIZE`",
  hash: "`HASH`",
  sync: "`SYNC`, and `PEER`, which peers say",
  replicate: "`REPLICATE`",
  management: "commands on the node, its data as a whole, and connections",
} as const;

/** One of the families. */
export type Family = keyof typeof FAMILIES;

/** The families in the order in which `STATS` shows them. */
export const FAMILY_NAMES = Object.keys(FAMILIES) as readonly Family[];

/** Counters of STATS. Reset only by a restart. */
export class Statistics {
  totalConnections = 0;
  activeConnections = 0;
  /** Connections turned away because of `max_connections`. */
  refusedConnections = 0;
  totalCommands = 0;
  /** Requests that were answered with an error of the protocol itself. */
  protocolErrors = 0;
  /** Connections ended because nothing came for `idle_timeout`. */
  idleConnections = 0;
  /** Those of the cut ones whose memory was needed. */
  memoryCutConnections = 0;
  /** Connections cut because they did not read, or did not finish a request. */
  cutConnections = 0;
  private readonly byFamily = new Float64Array(FAMILY_NAMES.length);

  /** Counts one command of the family with this number in FAMILY_NAMES. */
  countCommand(family: number): void {
    this.totalCommands++;
    this.byFamily[family]++;
  }

  /** Commands of a family so far. */
  commandsOf(family: Family): number {
    return this.byFamily[FAMILY_NAMES.indexOf(family)];
  }
}
