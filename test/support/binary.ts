/** The compiled binary that tests run, built when it is missing or older than its sources. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { CURRENT, type Capabilities } from "../../src/core/data/capabilities.ts";

/** The project's directory. */
export const projectRoot: string = join(import.meta.dir, "../..");

let building: Promise<string> | undefined;

/**
 * The path of an up-to-date `dist/merklekv`, or what MERKLEKV_BINARY names instead: an executable
 * for another kind of machine, say, in a script that emulates that. Builds at most once per process; two processes that
 * build at the same time do no harm, because a build puts the finished file in place by rename.
 * Throws with the compiler's output when the build fails.
 */
export function merklekvBinary(): Promise<string> {
  const { MERKLEKV_BINARY: other } = process.env;
  return (building ??= other ? Promise.resolve(other) : build());
}

async function build(): Promise<string> {
  const path = join(projectRoot, "dist/merklekv");
  if (modifiedMs(path) < newestSourceMs()) {
    const compiler = Bun.spawn([process.execPath, "run", "build"], {
      cwd: projectRoot,
      stdout: "pipe",
      stderr: "pipe",
    });
    const output = await Promise.all([compiler.stdout.text(), compiler.stderr.text()]);
    if ((await compiler.exited) !== 0) throw new Error(`bun run build failed:\n${output.join("")}`);
  }
  return path;
}

/**
 * A binary of the same sources that plays another version of the protocol between nodes: that speaks
 * versions `lowest` to `highest`, with those features. It goes into `directory`.
 */
export async function binaryAs(capabilities: Capabilities, directory: string): Promise<string> {
  if (Bun.deepEquals(capabilities, CURRENT)) return merklekvBinary();
  const { lowest, highest, features } = capabilities;
  const path = join(directory, `merklekv-${lowest}-${highest}-${features}`);
  const as = `MERKLEKV_CAPABILITIES="${lowest} ${highest} ${features}"`;
  const flags = ["--compile", "--production", "--define", as, "--outfile", path];
  const compiler = Bun.spawn([process.execPath, "build", "src/main.ts", ...flags], {
    cwd: projectRoot,
    stdout: "pipe",
    stderr: "pipe",
  });
  const output = await Promise.all([compiler.stdout.text(), compiler.stderr.text()]);
  if ((await compiler.exited) !== 0) throw new Error(`bun build failed:\n${output.join("")}`);
  return path;
}

function newestSourceMs(): number {
  const sources = readdirSync(join(projectRoot, "src"), { recursive: true }).map(String);
  const inputs = ["package.json", "bun.lock", "src", ...sources.map((name) => join("src", name))];
  return Math.max(...inputs.map((name) => modifiedMs(join(projectRoot, name))));
}

/** 0 for a file that is not there. */
function modifiedMs(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
