/** Memory that is given back later. */
import { expect, test } from "bun:test";
import { Leftovers } from "../../../src/core/store/leftovers.ts";

test("who clears little again and again leaves no more than once", () => {
  const leftovers = new Leftovers();
  const all: Uint8Array[] = [];
  const kept = (): number => all.filter((it) => it.length > 0).length;
  for (let round = 0; round < 100; round++) {
    leftovers.giveBackFew();
    expect(kept()).toBe(0);
    for (let i = 0; i < 10; i++) {
      const buffer = new Uint8Array(100);
      all.push(buffer);
      leftovers.add(buffer);
    }
  }
});

test("of what one has left who had much, a few are given back at a time", () => {
  const leftovers = new Leftovers();
  const all = Array.from({ length: 1_000 }, () => new Uint8Array(100));
  for (const buffer of all) leftovers.add(buffer);
  leftovers.giveBackFew();
  expect(all.filter((it) => it.length === 0).length).toBe(16);
  expect(leftovers.giveBack(() => false)).toBe(false);
  expect(all.every((it) => it.length === 0)).toBe(true);
});
