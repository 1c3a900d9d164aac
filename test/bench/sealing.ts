/**
 * What the cluster secret costs: SET at pipeline 16 on a node that replicates through a mosquitto to
 * a peer, with a secret, as a share of its speed without one. Both pairs of nodes have a mosquitto of
 * their own and take turns.
 *
 * A second row counts requests for each second of the processor that the node itself took until all
 * was published: on a machine that does other things meanwhile it says more.
 */
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { benchmarkPath, fill, redisBenchmark } from "./load.ts";
import { inTurns, type Plan, skip } from "./plan.ts";
import { untilQuiet, untilTogether } from "./replicated.ts";
import type { Measurement } from "./report.ts";
import { processorMs, startBroker, startMerklekv, untilAtRest } from "./servers.ts";

const PIPELINE = 16;
const REQUESTS = 2_000_000;
const QUICK_REQUESTS = 300_000;
const KEPT_AT_LEAST = 0.95;

/** The part. */
export async function sealing(plan: Plan): Promise<Measurement[]> {
  if (mosquittoPath === null) return skip(plan, `sealing: ${MOSQUITTO_MISSING}`);
  if (benchmarkPath === null) return skip(plan, "sealing: redis-benchmark is not installed");
  await using stack = new AsyncDisposableStack();
  const subjects = [];
  for (const isSealed of [false, true]) {
    const { port: brokerPort } = stack.use(await startBroker());
    const nodes = [];
    for (const id of ["a", "b"])
      nodes.push(stack.use(await startMerklekv(id, { brokerPort, isSealed })));
    await untilTogether(nodes[0], nodes.length);
    await fill(nodes[0], "SET");
    await untilQuiet(...nodes);
    subjects.push(nodes);
  }
  const requests = plan.isQuick ? QUICK_REQUESTS : REQUESTS;
  const what = `SET, pipeline ${PIPELINE}, replicated, sealed`;
  const [plain, sealed] = await inTurns(plan, subjects, what, async (nodes) => {
    const node = nodes[0];
    await untilAtRest(node);
    const beforeMs = processorMs(node.pid);
    const { perSecond } = await redisBenchmark(node, "SET", PIPELINE, requests);
    await untilQuiet(...nodes);
    const secondsTaken = (processorMs(node.pid) - beforeMs) / 1_000;
    return { perSecond, perProcessorSecond: requests / secondsTaken };
  });
  const row = (name: string, of: "perSecond" | "perProcessorSecond"): Measurement => ({
    name,
    unit: "/s",
    ours: sealed.map((it) => it[of]),
    otherName: "in clear",
    others: plain.map((it) => it[of]),
    target: { of: "ratio", atLeast: KEPT_AT_LEAST },
  });
  return [row(what, "perSecond"), row(`${what}, by processor time`, "perProcessorSecond")];
}
