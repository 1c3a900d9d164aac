/**
 * Replication delay: from sending a write to one node until a read on another shows it, of writes
 * that come alone, and at 1,000 writes a second of distinct keys, through mosquitto with the
 * configuration's defaults.
 *
 * One process writes and reads, so that there is one clock. The reader asks the peer about all keys
 * not seen yet (EXISTS, in one pipelined chunk), and again a millisecond after the answer: often
 * enough to be exact to about 1 ms, seldom enough to leave the peer alone. The error is on the safe
 * side: a write counts as seen when the answer is here.
 */
import { LineClient } from "../support/line-client.ts";
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { request } from "./load.ts";
import { inTurns, type Plan, skip } from "./plan.ts";
import { untilQuiet, untilTogether } from "./replicated.ts";
import { type Measurement, percentile } from "./report.ts";
import { type Server, startBroker, startMerklekv } from "./servers.ts";

const WRITES_PER_MS = 1;
const WRITES = 10_000;
const QUICK_WRITES = 3_000;
const P99_AT_MOST_MS = 20;
/** How long after the last write the last read may come. */
const DEADLINE_MS = 10_000;
/** Keys asked about at once, oldest first. */
const ASKED_AT_ONCE = 500;
/** Writes of which each has the cluster to itself, and how long the cluster rests before one. */
const LONE_WRITES = 300;
const QUICK_LONE_WRITES = 50;
const REST_MS = 20;
const LONE_P50_AT_MOST_MS = 1.5;

/** The part. */
export async function delay(plan: Plan): Promise<Measurement[]> {
  if (mosquittoPath === null) return skip(plan, `delay: ${MOSQUITTO_MISSING}`);
  await using broker = await startBroker();
  await using left = await startMerklekv("left", { brokerPort: broker.port });
  await using right = await startMerklekv("right", { brokerPort: broker.port });
  await untilTogether(left, 2);
  const writes = plan.isQuick ? QUICK_WRITES : WRITES;
  await delays(left, right, "warm", QUICK_WRITES);
  let round = 0;
  const [runs] = await inTurns(plan, [left], "replication delay", async () => {
    await untilQuiet(left, right);
    return delays(left, right, `round-${round++}`, writes);
  });
  const loneWrites = plan.isQuick ? QUICK_LONE_WRITES : LONE_WRITES;
  const [lone] = await inTurns(plan, [left], "delay of a lone write", async () => {
    await untilQuiet(left, right);
    return loneDelays(left, right, `lone-${round++}`, loneWrites);
  });
  const loneName = "replication delay of a lone write";
  const loneAt = (share: number) => lone.map((run) => percentile(run, share));
  const loneTarget = { of: "value", atMost: LONE_P50_AT_MOST_MS } as const;
  const name = "replication delay at 1,000 writes/s";
  const target = { of: "value", atMost: P99_AT_MOST_MS } as const;
  const at = (share: number) => runs.map((run) => percentile(run, share));
  return [
    { name: `${loneName}, p50`, unit: "ms", ours: loneAt(0.5), target: loneTarget },
    { name: `${loneName}, p99`, unit: "ms", ours: loneAt(0.99) },
    { name: `${name}, p50`, unit: "ms", ours: at(0.5) },
    { name: `${name}, p99`, unit: "ms", ours: at(0.99), target },
    { name: `${name}, longest`, unit: "ms", ours: at(1) },
  ];
}

/** Writes one key after the other to one node and awaits each on another; the delays in ms. */
async function loneDelays(
  writtenTo: Server,
  readFrom: Server,
  prefix: string,
  writes: number,
): Promise<number[]> {
  const writer = await LineClient.connect(writtenTo.port);
  const reader = await LineClient.connect(readFrom.port);
  const seen: number[] = [];
  for (let i = 0; i < writes; i++) {
    await Bun.sleep(REST_MS);
    const key = `${prefix}:${i}`;
    const sentAt = performance.now();
    writer.sendRaw(request("SET", key, "x".repeat(22)));
    for (;;) {
      reader.sendRaw(request("EXISTS", key));
      const [answer] = await reader.readLines(1);
      const elapsedMs = performance.now() - sentAt;
      if (answer === ":1") {
        seen.push(elapsedMs);
        break;
      }
      if (elapsedMs > DEADLINE_MS) throw new Error("a lone write never arrived");
    }
    await writer.readLines(1);
  }
  await Promise.all([writer.close(), reader.close()]);
  return seen;
}

/** Writes this many keys at the pace to one node and awaits each on another; the delays in ms. */
export async function delays(
  writtenTo: Server,
  readFrom: Server,
  prefix: string,
  writes: number,
): Promise<number[]> {
  const writer = await LineClient.connect(writtenTo.port);
  const reader = await LineClient.connect(readFrom.port);
  const sentAt = new Map<string, number>(); // in order of sending; a key leaves when it is seen
  const seen: number[] = [];
  const started = performance.now();
  let sent = 0;
  const pace = setInterval(() => {
    const due = Math.min(writes, Math.floor((performance.now() - started) * WRITES_PER_MS));
    for (; sent < due; sent++) {
      const key = `${prefix}:${sent}`;
      sentAt.set(key, performance.now());
      writer.sendRaw(request("SET", key, "x".repeat(22)));
    }
  }, 1);
  try {
    while (seen.length < writes) {
      if (performance.now() - started > writes / WRITES_PER_MS + DEADLINE_MS) {
        throw new Error(`${writes - seen.length} of ${writes} writes never arrived`);
      }
      const asked = [...sentAt.keys().take(ASKED_AT_ONCE)];
      reader.sendRaw(asked.map((key) => request("EXISTS", key)).join(""));
      const answers = await reader.readLines(asked.length);
      const now = performance.now();
      for (const [i, key] of asked.entries()) {
        if (answers[i] !== ":1") continue;
        seen.push(now - sentAt.get(key)!);
        sentAt.delete(key);
      }
      await Bun.sleep(1);
    }
  } finally {
    clearInterval(pace);
  }
  await writer.readLines(writes);
  await Promise.all([writer.close(), reader.close()]);
  return seen;
}
