/**
 * What the Merkle tree costs: SET at pipeline 16 on a million random keys, a node with the tree
 * beside one without, in turns. Requests per second say what clients lose. Processor time for each
 * request says also what was done on a core that had nothing else to do.
 *
 * Both run from the sources, for only there the tree can be taken out; without a disk, beside which
 * the tree would look cheaper. Each run has a process of its own, alone: two processes of the very
 * same program differ by more than the tree costs, for as long as they live.
 */
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { benchmarkPath, fill, redisBenchmark } from "./load.ts";
import { inTurns } from "./plan.ts";
import { median } from "./report.ts";
import { processorMs, type Server, startMerklekv } from "./servers.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

const PIPELINE = 16;
const REQUESTS = 2_000_000;
const ROUNDS = 7;
const COST_PERCENT = 10;
/** A node is idle when it takes no more than this much processor time in that time. */
const IDLE_MS = { processor: 30, of: 1_000 };

/** A run of the load. */
interface Run {
  readonly perSecond: number;
  readonly microsecondsARequest: number;
  /** The same with what the node caught up on afterwards. */
  readonly totalARequest: number;
}

/** The part. */
export async function tree(plan: SyncPlan): Promise<Row[]> {
  if (benchmarkPath === null) {
    plan.skipped("tree: redis-benchmark is not installed");
    return [];
  }
  const rounds = plan.isQuick ? 1 : ROUNDS;
  const requests = plan.isQuick ? REQUESTS / 4 : REQUESTS;
  const programs = ["../../src/main.ts", "treeless-node.ts"];
  const runs = await inTurns({ ...plan, rounds }, programs, "tree: SET, pipeline 16", (program) =>
    runOnce(program, requests),
  );
  const medians = (of: (run: Run) => number) => runs.map((each) => median(each.map(of)));
  const [rate, rateWithout] = medians((run) => run.perSecond);
  const [time, timeWithout] = medians((run) => run.microsecondsARequest);
  const [total, totalWithout] = medians((run) => run.totalARequest);
  return [
    { what: "SET at pipeline 16, with the tree", value: Math.round(rate), unit: "/s" },
    { what: "… without it", value: Math.round(rateWithout), unit: "/s" },
    {
      what: "… so the tree costs",
      value: 100 * (1 - rate / rateWithout),
      unit: "%",
      atMost: COST_PERCENT,
    },
    { what: "… processor time a request, with the tree", value: time, unit: "µs" },
    { what: "… without it", value: timeWithout, unit: "µs" },
    { what: "… with the tree and what it does afterwards", value: total, unit: "µs" },
    { what: "… without it", value: totalWithout, unit: "µs" },
  ];
}

/** Starts a node, fills it and measures it. */
async function runOnce(program: string, requests: number): Promise<Run> {
  const command = [process.execPath, join(import.meta.dir, program)];
  await using node = await startMerklekv("bench", { engine: "memory", command });
  await fill(node, "SET");
  // The first requests are slower: the code is still being compiled.
  await redisBenchmark(node, "SET", PIPELINE, REQUESTS / 4);
  await untilIdle(node.pid);
  return await measure(node, requests);
}

async function measure(node: Server, requests: number): Promise<Run> {
  const before = processorMs(node.pid);
  const { perSecond } = await redisBenchmark(node, "SET", PIPELINE, requests);
  const aRequest = () => (1000 * (processorMs(node.pid) - before)) / requests;
  const microsecondsARequest = aRequest();
  await untilIdle(node.pid);
  return { perSecond, microsecondsARequest, totalARequest: aRequest() };
}

/** Waits until a tree that fell behind has caught up. */
async function untilIdle(pid: number): Promise<void> {
  const isIdle = async () => {
    const before = processorMs(pid);
    await Bun.sleep(IDLE_MS.of);
    return processorMs(pid) - before <= IDLE_MS.processor;
  };
  await eventually("the node is idle", isIdle, 60_000);
}
