/**
 * `npm test`: set-up, formatting, types, lint, the binary, every test; then one line of real counts, last.
 *
 * Each step before the tests counts as one failure when it fails, and the rest still runs.
 */
import { spawn } from "node:child_process";
import { bun, root, setUp } from "./setup.mjs";

/** Runs the pinned Bun, its output passed on as it comes; resolves with exit code and stderr. */
function runBun(...args) {
  return new Promise((resolve) => {
    const child = spawn(bun, args, { cwd: root, stdio: ["ignore", "inherit", "pipe"] });
    let errors = "";
    child.stderr.on("data", (chunk) => {
      process.stderr.write(chunk);
      errors += chunk;
    });
    child.on("error", () => resolve({ code: 1, errors }));
    child.on("close", (code) => resolve({ code, errors }));
  });
}

/** Adds up what `bun test` says in the lines after its last test (" 7 pass", " 0 fail", …). */
function countsIn(errors) {
  const counts = { pass: 0, fail: 0, skip: 0, todo: 0 };
  const plain = errors.replace(/\x1b\[[0-9;]*m/g, "");
  for (const [, count, kind] of plain.matchAll(/^ *(\d+) (pass|fail|skip|todo)$/gm)) {
    counts[kind] = Number(count);
  }
  return { passed: counts.pass, failed: counts.fail, skipped: counts.skip + counts.todo };
}

async function runAll() {
  try {
    setUp();
  } catch (error) {
    console.error(error.message);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  let broken = 0;
  for (const step of [["fmt", "--check"], ["check"], ["run", "lint"], ["run", "build"]]) {
    console.error(`\n$ bun ${step.join(" ")}`);
    if ((await runBun(...step)).code !== 0) broken += 1;
  }
  console.error("\n$ bun test");
  const { code, errors } = await runBun("test");
  const { passed, failed, skipped } = countsIn(errors);
  const silent = code !== 0 && failed === 0 ? 1 : 0; // it crashed, found no test, or had an error outside tests
  return { passed, failed: failed + broken + silent, skipped };
}

const { passed, failed, skipped } = await runAll();
process.exitCode = failed > 0 ? 1 : 0;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
