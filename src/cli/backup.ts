/**
 * `merklekv backup`: fetches a backup from a running node, wherever it is.
 *
 * The node makes the backup on its own disk and hands it out piece by piece over the client
 * port; then it is removed there. Here it gets its name only when it has been read through.
 */
import { FETCHED_PREFIX } from "../durability/backup.ts";
import { withExplanation, placeFile, realFileSystem } from "../durability/file-system.ts";
import { verifyBackup, verifyFrames } from "../durability/restore.ts";
import { MissingKey, type DiskKeys } from "../durability/sealing.ts";
import { OperationalError } from "../operational-error.ts";
import { UsageError, type Subcommand } from "./arguments.ts";
import { diskKeysOf, keyFile } from "./disk-keys.ts";
import { Progress } from "./progress.ts";
import { withProgress } from "./watched-files.ts";
import { loginGiven, loginOptions } from "./login.ts";
import { placeGiven, tlsOptions } from "./tls-options.ts";
import { RespConnection, type RespValue } from "./resp-connection.ts";

const PIECE_BYTES = 1024 * 1024;

/** The subcommand. */
export const backup: Subcommand = {
  usage: "backup --to FILE [-h HOST] [-p PORT] [--user NAME] [--tls …] [--key-file FILE]",
  about:
    "Fetches a backup of a running node into a new file. It holds everything the node held at one\n" +
    "moment; merklekv restore turns it into a data directory. Of one that is sealed only the frames\n" +
    "are checked if its key is not given.",
  options: [
    { long: "--to", value: "FILE", about: "Where the backup goes; must not exist yet." },
    { long: "--host", short: "-h", value: "HOST", about: "The node's address; 127.0.0.1." },
    { long: "--port", short: "-p", value: "PORT", about: "Its port; 7379." },
    ...loginOptions,
    ...tlsOptions,
    keyFile,
  ],

  async run(given) {
    const to = given.get("--to");
    if (!to) throw new UsageError(`--to is missing; usage: ${backup.usage}`);
    if ((await withExplanation(`look at ${to}`, realFileSystem.sizeOf(to))) >= 0) {
      throw new OperationalError(`${to} exists; choose another name or remove it`);
    }
    const keys = diskKeysOf(given);
    const connection = await RespConnection.open({
      ...placeGiven(given),
      login: await loginGiven(given),
    });
    try {
      const { of, bytes, entries } = await fetchBackup(connection, to, keys);
      console.log(`Backup${of}: ${entries} entries, ${bytes} bytes, in ${to}`);
      return 0;
    } finally {
      connection.close();
    }
  },
};

/** What was fetched, and, if that can be read, of which node. */
interface Fetched {
  readonly of: string;
  readonly bytes: number;
  readonly entries: number;
}

async function fetchBackup(
  connection: RespConnection,
  to: string,
  keys: DiskKeys,
): Promise<Fetched> {
  const name = FETCHED_PREFIX + crypto.randomUUID();
  const unfinished = `${to}.tmp`;
  const file = await withExplanation(
    `write ${unfinished}`,
    realFileSystem.open(unfinished, "create"),
  );
  try {
    const made = await connection.ask(["BACKUP", name], Infinity); // takes as long as it takes
    const write = (piece: Buffer, position: number): Promise<void> =>
      withExplanation(`write ${unfinished}`, file.write(piece, position));
    await fetchPieces(connection, name, bytesMade(made), write);
    await connection.ask(["BACKUP", "DROP", name]);
    await withExplanation(`write ${unfinished}`, file.sync());
    const verified = await verify(unfinished, made, keys);
    await withExplanation(`write ${to}`, placeFile(realFileSystem, unfinished, to));
    return verified;
  } catch (error) {
    await realFileSystem.remove(unfinished);
    throw error;
  } finally {
    await file.close();
  }
}

async function fetchPieces(
  connection: RespConnection,
  name: string,
  totalBytes: number,
  write: (piece: Buffer, position: number) => Promise<void>,
): Promise<void> {
  const progress = new Progress("fetching the backup", totalBytes, "bytes");
  try {
    for (let position = 0; ;) {
      const piece = await connection.ask(["BACKUP", "READ", name, `${position}`, `${PIECE_BYTES}`]);
      if (!Buffer.isBuffer(piece) || piece.length === 0) return;
      await write(piece, position);
      position += piece.length;
      progress.add(piece.length);
    }
  } finally {
    progress.end();
  }
}

function bytesMade(made: RespValue): number {
  return Number((made as RespValue[])[1]);
}

/** `made` is what the node said of the backup: its name, bytes and entries. */
async function verify(path: string, made: RespValue, keys: DiskKeys): Promise<Fetched> {
  try {
    const { nodeId, bytes, entries } = await withProgress(
      "verifying the backup",
      bytesMade(made),
      (files) => verifyBackup(files, path, keys),
    );
    return { of: ` of node ${nodeId}`, bytes, entries };
  } catch (error) {
    if (!(error instanceof MissingKey)) throw error;
    const bytes = bytesMade(made);
    await verifyFrames(realFileSystem, path, bytes);
    const entries = Number((made as RespValue[])[2]);
    return { of: `, sealed with the key ${error.keyId}`, bytes, entries };
  }
}
