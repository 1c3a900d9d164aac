/**
 * `bun run bench:durability`: what it costs to keep everything on disk, beside redis in the same run.
 *
 *   bun run bench:durability [--rounds N] [--quick] [--json FILE]
 *
 * Both servers write to the same disk, in turn. 50 connections, pipeline 16, a million keys,
 * 22-byte values. Restart: from starting the process to its first answer to a read, after a
 * kill -9, with the log as the load had left it; redis with its append-only file likewise.
 * Read the table as that of `bun run bench`.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/mosquitto.ts";
import { runBinary } from "../support/process.ts";
import { ask, fill, redisBenchmark } from "./load.ts";
import { type Measurement, resultOf, tableOf } from "./report.ts";
import { peakMemoryMb, redisPath, settledMemoryMb, spawnQuietly, type Server } from "./servers.ts";

type Mode = "always" | "everysec";

/** A server on a directory of its own that can be killed and started again. */
interface DurableServer extends Server {
  /** SIGKILL. Resolves when it is gone. */
  kill(): Promise<void>;
}

const PIPELINE = 16;
const START_DEADLINE_MS = 60_000;

const merklekvOn: Start = (directory, mode) => startMerklekv(directory, mode, "");

/** With everything on disk sealed. */
const sealedOn: Start = (directory, mode) => {
  const keyFile = join(directory, "storage.key");
  writeFileSync(keyFile, "k".repeat(43), { mode: 0o600 });
  return startMerklekv(directory, mode, `key_file = ${JSON.stringify(keyFile)}\n`);
};

async function startMerklekv(
  directory: string,
  mode: Mode,
  storage: string,
): Promise<DurableServer> {
  const port = await freePort();
  const file = join(directory, "node.toml");
  writeFileSync(
    file,
    `node_id = "bench"\n[network]\nbind_port = ${port}\n[mqtt]\nenabled = false\n` +
      `[anti_entropy]\nenabled = false\n[storage]\nengine = "log"\n` +
      `path = ${JSON.stringify(join(directory, "data"))}\nfsync = "${mode}"\n${storage}`,
  );
  const child = await runBinary(["serve", "--config", file, "--exit-with-stdin"], {
    cwd: directory,
  });
  await answers(port);
  const stop = async () => void (await child.stop());
  const kill = () => child.kill();
  return { name: "merklekv", port, pid: child.pid, http: "", kill, [Symbol.asyncDispose]: stop };
}

async function redisOn(directory: string, mode: Mode): Promise<DurableServer> {
  const port = await freePort();
  const settings = { port, bind: "127.0.0.1", dir: directory, save: "", appendonly: "yes" };
  const words = Object.entries({ ...settings, appendfsync: mode });
  const child = spawnQuietly([
    redisPath!,
    ...words.flatMap(([key, value]) => [`--${key}`, `${value}`]),
  ]);
  await answers(port);
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    await child.exited;
  };
  return {
    name: "redis",
    port,
    pid: child.pid,
    http: "",
    kill: () => end("SIGKILL"),
    [Symbol.asyncDispose]: () => end("SIGTERM"),
  };
}

/** Waits for an answer to a read; redis answers -LOADING until it has loaded. */
function answers(port: number): Promise<unknown> {
  const server = { port } as Server;
  return eventually(
    "a read is answered",
    async () => /^[$:]/.test(await ask(server, "GET", "nothing")),
    START_DEADLINE_MS,
  );
}

type Start = (directory: string, mode: Mode) => Promise<DurableServer>;

interface Samples {
  readonly perSecond: Record<Mode, number[]>;
  readonly restartMs: number[];
}

async function measure(start: Start, samples: Samples, requests: number): Promise<void> {
  for (const mode of ["everysec", "always"] as const) {
    const directory = mkdtempSync(join(tmpdir(), "merklekv-bench-"));
    try {
      const server = await start(directory, mode);
      await fill(server, "SET");
      samples.perSecond[mode].push(
        (await redisBenchmark(server, "SET", PIPELINE, requests)).perSecond,
      );
      await server.kill();
      if (mode === "always") continue;
      const startMs = performance.now();
      await using again = await start(directory, mode);
      samples.restartMs.push(performance.now() - startMs);
      const keys = Number((await ask(again, "DBSIZE")).slice(1));
      if (keys < 1_000_000) throw new Error(`${again.name} lost keys: ${keys} are left`);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }
}

interface SnapshotSamples {
  readonly quietP999Ms: number[];
  readonly busyP999Ms: number[];
  readonly settledMb: number[];
  readonly peakMb: number[];
}

/** The same load with and without snapshots written beside it, one after the other. */
async function measureSnapshot(samples: SnapshotSamples, requests: number): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-bench-"));
  try {
    await using server = await merklekvOn(directory, "everysec");
    await fill(server, "SET");
    await ask(server, "SNAPSHOT");
    samples.quietP999Ms.push((await redisBenchmark(server, "GET", PIPELINE, requests)).p999Ms);
    samples.settledMb.push(await settledMemoryMb(server.pid));
    let isOver = false;
    const snapshots = (async () => {
      while (!isOver) await ask(server, "SNAPSHOT");
    })();
    samples.busyP999Ms.push((await redisBenchmark(server, "GET", PIPELINE, requests)).p999Ms);
    isOver = true;
    await snapshots;
    samples.peakMb.push(peakMemoryMb(server.pid));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string" },
    quick: { type: "boolean", default: false },
    json: { type: "string" },
  },
});
const rounds = Number(values.rounds ?? (values.quick ? 1 : 5));
const requests = values.quick ? 200_000 : 1_000_000;
const none = (): Samples => ({ perSecond: { always: [], everysec: [] }, restartMs: [] });
const ours = none();
const theirs = none();
const sealed = none();
const snapshot: SnapshotSamples = { quietP999Ms: [], busyP999Ms: [], settledMb: [], peakMb: [] };
for (let round = 0; round < rounds; round++) {
  // In turn, and the other way round every second time.
  const order: [Start, Samples][] = [
    [merklekvOn, ours],
    [sealedOn, sealed],
    [redisOn, theirs],
  ];
  if (round % 2 === 1) order.reverse();
  for (const [start, samples] of order) {
    if (start === redisOn && redisPath === null) continue;
    await measure(start, samples, requests);
  }
  await measureSnapshot(snapshot, requests);
}
const measurements: Measurement[] = [
  {
    name: "SET, everysec",
    unit: "/s",
    ours: ours.perSecond.everysec,
    otherName: "redis",
    others: theirs.perSecond.everysec,
    target: { of: "ratio", atLeast: 1.2 },
  },
  {
    name: "SET, always",
    unit: "/s",
    ours: ours.perSecond.always,
    otherName: "redis",
    others: theirs.perSecond.always,
    target: { of: "ratio", atLeast: 2 },
  },
  {
    name: "SET, everysec, sealed",
    unit: "/s",
    ours: sealed.perSecond.everysec,
    otherName: "unsealed",
    others: ours.perSecond.everysec,
    target: { of: "ratio", atLeast: 0.85 },
  },
  {
    name: "SET, always, sealed",
    unit: "/s",
    ours: sealed.perSecond.always,
    otherName: "unsealed",
    others: ours.perSecond.always,
  },
  {
    name: "restart, sealed",
    unit: "ms",
    ours: sealed.restartMs,
    otherName: "unsealed",
    others: ours.restartMs,
    target: { of: "ratio", atMost: 1.25 },
  },
  {
    name: "restart with a million keys",
    unit: "ms",
    ours: ours.restartMs,
    otherName: "redis",
    others: theirs.restartMs,
    target: { of: "ratio", atMost: 1 },
  },
  {
    name: "p99.9 during snapshots",
    unit: "ms",
    ours: snapshot.busyP999Ms,
    otherName: "without",
    others: snapshot.quietP999Ms,
    target: { of: "ratio", atMost: 2 },
  },
  {
    name: "peak memory during snapshots",
    unit: "MB",
    ours: snapshot.peakMb,
    otherName: "before",
    others: snapshot.settledMb,
    target: { of: "ratio", atMost: 1.15 },
  },
];
const results = measurements.map(resultOf);
console.log(tableOf(results));
if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(results, null, 2));
