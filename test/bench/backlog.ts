/**
 * Memory while the broker cannot keep up: mosquitto is frozen (SIGSTOP), so that connections stay
 * but nothing is taken, and the node is overwritten at full speed. What must be remembered is
 * bounded by the number of keys; past that point memory must not follow the number of writes.
 */
import { writeFileSync } from "node:fs";
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { benchmarkPath, fill, redisBenchmark } from "./load.ts";
import { type Plan, skip } from "./plan.ts";
import { untilQuiet } from "./replicated.ts";
import type { Measurement } from "./report.ts";
import { peakMemoryMb, settledMemoryMb, startBroker, startMerklekv } from "./servers.ts";

const FIRST_WRITES = 3_000_000;
const MORE_WRITES = 9_000_000;
const QUICK_DIVISOR = 3;
const PIPELINE = 100;
/** "Flat", in MB: what the collector may leave lying about. */
const GROWTH_AT_MOST_MB = 16;

/** The part. */
export async function backlog(plan: Plan): Promise<Measurement[]> {
  if (mosquittoPath === null) return skip(plan, `backlog: ${MOSQUITTO_MISSING}`);
  if (benchmarkPath === null) return skip(plan, "backlog: redis-benchmark is not installed");
  await using broker = await startBroker();
  await using node = await startMerklekv("bench", { brokerPort: broker.port });
  const write = (count: number) =>
    redisBenchmark(node, "SET", PIPELINE, plan.isQuick ? count / QUICK_DIVISOR : count);

  plan.note("backlog: filling and warming up");
  await fill(node, "SET");
  await write(FIRST_WRITES);
  await untilQuiet(node);
  const before = await settledMemoryMb(node.pid);
  writeFileSync(`/proc/${node.pid}/clear_refs`, "5"); // the peak starts afresh

  plan.note("backlog: writing to a frozen broker");
  process.kill(broker.pid, "SIGSTOP");
  await write(FIRST_WRITES);
  const first = peakMemoryMb(node.pid);
  await write(MORE_WRITES);
  const last = peakMemoryMb(node.pid);
  process.kill(broker.pid, "SIGCONT");
  plan.note("backlog: publishing what waited");
  await untilQuiet(node);

  const millions = (count: number) => (plan.isQuick ? count / QUICK_DIVISOR : count) / 1e6;
  const target = { of: "value", atMost: GROWTH_AT_MOST_MB } as const;
  const [few, many] = [millions(FIRST_WRITES), millions(MORE_WRITES)];
  return [
    { name: `frozen broker: peak added by ${few} M writes`, unit: "MB", ours: [first - before] },
    { name: `frozen broker: and by ${many} M more`, unit: "MB", ours: [last - first], target },
  ];
}
