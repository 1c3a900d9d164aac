import { expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { silentLogger } from "../../../src/observability/log.ts";
import { HEARD_A_TURN } from "../../../src/arrivals.ts";
import { Listener } from "../../../src/server/listener.ts";
import { RunQueue, type Timing } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer } from "../../support/in-process.ts";

/** A listener on a free port, whose clock the test moves. */
function startListener(maxConnections = 10) {
  let nowMs = 1_000;
  const due: { atMs: number; task: () => void }[] = [];
  const timing: Timing = {
    ...eventLoop,
    nowMs: () => nowMs,
    after: (ms, task) => {
      const one = { atMs: nowMs + ms, task };
      due.push(one);
      return () => (one.task = () => {});
    },
  };
  const { context, journalGate } = new InProcessServer().shared;
  const listener = new Listener(
    {
      bind_address: "127.0.0.1",
      bind_port: 0,
      tls_port: 0,
      plaintext: "on",
      max_connections: maxConnections,
      connection_timeout: 30,
      idle_timeout: 0,
      dialect: "plain",
      max_line_bytes: 1_024,
      max_value_bytes: 1_024,
      max_output_bytes: 1_024,
      max_client_memory_mb: 1,
    },
    { ...context, runQueue: new RunQueue(timing) },
    journalGate,
    silentLogger,
  );
  listener.start();
  const advance = (ms: number): void => {
    const untilMs = nowMs + ms;
    for (;;) {
      const [next] = due.toSorted((a, b) => a.atMs - b.atMs);
      if (next === undefined || next.atMs > untilMs) break;
      due.splice(due.indexOf(next), 1);
      nowMs = next.atMs;
      next.task();
    }
    nowMs = untilMs;
  };
  return { listener, advance, statistics: context.services.statistics };
}

/** A client that does not close its side when the node has closed its own. */
async function stubborn(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => {});
  socket.write("PING\n");
  await new Promise((resolve) => socket.once("data", resolve));
  return socket;
}

test("a stopping node does not wait long for clients that have been silent anyway", async () => {
  const { listener, advance } = startListener();
  const silent = await stubborn(listener.port);
  advance(2_000);
  const busy = await stubborn(listener.port);
  let hasStopped = false;
  const stopped = listener.stop().then(() => (hasStopped = true));
  expect([...listener.list()].length).toBe(2);
  advance(1_000);
  await eventually("the silent one is gone", () => [...listener.list()].length === 1);
  expect(hasStopped).toBe(false);
  advance(5_000);
  await stopped;
  for (const socket of [silent, busy]) socket.destroy();
});

test("of many that come at once a few are heard in each turn, and all are answered", async () => {
  const { listener, statistics } = startListener(200);
  let [inTurn, most] = [0, 0];
  statistics.countCommand = () => void (most = Math.max(most, ++inTurn));
  let isOver = false;
  const turn = (): void => {
    inTurn = 0;
    if (!isOver) setImmediate(turn);
  };
  turn();
  const clients = Array.from({ length: 150 }, () => {
    const socket = connect({ port: listener.port, host: "127.0.0.1" });
    socket.write("PING\n");
    return new Promise<string>((resolve) => socket.once("data", (it) => resolve(`${it}`)));
  });
  expect(new Set(await Promise.all(clients))).toEqual(new Set(["PONG\n"]));
  isOver = true;
  // Those of one turn, and those who were let speak before and had nothing to say until now.
  expect(most).toBeLessThanOrEqual(4 * HEARD_A_TURN);
  await listener.stop();
});
