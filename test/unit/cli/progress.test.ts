/** How far long work is, on a terminal and elsewhere. */
import { expect, test } from "bun:test";
import { Progress } from "../../../src/cli/progress.ts";

const MIB = 1_048_576;

function create(isTTY: boolean, total: number) {
  let nowMs = 0;
  const written: string[] = [];
  const screen = { isTTY, columns: 100, write: (text: string) => written.push(text) };
  const progress = new Progress("checking x", total, "bytes", screen, () => nowMs);
  const add = (ms: number, amount: number): void => {
    nowMs += ms;
    progress.add(amount);
  };
  return { progress, add, written };
}

test("what is done quickly says nothing", () => {
  for (const isTTY of [true, false]) {
    const { progress, add, written } = create(isTTY, 100 * MIB);
    for (let i = 0; i < 4; i++) add(100, 25 * MIB);
    progress.end();
    expect(written).toEqual([]);
  }
});

test("a bar on a terminal, which is taken away at the end", () => {
  const { progress, add, written } = create(true, 100 * MIB);
  add(1_000, 25 * MIB);
  add(10, 1);
  expect(written).toEqual([
    "\r[######------------------] checking x: 25 % (25 MiB of 100 MiB), about 3 s left\x1b[K",
  ]);
  progress.end();
  expect(written.at(-1)).toBe("\r\x1b[K");
});

test("a line now and then elsewhere", () => {
  const { progress, add, written } = create(false, 100 * MIB);
  for (let i = 0; i < 10; i++) add(1_000, 10 * MIB);
  progress.end();
  expect(written).toEqual([
    "merklekv: checking x: 50 % (50 MiB of 100 MiB), about 5 s left\n",
    "merklekv: checking x: 100 % (100 MiB of 100 MiB), about 0 s left\n",
  ]);
});

test("more than was expected is all of it, and a bar is no wider than the terminal", () => {
  const { add, written } = create(true, 10);
  add(1_000, 30);
  expect(written[0]).toContain("100 %");
  const unknown = create(false, 0);
  unknown.add(6_000, 3 * MIB);
  expect(unknown.written).toEqual(["merklekv: checking x: 3 MiB so far\n"]);
});
