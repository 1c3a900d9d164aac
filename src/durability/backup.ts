/**
 * Backups of a running node: whole, checked files of one moment in a directory of their own, on
 * demand and on a schedule, of which the newest few are kept.
 *
 * Those made on command are bounded: in number, and by the space they leave on the disk.
 *
 * A backup is a snapshot that follows what changes while it is written. It can be fetched
 * piece by piece, through the client port for one.
 */
import { join } from "node:path";
import type { Config } from "../config/schema.ts";
import type { Store } from "../core/store/store.ts";
import type { Logger } from "../observability/log.ts";
import { OperationalError } from "../operational-error.ts";
import { UNFINISHED } from "./data-directory.ts";
import { codeOf, explainError, withExplanation, type FileSystem } from "./file-system.ts";
import { FILE_BACKUP } from "./record.ts";
import { DirectorySeals, noKeys, type DiskKeys } from "./sealing.ts";
import { STOPPING, writeSnapshot, type SnapshotResult } from "./snapshot.ts";
import type { Timing } from "../timing.ts";

const SUFFIX = ".backup";
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** What a backup is called when nobody names it: its time in UTC, to the second. */
const TIME_NAME = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;
/** Begins the name of one that is made to be fetched, and removed after that. */
export const FETCHED_PREFIX = "fetched-";
/** One that nobody has read from for so long was given up by whoever wanted it. */
const GIVEN_UP_AFTER_MS = 600_000;
/** Largest piece that `read` returns. */
const MAX_PIECE_BYTES = 4 * 1024 * 1024;
const CHECK_EVERY_MS = 60_000;
/** How often a backup that is being made looks at the space that is left. */
const LOOK_AT_SPACE_MS = 500;
/** Bytes of a backup for each byte of the store's memory, about. */
const GUESSED_RATIO = 0.6;
const MIB = 1_048_576;
const HOUR_MS = 3_600_000;

/** What backups are made with. */
export interface BackupOptions {
  readonly files: FileSystem;
  readonly timing: Timing;
  readonly store: Store;
  readonly nodeId: string;
  /** What else to remember, by name. */
  readonly metadata: () => ReadonlyMap<string, Uint8Array>;
  /** Where backups go; made when the first one is. */
  readonly directory: string;
  /** Hours between backups that are made unasked; 0 for none. */
  readonly intervalHours: number;
  /** How many unnamed ones are kept; 0 keeps all. */
  readonly keep: number;
  /** None is made on command when so many are there. */
  readonly maxCount: number;
  /** None is made that would leave less of the disk free than this; 0 for no matter. */
  readonly minFreeBytes: number;
  /** What backups are sealed with; none unless given. */
  readonly keys?: DiskKeys;
  readonly logger: Logger;
}

/** Where a node with these settings keeps its backups. */
export function backupDirectory({
  path,
  backup_path,
}: Pick<Config["storage"], "path" | "backup_path">): string {
  return backup_path === "" ? join(path, "backups") : backup_path;
}

/** A finished backup. */
export interface Backup {
  readonly name: string;
  readonly bytes: number;
  readonly entries: number;
}

/** Makes and serves backups. */
export class Backups {
  private running: Promise<Backup> | null = null;
  private isStopping = false;
  private cancelCheck = (): void => {};
  /** Settles when the last piece that was asked for is read. */
  private reading: Promise<unknown> = Promise.resolve();
  /** When each one to be fetched was last read from, by name. */
  private readonly lastReadMs = new Map<string, number>();

  constructor(private readonly options: BackupOptions) {}

  /** Removes what a process that died left half done, and starts the schedule. */
  async start(): Promise<void> {
    await this.removeLeftovers().catch((error: unknown) => this.complain("tidy up", error));
    this.checkLater(0);
  }

  /** The options are others than before: the schedule may be, too. */
  reconfigure(): void {
    this.cancelCheck();
    if (!this.isStopping) this.checkLater(0);
  }

  /** Ends the schedule, and gives up on a backup that is being made. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.cancelCheck();
    await this.running?.catch(() => {});
    await this.reading;
  }

  /**
   * Makes a backup. Without a name it gets its time as one, and the oldest such are removed.
   * Throws an OperationalError: a bad name, one that is taken, another backup under way, too many
   * there, too little space, or the disk.
   */
  create(name?: string): Promise<Backup> {
    return this.createOne(name, true);
  }

  /**
   * Up to `count` bytes of a backup from `offset` on, 4 MiB at most; none past its end. One piece
   * is read at a time, whoever asks.
   */
  read(name: string, offset: number, count: number): Promise<Uint8Array> {
    const piece = this.reading.then(() => this.readPiece(name, offset, count));
    this.reading = piece.catch(() => {});
    return piece;
  }

  /** Removes a backup; nothing happens when there is none of that name. */
  async remove(name: string): Promise<void> {
    const path = this.pathOf(name);
    this.lastReadMs.delete(name);
    await withExplanation(`remove ${path}`, this.options.files.remove(path));
  }

  private async readPiece(name: string, offset: number, count: number): Promise<Uint8Array> {
    const path = this.pathOf(name);
    const doing = `read the backup ${name}`;
    const file = await withExplanation(doing, this.options.files.open(path, "read"));
    try {
      if (this.lastReadMs.has(name)) this.lastReadMs.set(name, this.options.timing.nowMs());
      const left = (await withExplanation(doing, file.size())) - offset;
      const piece = new Uint8Array(Math.max(0, Math.min(count, left, MAX_PIECE_BYTES)));
      const length = await withExplanation(doing, file.read(piece, offset));
      return piece.subarray(0, length);
    } finally {
      await file.close();
    }
  }

  private createOne(name: string | undefined, isRequested: boolean): Promise<Backup> {
    if (this.isStopping) return Promise.reject(new OperationalError("the node is stopping"));
    if (this.running !== null) {
      const message = "another backup is being made; try again later";
      return Promise.reject(new OperationalError(message, { isRefusal: true }));
    }
    this.running = this.createNow(name, isRequested).finally(() => (this.running = null));
    return this.running;
  }

  private async createNow(given: string | undefined, isRequested: boolean): Promise<Backup> {
    const { files, directory, store, timing, keep } = this.options;
    const name = given ?? timeName(new Date(store.clock.nowMs()));
    const path = this.pathOf(name);
    await withExplanation(`make the directory ${directory}`, files.makeDirectory(directory));
    if ((await withExplanation(`look at ${path}`, files.sizeOf(path))) >= 0) {
      const message = `there is a backup "${name}" already; choose another name`;
      throw new OperationalError(message, { isRefusal: true });
    }
    if (name.startsWith(FETCHED_PREFIX)) await this.removeGivenUp();
    // An unnamed one takes the place of another.
    if (isRequested && (given !== undefined || keep === 0)) await this.checkCount();
    const freeBytes = await this.freeBytes();
    this.checkSpace(freeBytes - GUESSED_RATIO * store.bytes());
    if (name.startsWith(FETCHED_PREFIX)) this.lastReadMs.set(name, timing.nowMs());
    const { bytes, entries } = await this.write(path).catch((error: unknown) => {
      this.lastReadMs.delete(name);
      throw error;
    });
    if (given === undefined) await this.removeOldest();
    return { name, bytes, entries };
  }

  private async write(path: string): Promise<SnapshotResult> {
    const { files, store, nodeId, timing, metadata, keys = noKeys } = this.options;
    let because = "";
    let cancelLook = (): void => {};
    const lookLater = (): void => {
      cancelLook = timing.after(LOOK_AT_SPACE_MS, () => void look());
    };
    const look = async (): Promise<void> => {
      because = this.shortage(await this.freeBytes());
      if (this.running !== null) lookLater();
    };
    lookLater();
    try {
      return await writeSnapshot({
        files,
        seals: new DirectorySeals(keys),
        path,
        fileKind: FILE_BACKUP,
        number: 0,
        nodeId,
        store,
        metadata,
        follows: true,
        timing,
        isLate: () => false,
        cancelledBecause: () => (this.isStopping ? STOPPING : because),
      });
    } finally {
      cancelLook();
    }
  }

  private async checkCount(): Promise<void> {
    const { maxCount, directory } = this.options;
    const { length } = await this.names();
    if (length < maxCount) return;
    throw new OperationalError(
      `there are ${length} backups in ${directory}; drop some with BACKUP DROP, or raise ` +
        "storage.max_backups",
      { isRefusal: true },
    );
  }

  private checkSpace(freeBytes: number): void {
    const shortage = this.shortage(freeBytes);
    if (shortage !== "") throw new OperationalError(shortage, { isFull: true });
  }

  /** What is wrong when no more than this would be free; empty when nothing is. */
  private shortage(freeBytes: number): string {
    const { minFreeBytes, directory } = this.options;
    if (minFreeBytes === 0 || freeBytes >= minFreeBytes) return "";
    return (
      `a backup would leave less than ${Math.round(minFreeBytes / MIB)} MiB free where ` +
      `${directory} is; make room there, or lower storage.min_free_mb`
    );
  }

  private freeBytes(): Promise<number> {
    const { files, directory } = this.options;
    // Where it is not known how much is left, only the disk itself sets a limit.
    return files.freeBytes(directory).catch(() => Infinity);
  }

  private async removeOldest(): Promise<void> {
    const { keep } = this.options;
    if (keep === 0) return;
    const names = await this.unnamed();
    for (const name of names.slice(0, -keep)) await this.remove(name);
  }

  private async removeLeftovers(): Promise<void> {
    const { files, directory } = this.options;
    for (const name of await this.fileNames()) {
      if (name.endsWith(SUFFIX + UNFINISHED)) await files.remove(join(directory, name));
    }
    await this.removeGivenUp();
  }

  private async removeGivenUp(): Promise<void> {
    const sinceMs = this.options.timing.nowMs() - GIVEN_UP_AFTER_MS;
    for (const name of await this.names()) {
      if (!name.startsWith(FETCHED_PREFIX)) continue;
      if ((this.lastReadMs.get(name) ?? -Infinity) < sinceMs) await this.remove(name);
    }
  }

  /** Names of the backups nobody named, oldest first. */
  private async unnamed(): Promise<string[]> {
    return (await this.names()).filter((name) => TIME_NAME.test(name)).sort();
  }

  private async names(): Promise<string[]> {
    const names = await this.fileNames();
    return names
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => name.slice(0, -SUFFIX.length));
  }

  private async fileNames(): Promise<string[]> {
    const { files, directory } = this.options;
    try {
      return await files.list(directory);
    } catch (error) {
      if (codeOf(error) === "ENOENT") return [];
      throw error;
    }
  }

  private checkLater(ms: number): void {
    this.cancelCheck = this.options.timing.after(ms, () => {
      void this.createIfDue().finally(() => {
        if (!this.isStopping) this.checkLater(CHECK_EVERY_MS);
      });
    });
  }

  /** Goes by the names, so that a restart neither skips a backup nor makes one more. */
  private async createIfDue(): Promise<void> {
    const { store, intervalHours, logger } = this.options;
    if (intervalHours === 0) return;
    try {
      const newest = (await this.unnamed()).at(-1);
      const dueMs = newest === undefined ? 0 : timeOf(newest) + intervalHours * HOUR_MS;
      if (store.clock.nowMs() < dueMs || this.running !== null) return;
      const { name, bytes, entries } = await this.createOne(undefined, false);
      logger.info("Made a backup", { name, bytes, entries });
    } catch (error) {
      this.complain("make a backup", error);
    }
  }

  private complain(doing: string, error: unknown): void {
    if (this.isStopping) return;
    this.options.logger.warn(`Could not ${doing}`, { error: explainError(error) });
  }

  private pathOf(name: string): string {
    if (!NAME.test(name)) {
      throw new OperationalError(
        "the name of a backup has 1 to 128 letters, digits, and ._- except in front",
        { isRefusal: true },
      );
    }
    return join(this.options.directory, name + SUFFIX);
  }
}

function timeName(time: Date): string {
  return time.toISOString().replace(/[-:]|\.\d+/g, "");
}

function timeOf(name: string): number {
  const [, year, month, day, hour, minute, second] = TIME_NAME.exec(name)!.map(Number);
  return Date.UTC(year, month - 1, day, hour, minute, second);
}
