/** What the HTTP port of a node tells: the facts as metrics, and what it takes to be ready. */
import type { UserDirectory } from "./access/directory.ts";
import type { User } from "./access/user.ts";
import { FAMILY_NAMES, type Statistics } from "./commands/statistics.ts";
import { formatHostPort } from "./config/address.ts";
import type { Config } from "./config/schema.ts";
import type { FactSection } from "./fact.ts";
import { HttpPort, type Check, type Credentials } from "./http/http-port.ts";
import { LoopDelay } from "./http/loop-delay.ts";
import type { Audit } from "./ports.ts";
import type { Replica } from "./replica.ts";
import type { Timing } from "./timing.ts";
import { version } from "./version.ts";

const LOOPBACK = "127.0.0.1";

/** A node whose data is back from disk. */
export interface ServingNode {
  readonly replica: Replica;
  readonly statistics: Statistics;
  /** Whether the first sync with the peers is done, or was given up. */
  readonly hasSynced: boolean;
  facts(): readonly FactSection<void>[];
}

/** An open port. */
export interface NodeHttp {
  /** Where it listens, `host:port`. */
  readonly address: string;
  stop(): Promise<void>;
}

/**
 * Opens the port; null when the configuration has none. `serving` returns null until the data is
 * back. Throws an OperationalError when the port cannot be opened.
 */
export function openNodeHttp(
  { http, node_id }: Config,
  timing: Timing,
  users: UserDirectory,
  audit: Audit,
  serving: () => ServingNode | null,
): NodeHttp | null {
  if (http.bind_address === "" && http.bind_port === 0) return null;
  const loopDelay = new LoopDelay(timing);
  const source = {
    version,
    nodeId: node_id,
    metrics() {
      const node = serving();
      if (node === null) return null;
      const { statistics } = node;
      const commands = FAMILY_NAMES.map((it) => [it, statistics.commandsOf(it)] as const);
      return { sections: node.facts(), commands: new Map(commands), loopDelay };
    },
    readiness: () => checksOf(serving()),
    async mayRead(address: string, credentials: Credentials | null) {
      const found = await userOf(users, address, credentials);
      const isUser = typeof found === "object";
      if (isUser && maySayInfo(users, found)) return true;
      if (found === "busy") return false;
      const event = isUser ? "denied" : "login_failed";
      const user = isUser ? found.name : credentials!.name;
      audit.record({ event, user, address, certificate: null, command: "HTTP", key: null });
      return false;
    },
  };
  try {
    const host = http.bind_address === "" ? LOOPBACK : http.bind_address;
    const port = new HttpPort(source, host, http.bind_port);
    const stop = async (): Promise<void> => {
      loopDelay.stop();
      await port.stop();
    };
    return { address: formatHostPort(host, port.port), stop };
  } catch (error) {
    loopDelay.stop();
    throw error;
  }
}

/** Who asks; or why that one is not logged in. */
async function userOf(
  users: UserDirectory,
  address: string,
  credentials: Credentials | null,
): Promise<User | "wrong" | "busy"> {
  if (credentials === null) return users.arrive(address, null);
  return users.logIn(credentials.name, credentials.password, address, () => false);
}

/** Metrics are the facts of INFO: who may not say that may not read them either. */
function maySayInfo(users: UserDirectory, { definition }: User): boolean {
  const info = users.permissions.find("info")!;
  return definition.selectors.some((selector) => selector.permits(info));
}

/** What it takes to be ready: whoever sends clients here looks at it. */
export function checksOf(node: ServingNode | null): Check[] {
  if (node === null) {
    return [{ name: "recovered", ok: false, reason: "the data is being read from disk" }];
  }
  const { replica, hasSynced } = node;
  const { failure } = replica.journal;
  const { isFull } = replica.store;
  const { writeRefusal } = replica.clockWatch;
  return [
    { name: "recovered", ok: true, reason: "the data is here" },
    {
      name: "first_sync",
      ok: hasSynced,
      reason: hasSynced ? "done, or nobody was there" : "the first sync with the peers goes on",
    },
    { name: "journal", ok: failure === null, reason: failure?.message ?? "it takes writes" },
    {
      name: "memory",
      ok: !isFull,
      reason: isFull ? "storage.memory_limit_mb is reached" : "below storage.memory_limit_mb",
    },
    { name: "clock", ok: writeRefusal === null, reason: writeRefusal ?? "the time is known" },
  ];
}
