/**
 * `bun run siege`: every attack that the project knows, one after the other, each against a node of
 * the built binary with a polite client beside it.
 *
 *   bun run siege [--only NAME[,NAME…]] [--scale 0.1] [--list]
 *
 * The table tells the longest that the polite client waited, the same without the time in which the
 * machine, which also runs the attacker, had no processor for the node or the client (so this is
 * the wait on an idle machine), the most that the node's event loop worked in such a time (in
 * processor time), the memory taken at the most and at the end (beyond the data), and how many
 * acknowledged writes were lost. The exit code is 1 when anything was lost, a node ended, memory or
 * a wait on an idle machine went beyond its limit, or the log said what is not so.
 */
import { parseArgs } from "node:util";
import { merklekvBinary } from "../support/binary.ts";
import type { Attack } from "./attack.ts";
import { attacks } from "./attacks.ts";
import { besiege, type Verdict } from "./besiege.ts";

/** What a node must stay within. */
const MOST_WAIT_MS = 50;
const MOST_BYTES = 256 * 1_048_576;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    scale: { type: "string", default: "1" },
    list: { type: "boolean", default: false },
  },
});
const scale = Number(values.scale);
const chosen = choose(values.only?.split(","));
if (typeof chosen === "string" || !(scale > 0 && scale <= 1)) {
  console.error(typeof chosen === "string" ? chosen : "--scale takes a number up to 1");
  process.exit(2);
}
if (values.list) {
  for (const { name, what } of chosen) console.log(`${name.padEnd(28)} ${what}`);
  process.exit(0);
}
await merklekvBinary();
console.log(
  row(
    "attack",
    "worst wait",
    "when idle",
    "work in it",
    "p99",
    "memory, peak",
    "at the end",
    "lost",
    "",
  ),
);
let hasFailed = false;
for (const attack of chosen) {
  const verdict = await besiege(attack, scale);
  const problems = problemsOf(verdict);
  if (problems.length > 0) hasFailed = true;
  const { polite, peakBytes, leftBytes, lost } = verdict;
  console.log(
    row(
      attack.name,
      `${polite.worstMs.toFixed(1)} ms`,
      `${polite.worstIdleMs.toFixed(1)} ms`,
      `${polite.worstWorkMs.toFixed(1)} ms`,
      `${polite.p99Ms.toFixed(1)} ms`,
      megabytes(peakBytes),
      megabytes(leftBytes),
      String(lost),
      problems.length === 0 ? "held" : "BROKE",
    ),
  );
  for (const problem of problems) console.log(`    ${problem}`);
}
process.exit(hasFailed ? 1 : 0);

function choose(names: readonly string[] | undefined): readonly Attack[] | string {
  if (names === undefined) return attacks;
  const found = names.map((name) => attacks.find((attack) => attack.name === name));
  const unknown = names.filter((_, i) => found[i] === undefined);
  if (unknown.length > 0) return `no attack is called ${unknown.join(", ")}; --list shows them`;
  return found.filter((attack) => attack !== undefined);
}

function problemsOf({ polite, peakBytes, lost, faults }: Verdict): string[] {
  const problems = [...faults];
  if (polite.worstIdleMs > MOST_WAIT_MS) problems.push(`a wait above ${MOST_WAIT_MS} ms`);
  if (peakBytes > MOST_BYTES) problems.push(`memory above ${megabytes(MOST_BYTES)}`);
  if (lost > 0) problems.push(`${lost} acknowledged writes lost`);
  return problems;
}

function row(...[name, ...cells]: string[]): string {
  return `${name.padEnd(28)}${cells.map((cell) => cell.padStart(13)).join("")}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(0)} MB`;
}
