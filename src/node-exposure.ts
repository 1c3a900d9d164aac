/** Warnings of a start: what of a node others may read, forge or change, as it is set up. */
import { isLoopbackHost } from "./config/address.ts";
import type { Config } from "./config/schema.ts";
import { backupDirectory } from "./durability/backup.ts";
import { findLooseFiles } from "./durability/loose-files.ts";
import type { ClientPorts } from "./node-replica.ts";
import type { Logger } from "./observability/log.ts";
import { placesBeyondLoopback } from "./replication/exposure.ts";

/** Without a secret, all that nodes tell each other is as safe as the ways it takes. */
export function warnOfMissingSecret(config: Config, logger: Logger): void {
  const places = placesBeyondLoopback(config);
  if (places.length === 0) return;
  const message =
    "This cluster has no secret: whoever is at these places, or between here and there, can read and forge what nodes tell each other";
  const set = "cluster.secret_file, the same on every node; merklekv keygen makes one";
  logger.warn(message, { places, set });
}

/** Who has made certificates may think that nothing is said without them. */
export function warnOfPlainText({ network }: Config, ports: ClientPorts, logger: Logger): void {
  const { plaintext, bind_address } = network;
  const { plainPort, tlsPort } = ports;
  if (tlsPort === null || plainPort === null) return;
  if (plaintext !== "on" || isLoopbackHost(bind_address)) return;
  const message = "Other machines may speak plain text to this node beside TLS";
  const set = 'network.plaintext = "loopback", or "off"';
  logger.warn(message, { port: plainPort, set });
}

/** Others may read what was made before, or elsewhere. */
export async function warnOfLooseFiles(config: Config, logger: Logger): Promise<void> {
  const { storage, logging, audit } = config;
  const places = [storage.path, backupDirectory(storage), logging.file_path, audit.file];
  const paths = places.filter((path) => path !== "");
  const loose = await findLooseFiles(paths);
  if (loose === null) return;
  const { first, count: files, remedy: run } = loose;
  const message = "Other users of this machine may read or change files of this node";
  logger.warn(message, { files, first: first.path, mode: first.mode, run });
}
