/** `merklekv check`: verifies a data directory, and repairs it when asked to. */
import { checkDirectory, type DirectoryReport } from "../durability/check.ts";
import { listDataFiles, segmentPath, snapshotPath } from "../durability/data-directory.ts";
import { withExplanation, realFileSystem } from "../durability/file-system.ts";
import { lockDirectory } from "../durability/lock.ts";
import { repairDirectory } from "../durability/restore.ts";
import { OperationalError } from "../operational-error.ts";
import { NO_KEY } from "../durability/sealing.ts";
import { UsageError, type Subcommand } from "./arguments.ts";
import { diskKeysOf, keyFile } from "./disk-keys.ts";
import { bytesOf, withProgress } from "./watched-files.ts";

/** The subcommand. Exit code 0: good, or repaired; 1: damaged, or it could not be checked. */
export const check: Subcommand = {
  usage: "check [--json] [--fix] [--key-file FILE] DIR",
  about:
    "Verifies every frame in the data directory of a node that is stopped. With --fix every good\n" +
    "frame is kept, the files as they were are put aside, and peers heal the rest once the node\n" +
    "runs. Exit code 0: the directory is good, or is now; 1: it is damaged.",
  options: [
    { long: "--json", about: "Print one JSON object." },
    { long: "--fix", about: "Repair what is damaged." },
    keyFile,
  ],
  acceptsOperands: true,

  async run(given) {
    const words = given.words.filter((word) => !word.startsWith("--"));
    const flags = new Set(given.words.filter((word) => word.startsWith("--")));
    const isJson = given.has("--json") || flags.delete("--json");
    const fixes = given.has("--fix") || flags.delete("--fix");
    if (words.length !== 1 || flags.size > 0) throw new UsageError(`usage: ${check.usage}`);
    const directory = words[0];
    const keys = diskKeysOf(given);
    await expectData(directory);
    const lock = await lockDirectory(directory);
    try {
      const bytes = await dataBytes(directory);
      const report = await withProgress(`checking ${directory}`, bytes, (files) =>
        checkDirectory(files, directory, keys),
      );
      if (report.isGood || !fixes) {
        console.log(isJson ? JSON.stringify(report) : describe(report));
        return report.isGood ? 0 : 1;
      }
      // Read once to be copied, and the copy once to be checked.
      const repair = await withProgress(`repairing ${directory}`, 2 * bytes, (files) =>
        repairDirectory(files, report, new Date(), keys),
      );
      if (isJson) console.log(JSON.stringify({ ...report, repair }));
      else {
        console.log(describe(report));
        const left = repair.refused > 0 ? `, ${repair.refused} left out` : "";
        console.log(`Repaired: ${repair.entries} entries kept${left}; as it was: ${repair.aside}`);
      }
      return 0;
    } finally {
      lock.release();
    }
  },
};

/** Before the lock, which would leave its file in a directory that is not a node's. */
async function expectData(directory: string): Promise<void> {
  if ((await withExplanation(`look at ${directory}`, realFileSystem.sizeOf(directory))) < 0) {
    throw new OperationalError(`there is no directory ${directory}`);
  }
  const { segments, snapshots } = await listDataFiles(realFileSystem, directory);
  if (segments.length + snapshots.length === 0) {
    throw new OperationalError(`${directory} is no data directory: it holds no log or snapshot`);
  }
}

async function dataBytes(directory: string): Promise<number> {
  const { segments, snapshots } = await listDataFiles(realFileSystem, directory);
  return bytesOf([
    ...segments.map((number) => segmentPath(directory, number)),
    ...snapshots.map((number) => snapshotPath(directory, number)),
  ]);
}

function describe({ directory, nodeId, files, entries, isGood }: DirectoryReport): string {
  const lines = files.map((file) => {
    const { name, bytes, frames, entries, refused, problem, tornBytes, key } = file;
    const sealed = key === NO_KEY ? "" : `  sealed with ${key}`;
    const what = `${name}  ${bytes} bytes  ${frames} frames  ${entries} entries${sealed}`;
    if (problem !== null) return `${what}  DAMAGED at byte ${problem.offset}: ${problem.flaw}`;
    if (refused > 0) return `${what}  ${refused} of which no node takes`;
    if (tornBytes > 0) return `${what}  good; a crash left ${tornBytes} bytes unfinished`;
    return `${what}  good`;
  });
  const of = nodeId === null ? "" : ` of node ${nodeId}`;
  const verdict = isGood ? "good" : "DAMAGED; --fix keeps every good frame";
  return [...lines, `${directory}${of}: ${entries} entries, ${verdict}`].join("\n");
}
