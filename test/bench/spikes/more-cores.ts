/**
 * A spike, of which nothing is shipped: would more threads leave the main one more time?
 *
 *   bun test/bench/spikes/more-cores.ts [--keys N] [--rounds N] [--scale F]
 *
 * Workers have the sockets, parse, and write replies; requests and replies go through rings in
 * shared memory (`more-cores/ring.ts`), and only the store is left to the main thread. Compared
 * with one thread for all, by the processor time of the main thread a request, which says
 * something even where all threads and the client share two cores. Throughput would not.
 *
 * Left out of the spike, for the better of the rings: sessions, rights, limits, the journal, TLS,
 * back-pressure and all commands but SET and GET. The way "whole" has them, "bare" has not.
 */
import { parseArgs } from "node:util";
import { markdownTable } from "../../../src/documentation/markdown-table.ts";
import { percentile } from "../report.ts";
import type { Taken } from "./more-cores/server.ts";

const WAYS = ["whole", "bare", "notify-1", "notify-2", "message-1", "message-2"];
const COMMANDS = ["SET", "GET"];
/** Connections, pipeline, requests a run. With one connection each request wakes a thread. */
const RUNS = [
  [1, 1, 40_000],
  [50, 1, 200_000],
  [50, 16, 1_000_000],
] as const;
const FIRST_PORT = 27_400;

const { values } = parseArgs({
  options: {
    keys: { type: "string", default: "1000000" },
    rounds: { type: "string", default: "5" },
    scale: { type: "string", default: "1" },
    ways: { type: "string", default: WAYS.join(",") },
  },
});

/** A server of its own for each way. */
class Server {
  private answered = Promise.withResolvers<unknown>();
  private readonly child: Bun.Subprocess;

  constructor(
    readonly way: string,
    readonly port: number,
  ) {
    const command = ["bun", `${import.meta.dir}/more-cores/server.ts`, way, `${port}`, values.keys];
    const ipc = (message: unknown): void => this.answered.resolve(message);
    this.child = Bun.spawn(command, { ipc, stdout: "inherit", stderr: "inherit" });
  }

  ready(): Promise<unknown> {
    return this.answered.promise;
  }

  async taken(): Promise<Taken> {
    this.answered = Promise.withResolvers();
    this.child.send("taken");
    return (await this.answered.promise) as Taken;
  }

  stop(): void {
    this.child.kill("SIGKILL");
  }
}

/** Main thread and process in µs a request, requests a wake, p50 and p99 in ms. */
async function run(
  server: Server,
  command: string,
  [c, pipeline, requests]: (typeof RUNS)[number],
) {
  const n = Math.round(requests * Number(values.scale));
  const load = `-p ${server.port} -c ${c} -r ${values.keys} -d 22 -P ${pipeline} -n ${n}`;
  const what = `-t ${command.toLowerCase()} --precision 3`;
  const before = await server.taken();
  const child = Bun.spawn(["redis-benchmark", ...`${load} ${what}`.split(" ")], {
    stdout: "pipe",
    stderr: "ignore",
  });
  const output = await child.stdout.text();
  const after = await server.taken();
  const summary = /max\s+([\d. ]+)/.exec(output)?.[1].trim().split(/\s+/).map(Number);
  if ((await child.exited) !== 0 || summary === undefined) throw new Error(output.slice(-300));
  const mainUs = (after.mainNs - before.mainNs) / n / 1_000;
  const processUs = (after.processNs - before.processNs) / n / 1_000;
  return [mainUs, processUs, n / (after.wakes - before.wakes), summary[2], summary[4]];
}

const servers: Server[] = [];
try {
  for (const [i, way] of values.ways.split(",").entries()) {
    servers.push(new Server(way, FIRST_PORT + i));
    await servers[i].ready();
  }
  const head = [
    "command",
    "connections",
    "pipeline",
    "way",
    "main, µs",
    "least",
    "most",
    "process, µs",
  ];
  const rows = [[...head, "requests a wake", "p50, ms", "p99, ms"]];
  for (const load of RUNS) {
    for (const command of COMMANDS) {
      const runs = new Map(servers.map((server) => [server, [] as number[][]]));
      for (let round = -1; round < Number(values.rounds); round++) {
        for (const server of servers) {
          const figures = await run(server, command, load);
          // The first warms up.
          if (round >= 0) runs.get(server)!.push(figures);
        }
      }
      for (const [{ way }, all] of runs) {
        const of = (i: number, share: number): string => {
          const column = all.map((figures) => figures[i]);
          const figure = percentile(column, share);
          return figure === Infinity ? "" : figure.toFixed(figure < 10 ? 2 : 0);
        };
        const main = [of(0, 0.5), of(0, 0), of(0, 1)];
        const rest = [1, 2, 3, 4].map((i) => of(i, 0.5));
        rows.push([command, `${load[0]}`, `${load[1]}`, way, ...main, ...rest]);
        console.log(rows.at(-1)!.join("\t"));
      }
    }
  }
  console.log(markdownTable(rows));
} finally {
  for (const server of servers) server.stop();
}
