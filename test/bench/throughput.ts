/**
 * Requests per second and their latency, beside redis: SET, GET and INCR on keys that are all there
 * already, at pipeline 1, 16 and 100. The two servers take turns, and who goes first alternates.
 */
import { benchmarkPath, type Command, fill, type Run, redisBenchmark } from "./load.ts";
import { inTurns, type Plan, skip } from "./plan.ts";
import type { Measurement, Target } from "./report.ts";
import { redisPath, startMerklekv, startRedis, untilAtRest } from "./servers.ts";

const COMMANDS: readonly Command[] = ["SET", "GET", "INCR"];
/** Pipeline → requests in a run, so that each takes seconds, and the ratio SET and GET are to reach. */
const PIPELINES = [
  { pipeline: 1, requests: 500_000, atLeast: 1.0 },
  { pipeline: 16, requests: 2_000_000, atLeast: 1.3 },
  { pipeline: 100, requests: 4_000_000, atLeast: 1.5 },
];
const P999_AT_MOST = 1.5;
const QUICK_DIVISOR = 10;

/** The part. */
export async function throughput(plan: Plan): Promise<Measurement[]> {
  if (benchmarkPath === null) return skip(plan, "throughput: redis-benchmark is not installed");
  await using ours = await startMerklekv("bench", { engine: "memory" });
  await using redis = redisPath === null ? null : await startRedis();
  const servers = redis === null ? [ours] : [ours, redis];
  for (const server of servers) {
    plan.note(`throughput: filling ${server.name}`);
    await fill(server, "SET");
    await fill(server, "INCR");
    await untilAtRest(server);
  }

  const measurements: Measurement[] = [];
  for (const { pipeline, requests, atLeast } of PIPELINES) {
    for (const command of COMMANDS) {
      const count = plan.isQuick ? requests / QUICK_DIVISOR : requests;
      const runs = await inTurns(plan, servers, `${command}, pipeline ${pipeline}`, (server) =>
        redisBenchmark(server, command, pipeline, count),
      );
      const row = (what: string, unit: "/s" | "ms", of: (run: Run) => number, target?: Target) =>
        measurements.push({
          name: `${command}, pipeline ${pipeline}${what}`,
          unit,
          ours: runs[0].map(of),
          ...(redis && { otherName: "redis", others: runs[1].map(of) }),
          ...(target && { target }),
        });
      const isJudged = command !== "INCR";
      row("", "/s", (run) => run.perSecond, isJudged ? { of: "ratio", atLeast } : undefined);
      if (pipeline > 1) continue;
      row(", p99.9", "ms", (run) => run.p999Ms, { of: "ratio", atMost: P999_AT_MOST });
    }
  }
  return measurements;
}
