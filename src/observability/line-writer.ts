/**
 * Appends lines to a file descriptor without ever blocking, throwing or growing.
 *
 * One asynchronous write is in flight; lines that come meanwhile are gathered and
 * leave together with the next. Invariant: at most `LIMIT_BYTES` wait. What does not
 * fit, or what the disk refuses, is dropped and counted, and a line says how many were
 * lost once writing works again. A process that exits without `close` writes what is
 * left from its "exit" event; a write that was just under way is then done again,
 * because a last line twice is better than no last line.
 *
 * A file does not grow above its limit: it is renamed to `path.1` then, after `path.1` was to
 * `path.2` and so on, and another is begun. While that fails, lines are lost rather than written.
 */
import { closeSync, fstatSync, openSync, write, writeSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import type { Timing } from "../timing.ts";

/** Most bytes that wait for a slow reader or disk. */
const LIMIT_BYTES = 1_048_576;
/** How long a full non-blocking pipe is left alone before it is tried again. */
const RETRY_MS = 20;
/** How long `close` waits for what is still to be written. */
const CLOSE_DEADLINE_MS = 2_000;
const FILE_MODE = 0o600;

/** How large a file gets, in bytes (0: without limit), and how many former ones are kept. */
export interface FileLimits {
  readonly maxBytes: number;
  readonly keep: number;
}

/** Writes lines to one file or to standard error. */
export class LineWriter {
  /** Lines that were lost so far. */
  lostLines = 0;
  private descriptor: number;
  /** Length of the file. */
  private fileBytes = 0;
  private waiting: string[] = [];
  private waitingBytes = 0;
  private isWriting = false;
  /** What the write under way has not been seen to finish. */
  private unfinished: Buffer = NOTHING;
  private isClosed = false;
  /** The last write stopped inside a line. */
  private isTorn = false;
  /** Those of them that no line tells of yet. */
  private lost = 0;
  private whenIdle: (() => void)[] = [];
  private readonly atExit = (): void => this.flushSync();

  /**
   * Opens `path` for appending, or takes standard error when it is empty. Throws the
   * system error when the file cannot be opened. `lostLine` words the report of dropped lines.
   */
  constructor(
    private path: string,
    private readonly lostLine: (count: number) => string,
    private readonly timing: Timing,
    private readonly limits: FileLimits = { maxBytes: 0, keep: 0 },
  ) {
    this.descriptor = open(path);
    this.fileBytes = lengthOf(this.descriptor);
    process.on("exit", this.atExit);
  }

  /** Takes one line, its newline included. */
  push(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.isClosed || this.waitingBytes + bytes > LIMIT_BYTES) {
      this.lose(1);
      return;
    }
    this.waiting.push(line);
    this.waitingBytes += bytes;
    if (!this.isWriting) this.start();
  }

  /**
   * Opens the path anew, for a file that was renamed away. On failure keeps the old file and
   * throws.
   */
  reopen(): void {
    if (this.path === "" || this.isClosed) return;
    const old = this.descriptor;
    this.descriptor = open(this.path);
    this.fileBytes = lengthOf(this.descriptor);
    this.whenWritten(() => closeSync(old));
  }

  /**
   * Opens another path, for when it is decided that lines go there: `use` does that, `close` lets
   * go of it. Throws the system error when it cannot be opened.
   */
  openNext(path: string): { readonly use: () => void; readonly close: () => void } {
    const next = open(path);
    const closeOne = (it: number): void => {
      if (it !== STANDARD_ERROR) closeSync(it);
    };
    const use = (): void => {
      if (this.isClosed) return closeOne(next);
      const old = this.descriptor;
      this.path = path;
      this.descriptor = next;
      this.fileBytes = lengthOf(next);
      this.whenWritten(() => closeOne(old));
    };
    return { use, close: () => closeOne(next) };
  }

  /** Calls `done` once every line taken so far is written or lost. */
  whenWritten(done: () => void): void {
    if (this.isWriting) this.whenIdle.push(done);
    else done();
  }

  /** Writes what waits (for 2 seconds at most) and closes the file. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.whenWritten(resolve);
    const cancel = this.timing.after(CLOSE_DEADLINE_MS, resolve);
    await promise;
    cancel();
    if (this.isClosed) return;
    this.isClosed = true;
    process.off("exit", this.atExit);
    if (this.path !== "" && !this.isWriting) closeSync(this.descriptor);
  }

  private start(): void {
    this.isWriting = true;
    // Not at once, so that lines of the same turn go together.
    this.timing.soon(() => this.writeNext());
  }

  private writeNext(): void {
    const batch = this.takeBatch();
    if (batch && this.isFullFor(batch)) return void this.writeToNext(batch);
    if (batch) return this.writeRest(this.descriptor, batch, 0);
    this.isWriting = false;
    this.unfinished = NOTHING;
    for (const done of this.whenIdle.splice(0)) done();
  }

  private isFullFor({ bytes }: Batch): boolean {
    const { maxBytes } = this.limits;
    if (maxBytes === 0 || this.path === "") return false;
    return this.fileBytes > 0 && this.fileBytes + bytes.length > maxBytes;
  }

  /** Begins another file with these lines. */
  private async writeToNext(batch: Batch): Promise<void> {
    this.unfinished = batch.bytes;
    try {
      await this.putAway();
      const old = this.descriptor;
      this.descriptor = open(this.path);
      this.fileBytes = lengthOf(this.descriptor);
      closeSync(old);
    } catch {
      this.giveUp(batch, 0);
      return this.writeNext();
    }
    this.writeRest(this.descriptor, batch, 0);
  }

  /** Gives the file, and those before it, their next names. */
  private async putAway(): Promise<void> {
    const { path } = this;
    const { keep } = this.limits;
    if (keep === 0) return rm(path, { force: true });
    for (let number = keep - 1; number > 0; number--) {
      await rename(`${path}.${number}`, `${path}.${number + 1}`).catch(ignoreMissing);
    }
    await rename(path, `${path}.1`).catch(ignoreMissing);
  }

  private writeRest(descriptor: number, batch: Batch, offset: number): void {
    const { bytes } = batch;
    this.unfinished = bytes.subarray(offset);
    write(descriptor, bytes, offset, bytes.length - offset, null, (error, written) => {
      if (error?.code === "EAGAIN") {
        this.timing.after(RETRY_MS, () => this.writeRest(descriptor, batch, offset));
      } else if (error) {
        this.giveUp(batch, offset);
        this.writeNext();
      } else if (offset + written < bytes.length) {
        this.fileBytes += written;
        this.writeRest(descriptor, batch, offset + written);
      } else {
        this.fileBytes += written;
        this.writeNext();
      }
    });
  }

  /** Counts a batch as lost from `offset` on. */
  private giveUp(batch: Batch, offset: number): void {
    if (offset < batch.headBytes) this.lost += batch.lostBefore;
    this.lose(countLines(batch.bytes, Math.max(offset, batch.headBytes)));
    this.isTorn = offset === 0 ? batch.wasTorn : batch.bytes[offset - 1] !== NEWLINE;
  }

  private lose(lines: number): void {
    this.lost += lines;
    this.lostLines += lines;
  }

  private takeBatch(): Batch | undefined {
    if (this.waiting.length === 0) return undefined;
    const report = this.lost > 0 ? this.lostLine(this.lost) : "";
    const head = (this.isTorn ? "\n" : "") + report;
    const batch: Batch = {
      bytes: Buffer.from(head + this.waiting.join("")),
      headBytes: Buffer.byteLength(head),
      lostBefore: this.lost,
      wasTorn: this.isTorn,
    };
    this.lost = 0;
    this.isTorn = false;
    this.waiting = [];
    this.waitingBytes = 0;
    return batch;
  }

  private flushSync(): void {
    try {
      const rest = Buffer.concat([this.unfinished, this.takeBatch()?.bytes ?? NOTHING]);
      if (rest.length > 0) writeSync(this.descriptor, rest);
    } catch {
      // The process is ending and there is nobody left to tell.
    }
  }
}

/** Lines that leave in one write. */
interface Batch {
  /** A head (the end of a torn line, the report of lost ones), then the lines. */
  readonly bytes: Buffer;
  readonly headBytes: number;
  /** What the head reports as lost. */
  readonly lostBefore: number;
  readonly wasTorn: boolean;
}

const NEWLINE = 10;
const NOTHING = Buffer.alloc(0);
const STANDARD_ERROR = 2;

function open(path: string): number {
  return path === "" ? STANDARD_ERROR : openSync(path, "a", FILE_MODE);
}

/** Length of a file; below all lengths for a pipe or a device, which never gets too long. */
function lengthOf(descriptor: number): number {
  const found = fstatSync(descriptor);
  return found.isFile() ? found.size : -Infinity;
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

function countLines(batch: Buffer, from: number): number {
  let lines = 0;
  for (let i = batch.indexOf(NEWLINE, from); i !== -1; i = batch.indexOf(NEWLINE, i + 1)) lines++;
  return lines;
}
