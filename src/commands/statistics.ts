/** What is counted of connections and commands. */
import type { Series } from "../fact.ts";

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
  /** Requests for what is no command. */
  unknownCommands = 0;
  /** Bytes of requests that came, and of replies. */
  receivedBytes = 0;
  sentBytes = 0;
  /** Requests that were answered with an error of the protocol itself. */
  protocolErrors = 0;
  /** Connections ended because nothing came for `idle_timeout`. */
  idleConnections = 0;
  /** Those of the cut ones whose memory was needed. */
  memoryCutConnections = 0;
  /** Connections cut because they did not read, or did not finish a request. */
  cutConnections = 0;
  private readonly byFamily = new Float64Array(FAMILY_NAMES.length);
  private readonly errors = new Float64Array(FAMILY_NAMES.length);

  /** For metrics. */
  static readonly series: readonly Series<Statistics>[] = [
    {
      name: "commands",
      kind: "counter",
      unit: "",
      help: "Commands that were run, by family.",
      labels: ["family"],
      read: (it) => FAMILY_NAMES.map((family, i) => [[family], it.byFamily[i]] as const),
    },
    {
      name: "command_errors",
      kind: "counter",
      unit: "",
      help: "Commands that were answered with an error, by family; `unknown` is what is no command.",
      labels: ["family"],
      read: (it) => Object.entries(it.errorsByFamily()).map(([family, n]) => [[family], n]),
    },
  ];

  /** Counts one command of the family with this number in FAMILY_NAMES. */
  countCommand(family: number): void {
    this.totalCommands++;
    this.byFamily[family]++;
  }

  /** Commands that were answered with an error. */
  get totalErrors(): number {
    return this.errors.reduce((sum, it) => sum + it, this.unknownCommands);
  }

  /** Commands that were answered with an error, by family. */
  errorsByFamily(): Record<Family | "unknown", number> {
    const counts = FAMILY_NAMES.map((family, i) => [family, this.errors[i]]);
    return { ...Object.fromEntries(counts), unknown: this.unknownCommands };
  }

  /** One of that family was answered with an error. */
  countError(family: number): void {
    this.errors[family]++;
  }

  /** Commands of a family so far. */
  commandsOf(family: Family): number {
    return this.byFamily[FAMILY_NAMES.indexOf(family)];
  }
}
