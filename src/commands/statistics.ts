/** What is counted of connections and commands. */

/** The `<family>_commands` counters of STATS. */
export const FAMILIES = [
  "get",
  "set",
  "delete",
  "numeric",
  "string",
  "bulk",
  "stat",
  "scan",
  "exists",
  "ping",
  "echo",
  "dbsize",
  "hash",
  "sync",
  "replicate",
  "management",
] as const;

/** One of the counters of STATS. */
export type Family = (typeof FAMILIES)[number];

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
  private readonly byFamily = new Float64Array(FAMILIES.length);

  /** Counts one command of the family with this number in FAMILIES. */
  countCommand(family: number): void {
    this.totalCommands++;
    this.byFamily[family]++;
  }

  /** Commands of a family so far. */
  commandsOf(family: Family): number {
    return this.byFamily[FAMILIES.indexOf(family)];
  }
}
