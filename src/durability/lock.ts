/**
 * Keeps two processes off one data directory.
 *
 * The lock is SQLite's: an exclusive transaction, never committed, on an empty database file.
 * Underneath that is a record lock of the operating system, held on the file itself. So it
 * goes when its holder does, however that ends, and it holds between containers that share a
 * directory, where process numbers mean nothing. Bun brings SQLite along, which spares a call
 * into a C library that is called something else on every system. Nothing is ever written.
 */
import { Database } from "bun:sqlite";
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { OperationalError } from "../operational-error.ts";
import { orExplain } from "./file-system.ts";

const LOCK_NAME = "lock";

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
  await orExplain(`write to ${directory}`, access(directory, constants.W_OK));
  const database = new Database(path);
  try {
    // The journal would be a second file that a crash leaves behind.
    database.run("PRAGMA journal_mode = OFF");
    database.run("BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if ((error as { code?: string }).code !== "SQLITE_BUSY") throw error;
    throw new OperationalError(
      `${directory} is in use by another merklekv process; stop that or choose another directory`,
    );
  }
  return { release: () => database.close() };
}
