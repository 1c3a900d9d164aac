/** Sorting ids by key against sorting strings. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { sortByKey } from "../../src/core/store/key-sort.ts";
import { inOneGo } from "../../src/core/store/pieces.ts";
import { seeded } from "../support/random.ts";
import { awkwardKey, bytes, nameOf, TestKeys } from "../support/test-keys.ts";

/** Sorts keys given in this order, and compares. */
function check(names: string[]): void {
  const keys = new TestKeys();
  const ids = Uint32Array.from(names, (name) => keys.add(bytes(name)));
  inOneGo(sortByKey(ids, keys));
  expect(Array.from(ids, (id) => nameOf(keys.byId[id]))).toEqual([...names].sort());
}

/** The first `run` in order, the rest shuffled. */
function partlySorted(names: string[], run: number, seed: number): string[] {
  const random = seeded(seed);
  const shuffled = names
    .map((name) => ({ name, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ name }) => name);
  return [...shuffled.slice(0, run).sort(), ...shuffled.slice(run)];
}

describe("sorting by key", () => {
  test("agrees with sorting strings, whatever the keys and whichever of them ascend already", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(awkwardKey.map(nameOf), { maxLength: 400, size: "max" }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(),
        (names, share, seed) => check(partlySorted(names, Math.floor(names.length * share), seed)),
      ),
      { numRuns: 150 },
    );
  });

  test.each<[string, (n: number) => string]>([
    ["numbered keys", (n) => `key:${String(n).padStart(12, "0")}`],
    ["unlike keys", (n) => Bun.hash.wyhash(String(n)).toString(16)],
    ["several fields a record", (n) => `user:${n >> 2}:${["age", "city", "mail", "name"][n & 3]}`],
    ["two prefixes", (n) => `tenant-${n & 1 ? "A" : "B"}:a-prefix-longer-than-a-word:${n}`],
    ["a very long prefix", (n) => "p".repeat(300) + n],
    ["nothing but zeros at the end", (n) => "z".repeat(1 + (n >> 9)) + "\0".repeat(n & 511)],
    ["every byte", (n) => String.fromCharCode((n * 7) & 255, n & 255, n >> 8)],
  ])("sorts %s", (_, nameOf) => {
    const names = Array.from({ length: 5_000 }, (_, n) => nameOf(n));
    for (const run of [0, 2_000, 4_000, 4_999, 5_000]) check(partlySorted(names, run, run));
    check([...names].sort().reverse());
  });

  test.each<[string, (n: number) => string]>([
    ["numbered keys", (n) => `key:${String(n * 97).padStart(12, "0")}`],
    ["keys that share less than the first of them", (n) => (n < 60_000 ? `prefix:${n}` : `p${n}`)],
    ["many that agree in eight bytes", (n) => `k${"0".repeat(8 + (n % 3))}${n >> 6}/${n & 63}`],
  ])("sorts so many that it goes by two bytes at a time: %s", (_, nameOf) => {
    check(
      partlySorted(
        Array.from({ length: 70_000 }, (_, n) => nameOf(n)),
        0,
        1,
      ),
    );
  });
});
