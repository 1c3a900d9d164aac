/**
 * What a cluster of three carries through mosquitto: replicated writes a second with equal data at
 * the end, how late they are at half of that, and how long it takes to make up for 100,000 writes.
 *
 * Writes go to all three nodes alike, each to a key of its own. A rate is sustained when all are
 * answered in time, no event is dropped, and a second after the last write all three hold the same.
 * Nodes, broker and load share this machine: on two cores the figure is the machine's, and each of
 * them has a third of it elsewhere.
 */
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { delays } from "./delay.ts";
import { ask, request, sendAll } from "./load.ts";
import { PacedLoad } from "./paced-load.ts";
import { type Plan, skip } from "./plan.ts";
import { facts, untilQuiet, untilTogether } from "./replicated.ts";
import { type Measurement, percentile } from "./report.ts";
import { type Server, startBroker, startMerklekv } from "./servers.ts";

const VALUE_BYTES = [22, 1_000];
/** Rates are tried from the lowest on, each so many times the one before. */
const LOWEST_RATE = 3_000;
const RATE_STEP = 1.25;
const HIGHEST_RATE = 300_000;
const RUN_MS = 5_000;
const QUICK_RUN_MS = 1_000;
/** All nodes hold the same so long after the last write, or the rate was too high. */
const EQUAL_AFTER_MS = 1_000;
const PROBES = 2_000;
const MISSED_WRITES = 100_000;
const BATCH = 1_000;

/** The part. */
export async function cluster(plan: Plan): Promise<Measurement[]> {
  if (mosquittoPath === null) return skip(plan, `cluster: ${MOSQUITTO_MISSING}`);
  const measurements: Measurement[] = [];
  for (const bytes of VALUE_BYTES) measurements.push(...(await ofValues(plan, bytes)));
  return [...measurements, ...(await afterAbsence(plan))];
}

async function ofValues(plan: Plan, valueBytes: number): Promise<Measurement[]> {
  const of = `cluster of three, values of ${valueBytes} B`;
  const sustained: number[] = [];
  const late: number[][] = [];
  for (let round = 0; round < plan.rounds; round++) {
    await using broker = await startBroker();
    await using a = await startMerklekv("a", { brokerPort: broker.port });
    await using b = await startMerklekv("b", { brokerPort: broker.port });
    await using c = await startMerklekv("c", { brokerPort: broker.port });
    const nodes = [a, b, c];
    await untilTogether(a, nodes.length);
    const writer = new Writer(nodes, valueBytes);
    let rate = 0;
    for (let next = LOWEST_RATE; next < HIGHEST_RATE; next *= RATE_STEP) {
      plan.note(`${of}: ${Math.round(next)} writes/s`);
      if (!(await writer.sustains(next, plan.isQuick ? QUICK_RUN_MS : RUN_MS))) break;
      rate = next;
    }
    sustained.push(rate);
    await untilEqual(nodes);
    plan.note(`${of}: lag at half of that`);
    late.push(await writer.lagAt(rate / 2));
  }
  const at = (share: number): number[] => late.map((lag) => percentile(lag, share));
  return [
    { name: `${of}: replicated writes`, unit: "/s", ours: sustained },
    { name: `${of}: lag at half of that, p50`, unit: "ms", ours: at(0.5) },
    { name: `${of}: lag at half of that, p99`, unit: "ms", ours: at(0.99) },
  ];
}

/** Writes keys that nobody wrote before to all nodes alike. */
class Writer {
  private written = 0;
  private readonly value: string;

  constructor(
    private readonly nodes: readonly Server[],
    valueBytes: number,
  ) {
    this.value = "x".repeat(valueBytes);
  }

  /** Whether the nodes keep up with so many writes a second. */
  async sustains(perSecond: number, ms: number): Promise<boolean> {
    const droppedBefore = await dropped(this.nodes);
    const loads = await this.start(perSecond);
    await Bun.sleep(ms);
    try {
      await Promise.all(loads.map((load) => load.stop()));
    } catch {
      return false;
    }
    const endedMs = performance.now();
    await untilEqual(this.nodes);
    const isInTime = performance.now() - endedMs < EQUAL_AFTER_MS;
    return isInTime && (await dropped(this.nodes)) === droppedBefore;
  }

  /** How late a write to the first node is on the second at that rate, in ms, for each of PROBES. */
  async lagAt(perSecond: number): Promise<number[]> {
    const loads = await this.start(perSecond);
    const lag = await delays(this.nodes[0], this.nodes[1], "probe", PROBES);
    await Promise.all(loads.map((load) => load.stop()));
    return lag;
  }

  private start(perSecond: number): Promise<PacedLoad[]> {
    const next = (): string => request("SET", `key:${this.written++}`, this.value);
    const pace = { perSecond: perSecond / this.nodes.length, connections: 4, next };
    return Promise.all(this.nodes.map((node) => PacedLoad.start(node, pace)));
  }
}

/** The time until all is back that was written while the broker, or while one node, was away. */
async function afterAbsence(plan: Plan): Promise<Measurement[]> {
  const byOutbox: number[] = [];
  const bySync: number[] = [];
  for (let round = 0; round < plan.rounds; round++) {
    await using broker = await startBroker();
    const settings = { brokerPort: broker.port, syncEverySeconds: 300 };
    await using a = await startMerklekv("a", settings);
    await using b = await startMerklekv("b", settings);
    await untilTogether(a, 2);
    plan.note(`cluster: ${MISSED_WRITES} writes while the broker is away`);
    process.kill(broker.pid, "SIGSTOP");
    await write(a, "outbox", MISSED_WRITES);
    process.kill(broker.pid, "SIGCONT");
    byOutbox.push(await msUntilEqual(a, b));
    plan.note(`cluster: ${MISSED_WRITES} writes while a node is away`);
    await ask(b, "REPLICATE", "disable");
    await write(a, "sync", MISSED_WRITES);
    await untilQuiet(a);
    await ask(b, "REPLICATE", "enable");
    bySync.push(await msUntilEqual(a, b));
  }
  const name = `cluster: ${MISSED_WRITES.toLocaleString("en-US")} writes are back`;
  return [
    { name: `${name}, by the outbox`, unit: "ms", ours: byOutbox },
    { name: `${name}, by a sync`, unit: "ms", ours: bySync },
  ];
}

async function write(node: Server, prefix: string, count: number): Promise<void> {
  for (let first = 0; first < count; first += BATCH) {
    const numbers = Array.from({ length: BATCH }, (_, i) => first + i);
    await sendAll(
      node,
      numbers.map((n) => request("SET", `${prefix}:${n}`, "x".repeat(22))),
    );
  }
}

async function msUntilEqual(...nodes: Server[]): Promise<number> {
  const startedMs = performance.now();
  await untilEqual(nodes);
  return performance.now() - startedMs;
}

async function untilEqual(nodes: readonly Server[]): Promise<void> {
  const areEqual = async (): Promise<boolean> => {
    const sizes = await Promise.all(nodes.map((node) => ask(node, "DBSIZE")));
    if (new Set(sizes).size > 1) return false;
    const hashes = await Promise.all(nodes.map(hash));
    return new Set(hashes).size === 1;
  };
  await eventually("all nodes hold the same", areEqual, 120_000);
}

/** The fingerprint of all it holds. */
async function hash(node: Server): Promise<string> {
  const client = await LineClient.connect(node.port);
  try {
    return await client.send("HASH");
  } finally {
    await client.close();
  }
}

async function dropped(nodes: readonly Server[]): Promise<number> {
  const all = await Promise.all(nodes.map(facts));
  return all.reduce((sum, it) => sum + Number(it.get("replication_outbox_dropped_events")), 0);
}
