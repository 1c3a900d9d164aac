/**
 * A few hundred seeds of the whole-cluster simulation; `bun run sim` runs any number. What has
 * to hold is said in `oracle.ts`.
 */
import { describe, expect, test } from "bun:test";
import { simulate } from "./simulation.ts";

const SEEDS = 300;
const SEEDS_A_TEST = 25;

const firsts = Array.from({ length: SEEDS / SEEDS_A_TEST }, (_, i) => i * SEEDS_A_TEST);

describe("clusters in trouble come to rest as they must", () => {
  test.each(firsts)("25 seeds from %d on", (first) => {
    for (let seed = first; seed < first + SEEDS_A_TEST; seed++) {
      const { failure } = simulate(seed);
      expect(failure && `bun run sim --seed ${seed}: ${failure}`).toBeNull();
    }
  });
});

describe("deletions that are forgotten stay what they were", () => {
  test.each([0, 10, 20, 30])("10 seeds from %d on", (first) => {
    for (let seed = first; seed < first + 10; seed++) {
      const { failure } = simulate(seed, { isForgetting: true });
      expect(failure && `bun run sim --forgetting --seed ${seed}: ${failure}`).toBeNull();
    }
  });
});

describe("a member that lies takes no write from the honest, and they end equal", () => {
  test.each([0, 10])("10 seeds from %d on", (first) => {
    for (let seed = first; seed < first + 10; seed++) {
      const { failure } = simulate(seed, { hasLiar: true });
      expect(failure && `bun run sim --liar --seed ${seed}: ${failure}`).toBeNull();
    }
  });
});

describe("clocks that jump by hours and years take no write that was answered", () => {
  test.each([0, 10])("10 seeds from %d on", (first) => {
    for (let seed = first; seed < first + 10; seed++) {
      const { failure } = simulate(seed, { hasJumps: true });
      expect(failure && `bun run sim --jumps --seed ${seed}: ${failure}`).toBeNull();
    }
  });
});

describe("clusters with a secret do as well, whatever is repeated or forged at the broker", () => {
  test.each([0, 10, 20])("10 seeds from %d on", (first) => {
    for (let seed = first; seed < first + 10; seed++) {
      const { failure } = simulate(seed, { isSealed: true });
      expect(failure && `bun run sim --sealed --seed ${seed}: ${failure}`).toBeNull();
    }
  });
});

test("a seed replays exactly", () => {
  for (const seed of [1, 2, 3]) {
    const options = { isTraced: true, isSealed: seed === 3 };
    const [first, again] = [simulate(seed, options), simulate(seed, options)];
    expect(first.trace.length).toBeGreaterThan(10);
    expect(again).toEqual(first);
  }
});
