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

function lockProblem(error: unknown, directory: string, path: string): unknown {
  const { code, message } = error as { code?: string; message?: string };
  if (!code?.startsWith("SQLITE_")) return error;
  return new OperationalError(
    code === "SQLITE_BUSY"
      ? `${directory} is in use by another merklekv process; stop that or choose another directory`
      : `cannot lock ${path}: ${message} (${code}); check its owner, mode and disk space`,
  );
}
