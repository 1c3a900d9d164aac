/**
 * What it costs to be watched: SET and GET at pipeline 16 on a node whose HTTP port is scraped each
 * second, while a console looks at the overview each second and watches a key, as a share of the
 * speed of a node without the port. The two take turns.
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

/** The part. */
export async function http(plan: Plan): Promise<Measurement[]> {
  if (benchmarkPath === null) return skip(plan, "http: redis-benchmark is not installed");
  const settings = { engine: "memory" } as const;
  await using without = await startMerklekv("without", settings);
  await using watched = await startMerklekv("watched", { ...settings, servesHttp: true });
  const nodes = [without, watched];
  for (const node of nodes) await fill(node, "SET");
  const requests = plan.isQuick ? QUICK_REQUESTS : REQUESTS;
  const measurements: Measurement[] = [];
  for (const command of ["SET", "GET"] as const) {
    const what = `${command}, pipeline ${PIPELINE}, watched over HTTP`;
    const [plain, seen] = await inTurns(plan, nodes, what, async (node) => {
      await untilAtRest(node);
      await using _ = node.http === "" ? null : new Onlooker(node);
      const { perSecond, processorUs } = await redisBenchmark(node, command, PIPELINE, requests);
      return { perSecond, perProcessorSecond: 1_000_000 / processorUs };
    });
    const row = (name: string, of: "perSecond" | "perProcessorSecond"): Measurement => ({
      name,
      unit: "/s",
      ours: seen!.map((it) => it[of]),
      otherName: "without",
      others: plain!.map((it) => it[of]),
      target: { of: "ratio", atLeast: KEPT_AT_LEAST },
    });
    measurements.push(
      row(what, "perSecond"),
      row(`${what}, by processor time`, "perProcessorSecond"),
    );
  }
  return measurements;
}

/** Scrapes, looks and watches until it is disposed of. */
class Onlooker implements AsyncDisposable {
  private readonly abort = new AbortController();
  private readonly done: Promise<unknown>;

  constructor(private readonly node: Server) {
    this.done = Promise.all([this.look(), this.watch()]);
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
