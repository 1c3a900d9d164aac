/** That many nodes do not all do the same at once, and yet leave out nobody. */
import { expect, test } from "bun:test";
import { Fleet } from "./fleet.ts";

const NODES = 40;
/** Sessions a node, for each doubling of their number: far below one with each other node. */
const MOST_A_DOUBLING = 6;

test("a fleet stays alike by a few sessions of each node, begun at random, with little to say", () => {
  const costs = new Map([...new Fleet(NODES).run()].map((cost) => [cost.what, cost]));
  const equal = costs.get("equal")!;
  // One round for each node in the time between two rounds.
  expect(equal.sessions / NODES).toBeLessThanOrEqual(1.5);
  expect(equal.bytes / equal.sessions).toBeLessThanOrEqual(400);
  for (const { presenceRate } of costs.values()) expect(presenceRate / NODES).toBeLessThan(2_000);
  for (const what of ["left by one gone", "write, no broker", "broker restart", "power cut"]) {
    const { sessions, mostAtOnce, seconds } = costs.get(what)!;
    expect(sessions / NODES / Math.log2(NODES)).toBeLessThan(MOST_A_DOUBLING);
    expect(mostAtOnce).toBeLessThanOrEqual(9);
    // Of simulated time: a tenth of what is between two rounds.
    expect(seconds).toBeLessThan(60);
  }
});
