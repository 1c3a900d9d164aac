/**
 * Backups of a running node: whole, checked files of one moment in a directory of their own, on
 * demand and on a schedule, of which the newest few are kept.
 *
 * A backup is a snapshot that follows what changes while it is written. It can be fetched
 * piece by piece, through the client port for one.
 */
import { join } from "node:path";
import type { Store } from "../core/store.ts";
import type { Logger } from "../observability/log.ts";
import { OperationalError } from "../operational-error.ts";
import { UNFINISHED } from "./data-directory.ts";
import { codeOf, explain, orExplain, type FileSystem, type OpenFile } from "./file-system.ts";
import { FILE_BACKUP } from "./record.ts";
import { writeSnapshot } from "./snapshot.ts";
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
const HOUR_MS = 3_600_000;

/** What backups are made with. */
export interface BackupOptions {
  readonly files: FileSystem;
  readonly timing: Timing;
  readonly store: Store;
  readonly nodeId: string;
  /** What else to remember, by name. */
  readonly facts: () => ReadonlyMap<string, Uint8Array>;
  /** Where backups go; made when the first one is. */
  readonly directory: string;
  /** Hours between backups that are made unasked; 0 for none. */
  readonly intervalHours: number;
  /** How many unnamed ones are kept; 0 keeps all. */
  readonly keep: number;
  readonly logger: Logger;
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
  private open: { name: string; file: OpenFile } | null = null;
  /** When each one to be fetched was last read from, by name. */
  private readonly lastReadMs = new Map<string, number>();

  constructor(private readonly options: BackupOptions) {}

  /** Removes what a process that died left half done, and starts the schedule. */
  async start(): Promise<void> {
    await this.removeLeftovers().catch((error: unknown) => this.complain("tidy up", error));
    if (this.options.intervalHours > 0) this.checkLater(0);
  }

  /** Ends the schedule, and gives up on a backup that is being made. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.cancelCheck();
    await this.running?.catch(() => {});
    await this.closeOpen();
  }

  /**
   * Makes a backup. Without a name it gets its time as one, and the oldest such are removed.
   * Throws an OperationalError: a bad name, one that is taken, another backup under way, or
   * the disk.
   */
  create(name?: string): Promise<Backup> {
    if (this.running !== null) {
      return Promise.reject(new OperationalError("another backup is being made; try again later"));
    }
    this.running = this.createNow(name).finally(() => (this.running = null));
    return this.running;
  }

  /** Up to `count` bytes of a backup from `offset` on, 4 MiB at most; none past its end. */
  async read(name: string, offset: number, count: number): Promise<Uint8Array> {
    const path = this.pathOf(name);
    this.lastReadMs.set(name, this.options.timing.nowMs());
    if (this.open?.name !== name) {
      await this.closeOpen();
      const file = await orExplain(
        `read the backup ${name}`,
        this.options.files.open(path, "read"),
      );
      this.open = { name, file };
    }
    const piece = new Uint8Array(Math.min(count, MAX_PIECE_BYTES));
    const length = await orExplain(`read the backup ${name}`, this.open.file.read(piece, offset));
    return piece.subarray(0, length);
  }

  /** Removes a backup; nothing happens when there is none of that name. */
  async remove(name: string): Promise<void> {
    const path = this.pathOf(name);
    this.lastReadMs.delete(name);
    if (this.open?.name === name) await this.closeOpen();
    await orExplain(`remove ${path}`, this.options.files.remove(path));
  }

  private async createNow(given: string | undefined): Promise<Backup> {
    const { files, directory, store, nodeId, timing } = this.options;
    const name = given ?? timeName(new Date(store.clock.nowMs()));
    const path = this.pathOf(name);
    await orExplain(`make the directory ${directory}`, files.makeDirectory(directory));
    if ((await orExplain(`look at ${path}`, files.sizeOf(path))) >= 0) {
      throw new OperationalError(`there is a backup "${name}" already; choose another name`);
    }
    if (name.startsWith(FETCHED_PREFIX)) {
      await this.removeGivenUp();
      this.lastReadMs.set(name, timing.nowMs());
    }
    const { bytes, entries } = await writeSnapshot({
      files,
      path,
      fileKind: FILE_BACKUP,
      number: 0,
      nodeId,
      store,
      facts: this.options.facts,
      follows: true,
      timing,
      isLate: () => false,
      isCancelled: () => this.isStopping,
    });
    if (given === undefined) await this.removeOldest();
    return { name, bytes, entries };
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
    try {
      const newest = (await this.unnamed()).at(-1);
      const dueMs = newest === undefined ? 0 : timeOf(newest) + intervalHours * HOUR_MS;
      if (store.clock.nowMs() < dueMs || this.running !== null) return;
      const { name, bytes, entries } = await this.create();
      logger.info("Made a backup", { name, bytes, entries });
    } catch (error) {
      this.complain("make a backup", error);
    }
  }

  private complain(doing: string, error: unknown): void {
    if (this.isStopping) return;
    this.options.logger.warn(`Could not ${doing}`, { error: explain(error) });
  }

  private pathOf(name: string): string {
    if (!NAME.test(name)) {
      throw new OperationalError(
        "the name of a backup has 1 to 128 letters, digits, and ._- except in front",
      );
    }
    return join(this.options.directory, name + SUFFIX);
  }

  private async closeOpen(): Promise<void> {
    const open = this.open;
    this.open = null;
    await open?.file.close();
  }
}

function timeName(time: Date): string {
  return time.toISOString().replace(/[-:]|\.\d+/g, "");
}

function timeOf(name: string): number {
  const [, year, month, day, hour, minute, second] = TIME_NAME.exec(name)!.map(Number);
  return Date.UTC(year!, month! - 1, day!, hour!, minute!, second!);
}
