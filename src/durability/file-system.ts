/**
 * The few things durability asks of a disk, as an interface, so that tests and the simulation
 * can put one in its place that loses unsynced bytes, fills up or fails. The real one does
 * everything off the main thread.
 *
 * What the rest relies on: bytes are durable once `sync` returned after their `write`; a new,
 * renamed or removed name is durable once `syncDirectory` returned. Nothing else is.
 */
import { constants } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, statfs, type FileHandle } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { OperationalError } from "../operational-error.ts";

/** An open file. Every method may reject with a system error that has a `code`. */
export interface OpenFile {
  /** Length in bytes. */
  size(): Promise<number>;
  /** Fills `into` from `position` on; resolves with the bytes read, fewer only at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** Writes all of `bytes` at `position`. After an error any part of them may have been written. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Makes everything written so far durable. */
  sync(): Promise<void>;
  /** Cuts the file to `length` bytes. */
  truncate(length: number): Promise<void>;
  /** Whether that path leads to this file: not once it, or its directory, was removed or moved. */
  isAt(path: string): Promise<boolean>;
  close(): Promise<void>;
}

/**
 * How a file is opened: an existing one to read or to change, a new one in place of any old, or
 * one to go on with, which is made when there is none.
 */
export type OpenMode = "read" | "change" | "create" | "continue";

/** A disk. Every method may reject with a system error that has a `code`. */
export interface FileSystem {
  /** Makes a directory and those above it, durably; nothing happens when it is there. */
  makeDirectory(path: string): Promise<void>;
  /** Names of the files and directories in a directory. */
  list(path: string): Promise<string[]>;
  /** Length of a file in bytes, -1 when there is none. */
  sizeOf(path: string): Promise<number>;
  /** Opens a regular file. With `synced`, a write is durable as soon as it resolves. */
  open(path: string, mode: OpenMode, synced?: boolean): Promise<OpenFile>;
  /** Renames a file or directory, replacing a file of the new name. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; nothing happens when there is none. */
  remove(path: string): Promise<void>;
  /** Makes the names in a directory durable. */
  syncDirectory(path: string): Promise<void>;
  /** Bytes that this process may still write on the disk where that file or directory is. */
  freeBytes(path: string): Promise<number>;
}

const { O_RDONLY, O_RDWR, O_CREAT, O_TRUNC, O_DSYNC, O_NONBLOCK } = constants;
const FLAGS: Record<OpenMode, number> = {
  read: O_RDONLY,
  change: O_RDWR,
  create: O_RDWR | O_CREAT | O_TRUNC,
  continue: O_RDWR | O_CREAT,
};
/** Others on the machine have no business reading the data. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/** The disk of this machine. */
export const realFileSystem: FileSystem = {
  async makeDirectory(path) {
    try {
      const first = await mkdir(path, { recursive: true, mode: DIRECTORY_MODE });
      if (first !== undefined) await syncNames(resolve(path), dirname(resolve(first)));
    } catch (error) {
      // A link that leads nowhere, or in a loop, "exists" too; this says which.
      if (codeOf(error) === "EEXIST") await stat(path);
      throw error;
    }
  },
  list: (path) => readdir(path),
  async sizeOf(path) {
    try {
      return (await stat(path)).size;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return -1;
      throw error;
    }
  },
  async open(path, mode, synced = false) {
    // One system call instead of write and fdatasync: a trip to the thread pool less.
    const flags = FLAGS[mode] | (synced ? O_DSYNC : 0);
    // Non-blocking, or opening a pipe that nobody writes to would take for ever.
    const handle = await open(path, flags | O_NONBLOCK, FILE_MODE);
    const found = await handle.stat().catch(async (error: unknown) => {
      await handle.close();
      throw error;
    });
    if (found.isFile()) return new RealFile(handle);
    await handle.close();
    const code = found.isDirectory() ? "EISDIR" : "EFTYPE";
    throw Object.assign(new Error(`${code}: ${path}`), { code });
  },
  rename: (from, to) => rename(from, to),
  remove: (path) => rm(path, { force: true }),
  syncDirectory,
  async freeBytes(path) {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },
};

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Makes the name of a new directory durable, and of those above it up to what is in `above`. */
async function syncNames(path: string, above: string): Promise<void> {
  for (let at = path; at !== above;) {
    at = dirname(at);
    await syncDirectory(at);
  }
}

class RealFile implements OpenFile {
  constructor(private readonly handle: FileHandle) {}

  async size(): Promise<number> {
    return (await this.handle.stat()).size;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const wanted = into.length - done;
      const { bytesRead } = await this.handle.read(into, done, wanted, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const left = bytes.length - done;
      const { bytesWritten } = await this.handle.write(bytes, done, left, position + done);
      done += bytesWritten;
    }
  }

  sync(): Promise<void> {
    return this.handle.datasync();
  }

  truncate(length: number): Promise<void> {
    return this.handle.truncate(length);
  }

  async isAt(path: string): Promise<boolean> {
    const mine = await this.handle.stat({ bigint: true });
    try {
      const found = await stat(path, { bigint: true });
      return found.dev === mine.dev && found.ino === mine.ino;
    } catch (error) {
      if (LEADS_NOWHERE.has(codeOf(error))) return false;
      throw error;
    }
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

/** Puts a finished temporary file in place, durably. Both names are in one directory. */
export async function placeFile(files: FileSystem, from: string, to: string): Promise<void> {
  await files.rename(from, to);
  await files.syncDirectory(dirname(to));
}

/** The code of a system error, "" for any other. */
export function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "";
}

const EXPLANATIONS: Record<string, string> = {
  ENOENT: "there is no such file or directory",
  EACCES: "permission denied; check its owner and mode",
  EPERM: "permission denied; check its owner and mode",
  EROFS: "the file system is read-only",
  ELOOP: "its path is a loop of symbolic links",
  ENOTDIR: "a part of its path is not a directory",
  EEXIST: "it exists and is not a directory",
  EISDIR: "it is a directory",
  EFTYPE: "it is not a file but a pipe or a device",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EIO: "the disk failed to read or write it",
  ENAMETOOLONG: "its name is too long",
  EMFILE: "too many files are open",
};

/** Failures to look at a path because it leads to nothing, or not for this process. */
const LEADS_NOWHERE = new Set(["ENOENT", "ENOTDIR", "ELOOP", "EACCES"]);

/** Failures of a write that were decided before any of it was on its way to the disk. */
const NO_SPACE = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Whether a system error means that there is no space. */
export function isNoSpace(error: unknown): boolean {
  return NO_SPACE.has(codeOf(error));
}

/** What a system error means, in a few words that end with its code. */
export function explainError(error: unknown): string {
  const code = codeOf(error);
  if (code === "") return error instanceof Error ? error.message : String(error);
  return `${EXPLANATIONS[code] ?? "the system refused"} (${code})`;
}

/**
 * Awaits `work` and turns a system error into the one line that people see: "cannot `doing`: why".
 * Other errors pass through.
 */
export async function withExplanation<T>(doing: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (codeOf(error) === "") throw error;
    throw new OperationalError(`cannot ${doing}: ${explainError(error)}`, {
      isFull: isNoSpace(error),
    });
  }
}
