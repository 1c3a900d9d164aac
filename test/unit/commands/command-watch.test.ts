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
  for (const [labels, histogram] of CommandWatch.series[0].read(watch)) {
    if (typeof histogram !== "number") {
      counts[labels[0]] = histogram.counts.reduce((sum, it) => sum + it, 0);
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

  test("is told that it does not read, and let go, long before it holds much", async () => {
    const server = new InProcessServer();
    const monitor = server.connect();
    monitor.send("MONITOR\n");
    monitor.capacity = 0;
    const client = server.connect();
    let sent = 0;
    for (; !server.statistics.cutConnections && sent < 1_000; sent++) {
      client.send(`ECHO ${"x".repeat(3_000)}\n`);
      await nextTurn(eventLoop);
    }
    expect(sent).toBeLessThan(400);
    expect(monitor.connection.output.length).toBeLessThan(1_100_000);
    monitor.drain(Infinity);
    expect(monitor.read()).toEndWith(
      "ERROR: Connection failed - what was sent is not read; closing the connection\n",
    );
    expect(monitor.isShutDown).toBe(true);
    client.send("GET a\n");
    await nextTurn(eventLoop);
    expect(server.watch.monitors.count).toBe(0);
  });

  test("is shown so much of a request, however many parts it has and whatever they are", async () => {
    const server = new InProcessServer();
    const monitor = server.connect();
    monitor.send("MONITOR\n");
    server.connect(RESP2).send(respRequest("EXISTS", ...Array<string>(900).fill("\0".repeat(900))));
    await nextTurn(eventLoop);
    const told = monitor.read();
    expect(told).toContain('"... (900 more bytes)" "... (774 more arguments)"\n');
    expect(told.length).toBeLessThan(4 * 16_384 + 128 * 30);
  });

  test("is refused when as many do as may", async () => {
    const server = new InProcessServer();
    const monitors = Array.from({ length: 64 }, () => server.connect().send("MONITOR\nMONITOR\n"));
    expect(monitors.map((it) => it.read())).toEqual(Array(64).fill("OK\nOK\n"));
    const late = server.connect().send("MONITOR\n");
    expect(late.read()).toBe("ERROR: Too many connections - 64 may monitor\n");
    monitors[7].connection.onClose();
    expect(late.send("MONITOR\n").read()).toBe("OK\n");
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
