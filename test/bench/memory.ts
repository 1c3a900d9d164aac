/**
 * Resident memory that keys add to a server that has just started, beside redis: fresh processes
 * every round, read once memory has settled before and after. Strings, counters and deletions; and
 * larger keys and values, of which there are fewer, so that all of them are about as much.
 */
import { fill, fillWith, KEYS, keyName, request, sendEach } from "./load.ts";
import { inTurns, type Plan } from "./plan.ts";
import type { Measurement, Target } from "./report.ts";
import { redisPath, type Server, settledMemoryMb, startMerklekv, startRedis } from "./servers.ts";

interface Load {
  readonly name: string;
  readonly target?: Target;
  send(server: Server): Promise<void>;
}

const THOUSAND = 1_000;
const LOADS: readonly Load[] = [
  {
    name: "1,000,000 keys",
    target: { of: "ratio", atMost: 1.0 },
    send: (server) => fill(server, "SET"),
  },
  {
    name: "1,000,000 counters",
    target: { of: "ratio", atMost: 1.1 },
    send: (server) => fill(server, "INCR"),
  },
  { name: "1,000,000 keys, deleted", send: fillAndDelete },
  strings("1,000,000 values of 100 bytes", 1_000 * THOUSAND, 16, 100),
  strings("200,000 values of 1 KB", 200 * THOUSAND, 16, 1_024),
  strings("20,000 values of 10 KB", 20 * THOUSAND, 16, 10_240),
  strings("500,000 keys of 100 bytes", 500 * THOUSAND, 100, 22),
];

/** The part. */
export async function memory(plan: Plan): Promise<Measurement[]> {
  const starters: (() => Promise<Server>)[] = [startMerklekv, () => startRedis()];
  if (redisPath === null) starters.pop();
  const measurements: Measurement[] = [];
  for (const { name, target, send } of LOADS) {
    const runs = await inTurns(plan, starters, `memory of ${name}`, (start) => added(start, send));
    measurements.push({
      name: `memory added by ${name}`,
      unit: "MB",
      ours: runs[0],
      ...(runs[1] && { otherName: "redis", others: runs[1] }),
      ...(target && { target }),
    });
  }
  return measurements;
}

function strings(name: string, keys: number, keyBytes: number, valueBytes: number): Load {
  const value = "x".repeat(valueBytes);
  const keyOf = (number: number): string => keyName(number).padEnd(keyBytes, "k");
  const send = (server: Server) =>
    fillWith(server, keys, (number) => request("SET", keyOf(number), value));
  return { name, target: { of: "ratio", atMost: 1.0 }, send };
}

/** A deletion is kept for a while, in redis it is not: this has nothing to be compared with. */
async function fillAndDelete(server: Server): Promise<void> {
  await fill(server, "SET");
  const numbers = Array.from({ length: KEYS }, (_, i) => i);
  await sendEach(server, numbers, (number) => request("DEL", keyName(number)));
}

async function added(
  start: () => Promise<Server>,
  send: (server: Server) => Promise<void>,
): Promise<number> {
  await using server = await start();
  const before = await settledMemoryMb(server.pid);
  await send(server);
  return (await settledMemoryMb(server.pid)) - before;
}
