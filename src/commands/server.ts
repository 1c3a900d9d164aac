/** Commands on the node: what it is, how it does, and stopping it. */
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { command, unknownSubcommand, type Command, type Context, type Run } from "./command.ts";
import { factLine } from "./fact-line.ts";
import { Glob } from "./glob.ts";
import { answerInSlices } from "./slices.ts";
import { FAMILIES } from "./statistics.ts";

type Facts = Record<string, string | number>;

const version: Run = (_request, reply, context) => {
  const { version } = context.services;
  if (reply.isResp) return reply.bulkText(`MerkleKV ${version}`);
  reply.simple(reply.dialect === TAGGED ? `VERSION ${version}` : `MerkleKV ${version}`);
};

const memory: Run = (_request, reply, context) => {
  reply.count(context.services.memoryBytes(), "MEMORY ");
};

const time: Run = (_request, reply, context) => {
  const nowMs = context.store.clock.nowMs();
  if (!reply.isResp) return reply.count(Math.floor(nowMs / 1000), "TIME ");
  reply.array(2);
  reply.bulkText(String(Math.floor(nowMs / 1000)));
  reply.bulkText(String((nowMs % 1000) * 1000));
};

/** The sections of INFO; the line dialects print them as one list. */
function infoSections(context: Context): Record<string, Facts> {
  const { store, services } = context;
  const { statistics } = services;
  const uptime = Math.floor(services.uptimeMs() / 1000);
  const memoryBytes = services.memoryBytes();
  const replication = services.replication;
  const status = replication?.status();
  return {
    Server: {
      version: services.version,
      node_id: services.nodeId,
      tcp_port: services.port(),
      process_id: process.pid,
      uptime_seconds: uptime,
      // What Redis' clients and tools look for.
      redis_version: "7.0.0",
      redis_mode: "standalone",
      uptime_in_seconds: uptime,
      loading: 0,
    },
    Clients: {
      connected_clients: statistics.activeConnections,
      refused_connections: statistics.refusedConnections,
      cut_connections: statistics.cutConnections,
      idle_connections_ended: statistics.idleConnections,
      ...services.clientFacts(),
    },
    Memory: {
      memory_usage_mb: (memoryBytes / 1_048_576).toFixed(2),
      used_memory: memoryBytes,
      store_bytes: store.bytes(),
    },
    Stats: {
      total_connections_received: statistics.totalConnections,
      total_commands_processed: statistics.totalCommands,
      protocol_errors: statistics.protocolErrors,
    },
    Replication: {
      role: "master",
      replication_enabled: status?.enabled ? 1 : 0,
      replication_nodes: status?.nodes ?? 1,
      ...replication?.facts(),
      ...services.synchronization.facts(),
    },
    Persistence: services.durability.facts(),
    Keyspace: {
      total_keys: store.size,
      tombstones: store.tombstoneCount,
      merkle_root: services.merkleRoot(),
    },
  };
}

const info: Run = (request, reply, context) => {
  const sections = infoSections(context);
  if (reply.isResp) return reply.bulkText(redisInfo(wantedSections(request), sections, context));
  const facts: Facts = Object.assign({}, ...Object.values(sections));
  if (reply.dialect === TAGGED) {
    facts["uptime"] = facts["uptime_seconds"];
    facts["server_time_unix"] = Math.floor(context.store.clock.nowMs() / 1000);
    facts["db_keys"] = facts["total_keys"];
  }
  listFacts(reply, reply.dialect === TAGGED ? "INFO" : "# Server Information", facts);
};

/** The sections asked for, of which there are a few. */
function wantedSections(request: Request): Set<string> {
  const wanted = new Set<string>();
  for (let i = 0; i < Math.min(request.count, MOST_SECTIONS); i++) {
    wanted.add(request.text(i).toLowerCase());
  }
  return wanted;
}

const MOST_SECTIONS = 32;

function redisInfo(wanted: Set<string>, sections: Record<string, Facts>, context: Context): string {
  const all = wanted.size === 0 || ["all", "everything", "default"].some((it) => wanted.has(it));
  let text = "";
  for (const [name, facts] of Object.entries(sections)) {
    if (!all && !wanted.has(name.toLowerCase())) continue;
    text += `# ${name}\r\n`;
    for (const [fact, value] of Object.entries(facts)) text += `${factLine(fact, value)}\r\n`;
    if (name === "Keyspace" && context.store.size > 0) {
      text += `db0:keys=${context.store.size},expires=0,avg_ttl=0\r\n`;
    }
    text += "\r\n";
  }
  return text;
}

const stats: Run = (_request, reply, context) => {
  const { statistics, uptimeMs } = context.services;
  const uptime = Math.floor(uptimeMs() / 1000);
  const facts: Facts = {
    uptime_seconds: uptime,
    uptime: humanUptime(uptime),
    total_connections: statistics.totalConnections,
    active_connections: statistics.activeConnections,
    total_commands: statistics.totalCommands,
  };
  for (const family of FAMILIES) facts[`${family}_commands`] = statistics.commandsOf(family);
  facts["used_memory_kb"] = Math.floor(context.services.memoryBytes() / 1024);
  if (reply.isResp) {
    const lines = Object.entries(facts).map(([name, value]) => `${factLine(name, value)}\r\n`);
    return reply.bulkText(lines.join(""));
  }
  listFacts(reply, reply.dialect === TAGGED ? "STATS" : "", facts);
};

/** A title if there is one, a line for each fact, and in `plain` an empty line at the end. */
function listFacts(reply: Reply, title: string, facts: Facts): void {
  if (title !== "") reply.line(title);
  for (const [name, value] of Object.entries(facts)) reply.line(factLine(name, value));
  if (reply.dialect !== TAGGED) reply.line("");
}

function humanUptime(seconds: number): string {
  const days = Math.floor(seconds / 86_400);
  const hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  return `${days}d ${hours}h ${minutes}m ${seconds % 60}s`;
}

/** `CONFIG GET pattern …`: every setting whose name matches one of them, once. */
function getSettings(given: Request, reply: Reply, context: Context): ReturnType<Run> {
  const settings = Array.from(context.services.settings(), ([name, value]) => ({
    name,
    value,
    bytes: new TextEncoder().encode(name),
    isWanted: false,
  }));
  const request = given.takeOver();
  let next = 1;
  // A pattern a step.
  const step = (): boolean => {
    const pattern = new TextEncoder().encode(request.text(next).toLowerCase());
    const glob = new Glob(pattern);
    for (const each of settings) {
      each.isWanted ||= glob.matches(each.bytes, 0, each.bytes.length);
    }
    return ++next === request.count;
  };
  const write = (late: Reply): void => {
    const wanted = settings.filter(({ isWanted }) => isWanted);
    if (late.isResp) late.map(wanted.length);
    for (const { name, value } of wanted) {
      if (!late.isResp) late.line(factLine(name, value));
      else {
        late.bulkText(name);
        late.bulkText(value);
      }
    }
    if (!late.isResp) late.line("");
  };
  return answerInSlices(step, write, reply, context);
}

const config: Run = (request, reply, context) => {
  if (request.is(0, "GET") && request.count >= 2) return getSettings(request, reply, context);
  if (request.is(0, "RESETSTAT") && request.count === 1) {
    context.services.synchronization.resetPeaks();
    return reply.ok();
  }
  const known = "CONFIG GET and RESETSTAT are what there is; settings change in the config file";
  unknownSubcommand(request, reply, known);
};

const shutdown: Run = (request, reply, context) => {
  if (request.count === 1 && !request.is(0, "NOSAVE") && !request.is(0, "SAVE")) {
    return reply.respError("ERR syntax error");
  }
  reply.ok();
  context.services.shutdown();
};

/** Commands on the node. */
export const serverCommands: readonly Command[] = [
  command("VERSION", "management", SHAPE_WORDS, 0, 0, version),
  command("INFO", "stat", SHAPE_WORDS, 0, 0, info, { respMost: -1 }),
  command("STATS", "stat", SHAPE_WORDS, 0, 0, stats),
  command("MEMORY", "stat", SHAPE_WORDS, 0, 0, memory),
  command("TIME", "stat", SHAPE_WORDS, 0, 0, time),
  command("CONFIG", "management", SHAPE_WORDS, 1, -1, config),
  command("SHUTDOWN", "management", SHAPE_WORDS, 0, 1, shutdown),
];
