/** The processes that are measured, each alone on a free port, and the memory they take. */
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { endProcess } from "../support/end-process.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { freePort, MOSQUITTO_MISSING, mosquittoPath } from "../support/mosquitto.ts";
import { startNodeProcess } from "../support/process.ts";

/**
 * How long memory must stay where it is to count as settled, and what counts as staying. Redis frees
 * the buffers of idle clients after two seconds: counting those would flatter us.
 */
const SETTLED_MS = 5_000;
const SETTLED_KB = 512;
const SETTLE_DEADLINE_MS = 120_000;
/** A server is at rest that takes less than this share of a processor for so long. */
const BUSY_SHARE = 0.05;
const REST_MS = 1_500;

/** Linux counts processor time in hundredths of a second. */
const MS_A_TICK = 10;

const running = new Set<Bun.Subprocess>();
// However this process ends, it leaves none of them behind. (Nodes see to that themselves.)
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));

/** A running server; it ends when its scope does. */
export interface Server extends AsyncDisposable {
  /** "merklekv", "redis", "mosquitto". */
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  /** Where it serves HTTP, `host:port`; empty where it does not. */
  readonly http: string;
}

/** Where redis-server is installed; null when it is not. */
export const redisPath: string | null = Bun.which("redis-server");

/** The server that VALKEY names; null when it names none. */
export const valkeyPath: string | null = process.env["VALKEY"] ?? null;

/** What a bench node is told besides its name. */
export interface NodeSettings {
  /** The port of the broker; without one nothing is replicated. */
  readonly brokerPort?: number;
  readonly bindPort?: number;
  readonly maxConnections?: number;
  /** How often it compares itself with a peer; never by default. */
  readonly syncEverySeconds?: number;
  readonly engine?: "log" | "memory";
  /** Whether nobody is to reach it but through the broker, where it keeps nothing to be sent later. */
  readonly isHidden?: boolean;
  /** Whether it serves HTTP, on a free port. */
  readonly servesHttp?: boolean;
  /** Whether its cluster has a secret. */
  readonly isSealed?: boolean;
  /** What to run instead of the built binary. */
  readonly command?: readonly string[];
}

/** The TOML of a bench node: defaults, but for what is given, and comparing with peers only if asked for. */
export function nodeConfig(nodeId: string, settings: NodeSettings = {}): string {
  const { brokerPort, bindPort = 0, maxConnections = 1000, engine = "log" } = settings;
  const { syncEverySeconds, isHidden = false, servesHttp = false } = settings;
  return [
    `node_id = "${nodeId}"`,
    `[network]`,
    `bind_port = ${bindPort}`,
    `max_connections = ${maxConnections}`,
    `advertise_address = "${isHidden ? "none" : ""}"`,
    `[mqtt]`,
    `max_outbox_events = ${isHidden ? 1 : 1_000_000}`,
    `enabled = ${brokerPort !== undefined}`,
    `broker_address = "mqtt://127.0.0.1:${brokerPort ?? 1883}"`,
    `[anti_entropy]`,
    `enabled = ${syncEverySeconds !== undefined}`,
    `interval_seconds = ${syncEverySeconds ?? 300}`,
    `[storage]`,
    `engine = "${engine}"`,
    ...(servesHttp ? ["[http]", 'bind_address = "127.0.0.1"'] : []),
    "",
  ].join("\n");
}

/** Starts the built binary, or `settings.command`; it serves. */
export async function startMerklekv(nodeId = "bench", settings?: NodeSettings): Promise<Server> {
  const config = nodeConfig(nodeId, settings);
  const { command, isSealed = false } = settings ?? {};
  const env = isSealed
    ? { MERKLE_KV_CLUSTER_SECRET: "a secret for benchmarks only, of 40 bytes" }
    : {};
  const node = await startNodeProcess({ config, env, ...(command && { command }) });
  const stop = async () => void (await node.stop());
  const { port, pid } = node;
  const [, http = ""] = /HTTP on (\S+)/.exec(node.output()) ?? [];
  return { name: "merklekv", port, pid, http, [Symbol.asyncDispose]: stop };
}

/** The command that starts redis-server without persistence. */
export function redisCommand(port: number, maxClients = 1000): string[] {
  if (redisPath === null) throw new Error("redis-server is not installed");
  const settings = { port, bind: "127.0.0.1", save: "", appendonly: "no", maxclients: maxClients };
  return [
    redisPath,
    ...Object.entries(settings).flatMap(([key, value]) => [`--${key}`, `${value}`]),
  ];
}

/** Starts redis-server; it serves. */
export async function startRedis(maxClients?: number): Promise<Server> {
  const port = await freePort();
  return start("redis", redisCommand(port, maxClients), port);
}

/** Starts the server of valkey, which is told the same as redis. */
export async function startValkey(maxClients?: number): Promise<Server> {
  const port = await freePort();
  const [, ...settings] = redisCommand(port, maxClients);
  return start("valkey", [valkeyPath!, ...settings], port);
}

/** Starts mosquitto as it is without configuration; it listens. */
export async function startBroker(): Promise<Server> {
  if (mosquittoPath === null) throw new Error(MOSQUITTO_MISSING);
  const port = await freePort();
  return start("mosquitto", [mosquittoPath, "-p", `${port}`], port);
}

/** Starts a process that has nothing to read and whose output nobody wants. */
export function spawnQuietly(command: string[]): Bun.Subprocess {
  const child = Bun.spawn(command, {
    cwd: tmpdir(),
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  });
  running.add(child);
  void child.exited.then(() => running.delete(child));
  return child;
}

async function start(name: string, command: string[], port: number): Promise<Server> {
  const child = spawnQuietly(command);
  const stop = async () => {
    child.kill("SIGCONT"); // a stopped process would not hear the rest
    await endProcess(child);
  };
  await eventually(`${name} listens`, async () => {
    if (child.exitCode !== null) throw new Error(`it ended with exit code ${child.exitCode}`);
    const client = await LineClient.connect(port);
    await client.close();
    return true;
  });
  return { name, port, pid: child.pid, http: "", [Symbol.asyncDispose]: stop };
}

/** Resident memory in MB (10^6 bytes) once it has stayed the same for five seconds. */
export async function settledMemoryMb(pid: number): Promise<number> {
  let anchorKb = 0;
  let since = 0;
  await eventually(
    "memory settles",
    () => {
      const nowKb = statusKb(pid, "VmRSS");
      if (Math.abs(nowKb - anchorKb) > SETTLED_KB) {
        anchorKb = nowKb;
        since = performance.now();
      }
      return performance.now() - since > SETTLED_MS;
    },
    SETTLE_DEADLINE_MS,
  );
  return megabytes(statusKb(pid, "VmRSS"));
}

/**
 * Waits until a server is at rest. A node that was filled brings its tree up to date whenever it has
 * nothing else to do, which would count as processor time of the requests that come meanwhile.
 */
export async function untilAtRest({ name, pid }: Server): Promise<void> {
  let sinceMs = performance.now();
  let usedMs = processorMs(pid);
  await eventually(
    `${name} comes to rest`,
    () => {
      const passedMs = performance.now() - sinceMs;
      if (passedMs < REST_MS) return false;
      const share = (processorMs(pid) - usedMs) / passedMs;
      sinceMs += passedMs;
      usedMs += share * passedMs;
      return share < BUSY_SHARE;
    },
    SETTLE_DEADLINE_MS,
  );
}

/** The most resident memory the process ever took, in MB (10^6 bytes). */
export function peakMemoryMb(pid: number): number {
  return megabytes(statusKb(pid, "VmHWM"));
}

/** Processor time the process has taken so far, its threads and the kernel's part included, in ms. */
export function processorMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // What follows the name, which may hold anything: utime and stime are fields 14 and 15 of the whole.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_A_TICK;
}

/**
 * The same to the nanosecond, for what takes little. Linux tells it of threads: what one does that
 * ends between two looks is lost, which are the last few ms of one that compiled something.
 */
export class ProcessorTime {
  private readonly byThread = new Map<string, number>();
  private totalNs = 0;

  constructor(private readonly pid: number) {}

  /** Processor time of all threads, in ns, from some moment on. */
  readNs(): number {
    for (const thread of readdirSync(`/proc/${this.pid}/task`)) {
      const ns = threadNs(this.pid, thread);
      if (ns === null) continue;
      this.totalNs += ns - (this.byThread.get(thread) ?? 0);
      this.byThread.set(thread, ns);
    }
    return this.totalNs;
  }
}

/** Null when it has ended. */
function threadNs(pid: number, thread: string): number | null {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
  } catch {
    return null;
  }
}

function statusKb(pid: number, field: string): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)![1]);
}

function megabytes(kilobytes: number): number {
  return (kilobytes * 1024) / 1e6;
}
