/** Where the project is, and as of when packages of it are made. */
import { $ } from "bun";
import { join } from "node:path";

/** The project's directory. */
export const projectRoot: string = join(import.meta.dir, "..");

/**
 * Unix seconds that all packages say they were made at, so that the same sources give the same
 * packages: SOURCE_DATE_EPOCH, or the time of the last commit. Throws an Error without either.
 */
export async function sourceDateEpoch(): Promise<number> {
  const given = process.env.SOURCE_DATE_EPOCH ?? "";
  if (/^\d{1,11}$/.test(given)) return Number(given);
  if (given !== "") throw new Error(`SOURCE_DATE_EPOCH: found "${given}"; allowed: Unix seconds`);
  const { exitCode, stdout } = await $`git log -1 --format=%ct`.cwd(projectRoot).quiet().nothrow();
  if (exitCode === 0) return Number(stdout.toString());
  throw new Error("this is no git checkout: set SOURCE_DATE_EPOCH to the time of the release");
}
