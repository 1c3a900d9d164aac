/**
 * What the cluster secret costs: SET at pipeline 16 on a node that replicates through a mosquitto to
 * a peer, with a secret, as a share of its speed without one. Both pairs of nodes have a mosquitto of
 * their own and take turns. A second row looks at the node alone: nobody listens there, so that less
 * of the machine goes into what both do alike.
 */
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { benchmarkPath, fill, redisBenchmark } from "./load.ts";
import { inTurns, type Plan, skip } from "./plan.ts";
import { untilQuiet, untilTogether } from "./replicated.ts";
import type { Measurement } from "./report.ts";
import { startBroker, startMerklekv } from "./servers.ts";

const PIPELINE = 16;
const REQUESTS = 2_000_000;
const QUICK_REQUESTS = 300_000;
const KEPT_AT_LEAST = 0.95;

/** The part. */
export async function sealing(plan: Plan): Promise<Measurement[]> {
  if (mosquittoPath === null) return skip(plan, `sealing: ${MOSQUITTO_MISSING}`);
  if (benchmarkPath === null) return skip(plan, "sealing: redis-benchmark is not installed");
  return [...(await compare(plan, true)), ...(await compare(plan, false))];
}

async function compare(plan: Plan, hasPeer: boolean): Promise<Measurement[]> {
  await using stack = new AsyncDisposableStack();
  const subjects = [];
  for (const isSealed of [false, true]) {
    const { port: brokerPort } = stack.use(await startBroker());
    const ids = hasPeer ? ["a", "b"] : ["a"];
    const nodes = [];
    for (const id of ids) nodes.push(stack.use(await startMerklekv(id, { brokerPort, isSealed })));
    await untilTogether(nodes[0]!, nodes.length);
    await fill(nodes[0]!, "SET");
    await untilQuiet(...nodes);
    subjects.push(nodes);
  }
  const requests = plan.isQuick ? QUICK_REQUESTS : REQUESTS;
  const what = `SET, pipeline ${PIPELINE}, sealed, ${hasPeer ? "with a peer" : "alone"}`;
  const [plain, sealed] = await inTurns(plan, subjects, what, async (nodes) => {
    const { perSecond } = await redisBenchmark(nodes[0]!, "SET", PIPELINE, requests);
    await untilQuiet(...nodes);
    return perSecond;
  });
  return [
    {
      name: what,
      unit: "/s",
      ours: sealed!,
      otherName: "in clear",
      others: plain!,
      target: { of: "ratio", atLeast: KEPT_AT_LEAST },
    },
  ];
}
