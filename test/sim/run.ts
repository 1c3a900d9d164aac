/**
 * `bun run sim --seeds N [--seed S] [--forgetting] [--liar] [--jumps] [--versions] [--thin]
 * [--paced] [--sealed] [--trace] [--shrink SECONDS]`: runs N seeds from S on (1 and 0 by default),
 * tells how far it is, and stops at the first that fails, with exit code 1.
 *
 * A failing seed is made small (`shrink.ts`, two minutes at most by default, not at all with
 * `--shrink 0`), and what is left tells the whole history of the key at fault: its writes and merges,
 * where each copy went, and the crashes and troubles of all nodes. A command line that runs the
 * small one again comes last: it says with `--only`, `--without` and `--change` what is left of the seed.
 *
 * `--trace` tells what happened to all keys, in a seed that does not fail, too. `--forgetting`
 * draws clusters in which deletions are forgotten while few nodes reach each other. With `--liar` each
 * has a member that lies, which a tenth of them have otherwise. With `--jumps` clocks jump often, which
 * they do in a quarter of them otherwise; with `--versions` nodes are upgraded and downgraded, as they
 * are in a quarter otherwise; with `--thin` one is at the end of a thin line, as in a tenth otherwise;
 * with `--paced` the broker takes few messages a second, as in a tenth otherwise; with `--sealed` the
 * cluster has a secret, as in a quarter otherwise.
 */
import { parseArgs } from "node:util";
import { shrink } from "./shrink.ts";
import { simulate, type Outcome, type SimulationOptions } from "./simulation.ts";
import { argumentsOf, parseVariation, type Variation } from "./variation.ts";

/** Of a failure that is of no key in particular. */
const SHOWN_LINES = 300;
/** Of what kind seeds are to be, besides what is drawn. */
const KINDS = ["forgetting", "liar", "jumps", "versions", "thin", "paced", "sealed"] as const;
/** Between two words on how far it is. */
const PROGRESS_MS = 5_000;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1" },
    seed: { type: "string", default: "0" },
    forgetting: { type: "boolean", default: false },
    liar: { type: "boolean", default: false },
    jumps: { type: "boolean", default: false },
    versions: { type: "boolean", default: false },
    thin: { type: "boolean", default: false },
    paced: { type: "boolean", default: false },
    sealed: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
    shrink: { type: "string", default: "120" },
    only: { type: "string" },
    without: { type: "string" },
    change: { type: "string" },
  },
});
const first = Number(values.seed);
const seeds = Number(values.seeds);
const shrinkSeconds = Number(values.shrink);
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(seeds) || seeds < 1) {
  console.error("--seeds and --seed take whole numbers");
  process.exit(2);
}
if (!(shrinkSeconds >= 0)) {
  console.error("--shrink takes a number of seconds");
  process.exit(2);
}
const asked = parseVariation(values);

const totals: Record<string, number> = {};
const startedAt = performance.now();
let shownAt = startedAt;
for (let seed = first; seed < first + seeds; seed++) {
  const outcome = run(seed, asked, values.trace);
  for (const [name, count] of Object.entries(outcome.counts)) {
    totals[name] = (totals[name] ?? 0) + count;
  }
  if (outcome.failure !== null) {
    report(outcome);
    process.exit(1);
  }
  if (values.trace) console.log(outcome.trace.join("\n"));
  if (performance.now() - shownAt < PROGRESS_MS) continue;
  shownAt = performance.now();
  console.error(`${seed - first + 1} of ${seeds} seeds, all well, ${passedSeconds()} s`);
}
console.log(`${seeds} seeds from ${first} on, all well, in ${passedSeconds()} s`);
console.log(
  Object.entries(totals)
    .map(([name, count]) => `${name} ${count}`)
    .join(", "),
);

function passedSeconds(): string {
  return ((performance.now() - startedAt) / 1_000).toFixed(1);
}

function run(seed: number, variation: Variation, isTraced: boolean): Outcome {
  const options: SimulationOptions = { variation, isTraced, isForgetting: values.forgetting };
  if (values.liar) Object.assign(options, { hasLiar: true });
  if (values.jumps) Object.assign(options, { hasJumps: true });
  if (values.versions) Object.assign(options, { hasVersions: true });
  if (values.thin) Object.assign(options, { hasThinLine: true });
  if (values.paced) Object.assign(options, { isPaced: true });
  if (values.sealed) Object.assign(options, { isSealed: true });
  return simulate(seed, options);
}

/** Says what failed, makes it small, and tells the history of what is left. */
function report(failing: Outcome): void {
  const { seed, failure } = failing;
  console.log(`seed ${seed} fails: ${failure}`);
  const kinds = KINDS.filter((kind) => values[kind]).map((kind) => ` --${kind}`);
  const again = `bun run sim --seed ${seed}${kinds.join("")}`;
  let variation = asked;
  if (shrinkSeconds > 0) {
    console.error(`making it small, for ${shrinkSeconds} s at most`);
    const endMs = performance.now() + shrinkSeconds * 1_000;
    const goesOn = () => performance.now() < endMs;
    const small = shrink(failing, asked, (it) => run(seed, it, false), goesOn);
    variation = small.variation;
    const { acts, nodes } = small.outcome;
    console.log(
      `\nIn ${small.runs} runs made small: ${acts.length} acts of ${failing.acts.length}, ` +
        `${nodes.length} nodes of ${failing.nodes.length}`,
    );
    for (const { name, text } of acts) console.log(`  ${name.padEnd(14)} ${text}`);
  }
  const { trace, keyHistory, failure: smallFailure } = run(seed, variation, true);
  const told = keyHistory.length > 0 ? keyHistory : trace.slice(-SHOWN_LINES);
  console.log(`\n${(values.trace ? trace : told).join("\n")}`);
  console.log(`\nseed ${seed} fails: ${smallFailure}`);
  console.log(`again: ${again}${argumentsOf(variation)} --shrink 0`);
  console.log(`in full: ${again}${argumentsOf(asked)} --shrink 0 --trace`);
}
