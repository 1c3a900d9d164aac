/**
 * A disk in memory that keeps only what it promised to: a crash takes unsynced bytes, names and
 * lengths with it, all or any part of them. It can fill up, and fail to write or sync. A sync that
 * fails takes what it was about along, as systems do: it can still be read, and no later
 * sync makes it durable.
 */
import { dirname } from "node:path";
import type { FileSystem, OpenFile, OpenMode } from "../../src/durability/file-system.ts";

/** How much of what was not synced a crash leaves. */
export type CrashKind = "none" | "some";

/** Unsynced writes are kept or lost in pieces of this size, as pages are. */
const PIECE_BYTES = 512;

/** A write, or with `cuts` a cut of the file at `position`. */
interface Write {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly cuts: boolean;
}

/** One file: what is on the platter, and what the system would read. */
class DiskFile {
  durable = new Uint8Array(0);
  current = new Uint8Array(0);
  unsynced: Write[] = [];
}

/** A file system; see the file header. */
export class SimulatedDisk implements FileSystem {
  /** Bytes it holds at most. */
  capacityBytes = Infinity;
  /** Codes of the errors that writes and syncs fail with, while set. */
  failWritesWith: string | null = null;
  failSyncsWith: string | null = null;
  /** Bytes that a write which fails has written all the same. */
  partBytes = 0;
  /** Files that were opened and not closed. */
  openFiles = 0;
  /** How many syncs there were, of files. */
  syncs = 0;
  /** Called before each write; may return a promise to hold it up. */
  beforeWrite: (path: string, bytes: number) => Promise<void> | void = () => {};

  /** Called before the sync of a directory; may return a promise to hold it up. */
  beforeDirectorySync: () => Promise<void> | void = () => {};

  private names = new Map<string, DiskFile>();
  private durableNames = new Map<string, DiskFile>();
  /** Files opened before a crash are dead. */
  private life = 0;

  /** `turn` lets others have one before a write; no disk is so fast that they have none. */
  constructor(
    private readonly turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve)),
  ) {}

  async makeDirectory(): Promise<void> {}

  async list(path: string): Promise<string[]> {
    const inside = [...this.names.keys()].filter((name) => dirname(name) === path);
    return inside.map((name) => name.slice(path.length + 1));
  }

  async sizeOf(path: string): Promise<number> {
    return this.names.get(path)?.current.length ?? -1;
  }

  async open(path: string, mode: OpenMode, synced = false): Promise<OpenFile> {
    let file = this.names.get(path);
    if (mode === "create" || (mode === "continue" && file === undefined)) {
      this.failIf(this.failWritesWith, path);
      file = new DiskFile();
      this.names.set(path, file);
    }
    if (file === undefined) throw systemError("ENOENT", path);
    return this.handle(path, file, synced);
  }

  async rename(from: string, to: string): Promise<void> {
    const file = this.names.get(from);
    if (file === undefined) throw systemError("ENOENT", from);
    this.names.delete(from);
    this.names.set(to, file);
  }

  async remove(path: string): Promise<void> {
    this.names.delete(path);
  }

  async syncDirectory(path: string): Promise<void> {
    await this.beforeDirectorySync();
    this.failIf(this.failSyncsWith, path);
    for (const name of this.durableNames.keys()) {
      if (dirname(name) === path && !this.names.has(name)) this.durableNames.delete(name);
    }
    for (const [name, file] of this.names) {
      if (dirname(name) === path) this.durableNames.set(name, file);
    }
  }

  async freeBytes(): Promise<number> {
    return this.capacityBytes - this.usedBytes();
  }

  /** The power goes. With "some", each unsynced piece may or may not have reached the platter. */
  crash(kind: CrashKind, random: () => number): void {
    this.life++;
    this.failWritesWith = this.failSyncsWith = null;
    const survivors = kind === "none" || random() < 0.5 ? this.durableNames : this.names;
    for (const file of new Set([...this.durableNames.values(), ...this.names.values()])) {
      if (kind === "some") {
        for (const write of file.unsynced) keepPieces(file, write, random);
      }
      file.unsynced = [];
      file.current = file.durable.slice();
    }
    this.names = new Map(survivors);
    this.durableNames = new Map(survivors);
  }

  /** Everything is let go of, but nothing lost: the process dies, the machine does not. */
  kill(): void {
    this.life++;
  }

  /** Another one with all that can be read on this one, durable. */
  copy(): SimulatedDisk {
    const copy = new SimulatedDisk(this.turn);
    for (const path of this.paths()) copy.place(path, this.contents(path));
    return copy;
  }

  /** What a file holds now. */
  contents(path: string): Uint8Array {
    return this.names.get(path)!.current.slice();
  }

  /** What a power cut would leave of a file for certain; nothing when there is none. */
  durableContents(path: string): Uint8Array {
    return this.durableNames.get(path)?.durable ?? new Uint8Array(0);
  }

  /** Puts a file there, durable. */
  place(path: string, bytes: Uint8Array): void {
    const file = new DiskFile();
    file.durable = bytes.slice();
    file.current = bytes.slice();
    this.names.set(path, file);
    this.durableNames.set(path, file);
  }

  /** The paths of all files. */
  paths(): string[] {
    return [...this.names.keys()].sort();
  }

  /** Bytes in all files. */
  usedBytes(): number {
    let used = 0;
    for (const file of this.names.values()) used += file.current.length;
    return used;
  }

  private handle(path: string, file: DiskFile, synced: boolean): OpenFile {
    const { life } = this;
    let isOpen = true;
    this.openFiles++;
    const check = (): void => {
      if (life !== this.life) throw systemError("EBADF", path);
    };
    const sync = (): void => {
      this.syncs++;
      const { unsynced } = file;
      file.unsynced = [];
      this.failIf(this.failSyncsWith, path);
      for (const { position, bytes, cuts } of unsynced) {
        const end = position + bytes.length;
        if (cuts || end > file.durable.length) file.durable = resized(file.durable, end);
        file.durable.set(bytes, position);
      }
    };
    return {
      size: async () => file.current.length,
      read: async (into, position) => {
        if (!isOpen) throw systemError("EBADF", path);
        const found = file.current.subarray(position, position + into.length);
        into.set(found);
        return found.length;
      },
      write: async (bytes, position) => {
        const copy = bytes.slice();
        await this.turn();
        await this.beforeWrite(path, copy.length);
        check();
        const room =
          this.capacityBytes - this.usedBytes() + Math.max(0, file.current.length - position);
        const fits = this.failWritesWith === null && copy.length <= room;
        const taken = fits ? copy : copy.subarray(0, Math.max(0, Math.min(this.partBytes, room)));
        if (taken.length > 0) put(file, position, taken);
        if (!fits) throw systemError(this.failWritesWith ?? "ENOSPC", path);
        if (synced) sync();
      },
      sync: async () => {
        check();
        sync();
      },
      truncate: async (length) => {
        check();
        file.current = resized(file.current, length);
        file.unsynced.push({ position: length, bytes: new Uint8Array(0), cuts: true });
      },
      isAt: async (name) => this.names.get(name) === file,
      close: async () => {
        if (isOpen) this.openFiles--;
        isOpen = false;
      },
    };
  }

  private failIf(code: string | null, path: string): void {
    if (code !== null) throw systemError(code, path);
  }
}

/** An error as the operating system gives it. */
export function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, '${path}'`), { code });
}

function put(file: DiskFile, position: number, bytes: Uint8Array): void {
  if (position + bytes.length > file.current.length) {
    file.current = resized(file.current, position + bytes.length);
  }
  file.current.set(bytes, position);
  file.unsynced.push({ position, bytes, cuts: false });
}

function keepPieces(file: DiskFile, { position, bytes }: Write, random: () => number): void {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    if (random() < 0.5) continue;
    const piece = bytes.subarray(at, at + Math.ceil(random() * PIECE_BYTES));
    const end = position + at + piece.length;
    if (end > file.durable.length) file.durable = resized(file.durable, end);
    file.durable.set(piece, position + at);
  }
}

function resized(bytes: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(length);
  result.set(bytes.subarray(0, length));
  return result;
}
