/**
 * Keeps two processes off one data directory.
 *
 * The lock is SQLite's: an exclusive transaction, never committed, on an empty database file.
 * Underneath that is a record lock of the operating system, held on the file itself. So it
 * goes when its holder does, however that ends, and it holds between containers that share a
 * directory, where process numbers mean nothing. Bun brings SQLite along, which spares a call
 * into a C library that is called something else on every system. Nothing is ever written.
 *
 * Whoever may read the file can hold a lock on it, too, and keep the node from starting. So it is
 * nobody's but this user's to open, and what lies under its name and is another user's, or a link
 * to somewhere else, is refused.
 */
import { Database } from "bun:sqlite";
import { constants, type Stats } from "node:fs";
import { access, chmod, lstat, open } from "node:fs/promises";
import { join } from "node:path";
import { OperationalError } from "../operational-error.ts";
import { codeOf, withExplanation } from "./file-system.ts";

const LOCK_NAME = "lock";
const FILE_MODE = 0o600;

/** A held lock. */
export interface DirectoryLock {
  release(): void;
}

/**
 * Locks an existing directory. Throws an OperationalError when another process (or another
 * part of this one) has it, or when it cannot be written to.
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const path = join(directory, LOCK_NAME);
  // SQLite's own errors do not say why it cannot. (Opening the file here would be a mistake:
  // closing it again would drop a lock that this process holds on it.)
  await withExplanation(`write to ${directory}`, access(directory, constants.W_OK));
  await withExplanation(`lock ${path}`, makePrivate(path));
  let database: Database | null = null;
  try {
    database = new Database(path);
    // The journal would be a second file that a crash leaves behind, and needs room on the disk.
    database.run("PRAGMA journal_mode = MEMORY");
    database.run("BEGIN EXCLUSIVE");
    const held = database;
    return { release: () => held.close() };
  } catch (error) {
    database?.close();
    throw lockProblem(error, directory, path);
  }
}

/** Makes the file, or makes sure that nobody else can open the one that is there. */
async function makePrivate(path: string): Promise<void> {
  try {
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    // Just made, it is locked by nobody, so that closing it does no harm.
    const file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE);
    return await file.close();
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
  }
  const found = await lstat(path);
  const why = whyNotOurs(found);
  if (why !== "") throw new OperationalError(`cannot lock ${path}: it ${why}; remove it`);
  if (found.isFile() && (found.mode & 0o077) !== 0) await chmod(path, FILE_MODE);
}

function whyNotOurs(found: Stats): string {
  if (found.isSymbolicLink()) return "is a link to another place";
  const user = process.getuid?.() ?? 0;
  // Root may run a node on somebody's data; they can always keep it from that.
  if (user !== 0 && found.uid !== user) return `belongs to another user (${found.uid})`;
  return found.nlink > 1 && found.isFile() ? "has another name elsewhere" : "";
}

function lockProblem(error: unknown, directory: string, path: string): unknown {
  const { code, message } = error as { code?: string; message?: string };
  if (!code?.startsWith("SQLITE_")) return error;
  return new OperationalError(
    code === "SQLITE_BUSY"
      ? `${directory} is in use by another merklekv process; stop that or choose another directory`
      : `cannot lock ${path}: ${message} (${code}); check its owner, mode and disk space`,
  );
}
