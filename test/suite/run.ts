/**
 * All checks and tests of the project: format, types, lint, the binary, every test. Tests run in a few
 * processes side by side, because many of them mostly wait. What each process said is printed when
 * it has ended; what failed is told once more at the end, and the last line is one of real counts.
 *
 * A check that fails counts as one failure, and the rest still runs.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { projectRoot } from "../support/binary.ts";
import { partsOf } from "./parts.ts";
import { outcomeOf, report, type Outcome } from "./report.ts";
import { tellOfSilence } from "./silence.ts";

/** How many processes run tests at a time: one more than there are cores, because many wait. */
const LANES = Math.min(4, availableParallelism() + 1);
/** One that takes longer hangs, and is ended. */
const MOST_MS = 840_000;

const directory = mkdtempSync(join(tmpdir(), "merklekv-suite-"));
const outcomes: Outcome[] = [];
try {
  // Tests run the binary.
  await check("run", "build");
  const files = [...new Bun.Glob("**/*.test.ts").scanSync(join(projectRoot, "test"))];
  const jobs = [
    ...[["fmt", "--check"], ["check"], ["run", "lint"]].map((args) => () => check(...args)),
    ...partsOf(files).map((part) => () => runTests(part)),
  ];
  const lane = async (): Promise<void> => {
    for (let job; (job = jobs.shift()) !== undefined;) await job();
  };
  await Promise.all(Array.from({ length: LANES }, lane));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
const { text, hasFailed } = report(outcomes);
console.log(text);
process.exitCode = hasFailed ? 1 : 0;

async function check(...args: string[]): Promise<void> {
  const { code, output } = await runBun(args);
  const failures = code === 0 ? [] : [{ name: `bun ${args.join(" ")}`, text: output }];
  outcomes.push({ passed: 0, failed: failures.length, skipped: 0, failures });
}

async function runTests(files: readonly string[]): Promise<void> {
  const { code, output } = await runBun(["test", ...files.map((file) => `./test/${file}`)]);
  outcomes.push(outcomeOf(output, code, files));
}

/** Runs this Bun to its end and prints what it said. */
async function runBun(args: string[]): Promise<{ code: number | null; output: string }> {
  // In one file the two streams keep their order.
  const path = join(directory, crypto.randomUUID());
  const file = openSync(path, "a");
  const startedMs = performance.now();
  const child = Bun.spawn([process.execPath, ...args], {
    cwd: projectRoot,
    stdio: ["ignore", file, file],
    timeout: MOST_MS,
    killSignal: "SIGKILL",
  });
  const endTelling = tellOfSilence(file, child.pid);
  await child.exited;
  endTelling();
  closeSync(file);
  const output = readFileSync(path, "utf8");
  const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
  console.log(`\n$ bun ${args.join(" ")}   # ${seconds} s\n${output.trim()}`);
  return { code: child.exitCode, output };
}
