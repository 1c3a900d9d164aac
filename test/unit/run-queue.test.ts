/** How long one turn of the run queue may hold the event loop, counted in slices. */
import { expect, test } from "bun:test";
import { RunQueue, type Timing } from "../../src/timing.ts";

/** A turn is over when its first slice is: so long is each. */
const LONG_MS = 10;

/** Turns that the test lets pass, in which time passes with the slices that are run. */
class Turns implements Timing {
  private ms = 0;
  private readonly due: (() => void)[] = [];
  readonly ran: string[] = [];

  nowMs(): number {
    return this.ms;
  }

  after(): never {
    throw new Error("nothing is put off");
  }

  soon(task: () => void): () => void {
    this.due.push(task);
    return () => {};
  }

  /** What was run in the next turn. */
  pass(): string[] {
    for (const task of this.due.splice(0)) task();
    return this.ran.splice(0);
  }

  slice(name: string, ms = LONG_MS): () => void {
    return () => {
      this.ms += ms;
      this.ran.push(name);
    };
  }
}

test("one long slice is run in a turn", () => {
  const turns = new Turns();
  const queue = new RunQueue(turns);
  for (const name of ["a", "b", "c"]) queue.add(turns.slice(name));
  expect([turns.pass(), turns.pass(), turns.pass(), turns.pass()]).toEqual([
    ["a"],
    ["b"],
    ["c"],
    [],
  ]);
});

test("none is run in a turn in which one was run outside of the queue", () => {
  const turns = new Turns();
  const queue = new RunQueue(turns);
  queue.add(turns.slice("a"));
  queue.spend();
  expect([turns.pass(), turns.pass()]).toEqual([[], ["a"]]);
});

test("whoever comes while somebody waits for a turn should wait, too", () => {
  const turns = new Turns();
  const queue = new RunQueue(turns);
  queue.add(turns.slice("a"));
  queue.add(turns.slice("b"));
  turns.pass();
  expect(queue.isSpent).toBe(true);
  turns.pass();
  expect(queue.isSpent).toBe(false);
});

test("who has used little goes first, and the others are not kept waiting for ever", () => {
  const turns = new Turns();
  const queue = new RunQueue(turns);
  queue.add(turns.slice("heavy"));
  const ran: string[] = [];
  for (let i = 0; i < 4; i++) {
    queue.add(turns.slice("light"), true);
    ran.push(turns.pass().join());
  }
  expect(ran).toEqual(["light", "light,heavy", "light", "light"]);
});

test("short slices share a turn", () => {
  const turns = new Turns();
  const queue = new RunQueue(turns);
  for (let i = 0; i < 10; i++) queue.add(turns.slice("short", 0.25));
  expect([turns.pass().length, turns.pass().length, turns.pass().length]).toEqual([4, 4, 2]);
});
