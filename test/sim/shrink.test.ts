/** Failing seeds made small, and what makes that possible: that nothing hangs on what is left out. */
import { expect, test } from "bun:test";
import { Chance } from "./chance.ts";
import { shrink, kindOfFailure } from "./shrink.ts";
import { simulate, type Outcome } from "./simulation.ts";
import { argumentsOf, AS_DRAWN, parseVariation, type Variation } from "./variation.ts";

const SEED = 7;

test("draws follow from the seed, the name and the moment alone", () => {
  let nowMs = 0;
  const draw = (name: string, moments: number[]) => {
    const chance = new Chance(SEED, name, () => nowMs);
    return moments.map((at) => {
      nowMs = at;
      return chance.next();
    });
  };
  const [a, b, c] = draw("n0", [1, 2, 2]);
  expect(draw("n0", [2, 2])).toEqual([b, c]);
  expect(new Set([a, b, c, ...draw("n1", [1, 2])]).size).toBe(5);
});

test("draws are spread evenly, within a moment and over moments", () => {
  let nowMs = 0;
  for (const stepMs of [0, 1, 0.37]) {
    const chance = new Chance(SEED, "n0", () => (nowMs += stepMs));
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) counts[chance.below(10)]++;
    for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(150);
  }
});

test("a seed with all its acts named is the seed itself", () => {
  const whole = simulate(SEED, { isTraced: true });
  const only = new Set(whole.acts.map(({ name }) => name));
  const again = simulate(SEED, { isTraced: true, variation: { ...AS_DRAWN, only } });
  expect(again.trace).toEqual(whole.trace);
});

test("acts that are left out change no other act", () => {
  const whole = simulate(SEED);
  const isLeftOut = (text: string) => text.endsWith(" k0") || text.includes("crash");
  const left = whole.acts.filter(({ text }) => !isLeftOut(text));
  expect(left.length).toBeLessThan(whole.acts.length);
  const only = new Set(left.map(({ name }) => name));
  const less = simulate(SEED, { variation: { ...AS_DRAWN, only } });
  expect(less.failure).toBeNull();
  // A node that does not crash is there for what its clients do then: no more than that is new.
  expect(left.filter((act) => !less.acts.some((it) => Bun.deepEquals(it, act)))).toEqual([]);
});

test("a node that is left out is never there, and the others come to rest", () => {
  const { nodes, failure } = simulate(SEED, {
    variation: { ...AS_DRAWN, without: new Set(["n0"]) },
  });
  expect(nodes).not.toContain("n0");
  expect(failure).toBeNull();
});

/** A seed of 100 acts that fails when two of them are done while messages are lost. */
function failingRun({ only, without, change }: Variation): Outcome {
  const names = Array.from({ length: 100 }, (_, i) => `${i}.0`);
  const acts = names
    .filter((name) => only === null || only.has(name))
    .map((name, i) => ({ name, text: `n${i % 3} SET k${i % 5}` }));
  const has = (name: string) => acts.some((act) => act.name === name);
  const fails = has("17.0") && has("63.0") && !without.has("n1") && change.broker?.drop !== 0;
  const { plan } = simulated;
  return {
    seed: 0,
    failure: fails ? `k3 is ${acts.length} and should be 1` : acts.length < 3 ? "k4: else" : null,
    acts,
    nodes: ["n0", "n1", "n2"].filter((id) => !without.has(id)),
    plan: { ...plan, ...change, broker: { ...plan.broker, drop: 0.1, ...change.broker } },
    trace: [],
    keyHistory: [],
    counts: {},
  };
}

const simulated = simulate(SEED);

test("what a failure does not take is left out", () => {
  const small = shrink(failingRun(AS_DRAWN), AS_DRAWN, failingRun, () => true);
  expect(small.outcome.acts.map(({ name }) => name)).toEqual(["17.0", "63.0"]);
  expect(small.outcome.nodes).toEqual(["n1"]);
  expect(small.outcome.plan.broker).toMatchObject({ drop: 0.1, duplicate: 0, reorder: 0 });
  expect(small.runs).toBeLessThan(150);
});

test("when time is up, the smallest so far is what there is", () => {
  let left = 3;
  const small = shrink(failingRun(AS_DRAWN), AS_DRAWN, failingRun, () => left-- > 0);
  expect(small.runs).toBe(3);
  expect(kindOfFailure(small.outcome.failure!)).toBe("k#");
});

test("the same failure is one that says the same of another key, node or value", () => {
  const first = kindOfFailure('n0: k3 is {"value":"7"} and should be {"value":"9"}');
  expect(kindOfFailure('n2: k12 is null and should be {"value":"1"}')).toBe(first);
  expect(kindOfFailure("k3: held is a value that nobody wrote")).not.toBe(first);
});

test("a variation survives the command line", () => {
  const { variation } = shrink(failingRun(AS_DRAWN), AS_DRAWN, failingRun, () => true);
  const shell = Bun.spawnSync(["sh", "-c", `printf '%s\\n' ${argumentsOf(variation)}`]);
  const [, only, , without, , change] = shell.stdout.toString().split("\n");
  expect(parseVariation({ only, without, change })).toEqual(variation);
});
