/**
 * What traces cost at a ratio of 0.01: SETs through a connection in this process, with the collector
 * in another, and without, in turns of some milliseconds. Only so can a difference of a hundredth be
 * told from what two processes, or two moments, differ by.
 */
import { CommandTracing } from "../../src/commands/command-tracing.ts";
import { RESP2 } from "../../src/protocol/reply.ts";
import { WaitingTraces } from "../../src/replication/batch-traces.ts";
import { nextTurn } from "../../src/timing.ts";
import { startExport } from "../../src/tracing/open-telemetry.ts";
import { eventLoop } from "../../src/world.ts";
import { InProcessServer } from "../support/in-process.ts";
import { seeded } from "../support/random.ts";
import { threadTimeNs } from "./breakdown/thread-time.ts";
import { request } from "./load.ts";
import type { Plan } from "./plan.ts";
import { percentile, type Measurement } from "./report.ts";

const RATIO = 0.01;
const COST_AT_MOST = 1.01;
const KEYS = 1_000;
const PIPELINE = 100;
/** Of a turn: about ten milliseconds. */
const CHUNKS = 400;
const WARM_PAIRS = 40;
const PAIRS = 150;
const QUICK_PAIRS = 20;

/** The part. */
export async function tracing(plan: Plan): Promise<Measurement[]> {
  const script = `Bun.serve({ port: 0, fetch: async (it) => (await it.bytes(), Response.json({})) })`;
  const command = [process.execPath, "-e", `console.log(${script}.port)`];
  const collector = Bun.spawn(command, { stdout: "pipe", stdin: "ignore" });
  try {
    const { value } = await collector.stdout.getReader().read();
    const port = new TextDecoder().decode(value).trim();
    return [await measured(plan, `http://127.0.0.1:${port}/v1/traces`)];
  } finally {
    collector.kill();
    await collector.exited;
  }
}

async function measured(plan: Plan, url: string): Promise<Measurement> {
  const subject = new Subject(url);
  const [ours, others]: [number[], number[]] = [[], []];
  for (let round = 0; round < plan.rounds; round++) {
    plan.note(`SET, traced at ${RATIO}: round ${round + 1} of ${plan.rounds}`);
    const [traced, untraced]: [number[], number[]] = [[], []];
    const pairs = plan.isQuick ? QUICK_PAIRS : PAIRS;
    for (let pair = -WARM_PAIRS; pair < pairs; pair++) {
      for (const isOn of pair % 2 === 0 ? [true, false] : [false, true]) {
        const ns = await subject.run(isOn);
        if (pair >= 0) (isOn ? traced : untraced).push(ns);
      }
    }
    ours.push(percentile(traced, 0.5));
    others.push(percentile(untraced, 0.5));
  }
  const target = { of: "ratio", atMost: COST_AT_MOST } as const;
  const name = `SET in process, traced at ${RATIO}`;
  return { name, unit: "ns", ours, otherName: "untraced", others, target };
}

/** A store with a connection, whose commands are traced now and then. */
class Subject {
  private readonly tracer;
  private readonly tracing;
  private readonly writes = new WaitingTraces();
  private readonly client;
  private readonly chunks: readonly Uint8Array[];

  constructor(url: string) {
    const told = { onExported() {}, onDropped() {} };
    const about = { url, headers: {}, resource: {}, version: "1.0.0", timing: eventLoop, ...told };
    const { begin } = startExport(about);
    this.tracer = { isOn: true, ratio: RATIO, begin: begin as never };
    this.tracing = new CommandTracing({
      tracer: this.tracer,
      writes: this.writes,
      random: () => Math.random(),
      nowMs: () => performance.now(),
    });
    const server = new InProcessServer({ services: { tracing: this.tracing } });
    Object.defineProperty(server, "nowMs", { get: () => Date.now() });
    this.client = server.connect(RESP2);
    this.chunks = chunksOf(seeded(7));
  }

  /** Nanoseconds of this thread that a SET takes, what the traces take afterwards included. */
  async run(isOn: boolean): Promise<number> {
    this.tracer.isOn = isOn;
    this.tracing.arrange();
    const before = threadTimeNs();
    for (const chunk of this.chunks) this.client.connection.onData(new Uint8Array(chunk));
    await nextTurn(eventLoop);
    const ns = threadTimeNs() - before;
    this.client.read();
    this.writes.clear();
    return ns / (CHUNKS * PIPELINE);
  }
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
