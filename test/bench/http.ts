/**
 * What it costs to be looked at: SET and GET at pipeline 16 on a node whose HTTP port is scraped each
 * second, while a console looks at the overview each second, as a share of the speed of a node
 * without the port. And on one where somebody watches a key besides. The three take turns.
 *
 * A second row counts requests for each second of the processor that the node took: on a machine
 * that does other things meanwhile it says more, and what HTTP takes is in it.
 */
import { benchmarkPath, fill, redisBenchmark } from "./load.ts";
import { inTurns, type Plan, skip } from "./plan.ts";
import type { Measurement } from "./report.ts";
import { type Server, startMerklekv, untilAtRest } from "./servers.ts";

const PIPELINE = 16;
const REQUESTS = 4_000_000;
const QUICK_REQUESTS = 300_000;
const KEPT_AT_LEAST = 0.97;
const LOOK_MS = 1_000;
/** What the console asks for when it shows the overview, and what Prometheus does. */
const LOOKED_AT = ["/metrics", "/v1/facts", "/v1/cluster"];
/** One of the keys that are written. */
const WATCHED = "/v1/watch?prefix=key:000000000007";

interface Speed {
  readonly perSecond: number;
  readonly perProcessorSecond: number;
}

/** The part. */
export async function http(plan: Plan): Promise<Measurement[]> {
  if (benchmarkPath === null) return skip(plan, "http: redis-benchmark is not installed");
  const settings = { engine: "memory" } as const;
  await using without = await startMerklekv("without", settings);
  await using scraped = await startMerklekv("scraped", { ...settings, servesHttp: true });
  await using watched = await startMerklekv("watched", { ...settings, servesHttp: true });
  const nodes = [without, scraped, watched];
  for (const node of nodes) await fill(node, "SET");
  const requests = plan.isQuick ? QUICK_REQUESTS : REQUESTS;
  const measurements: Measurement[] = [];
  for (const command of ["SET", "GET"] as const) {
    const what = `${command}, pipeline ${PIPELINE}, HTTP and metrics`;
    const [plain, seen, followed] = await inTurns(plan, nodes, what, async (node) => {
      await untilAtRest(node);
      await using _ = node.http === "" ? null : new Onlooker(node, node === watched);
      const { perSecond, processorUs } = await redisBenchmark(node, command, PIPELINE, requests);
      return { perSecond, perProcessorSecond: 1_000_000 / processorUs };
    });
    const row = (name: string, rounds: typeof seen, of: keyof Speed): Measurement => ({
      name,
      unit: "/s",
      ours: rounds!.map((it) => it[of]),
      otherName: "without",
      others: plain!.map((it) => it[of]),
      ...(rounds === seen && { target: { of: "ratio", atLeast: KEPT_AT_LEAST } }),
    });
    measurements.push(
      row(what, seen, "perSecond"),
      row(`${what}, by processor time`, seen, "perProcessorSecond"),
      row(`${what}, and a watch`, followed, "perSecond"),
      row(`${what}, and a watch, by processor time`, followed, "perProcessorSecond"),
    );
  }
  return measurements;
}

/** Scrapes, looks and watches until it is disposed of. */
class Onlooker implements AsyncDisposable {
  private readonly abort = new AbortController();
  private readonly done: Promise<unknown>;

  constructor(
    private readonly node: Server,
    watches: boolean,
  ) {
    this.done = Promise.all(watches ? [this.look(), this.watch()] : [this.look()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort.abort();
    await this.done;
  }

  private async look(): Promise<void> {
    const { signal } = this.abort;
    while (!signal.aborted) {
      const answers = LOOKED_AT.map(async (path) => {
        const answer = await fetch(`http://${this.node.http}${path}`);
        if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
        await answer.bytes();
      });
      await Promise.all(answers);
      await Bun.sleep(LOOK_MS);
    }
  }

  private async watch(): Promise<void> {
    const { signal } = this.abort;
    try {
      const answer = await fetch(`http://${this.node.http}${WATCHED}`, { signal });
      for await (const _ of answer.body!);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
