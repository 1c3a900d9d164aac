/**
 * Resident memory of a server that has just started and has nothing to do, and what 10,000 connections
 * add to it which said PING once and are silent since. Fewer, scaled up, when the limit on open files does not allow as many; that is said then.
 */
import { readFileSync } from "node:fs";
import { request } from "./load.ts";
import { inTurns, type Plan } from "./plan.ts";
import type { Measurement } from "./report.ts";
import { redisPath, type Server, settledMemoryMb, startMerklekv, startRedis } from "./servers.ts";

const CONNECTIONS = 10_000;
const ADDED_AT_MOST_MB = 150;
const IDLE_AT_MOST_MB = 60;
/** Connections opened at the same time: well within a listener's backlog. */
const OPENED_AT_ONCE = 100;
/** What a process has open besides. */
const SPARE_FILES = 200;

/** The part. */
export async function idle(plan: Plan): Promise<Measurement[]> {
  const count = Math.min(CONNECTIONS, openFilesLimit() - SPARE_FILES);
  if (count < CONNECTIONS) {
    const limit = `only ${openFilesLimit()} open files are allowed (ulimit -n)`;
    plan.skipped(`idle connections: ${limit}, so ${count} were opened and the result scaled`);
  }
  const maxConnections = count + SPARE_FILES / 2;
  const starters = [
    () => startMerklekv("bench", { maxConnections }),
    () => startRedis(maxConnections),
  ];
  if (redisPath === null) starters.pop();
  const runs = await inTurns(plan, starters, "idle connections", (start) => added(start, count));
  const before = runs.map((samples) => samples.map((sample) => sample.beforeMb));
  const scaled = runs.map((samples) =>
    samples.map(({ addedMb }) => (addedMb / count) * CONNECTIONS),
  );
  return [
    {
      name: "memory of an idle server",
      unit: "MB",
      ours: before[0],
      ...(before[1] && { otherName: "redis", others: before[1] }),
      target: { of: "value", atMost: IDLE_AT_MOST_MB },
    },
    {
      name: "memory added by 10,000 idle connections",
      unit: "MB",
      ours: scaled[0],
      ...(scaled[1] && { otherName: "redis", others: scaled[1] }),
      target: { of: "value", atMost: ADDED_AT_MOST_MB },
    },
  ];
}

interface Sample {
  readonly beforeMb: number;
  readonly addedMb: number;
}

async function added(start: () => Promise<Server>, count: number): Promise<Sample> {
  await using server = await start();
  const beforeMb = await settledMemoryMb(server.pid);
  const open: Bun.Socket[] = [];
  try {
    while (open.length < count) {
      const some = Math.min(OPENED_AT_ONCE, count - open.length);
      open.push(...(await Promise.all(Array.from({ length: some }, () => connected(server)))));
    }
    return { beforeMb, addedMb: (await settledMemoryMb(server.pid)) - beforeMb };
  } finally {
    for (const socket of open) socket.terminate();
  }
}

/** A connection that has had its PONG. */
function connected(server: Server): Promise<Bun.Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Bun.Socket>();
  Bun.connect({
    hostname: "127.0.0.1",
    port: server.port,
    socket: {
      open: (socket) => void socket.write(request("PING")),
      data: (socket, chunk) =>
        chunk.toString() === "+PONG\r\n" ? resolve(socket) : reject(new Error(`got ${chunk}`)),
      close: () => reject(new Error(`${server.name} closed an idle connection`)),
    },
  }).catch(reject);
  return promise;
}

/** Of this process, and so of those it starts. */
function openFilesLimit(): number {
  const limits = readFileSync("/proc/self/limits", "utf8");
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? CONNECTIONS * 2);
}
