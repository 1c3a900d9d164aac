/**
 * What replication costs: SET at pipeline 16 with it on, as a share of its speed with it off.
 *
 * Three nodes take turns: one that replicates to nobody; one with a mosquitto of its own; and one
 * with a mosquitto of its own to which a peer listens too, which applies everything. The last is
 * what a user has, but elsewhere the peer has a machine to itself. With two cores here, load, node,
 * broker and peer share them, so that row tells more about the machine than about the node.
 * A run begins when the one before has been published in full.
 */
import { mosquittoPath, MOSQUITTO_MISSING } from "../support/mosquitto.ts";
import { benchmarkPath, fill, redisBenchmark } from "./load.ts";
import { inTurns, type Plan, skip } from "./plan.ts";
import { untilQuiet, untilTogether } from "./replicated.ts";
import type { Measurement } from "./report.ts";
import { type Server, startBroker, startMerklekv } from "./servers.ts";

const PIPELINE = 16;
const REQUESTS = 3_000_000;
const QUICK_REQUESTS = 300_000;
const KEPT_AT_LEAST = 0.6;

/** The part. */
export async function replication(plan: Plan): Promise<Measurement[]> {
  if (mosquittoPath === null) return skip(plan, `replication: ${MOSQUITTO_MISSING}`);
  if (benchmarkPath === null) return skip(plan, "replication: redis-benchmark is not installed");
  await using broker = await startBroker();
  await using sharedBroker = await startBroker();
  await using off = await startMerklekv("off");
  await using on = await startMerklekv("on", { brokerPort: broker.port });
  await using shared = await startMerklekv("shared", { brokerPort: sharedBroker.port });
  await using peer = await startMerklekv("peer", { brokerPort: sharedBroker.port });
  await untilTogether(shared, 2);

  const requests = plan.isQuick ? QUICK_REQUESTS : REQUESTS;
  const subjects: { node: Server; replicating: Server[] }[] = [
    { node: off, replicating: [] },
    { node: on, replicating: [on] },
    { node: shared, replicating: [shared, peer] },
  ];
  for (const { node, replicating } of subjects) {
    await fill(node, "SET");
    await untilQuiet(...replicating);
  }
  const what = `SET, pipeline ${PIPELINE}, replicated`;
  const [without, alone, together] = await inTurns(plan, subjects, what, async (subject) => {
    const { perSecond } = await redisBenchmark(subject.node, "SET", PIPELINE, requests);
    await untilQuiet(...subject.replicating);
    return perSecond;
  });
  const common = {
    unit: "/s",
    otherName: "off",
    others: without,
    target: { of: "ratio", atLeast: KEPT_AT_LEAST },
  } as const;
  return [
    { name: what, ours: alone, ...common },
    { name: `${what}, peer on this machine`, ours: together, ...common },
  ];
}
