/** Which requests are timed, and what becomes of a client that monitors and does not read. */
import { describe, expect, test } from "bun:test";
import { CommandWatch } from "../../../src/commands/command-watch.ts";
import { nextTurn } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { RESP2 } from "../../../src/protocol/reply.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

/** How many commands of each family were timed. */
function timed(watch: CommandWatch): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [labels, histogram] of CommandWatch.series[0]!.read(watch)) {
    if (typeof histogram !== "number") {
      counts[labels[0]!] = histogram.counts.reduce((sum, it) => sum + it, 0);
    }
  }
  return counts;
}

describe("of many short commands", () => {
  test("some of each kind are timed, whatever pattern they come in", () => {
    const server = new InProcessServer();
    const client = server.connect();
    for (let i = 0; i < 170; i++) client.send("GET a\nSET a 1\n");
    expect(timed(server.watch)).toEqual({ get: 10, set: 10 });
  });

  test("all are, if what takes less than a millisecond is asked for", () => {
    const server = new InProcessServer();
    const client = server.connect().send("GET a\nGET a\n");
    server.watch.configure({ log_slower_than: 999, max_len: 1 });
    client.send("GET a\nGET a\nGET a\n");
    expect(timed(server.watch)).toEqual({ get: 4 });
    server.watch.configure({ log_slower_than: 1_000, max_len: 1 });
    client.send("GET a\nGET a\n");
    expect(timed(server.watch)).toEqual({ get: 5 });
  });
});

test("a long command is timed, and so is one that is answered later", async () => {
  const server = new InProcessServer();
  const client = server.connect();
  client.send("PING\n");
  client.send(respRequest("SET", "k", "x".repeat(20_000)));
  client.send(respRequest("DEL", ...Array.from({ length: 40 }, (_, i) => `k${i}`)));
  client.send(respRequest("SYNC", "127.0.0.1", "1"));
  await eventually("the last is answered", () => timed(server.watch)["sync"] === 1);
  expect(timed(server.watch)).toMatchObject({ set: 1, delete: 1, sync: 1 });
});

test("errors are counted by family, whenever they come", async () => {
  const server = new InProcessServer();
  const client = server.connect();
  client.send("SET a b\nINCR a\nINCR b\nNOSUCH\nGET\n");
  client.send(respRequest("SYNC", "127.0.0.1", "1"));
  await eventually("the last is answered", () => server.statistics.totalErrors === 3);
  const errors = server.statistics.errorsByFamily();
  expect(errors).toMatchObject({ numeric: 1, set: 0, unknown: 1, sync: 1 });
  expect(server.statistics.totalErrors).toBe(3);
});

describe("a client that monitors", () => {
  test("is told at the end of a turn, and not in the middle of a reply", async () => {
    const server = new InProcessServer();
    const monitor = server.connect(RESP2);
    monitor.send(respRequest("MONITOR"));
    expect(monitor.read()).toBe("+OK\r\n");
    server.connect().send("SET a 1\nGET a\n");
    expect(monitor.read()).toBe("");
    await nextTurn(eventLoop);
    const time = "\\+\\d+\\.\\d{6} \\[0 127\\.0\\.0\\.1:2\\]";
    const both = new RegExp(`^${time} "SET" "a" "1"\r\n${time} "GET" "a"\r\n$`);
    expect(monitor.read()).toMatch(both);
  });

  test("is cut when it reads too little", async () => {
    const server = new InProcessServer({ maxOutputBytes: 50_000 });
    const monitor = server.connect(RESP2);
    monitor.send(respRequest("MONITOR"));
    monitor.capacity = 0;
    const client = server.connect();
    for (let i = 0; i < 30; i++) {
      client.send(`SET a ${"x".repeat(3_000)}\n`);
      await nextTurn(eventLoop);
    }
    expect(monitor.isTerminated).toBe(true);
    expect(server.statistics.cutConnections).toBe(1);
    client.send("GET a\n");
    expect(server.watch.monitors.count).toBe(0);
  });

  test("is cut, too, when all clients together hold too much", async () => {
    const server = new InProcessServer({ clientMemoryBytes: 200_000 });
    const monitor = server.connect(RESP2);
    monitor.send(respRequest("MONITOR"));
    monitor.capacity = 0;
    const client = server.connect();
    for (let i = 0; i < 400 && !monitor.isTerminated; i++) {
      client.send(`SET a ${"x".repeat(3_000)}\n`);
      await nextTurn(eventLoop);
    }
    expect(monitor.isTerminated || monitor.isShutDown).toBe(true);
  });
});
