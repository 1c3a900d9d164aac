/**
 * Resident memory that a million distinct keys (16 bytes, values of 22) add to a server that has
 * just started: fresh processes every round, read once memory has settled before and after.
 */
import { fill } from "./load.ts";
import { inTurns, type Plan } from "./plan.ts";
import type { Measurement } from "./report.ts";
import { redisPath, type Server, settledMemoryMb, startMerklekv, startRedis } from "./servers.ts";

const ADDED_AT_MOST = 1.2;

/** The part. */
export async function memory(plan: Plan): Promise<Measurement[]> {
  const starters: (() => Promise<Server>)[] = [startMerklekv, () => startRedis()];
  if (redisPath === null) starters.pop();
  const runs = await inTurns(plan, starters, "memory of a million keys", added);
  return [
    {
      name: "memory added by 1,000,000 keys",
      unit: "MB",
      ours: runs[0],
      ...(runs[1] && { otherName: "redis", others: runs[1] }),
      target: { of: "ratio", atMost: ADDED_AT_MOST },
    },
  ];
}

async function added(start: () => Promise<Server>): Promise<number> {
  await using server = await start();
  const before = await settledMemoryMb(server.pid);
  await fill(server, "SET");
  return (await settledMemoryMb(server.pid)) - before;
}
