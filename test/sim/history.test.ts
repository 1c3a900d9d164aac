/** What a failing seed tells of itself. */
import { expect, test } from "bun:test";
import { History } from "./history.ts";
import { simulate } from "./simulation.ts";

const SEEDS = Array.from({ length: 30 }, (_, seed) => seed);

test("a key's history has what happened to it and to everybody, and nothing else", () => {
  let nowMs = 0;
  const history = new History(true, () => nowMs++ * 1_000, ["k0", "k1"]);
  history.noteKey("k0", () => "n0 SET k0");
  history.noteKey("k1", () => "n0 SET k1");
  history.note(() => "n0 ends");
  history.noteAside(() => "a session");
  history.noteBytes(new TextEncoder().encode("..k1.."), (keys) => `lost: ${keys}`);
  expect(history.of("k1")).toEqual(["1.000 n0 SET k1", "2.000 n0 ends", "4.000 lost: k1"]);
  expect(history.all()).toHaveLength(5);
});

test("what comes again and again is told a few times, and counted", () => {
  let nowMs = 0;
  const history = new History(true, () => nowMs++ * 1_000, []);
  for (let i = 0; i < 100; i++) history.note(() => "a session");
  expect(history.all()).toEqual([
    "0.000 a session",
    "1.000 a session",
    "2.000 a session",
    "99.000 a session (100 times in all)",
  ]);
});

test("nothing is made when nothing is kept", () => {
  const history = new History(false, () => 0, ["k0"]);
  history.noteKey("k0", () => {
    throw new Error("made");
  });
  expect(history.all()).toEqual([]);
});

test("a seed tells of writes, messages, sessions, merges and ends of processes", () => {
  // Not every seed has all of that: a node without a disk begins with nothing.
  const text = SEEDS.slice(0, 10)
    .map((seed) => simulate(seed, { isTraced: true }).trace.join("\n"))
    .join("\n");
  const told = ["SET", "publishes", "tells", "is given", "now has", "is gone", "begins with"];
  expect(told.filter((what) => !text.includes(what))).toEqual([]);
});
