/** How the files that this process may have open are shared by the ports of a node. */
import type { Config } from "./config/schema.ts";
import { httpConnections } from "./node-http.ts";
import { openFiles } from "./server/open-files.ts";

/**
 * Files that a node needs to open beside its clients' sockets: the log and its next segment,
 * snapshots, backups, what is set aside, the way to the broker, lookups of names, and peers.
 */
export function reservedFiles(config: Config): number {
  const { anti_entropy, http, mqtt } = config;
  const forBroker = mqtt.broker_address === "embedded" ? 64 : 0;
  const isServed = http.bind_address !== "" || http.bind_port !== 0;
  const forHttp = isServed ? maxHttpConnections() : 0;
  return 32 + 2 * Math.min(anti_entropy.max_concurrent_syncs, 16) + forBroker + forHttp;
}

/** How many connections the HTTP port takes at a time. */
export function maxHttpConnections(): number {
  return httpConnections(openFiles()?.limit ?? Infinity);
}
