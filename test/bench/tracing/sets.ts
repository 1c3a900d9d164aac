/**
 * Runs SETs through a connection in this process, with traces sent to the collector named on the
 * command line, or without any; prints the nanoseconds of this thread's time that one takes, a line
 * for each round. A process of its own, as the compiler makes of the same code what it has seen it do.
 *
 *   bun test/bench/tracing/sets.ts ROUNDS [RATIO COLLECTOR]
 */
import { CommandTracing } from "../../../src/commands/command-tracing.ts";
import { RESP2 } from "../../../src/protocol/reply.ts";
import { WaitingTraces } from "../../../src/replication/batch-traces.ts";
import { nextTurn } from "../../../src/timing.ts";
import { noTracer, type Tracer } from "../../../src/tracer.ts";
import { startExport } from "../../../src/tracing/open-telemetry.ts";
import { eventLoop } from "../../../src/world.ts";
import { InProcessServer } from "../../support/in-process.ts";
import { seeded } from "../../support/random.ts";
import { threadTimeNs } from "../breakdown/thread-time.ts";
import { request } from "../load.ts";

const KEYS = 1_000;
const PIPELINE = 100;
const CHUNKS = 2_000;
const WARM_ROUNDS = 8;

const [rounds, ratio, collector] = process.argv.slice(2);
const tracer = collector === undefined ? noTracer : tracerTo(collector, Number(ratio));
const writes = collector === undefined ? null : new WaitingTraces();
const tracing = new CommandTracing({
  tracer,
  writes,
  random: () => Math.random(),
  nowMs: () => performance.now(),
});
const server = new InProcessServer({ services: { tracing } });
Object.defineProperty(server, "nowMs", { get: () => Date.now() });
const client = server.connect(RESP2);
const chunks = chunksOf(seeded(7));
for (let round = -WARM_ROUNDS; round < Number(rounds); round++) {
  let ns = 0;
  for (const chunk of chunks) {
    const copy = new Uint8Array(chunk);
    const before = threadTimeNs();
    client.connection.onData(copy);
    ns += threadTimeNs() - before;
  }
  client.read();
  writes?.clear();
  await nextTurn(eventLoop);
  if (round >= 0) console.log(ns / (CHUNKS * PIPELINE));
}
process.exit(0);

function tracerTo(url: string, ratio: number): Tracer {
  const onDropped = (_: number, reason: string): void => console.error(reason);
  const about = { resource: {}, version: "1.0.0", headers: {}, onExported() {}, onDropped };
  const spanExport = startExport({ url, timing: eventLoop, ...about });
  return { isOn: true, ratio, begin: (...span) => spanExport.begin(...span)! };
}

function chunksOf(random: () => number): Uint8Array[] {
  return Array.from({ length: CHUNKS }, () => {
    let text = "";
    for (let i = 0; i < PIPELINE; i++) {
      const key = `key:${String(Math.floor(random() * KEYS)).padStart(12, "0")}`;
      text += request("SET", key, "x".repeat(22));
    }
    return Buffer.from(text);
  });
}
