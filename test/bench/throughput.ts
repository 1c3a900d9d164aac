/**
 * Requests per second, their latency, and the processor time that a server takes for one, beside
 * redis, and valkey where VALKEY names its server: the faster of the two counts. All keys are there
 * already. The servers take turns, and who goes first alternates. Where a server is about as fast
 * as redis-benchmark can ask, the processor time says more than the requests per second.
 */
import {
  benchmarkPath,
  type Command,
  fill,
  KEYS,
  type Run,
  redisBenchmark,
  type Shape,
} from "./load.ts";
import { inTurns, type Plan, skip } from "./plan.ts";
import { type Measurement, median, type Target } from "./report.ts";
import {
  redisPath,
  type Server,
  startMerklekv,
  startRedis,
  startValkey,
  untilAtRest,
  valkeyPath,
} from "./servers.ts";

/** What is asked of each server. */
interface Trial extends Shape {
  readonly command: Command;
  readonly pipeline: number;
  /** So many that a run takes seconds. */
  readonly requests: number;
  /** The ratio of requests per second that is to be reached. */
  readonly atLeast: number;
}

const MOST_CONNECTIONS = 1_100;
const P999_AT_MOST = 1.2;
const QUICK_DIVISOR = 10;
const WARMING_REQUESTS = 50_000;
const LARGE_BYTES = 1_024;
/** Keys that get large values. */
const LARGE_KEYS = 100_000;

const TRIALS: readonly Trial[] = [
  ...atDepths("SET", [1.0, 1.7, 2.2]),
  ...atDepths("GET", [1.0, 1.7, 2.2]),
  ...atDepths("INCR", [1.0, 1.5, 1.8]),
  { command: "MSET", pipeline: 16, requests: 300_000, atLeast: 1.3 },
  { command: "MGET", pipeline: 16, requests: 300_000, atLeast: 1.3 },
  ...[10, 1_000].flatMap((connections) =>
    (["SET", "GET"] as const).flatMap((command) => [
      { command, pipeline: 1, requests: 300_000, connections, atLeast: 1.0 },
      { command, pipeline: 16, requests: 2_000_000, connections, atLeast: 1.7 },
    ]),
  ),
  // Last, for large the values stay.
  ...(["SET", "GET"] as const).map((command) => ({
    command,
    pipeline: 16,
    requests: 600_000,
    valueBytes: LARGE_BYTES,
    keys: LARGE_KEYS,
    atLeast: 1.3,
  })),
];

function atDepths(command: Command, [first, second, third]: [number, number, number]): Trial[] {
  return [
    { command, pipeline: 1, requests: 500_000, atLeast: first },
    { command, pipeline: 16, requests: 2_000_000, atLeast: second },
    { command, pipeline: 100, requests: 4_000_000, atLeast: third },
  ];
}

/** The part. */
export async function throughput(plan: Plan): Promise<Measurement[]> {
  if (benchmarkPath === null) return skip(plan, "throughput: redis-benchmark is not installed");
  const settings = { engine: "memory", maxConnections: MOST_CONNECTIONS } as const;
  await using ours = await startMerklekv("bench", settings);
  await using redis = redisPath === null ? null : await startRedis(MOST_CONNECTIONS);
  await using valkey = valkeyPath === null ? null : await startValkey(MOST_CONNECTIONS);
  const servers = [ours, redis, valkey].filter((server) => server !== null);
  for (const server of servers) {
    plan.note(`throughput: filling ${server.name}`);
    await fill(server, "SET");
    await fill(server, "INCR");
    // A server that has run for a while has compiled what it runs often.
    for (const command of ["SET", "GET", "INCR"] as const) {
      await redisBenchmark(server, command, 1, WARMING_REQUESTS);
    }
    await untilAtRest(server);
  }
  const measurements: Measurement[] = [];
  for (const trial of TRIALS) measurements.push(...(await measured(plan, trial, servers)));
  return measurements;
}

async function measured(
  plan: Plan,
  trial: Trial,
  servers: readonly Server[],
): Promise<Measurement[]> {
  const { command, pipeline, atLeast } = trial;
  const requests = plan.isQuick ? trial.requests / QUICK_DIVISOR : trial.requests;
  const name = nameOf(trial);
  const [ours, ...others] = await inTurns(plan, servers, name, (server) =>
    redisBenchmark(server, command, pipeline, requests, trial),
  );
  const speed = (runs: readonly Run[]): number => median(runs.map((run) => run.perSecond));
  const rival = others.toSorted((a, b) => speed(b) - speed(a))[0];
  const rivalName = servers[others.indexOf(rival) + 1]?.name;
  const row = (
    what: string,
    unit: Measurement["unit"],
    of: (run: Run) => number,
    target?: Target,
  ): Measurement => ({
    name: `${name}${what}`,
    unit,
    ours: ours.map(of),
    ...(rival && { otherName: rivalName, others: rival.map(of) }),
    ...(target && { target }),
  });
  const rows = [row("", "/s", (run) => run.perSecond, { of: "ratio", atLeast })];
  const isPlain = trial.connections === undefined && trial.keys === undefined;
  if (pipeline === 1 && isPlain) {
    rows.push(row(", p99.9", "ms", (run) => run.p999Ms, { of: "ratio", atMost: P999_AT_MOST }));
  }
  rows.push(row(", processor time a request", "µs", (run) => run.processorUs));
  return rows;
}

function nameOf({ command, pipeline, connections, valueBytes, keys = KEYS }: Trial): string {
  const what = command.startsWith("M") ? `${command} of 10` : command;
  const value =
    valueBytes === undefined ? "" : `, values of 1 KB, ${keys.toLocaleString("en-US")} keys`;
  const from = connections === undefined ? "" : `, ${connections} connections`;
  return `${what}, pipeline ${pipeline}${from}${value}`;
}
