/** The users of a node: what the configuration says of them, and the file that they are in. */
import { resolve } from "node:path";
import { UserDirectory, type UserSource } from "./access/directory.ts";
import { commandTable } from "./commands/table.ts";
import type { Config } from "./config/schema.ts";
import { placeFile, withExplanation, type FileSystem } from "./durability/file-system.ts";
import type { Logger } from "./observability/log.ts";
import { readPrivateFile } from "./security/secret-file.ts";
import type { World } from "./world.ts";

/**
 * What clients elsewhere may do while there are no users: whatever needs no administrator. Which
 * clients there are they may know, as they always did.
 */
const OPEN_RULES = ["-@admin", "-flushall", "-flushdb", "-acl", "+client", "-client|kill"];

/** Throws an OperationalError that says all that is wrong with the file of users. */
export function openUsers(config: Config, world: World): UserDirectory {
  const { acl_file, password, certificate_users } = config.auth;
  return new UserDirectory({
    permissions: commandTable.permissions,
    timing: world.timing,
    key: new Uint8Array(world.randomWords(8).buffer),
    file: fileOfUsers(acl_file, world.files),
    password,
    byCertificate: certificate_users === "common_name",
    openRules: config.network.open_administration ? null : OPEN_RULES,
  });
}

function fileOfUsers(path: string, files: FileSystem): UserSource {
  return {
    path,
    read: () => readPrivateFile(path, "the file of users (auth.acl_file)"),
    async write(content) {
      const unfinished = `${path}.tmp`;
      await withExplanation(`write ${unfinished}`, writeFile(files, unfinished, content));
      await withExplanation(`write ${path}`, placeFile(files, unfinished, resolve(path)));
    },
  };
}

async function writeFile(files: FileSystem, path: string, content: Uint8Array): Promise<void> {
  // What was left of an attempt may be readable by others.
  await files.remove(path);
  const file = await files.open(path, "create");
  try {
    await file.write(content, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Says in one line who may do what, and what to do if that is not what was meant. */
export function announceUsers(config: Config, users: UserDirectory, logger: Logger): void {
  const { network, auth } = config;
  if (users.isOpen) {
    const message =
      "There are no users: clients on this machine may do everything, others may read and write " +
      "all data but not administer";
    logger.info(message, { set: "auth.acl_file or auth.password; network.open_administration" });
  } else if (auth.acl_file === "" && auth.password === "") {
    const message = "There are no users: every client that reaches the port may do everything";
    logger.warn(message, { address: network.bind_address, set: "auth.acl_file or auth.password" });
  } else {
    const all = users.list();
    const file = auth.acl_file;
    logger.info("Clients have the rights of their users", { users: all.length, file });
    if (all.some(({ definition }) => definition.isOn)) return;
    const set = "user admin on #SHA256 ~* +@all";
    logger.warn("Nobody can log in: no user of the file is on", { file, set });
  }
}
