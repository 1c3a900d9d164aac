/** `merklekv serve`: runs one node until it is told to stop. */
import { rm } from "node:fs/promises";
import { formatHostPort } from "../config/address.ts";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { findLooseFiles } from "../durability/loose-files.ts";
import { startNode, type Node } from "../node.ts";
import { createLogger, type RootLogger } from "../observability/log.ts";
import { OperationalError } from "../operational-error.ts";
import { version } from "../version.ts";
import { randomHex, realWorld } from "../world.ts";
import type { Subcommand } from "./arguments.ts";
import { openServiceManager, type ServiceManager } from "./service-manager.ts";
import { exitWithStdin, removeData, untilStopped } from "./signals.ts";

/**
 * The subcommand. Prints one line on stdout once the node serves clients; the log goes elsewhere.
 */
export const serve: Subcommand = {
  usage: "[serve] [--config FILE]",
  about:
    "Runs a node. Every key of the configuration can be overridden by the environment:\n" +
    "MERKLE_KV_<SECTION>_<KEY>. SIGTERM and SIGINT stop it cleanly, SIGHUP reopens its log\n" +
    "and reads certificates again.",
  options: [
    { long: "--config", short: "-c", value: "FILE", about: "The configuration, in TOML." },
    exitWithStdin,
    removeData,
  ],

  async run(given) {
    const path = given.get("--config");
    const loaded = loadConfig({ path, env: process.env, randomHex });
    if (!loaded.ok) {
      for (const problem of loaded.problems) console.error(problem);
      return 1;
    }
    const { config, notices, passwordsInFile } = loaded;
    const logger = createLog(config);
    for (const notice of notices) logger.warn(notice);
    if (path !== undefined) await warnOfOpenPasswords(path, passwordsInFile, logger);

    const told = untilStopped({ orStdinEnds: given.has(exitWithStdin.long) });
    let reopen = (): void => logger.reopen();
    process.on("SIGHUP", () => reopen()); // unhandled it would kill
    const open = async (): Promise<[ServiceManager, Node]> => [
      await openServiceManager(process.env, realWorld.timing, logger),
      await startNode(config, logger),
    ];
    const [manager, node] = await open().catch(async (error) => {
      await logger.close(); // what it says comes before the error, and once
      throw error;
    });
    reopen = () => {
      logger.reopen();
      node.reopenFiles();
    };
    const { host, port, tlsPort, http } = node.address;
    const tls = tlsPort === null ? "" : `, TLS on ${formatHostPort(host, tlsPort)}`;
    const watched = http === null ? "" : `, HTTP on ${http}`;
    const serving = `node ${config.node_id} on ${formatHostPort(host, port)}${tls}${watched}`;
    console.log(`MerkleKV ${version} ready: ${serving}`);
    manager.watch(() => node.readiness(), serving);

    await Promise.race([told, node.stopped]);
    manager.stopping();
    await node.stop();
    manager.close();
    if (given.has(removeData.long)) await rm(config.storage.path, { recursive: true, force: true });
    await logger.close();
    return 0;
  },
};

/** All may read many a configuration, which is well until there is a password in it. */
async function warnOfOpenPasswords(
  file: string,
  keys: readonly string[],
  logger: RootLogger,
): Promise<void> {
  const loose = keys.length > 0 ? await findLooseFiles([file]) : null;
  if (loose === null) return;
  const { first, remedy: run } = loose;
  const message = "Other users of this machine may read the passwords in the configuration";
  logger.warn(message, { file, keys: keys.join(","), mode: first.mode, run });
}

function createLog(config: Config): RootLogger {
  try {
    return createLogger(config.logging, realWorld);
  } catch (error) {
    throw new OperationalError((error as Error).message);
  }
}
