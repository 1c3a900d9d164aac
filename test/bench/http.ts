/**
 * What it costs to be looked at: what each document takes of the processor of a node at rest; and
 * SET and GET at pipeline 16 on a node whose HTTP port is scraped each second, while a console looks
 * at the overview each second, as a share of the speed of a node that nobody looks at.
 *
 * First in one process under a steady load, in seconds in which somebody looks and others, by turns:
 * that is what looking costs. Then between new processes, with the port and without: that is what
 * having it costs. In both, a control compares nothing with nothing: what it differs from 1 by is
 * the noise. A second row counts requests for each second of the processor that the node took: on a
 * machine that does other things meanwhile it says more, and what HTTP takes is in it.
 */
import { benchmarkPath, fill, redisBenchmark } from "./load.ts";
import { ask, look, LOOKED_AT, Watcher } from "./onlooker.ts";
import { balancedOrders, type Plan, skip } from "./plan.ts";
import { median, type Measurement } from "./report.ts";
import { ProcessorTime, type Server, startMerklekv, untilAtRest } from "./servers.ts";
import { type Answered, SteadyLoad } from "./steady-load.ts";

const PIPELINE = 16;
const COMMANDS = ["SET", "GET"] as const;
const KEPT_AT_LEAST = 0.97;
const LOOK_MS = 1_000;
const WARM_MS = 3_000;
const LOOKS_A_ROUND = 24;
const AFTER_LOOK_MS = 25;
const LOOK_AT_MOST_MS = 5;
const REQUESTS = 2_000_000;
const QUICK_REQUESTS = 300_000;
const NODE = { engine: "memory", servesHttp: true } as const;

/** The part. */
export async function http(plan: Plan): Promise<Measurement[]> {
  if (benchmarkPath === null) return skip(plan, "http: redis-benchmark is not installed");
  return [...(await withinOneProcess(plan)), ...(await betweenProcesses(plan))];
}

// In one process.

/** What a second may be; all are compared with the first kind. */
const KINDS = ["", "control: not looked at either", "looked at", "looked at, and a key watched"];

async function withinOneProcess(plan: Plan): Promise<Measurement[]> {
  await using node = await startMerklekv("watched", NODE);
  await fill(node, "SET");
  await untilAtRest(node);
  const measurements = await looksAtRest(plan, node);
  for (const command of COMMANDS) {
    await using load = await SteadyLoad.start(node, command, PIPELINE);
    await load.interval(WARM_MS, () => look(node));
    const rounds: Answered[][] = [];
    for (let round = 0; round < plan.rounds; round++) {
      plan.note(`${command}, one process: round ${round + 1} of ${plan.rounds}`);
      // A group of one second of each kind, in each order that is needed for none to be favoured.
      for (const order of balancedOrders(KINDS.length)) rounds.push(await group(load, node, order));
    }
    measurements.push(...rowsOf(`${command}, same process`, KINDS, rounds));
  }
  return measurements;
}

/** What each document takes of the processor, all threads of the node together, when it is at rest. */
async function looksAtRest(plan: Plan, node: Server): Promise<Measurement[]> {
  const processor = new ProcessorTime(node.pid);
  const ours: number[][] = LOOKED_AT.map(() => []);
  for (let round = -1; round < plan.rounds; round++) {
    for (const [i, path] of LOOKED_AT.entries()) {
      const tookMs: number[] = [];
      for (let n = 0; n < LOOKS_A_ROUND; n++) {
        const before = processor.readNs();
        await ask(node, path);
        await Bun.sleep(AFTER_LOOK_MS);
        const after = processor.readNs();
        // As long again without: what the node does anyway is not counted.
        await Bun.sleep(AFTER_LOOK_MS);
        tookMs.push((after - before - (processor.readNs() - after)) / 1e6);
      }
      if (round >= 0) ours[i].push(median(tookMs));
    }
  }
  return LOOKED_AT.map((path, i): Measurement => ({
    name: `GET ${path}, processor time`,
    unit: "ms",
    ours: ours[i],
    ...(i === 0 && { target: { of: "value", atMost: LOOK_AT_MOST_MS } }),
  }));
}

async function group(load: SteadyLoad, node: Server, order: number[]): Promise<Answered[]> {
  const answered: Answered[] = [];
  for (const kind of order) {
    const [isSeen, isFollowed] = [kind >= 2, kind === 3];
    await using _ = isFollowed ? new Watcher(node) : null;
    answered[kind] = await load.interval(LOOK_MS, async () => {
      if (isSeen) await look(node);
    });
  }
  return answered;
}

// Between processes.

/** What a process may be; all are compared with the first kind. */
const PROCESSES = ["", "control: without HTTP either", "with HTTP, looked at"];

async function betweenProcesses(plan: Plan): Promise<Measurement[]> {
  const rounds: Answered[][][] = COMMANDS.map(() => []);
  for (let round = 0; round < plan.rounds; round++) {
    plan.note(`new processes with HTTP and without: round ${round + 1} of ${plan.rounds}`);
    const orders = balancedOrders(PROCESSES.length);
    const results: Answered[][] = COMMANDS.map(() => []);
    for (const kind of orders[round % orders.length]) {
      const ofCommands = await newProcess(plan, kind === 2);
      ofCommands.forEach((answered, i) => (results[i][kind] = answered));
    }
    results.forEach((ofKinds, i) => rounds[i].push(ofKinds));
  }
  return COMMANDS.flatMap((command, i) =>
    rowsOf(`${command}, new processes`, PROCESSES, rounds[i]),
  );
}

async function newProcess(plan: Plan, servesHttp: boolean): Promise<Answered[]> {
  await using node = await startMerklekv("new", { ...NODE, servesHttp });
  await fill(node, "SET");
  await untilAtRest(node);
  const requests = plan.isQuick ? QUICK_REQUESTS : REQUESTS;
  const results: Answered[] = [];
  for (const command of COMMANDS) {
    const looks = setInterval(() => servesHttp && void look(node), LOOK_MS);
    try {
      const run = await redisBenchmark(node, command, PIPELINE, requests);
      const processorSeconds = (run.processorUs * requests) / 1e6;
      results.push({ requests, seconds: requests / run.perSecond, processorSeconds });
    } finally {
      clearInterval(looks);
    }
  }
  return results;
}

/** Two rows for each kind but the first, with which they are compared. */
function rowsOf(
  name: string,
  kinds: readonly string[],
  rounds: readonly (readonly Answered[])[],
): Measurement[] {
  const rates = [
    { suffix: "", of: ({ requests, seconds }: Answered) => requests / seconds },
    {
      suffix: ", by processor time",
      of: ({ requests, processorSeconds }: Answered) => requests / processorSeconds,
    },
  ];
  return kinds.flatMap((kind, i) =>
    i === 0
      ? []
      : rates.map(({ suffix, of }): Measurement => ({
          name: `${name}, ${kind}${suffix}`,
          unit: "/s",
          ours: rounds.map((round) => of(round[i])),
          otherName: "without",
          others: rounds.map((round) => of(round[0])),
          isPaired: true,
          ...(i === 2 && { target: { of: "ratio", atLeast: KEPT_AT_LEAST } }),
        })),
  );
}
