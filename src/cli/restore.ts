/** `merklekv restore`: turns a backup into a data directory. */
import { withExplanation, realFileSystem } from "../durability/file-system.ts";
import { lockDirectory } from "../durability/lock.ts";
import { restoreBackup, verifyBackup } from "../durability/restore.ts";
import { UsageError, type Subcommand } from "./arguments.ts";
import { diskKeysOf, keyFile } from "./disk-keys.ts";
import { bytesOf, withProgress } from "./watched-files.ts";

/** The subcommand. */
export const restore: Subcommand = {
  usage: "restore [--force] [--node-id ID] [--key-file FILE] FILE DIR",
  about:
    "Restores a backup into the data directory of a node that is stopped. Started on it, the node\n" +
    "takes from its peers what is newer than the backup, their deletions too.",
  options: [
    { long: "--force", about: "Replace data that is there; it is put aside." },
    { long: "--node-id", value: "ID", about: "Restore for another node than made the backup." },
    keyFile,
  ],
  acceptsOperands: true,

  async run(given) {
    const words = given.words.filter((word) => word !== "--force");
    const force = given.has("--force") || words.length < given.words.length;
    if (words.length !== 2) throw new UsageError(`usage: ${restore.usage}`);
    const [from, directory] = words as [string, string];
    const keys = diskKeysOf(given);
    // First, so that a bad backup leaves not even a directory behind.
    const bytes = await bytesOf([from]);
    await withProgress(`reading ${from}`, bytes, (files) => verifyBackup(files, from, keys));
    await withExplanation(`make ${directory}`, realFileSystem.makeDirectory(directory));
    const lock = await lockDirectory(directory);
    try {
      const nodeId = given.get("--node-id");
      const how = { force, now: new Date(), ...(nodeId === undefined ? {} : { nodeId }) };
      // Read once more, in case it was changed, and once to be copied.
      const restored = await withProgress(`restoring ${from}`, 2 * bytes, (files) =>
        restoreBackup(files, from, directory, how, keys),
      );
      console.log(
        `Restored ${restored.entries} entries of node ${restored.nodeId} into ${directory}` +
          (restored.refused > 0 ? `; left out ${restored.refused} that no node takes` : "") +
          (restored.aside === null ? "" : `; what was there is in ${restored.aside}`),
      );
      return 0;
    } finally {
      lock.release();
    }
  },
};
