/** Which commands are traced, and how many of them. */
import { describe, expect, test } from "bun:test";
import { CommandTracing } from "../../../src/commands/command-tracing.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";
import { seeded } from "../../support/random.ts";
import { RecordingTracer } from "../../support/recording-tracer.ts";

const TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

class TracedServer {
  nowMs = 1_000_000;
  readonly tracing: CommandTracing;
  readonly server: InProcessServer;

  constructor(readonly tracer: RecordingTracer) {
    const nowMs = (): number => this.nowMs;
    this.tracing = new CommandTracing({ tracer, writes: null, random: seeded(7), nowMs });
    this.server = new InProcessServer({ services: { tracing: this.tracing } });
  }

  /** How many of so many commands, pipelined in a pattern, are traced. */
  traced(commands: number, client = this.server.connect()): number {
    const before = this.tracer.spans.length;
    for (let i = 0; i < commands; i += 100) client.send("GET a\nPING\n".repeat(50));
    return this.tracer.spans.length - before;
  }
}

describe("by the ratio", () => {
  test("one in so many is traced", () => {
    const server = new TracedServer(new RecordingTracer(0.25));
    let traced = 0;
    for (let i = 0; i < 40; i++, server.nowMs += 1_000) traced += server.traced(100);
    expect(traced).toBeWithin(900, 1_100);
    // None of those that take turns is left out.
    const pings = server.tracer.spans.filter(({ name }) => name === "PING");
    expect(pings.length).toBeWithin(400, 600);
  });

  test("all are, or none, at the ends", () => {
    const server = new TracedServer(new RecordingTracer(1));
    expect(server.traced(1_000)).toBe(1_000);
    server.tracer.ratio = 0;
    server.tracing.arrange();
    expect(server.traced(1_000)).toBe(0);
    server.tracer.ratio = 1;
    server.tracing.arrange();
    // Another setting gives no more at once than there was.
    expect(server.traced(1_000)).toBe(0);
    server.nowMs += 1_000;
    expect(server.traced(1_000)).toBeWithin(900, 1_001);
    server.nowMs += 1_000;
    server.tracer.isOn = false;
    expect(server.traced(1_000)).toBe(0);
    server.tracing.arrange();
    expect(server.traced(1_000)).toBe(0);
    server.tracer.isOn = true;
    server.tracing.arrange();
    expect(server.traced(1_000)).toBe(1_000);
  });

  test("no more than so many in a second, however many commands come", () => {
    const server = new TracedServer(new RecordingTracer(0.01));
    expect(server.traced(5_000)).toBe(10);
    expect(server.traced(5_000)).toBe(0);
    server.nowMs += 500;
    expect(server.traced(5_000)).toBe(5);
    // What was not used is not kept for long.
    server.nowMs += 60_000;
    expect(server.traced(5_000)).toBe(10);
  });

  test("but one now and then, however small the ratio", () => {
    const server = new TracedServer(new RecordingTracer(0.000_05));
    let traced = 0;
    for (let i = 0; i < 100; i++, server.nowMs += 10_000) traced += server.traced(1_000);
    expect(traced).toBeWithin(1, 20);
  });
});

test("a client that asks for it is not counted, and asks for itself alone", () => {
  const { server, tracer } = new TracedServer(new RecordingTracer(0));
  const [one, other] = [server.connect(), server.connect()];
  one.send(`CLIENT TRACE ${TRACEPARENT}\n`);
  other.send("PING\n");
  for (let i = 0; i < 300; i++) one.send("PING\n");
  one.send(`CLIENT TRACE ${TRACEPARENT.replace(/1$/, "0")}\nPING\n`);
  expect(tracer.spans.map(({ name }) => name)).toEqual([
    ...Array.from({ length: 300 }, () => "PING"),
    "CLIENT",
  ]);
  expect(tracer.spans.every(({ isEnded, failure }) => isEnded && failure === undefined)).toBe(true);
});

test("TRACE is for one command, and leaves to CLIENT TRACE what that set", () => {
  const { server, tracer } = new TracedServer(new RecordingTracer(0));
  const client = server.connect();
  client.send(
    `TRACE ${TRACEPARENT} PING\nPING\nTRACE ${TRACEPARENT} CLIENT TRACE ${TRACEPARENT}\n`,
  );
  client.send(respRequest("TRACE", TRACEPARENT, "NONSENSE"));
  client.send("PING\n");
  expect(tracer.spans.map(({ name }) => name)).toEqual(["PING", "CLIENT", "PING"]);
});

test("a reply that comes later is waited for", async () => {
  const { server, tracer } = new TracedServer(new RecordingTracer(0));
  const sync = Promise.withResolvers<{ ok: boolean; reason: string }>();
  const synchronization = { sync: () => sync.promise, isPeer: () => true };
  Object.assign(server.shared.context.services, { synchronization });
  server.connect().send(`TRACE ${TRACEPARENT} SYNC 127.0.0.1 1\n`);
  expect(tracer.spans[0]).toMatchObject({ name: "SYNC", isEnded: false });
  sync.resolve({ ok: true, reason: "" });
  await sync.promise;
  await eventually("it is over", () => tracer.spans[0].isEnded);
});
