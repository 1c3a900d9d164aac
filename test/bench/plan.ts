/** How much is to be measured, and how rounds take turns. */
import type { Measurement } from "./report.ts";

/** What the parts are told. */
export interface Plan {
  /** How often each thing is measured, at least 1. */
  readonly rounds: number;
  /** Fewer requests each. */
  readonly isQuick: boolean;
  /** Says what is being done. */
  note(what: string): void;
  /** Says, with the results, what could not be measured and why. */
  skipped(why: string): void;
}

/** Leaves a part out. */
export function skip(plan: Plan, why: string): Measurement[] {
  plan.skipped(why);
  return [];
}

/**
 * Orders in which so many things are to take turns, so that each is in each place equally often, and
 * comes equally often after each other: neither what the machine does meanwhile nor what the one
 * before leaves behind favours any. (Williams, "Experimental designs balanced for the estimation of
 * residual effects of treatments", 1949.)
 */
export function balancedOrders(count: number): number[][] {
  const first = Array.from({ length: count }, (_, i) => (i % 2 === 1 ? (i + 1) / 2 : -i / 2));
  const orders = Array.from({ length: count }, (_, shift) =>
    first.map((it) => (it + shift + count) % count),
  );
  return count % 2 === 0 ? orders : orders.flatMap((order) => [order, order.toReversed()]);
}

/**
 * Measures every subject once a round, one after the other, in the opposite order every other round:
 * what the machine does meanwhile meets them all alike. For each subject its results, by round.
 */
export async function inTurns<Subject, Result>(
  plan: Plan,
  subjects: readonly Subject[],
  what: string,
  measure: (subject: Subject) => Promise<Result>,
): Promise<Result[][]> {
  const results: Result[][] = subjects.map(() => []);
  for (let round = 0; round < plan.rounds; round++) {
    plan.note(`${what}: round ${round + 1} of ${plan.rounds}`);
    const order = [...subjects.keys()];
    if (round % 2 === 1) order.reverse();
    for (const i of order) results[i].push(await measure(subjects[i]));
  }
  return results;
}
