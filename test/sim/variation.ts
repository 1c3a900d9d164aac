/**
 * What is left out of a seed, or made simpler, to see whether it fails all the same. What clients
 * and troubles do are *acts*, each with a name of its own and with draws of its own, so that one can
 * be left out without a change to the others.
 */
import type { Plan } from "./plan.ts";

/** One thing that a client or a trouble did. */
export interface Act {
  /** The turn it is of, and which of that turn's: `17.crash`, `17.0` for the client's first command. */
  readonly name: string;
  /** Who did what. */
  readonly text: string;
}

/** Settings of a plan in the place of those that were drawn. */
export type PlanChange = Partial<Omit<Plan, "broker">> & { broker?: Partial<Plan["broker"]> };

/** How a run differs from what its seed stands for. */
export interface Variation {
  /** The acts that are done, by their names; null for all. */
  readonly only: ReadonlySet<string> | null;
  /** Nodes that are never started, by their ids. */
  readonly without: ReadonlySet<string>;
  readonly change: PlanChange;
}

/** What the seed stands for. */
export const AS_DRAWN: Variation = { only: null, without: new Set(), change: {} };

/** The plan with the changes. */
export function changedPlan(plan: Plan, change: PlanChange): Plan {
  return { ...plan, ...change, broker: { ...plan.broker, ...change.broker } };
}

/** As arguments of the command line. */
export function argumentsOf({ only, without, change }: Variation): string {
  const parts: string[] = [];
  if (only !== null) parts.push(`--only '${[...only].join(",")}'`);
  if (without.size > 0) parts.push(`--without ${[...without].join(",")}`);
  if (Object.keys(change).length > 0) parts.push(`--change '${JSON.stringify(change)}'`);
  return parts.map((part) => ` ${part}`).join("");
}

/** What `argumentsOf` wrote. Undefined arguments leave things as they were drawn. */
export function parseVariation(texts: {
  only?: string | undefined;
  without?: string | undefined;
  change?: string | undefined;
}): Variation {
  const split = (text: string) => new Set(text.split(",").filter((it) => it !== ""));
  return {
    only: texts.only === undefined ? null : split(texts.only),
    without: split(texts.without ?? ""),
    change: JSON.parse(texts.change ?? "{}") as PlanChange,
  };
}
