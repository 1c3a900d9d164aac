/** `merklekv serve`: runs one node until it is told to stop. */
import { rm } from "node:fs/promises";
import { formatHostPort } from "../config/address.ts";
import { LiveConfig } from "../config/live-config.ts";
import { readRegularUtf8 } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { findLooseFiles } from "../durability/loose-files.ts";
import { startNode, type Node } from "../node.ts";
import { createLogger, type RootLogger } from "../observability/log.ts";
import { OperationalError } from "../operational-error.ts";
import { SettledWatch } from "../security/settled-watch.ts";
import { version } from "../version.ts";
import { randomHex, realWorld } from "../world.ts";
import { every, type Cancel } from "../timing.ts";
import type { Subcommand } from "./arguments.ts";
import { HugePages, openPageSystem } from "./huge-pages.ts";
import { environmentFor } from "./service-environment.ts";
import { isJournalRead, openServiceManager, type ServiceManager } from "./service-manager.ts";
import { giveBackStartPages } from "./start-pages.ts";
import { exitWithStdin, removeData, untilStopped } from "./signals.ts";

/** How often a step is made towards huge pages. */
const HUGE_PAGES_EVERY_MS = 1_000;
/** The start is over, and whoever waited for it has been. */
const GIVE_BACK_AFTER_MS = 2_000;

/**
 * The subcommand. Prints one line on stdout once the node serves clients; the log goes elsewhere.
 */
export const serve: Subcommand = {
  usage: "[serve] [--config FILE]",
  about:
    "Runs a node. Every key of the configuration can be overridden by the environment:\n" +
    "MERKLE_KV_<SECTION>_<KEY>. SIGTERM and SIGINT stop it cleanly, SIGHUP reopens its log\n" +
    "and reads settings, users and certificates again; so does a change of those files.",
  options: [
    { long: "--config", short: "-c", value: "FILE", about: "The configuration, in TOML." },
    exitWithStdin,
    removeData,
  ],

  async run(given) {
    const path = given.get("--config");
    const opened = LiveConfig.load({ path, env: environmentFor(path, process.env), randomHex });
    if (!("live" in opened)) {
      for (const problem of opened) console.error(problem);
      return 1;
    }
    const { live } = opened;
    const content = path === undefined ? null : contentOf(path);
    const { config, notices, passwordsInFile } = opened.loaded;
    const logger = createLog(config);
    for (const notice of notices) logger.warn(notice);
    if (path !== undefined) await warnOfOpenPasswords(path, passwordsInFile, logger);

    const told = untilStopped({ orStdinEnds: given.has(exitWithStdin.long) });
    let hangUp = (): void => logger.reopen();
    process.on("SIGHUP", () => hangUp()); // unhandled it would kill
    live.parts.push(logger);
    const open = async (): Promise<[ServiceManager, Node]> => [
      await openServiceManager(process.env, realWorld.timing, logger),
      await startNode(live, logger),
    ];
    const [manager, node] = await open().catch(async (error) => {
      await logger.close(); // what it says comes before the error, and once
      throw error;
    });
    hangUp = () => {
      logger.reopen();
      node.reopenFiles();
      manager.reloading();
      void node.reload("SIGHUP").finally(() => manager.reloaded());
    };
    const watch = watchFile(path, content, () => node.reload("the file has changed"));
    const { host, port, tlsPort, http } = node.address;
    const tls = tlsPort === null ? "" : `, TLS on ${formatHostPort(host, tlsPort)}`;
    const watched = http === null ? "" : `, HTTP on ${http}`;
    const serving = `node ${config.node_id} on ${formatHostPort(host, port)}${tls}${watched}`;
    console.log(`MerkleKV ${version} ready: ${serving}`);
    manager.watch(() => node.readiness(), serving);
    const cancelGivingBack = realWorld.timing.after(GIVE_BACK_AFTER_MS, giveBackStartPages);
    const cancelHugePages = keepInHugePages(node);

    await Promise.race([told, node.stopped]);
    cancelGivingBack();
    cancelHugePages();
    watch?.stop();
    manager.stopping();
    await node.stop();
    manager.close();
    if (given.has(removeData.long)) await rm(config.storage.path, { recursive: true, force: true });
    await logger.close();
    return 0;
  },
};

function keepInHugePages(node: Node): Cancel {
  const system = openPageSystem();
  if (system === null) return () => {};
  const pages = new HugePages(() => node.blocks(), system);
  return every(realWorld.timing, HUGE_PAGES_EVERY_MS, () => pages.step());
}

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

/** Reloads when the file holds something else than before, good or bad. */
function watchFile(
  path: string | undefined,
  first: string | null,
  reload: () => Promise<unknown>,
): SettledWatch | null {
  if (path === undefined) return null;
  let last = first;
  const watch = new SettledWatch(realWorld.timing, () => {
    const content = contentOf(path);
    if (content === last) return;
    last = content;
    void reload();
  });
  watch.start([path]);
  return watch;
}

/** Null when it cannot be read. */
function contentOf(path: string): string | null {
  try {
    return readRegularUtf8(path);
  } catch {
    return null;
  }
}

function createLog(config: Config): RootLogger {
  try {
    return createLogger(config.logging, { ...realWorld, isJournal: isJournalRead(process.env) });
  } catch (error) {
    throw new OperationalError((error as Error).message);
  }
}
