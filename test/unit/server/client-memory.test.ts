/** The budget of bytes that all clients share. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ClientMemory, type MemoryHolder } from "../../../src/server/client-memory.ts";
import { RunQueue, type Timing } from "../../../src/timing.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

const MIB = 1_048_576;

describe("the budget", () => {
  /** A memory of 10 MiB whose clock and turns the test moves. */
  function tenMib() {
    const tasks: (() => void)[] = [];
    const state = { nowMs: 0 };
    const timing: Timing = {
      nowMs: () => state.nowMs,
      after: () => () => {},
      soon: (task) => (tasks.push(task), () => {}),
    };
    const holders: Holder[] = [];
    const memory = new ClientMemory(10 * MIB, holders, new RunQueue(timing), timing.nowMs);
    class Holder implements MemoryHolder {
      chargedBytes = 0;
      isExpendable = true;
      rooms = 0;
      isGone = false;
      onRoom() {
        this.rooms++;
      }
      makeRoom() {
        this.isGone = true;
        memory.forget(this);
      }
    }
    const add = () => {
      const holder = new Holder();
      holders.push(holder);
      return holder;
    };
    const turn = () => {
      while (tasks.length > 0) tasks.shift()!();
    };
    return { memory, add, turn, state };
  }

  test("ends the greediest when it is exceeded, and nobody else", () => {
    const { memory, add, turn } = tenMib();
    const [small, large, peer] = [add(), add(), add()];
    peer.isExpendable = false;
    memory.charge(small, MIB);
    memory.charge(large, 3 * MIB);
    memory.charge(peer, 5 * MIB);
    turn();
    expect([small.isGone, large.isGone, peer.isGone]).toEqual([false, false, false]);
    memory.charge(small, 2.5 * MIB);
    turn();
    expect([small.isGone, large.isGone, peer.isGone]).toEqual([false, true, false]);
    expect(memory.totalBytes).toBe(7.5 * MIB);
  });

  test("is kept by thousands of small ones, too", () => {
    const { memory, add, turn } = tenMib();
    const holders = Array.from({ length: 2_000 }, add);
    for (const holder of holders) {
      memory.charge(holder, 10_000);
      turn();
    }
    expect(memory.totalBytes).toBeLessThanOrEqual(10 * MIB);
    expect(holders.filter(({ isGone }) => isGone).length).toBeGreaterThan(900);
  });

  test("lets nobody pay for one who is at work and holds more than all others", () => {
    const { memory, add, turn } = tenMib();
    const [small, large, worker] = [add(), add(), add()];
    memory.charge(small, 100);
    memory.charge(worker, 2 * MIB);
    memory.charge(large, 4 * MIB);
    memory.charge(worker, 3 * MIB);
    memory.charge(worker, 14 * MIB);
    expect([small.isGone, large.isGone, worker.isGone]).toEqual([false, false, false]);
    turn();
    expect([small.isGone, large.isGone, worker.isGone]).toEqual([false, false, true]);
  });

  test("holds back who has more than is left, until there is room", () => {
    const { memory, add, turn } = tenMib();
    const [first, second] = [add(), add()];
    memory.charge(first, 4 * MIB);
    expect(memory.isHeldBack(first)).toBe(false);
    memory.charge(second, 3 * MIB);
    expect(memory.isHeldBack(first)).toBe(true);
    expect(memory.isHeldBack(second)).toBe(false);
    memory.charge(second, 0);
    expect(first.rooms).toBe(0);
    turn();
    expect(first.rooms).toBe(1);
    expect(memory.heldBackCount).toBe(0);
  });

  test("ends the greediest when somebody is held back for long", () => {
    const { memory, add, state } = tenMib();
    const [first, second] = [add(), add()];
    memory.charge(first, 4 * MIB);
    memory.charge(second, 4 * MIB + 1);
    expect(memory.isHeldBack(first)).toBe(true);
    memory.tick();
    expect(second.isGone).toBe(false);
    state.nowMs = 5_000;
    memory.tick();
    expect([first.isGone, second.isGone]).toEqual([false, true]);
  });

  test("is kept whatever is charged, and its sum is that of its parts", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(9), fc.integer({ min: 0, max: 6 * MIB })), { maxLength: 60 }),
        (charges) => {
          const { memory, add, turn } = tenMib();
          const holders = Array.from({ length: 10 }, add);
          for (const [i, bytes] of charges) {
            memory.charge(holders[i], bytes);
            turn();
            expect(memory.totalBytes).toBeLessThanOrEqual(10 * MIB);
            const sum = holders.reduce((total, { chargedBytes }) => total + chargedBytes, 0);
            expect(memory.totalBytes).toBe(sum);
          }
        },
      ),
    );
  });
});

describe("connections within it", () => {
  const options = { clientMemoryBytes: 20 * MIB, maxValueBytes: 8 * MIB };
  const total = (server: InProcessServer) => server.shared.memory.totalBytes;

  test("requests that never come whole are held back, small ones of others are served", async () => {
    const server = new InProcessServer({ ...options, clientMemoryBytes: 4 * MIB });
    const head = Buffer.from(`*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${8 * MIB}\r\n`);
    const half = Buffer.concat([head, Buffer.alloc(MIB / 4, "x")]);
    const greedy = Array.from({ length: 12 }, () => server.connect().send(half));
    for (let i = 0; i < 8; i++) {
      for (const client of greedy) {
        if (!client.isPaused && !client.isTerminated) client.send(Buffer.alloc(MIB / 16, "x"));
      }
      await new Promise((resolve) => setImmediate(resolve));
      expect(total(server)).toBeLessThanOrEqual(4 * MIB);
    }
    expect(server.connect().send("SET a 1\nGET a\n").read()).toBe("OK\n1\n");
    // One after the other makes room, with a word.
    const text = () => greedy.map((client) => client.read()).join("");
    const told = "-OOM network.max_client_memory_mb is used up; closing the connection\r\n";
    expect(text().replaceAll(told, "")).toBe("");
    expect(server.shared.memory.heldBackCount).toBeGreaterThan(0);
    server.nowMs += 5_000;
    server.shared.memory.tick();
    expect(text()).toBe(told);
    for (const client of greedy) client.connection.onClose();
    expect(total(server)).toBe(0);
  });

  test("the parts of a request count", async () => {
    const server = new InProcessServer(options);
    const client = server.connect();
    client.send("*1000000\r\n" + "$0\r\n\r\n".repeat(900_000));
    await eventually("all are read", () => total(server) > 900_000 * (6 + 8));
    client.connection.onClose();
    expect(total(server)).toBe(0);
  });

  test("a request counts for as long as its reply is to come", async () => {
    const server = new InProcessServer({ ...options, isPatient: true });
    const client = server.connect();
    const keys = Array.from({ length: 2_000 }, (_, i) => `key ${i}`.padEnd(200, "."));
    const request = respRequest("DEL", ...keys);
    client.send(request);
    expect(client.read()).toBe("");
    expect(total(server)).toBeGreaterThanOrEqual(2 * request.length);
    await eventually("the reply is there", () => client.read() === ":0\r\n");
    expect(total(server)).toBe(0);
  });

  test("replies that are not read are bounded by it, and all is returned", async () => {
    const server = new InProcessServer(options);
    server
      .connect()
      .send(respRequest("SET", "k", "v".repeat(8 * MIB)))
      .read();
    const silent = Array.from({ length: 20 }, () => {
      const client = server.connect();
      client.capacity = 10;
      client.send(respRequest("GET", "k"));
      return client;
    });
    await eventually("the greediest are gone", () => total(server) <= 20 * MIB);
    expect(silent.filter(({ isTerminated }) => isTerminated).length).toBe(18);
    expect(server.statistics.memoryCutConnections).toBe(18);
    for (const client of silent) client.connection.onClose();
    expect(total(server)).toBe(0);
  });

  test("so is a long list while it is gathered, and its client is told", async () => {
    const server = new InProcessServer({ clientMemoryBytes: MIB });
    for (let i = 0; i < 5_000; i++) server.connect().send(`SET ${"k".repeat(500)}${i} x\n`);
    // It comes to 2.5 MB. Nothing of it is sent before all is gathered, so there is room for words.
    const client = server.connect().send(respRequest("KEYS", "*"));
    await eventually("it is told", () =>
      client.read().includes("-OOM network.max_client_memory_mb"),
    );
  });

  test("a client that reads, however slowly, gets everything", async () => {
    const server = new InProcessServer({ clientMemoryBytes: 64 * MIB });
    server
      .connect()
      .send(respRequest("SET", "k", "v".repeat(MIB)))
      .read();
    const client = server.connect();
    client.capacity = 0;
    client.send(respRequest("MGET", ...new Array(20).fill("k")));
    let length = 0;
    await eventually("all is read", () => {
      client.drain(300_000);
      return (length += client.read().length) === 5 + 20 * (MIB + 12);
    });
    expect(total(server)).toBe(0);
  });
});

describe("replies that are not read", () => {
  test("are timed, from when the client last read something", async () => {
    const server = new InProcessServer();
    server
      .connect()
      .send(respRequest("SET", "k", "v".repeat(MIB)))
      .read();
    const client = server.connect();
    const { unread } = server.shared.deadlines;
    client.capacity = 10;
    client.send("GET k\nGET k\n");
    await eventually("some is not read", () => unread.size === 1);
    expect(unread.has(client.connection)).toBeTrue();
    const since = unread.get(client.connection)!;
    server.nowMs += 1_000;
    client.send("PING\n");
    expect(unread.get(client.connection)).toBe(since);
    client.drain(1_000);
    expect(unread.get(client.connection)).toBe(since + 1_000);
    client.drain(10 * MIB);
    await eventually("all is read", () => unread.size === 0 && !client.isPaused);
  });
});
