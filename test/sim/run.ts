/**
 * `bun run sim --seeds N [--seed S] [--forgetting] [--trace]`: runs N seeds from S on (1 and 0 by
 * default), and stops at the first that fails, with the whole history of the key at fault: its
 * writes and merges, where each copy went, and the crashes and troubles of all nodes. `--trace`
 * tells what happened to all keys, in a seed that does not fail, too. `--forgetting` draws clusters
 * in which deletions are forgotten while few nodes reach each other.
 */
import { parseArgs } from "node:util";
import { simulate, type Outcome } from "./simulation.ts";

/** Of a failure that is of no key in particular. */
const SHOWN_LINES = 300;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1" },
    seed: { type: "string", default: "0" },
    forgetting: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
  },
});
const first = Number(values.seed);
const seeds = Number(values.seeds);
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(seeds) || seeds < 1) {
  console.error("--seeds and --seed take whole numbers");
  process.exit(2);
}

const totals: Record<string, number> = {};
const startedAt = performance.now();
let shownAt = startedAt;
for (let seed = first; seed < first + seeds; seed++) {
  const outcome = simulate(seed, values.trace, values.forgetting);
  for (const [name, count] of Object.entries(outcome.counts)) {
    totals[name] = (totals[name] ?? 0) + count;
  }
  if (outcome.failure !== null) {
    report(simulate(seed, true, values.forgetting));
    process.exit(1);
  }
  if (values.trace) console.log(outcome.trace.join("\n"));
  if (performance.now() - shownAt < 5_000) continue;
  shownAt = performance.now();
  console.error(`${seed - first + 1} seeds, all well`);
}
const seconds = (performance.now() - startedAt) / 1_000;
console.log(`${seeds} seeds from ${first} on, all well, in ${seconds.toFixed(1)} s`);
console.log(
  Object.entries(totals)
    .map(([name, count]) => `${name} ${count}`)
    .join(", "),
);

/** The whole history of the key at fault; without one, what happened last. */
function report({ seed, failure, keyHistory, trace }: Outcome): void {
  const told = keyHistory.length > 0 ? keyHistory : trace.slice(-SHOWN_LINES);
  console.log((values.trace ? trace : told).join("\n"));
  console.log(`\nseed ${seed} fails: ${failure}`);
  console.log(
    `again: bun run sim --seed ${seed} --trace${values.forgetting ? " --forgetting" : ""}`,
  );
}
