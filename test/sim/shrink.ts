/**
 * Makes a failing seed small: leaves out acts, nodes and troubles as long as the same failure
 * comes, by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
 * Input", 2002). What is left is what the failure takes.
 */
import type { Outcome } from "./simulation.ts";
import { argumentsOf, changedPlan, type PlanChange, type Variation } from "./variation.ts";

/** Settings that are simpler than any that is drawn; tried one after the other. */
const SIMPLER: readonly PlanChange[] = [
  { broker: { drop: 0 } },
  { broker: { duplicate: 0 } },
  { broker: { reorder: 0 } },
  { broker: { maxPacketBytes: 0 } },
  { broker: { mostASecond: 0 } },
  { broker: { forgets: false } },
  { broker: { muted: -1 } },
  { cuts: 0 },
  { drift: 0 },
  { slowness: 0 },
  { maxLatencyMs: 2 },
  { maxDiskMs: 0.5 },
  { segmentBytes: 1_000_000 },
  { cleanSession: true },
  { maxOutboxEvents: 1_000 },
];

/** What came of it. */
export interface Small {
  readonly variation: Variation;
  /** How the smallest one failed. */
  readonly outcome: Outcome;
  /** How often the seed was run. */
  readonly runs: number;
}

/** The kind of a failure: what it says, whichever key, node or value it says it of. */
export function kindOfFailure(failure: string): string {
  const line = failure.split("\n")[0];
  return line.replace(/ is .*/, "").replace(/\d+/g, "#");
}

/**
 * The smallest variation found that fails in the same way. `run` runs a variation; `goesOn` says
 * whether there is time for another run.
 */
export function shrink(
  failing: Outcome,
  variation: Variation,
  run: (variation: Variation) => Outcome,
  goesOn: () => boolean,
): Small {
  const kind = kindOfFailure(failing.failure!);
  let small: Small = { variation, outcome: failing, runs: 0 };

  /** Keeps what fails all the same. */
  const accept = (candidate: Variation): boolean => {
    if (!goesOn()) return false;
    const outcome = run(candidate);
    const runs = small.runs + 1;
    const isSame = outcome.failure !== null && kindOfFailure(outcome.failure) === kind;
    small = isSame ? { variation: candidate, outcome, runs } : { ...small, runs };
    return isSame;
  };
  const names = () => small.outcome.acts.map(({ name }) => name);
  const keepOnly = (kept: readonly string[]) => accept({ ...small.variation, only: new Set(kept) });

  accept({ ...variation, only: new Set(names()) });
  leaveOutSubjects(small.outcome, names, keepOnly);
  let before: string;
  do {
    before = argumentsOf(small.variation);
    leaveOutChunks(names, keepOnly);
    for (const node of small.outcome.nodes) {
      if (small.outcome.nodes.length === 1) break;
      accept({ ...small.variation, without: new Set([...small.variation.without, node]) });
    }
    for (const simpler of SIMPLER) {
      const change = joined(small.variation.change, simpler);
      const { plan } = small.outcome;
      if (!Bun.deepEquals(changedPlan(plan, change), plan)) accept({ ...small.variation, change });
    }
  } while (argumentsOf(small.variation) !== before && goesOn());
  return small;
}

function joined(change: PlanChange, more: PlanChange): PlanChange {
  const broker = { ...change.broker, ...more.broker };
  return { ...change, ...more, ...(Object.keys(broker).length > 0 && { broker }) };
}

/** Leaves out all that was done with one key or at one node, or one kind of trouble. */
function leaveOutSubjects(
  { acts }: Outcome,
  names: () => string[],
  keepOnly: (kept: readonly string[]) => boolean,
): void {
  const subjects = new Set(acts.flatMap(({ text }) => text.split(" ")));
  for (const subject of subjects) {
    const about = acts.filter(({ text }) => text.split(" ").includes(subject));
    const left = new Set(about.map(({ name }) => name));
    const kept = names().filter((name) => !left.has(name));
    if (kept.length < names().length) keepOnly(kept);
  }
}

/** Leaves out runs of acts, long ones first, in the end one by one. */
function leaveOutChunks(
  names: () => string[],
  keepOnly: (kept: readonly string[]) => boolean,
): void {
  for (let size = Math.ceil(names().length / 2); size >= 1; size = Math.floor(size / 2)) {
    // From the end on: what came late is more likely to be of no importance.
    for (let end = names().length; end > 0; end -= size) {
      const all = names();
      keepOnly([...all.slice(0, Math.max(0, end - size)), ...all.slice(end)]);
    }
  }
}
