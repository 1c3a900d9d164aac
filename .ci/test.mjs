/**
 * `npm test`: set-up, then `test/suite/run.ts`, which checks and tests all there is. The last line is
 * one of real counts, whatever happens.
 */
import { spawnSync } from "node:child_process";
import { bun, root, setUp } from "./setup.mjs";

try {
  setUp();
  const { status, error } = spawnSync(bun, ["test/suite/run.ts"], { cwd: root, stdio: "inherit" });
  // 1 is its own way to say that something failed; then it has printed the counts.
  if (status === null || status > 1) throw error ?? new Error(`The tests ended with ${status}.`);
  process.exitCode = status;
} catch (error) {
  console.error(error.message);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
}
