/** Who sends much is read from in turns. */
import { expect, test } from "bun:test";
import { ReadingTurns } from "../../../src/reading-turns.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

test("a few are read from in each turn of the event loop, in the order in which they came", () => {
  const soon: (() => void)[] = [];
  const turns = new ReadingTurns({
    ...eventLoop,
    soon: (task) => {
      soon.push(task);
      return () => {};
    },
  });
  const read: number[] = [];
  const senders = [0, 1, 2, 3, 4].map((i) => ({ onReadingTurn: () => void read.push(i) }));
  for (const sender of senders) turns.wait(sender);
  turns.forget(senders[1]);
  expect(soon.length).toBe(1);
  soon.shift()!();
  expect(read).toEqual([0, 2]);
  soon.shift()!();
  expect(read).toEqual([0, 2, 3, 4]);
  expect(soon.length).toBe(0);
});

test("who sent a large chunk is not read from until its turn comes; others are", async () => {
  const server = new InProcessServer();
  const [sender, other] = [server.connect(), server.connect()];
  const request = respRequest("SET", "k", "v".repeat(200_000));
  sender.send(request.subarray(0, 100_000));
  expect(sender.isPaused).toBe(true);
  other.send("PING\n");
  expect(other.isPaused).toBe(false);
  await sender.whenReading();
  sender.send(request.subarray(100_000, 110_000));
  expect(sender.isPaused).toBe(false);
  sender.send(request.subarray(110_000));
  await sender.whenReading();
  expect(sender.read()).toBe("+OK\r\n");
});

test("of those who have much to send one does so in a turn, and the next in the next", async () => {
  const server = new InProcessServer({ isPatient: true });
  server.connect().send(respRequest("SET", "k", "v".repeat(200_000)));
  await new Promise((resolve) => setTimeout(resolve));
  const readers = [server.connect(), server.connect()];
  for (const reader of readers) {
    reader.capacity = 0;
    reader.send("GET k\n");
    await new Promise((resolve) => setTimeout(resolve));
  }
  for (const reader of readers) reader.drain(1_000_000);
  expect(readers.map((reader) => reader.read().length > 0)).toEqual([true, false]);
  await eventually("the other's turn comes", () => readers[1].read().length > 0);
});
