/**
 * The file of entries that were set aside: what this node alone held from before its peers
 * purged deletions, and what came from no node, dated too far in the future. One JSON object a
 * line, appended:
 *
 *   { "at", "reason": "stale" | "future", "kind", "key", "value"?, "time", "origin", "expires"? }
 *
 * `at` is when it was written, `time` when the entry was, both in ISO 8601. Bytes that are not
 * UTF-8 come in base64, as "key_base64" and "value_base64"; a counter has its sum as "value"
 * and all its parts in "value_base64". Nothing here reads the file back: it is for people. A line
 * that a full disk or a crash cut short stays as it is, and the next one begins on its own.
 *
 * With a key each line is sealed (`sealed-lines.ts`); `merklekv unseal` prints them.
 *
 * What a node has that is dated too far in the future is not here: the node is asked for it once
 * its time has come. Only what another implementation published comes here. That may be sent again
 * and again, so it is written once, and leaves room for what a node gave up.
 */
import { dirname, join } from "node:path";
import { unixMsOf } from "../core/data/clock.ts";
import { sumOf } from "../core/data/counter.ts";
import { Int64, MAX_NUMBER_TEXT_BYTES, formatInt64 } from "../core/data/int64.ts";
import { KIND_COUNTER, type Entry } from "../core/data/entry.ts";
import { hasValue } from "../core/data/merge.ts";
import type { SetAsideReason, SetAsideDone } from "../core/sync/options.ts";
import type { Logger } from "../observability/log.ts";
import { isoTimeOf } from "../timing.ts";
import { LineSealer } from "./sealed-lines.ts";
import { noKeys, type DiskKeys } from "./sealing.ts";
import { explainError, type FileSystem, type OpenFile } from "./file-system.ts";

const KINDS = ["string", "tombstone", "counter", "expired", "other"] as const;
/** Most entries from the future written by one process, which remembers each of them. */
const MAX_FUTURE_ENTRIES = 65_536;
/** How much of the file they may fill. */
const FUTURE_SHARE = 0.5;
/** Most bytes of them that wait for the disk; what does not fit is offered again by the peer. */
const MAX_FUTURE_WAITING_BYTES = 4 * 1024 * 1024;
const LINE_END = 0x0a;
/** Read at once when the lines of earlier processes are counted. */
const PIECE_BYTES = 65_536;
/** A longer name would not do as part of a file's. */
const MAX_NAME_BYTES = 200;

/** What the file is made with. */
export interface SetAsideOptions {
  readonly files: FileSystem;
  /** Unix milliseconds. */
  readonly wallMs: () => number;
  /** Where the file lies. */
  readonly directory: string;
  readonly nodeId: string;
  /** It never grows above this. */
  readonly maxBytes: number;
  /** With a key its lines are sealed; none unless given. */
  readonly keys?: DiskKeys;
  readonly logger: Logger;
}

/** A line on its way to the disk. */
interface WaitingLine {
  readonly bytes: Uint8Array;
  readonly reason: SetAsideReason;
  readonly done: SetAsideDone;
}

/**
 * Appends to the file, which is made when there is something to write. Lines that come while
 * others are on their way to the disk share the next sync.
 */
export class SetAside {
  /** Entries in the file. */
  entries = 0;
  readonly path: string;
  private readonly files: FileSystem;
  private file: OpenFile | null = null;
  /** Null when lines are not sealed. */
  private sealer: LineSealer | null = null;
  private bytes = 0;
  /** The file ends within a line. */
  private isCutShort = false;
  private waiting: WaitingLine[] = [];
  private waitingBytes = 0;
  private writing: Promise<void> | null = null;
  private isClosed = false;
  private hasWarned = false;
  private hasComplained = false;
  /** Entries from the future that are in the file, or on their way. */
  private readonly known = new Set<string>();

  constructor(private readonly options: SetAsideOptions) {
    const { directory, nodeId, files } = options;
    const name = encodeURIComponent(nodeId);
    const short = name.length > MAX_NAME_BYTES ? Bun.SHA256.hash(nodeId, "hex") : name;
    this.path = join(directory, `set-aside-${short}.jsonl`);
    this.files = files;
  }

  /** Most bytes the file grows to. */
  get limitBytes(): number {
    return this.options.maxBytes;
  }

  /** Counts what earlier processes set aside, before anything else is. Never rejects. */
  async countEarlier(): Promise<void> {
    try {
      this.entries = await this.countLines();
    } catch {
      // There is none, or none that can be read: whoever has something to write finds out.
    }
    if (this.entries === 0) return;
    const fields = { entries: this.entries, file: this.path };
    this.options.logger.warn(
      "Earlier runs set entries aside; look at them, then move the file away",
      fields,
    );
  }

  /**
   * Takes a copy of an entry. `done` is called later: with true once its line is durable, and
   * with false when it cannot be written or there is no room. Then the entry must be kept.
   */
  put(entry: Entry, reason: SetAsideReason, done: SetAsideDone = () => {}): void {
    if (this.isClosed) return queueMicrotask(() => done(false));
    if (reason === "future" && !this.isNews(entry, done)) return;
    const bytes = Buffer.from(
      `${JSON.stringify(describe(entry, reason, this.options.wallMs()))}\n`,
    );
    const identity = reason === "future" ? identityOf(entry) : "";
    if (reason === "future") this.known.add(identity);
    const line = {
      bytes,
      reason,
      done: (isKept: boolean) => {
        if (!isKept && reason === "future") this.known.delete(identity);
        done(isKept);
      },
    };
    this.waiting.push(line);
    this.waitingBytes += bytes.length;
    this.writing ??= this.writeAll();
  }

  /** Writes what waits and closes the file. Nothing is set aside after that. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.writing;
    await this.letGo();
  }

  /** Whether an entry from the future is to be written. If not, whoever waits is told why. */
  private isNews(entry: Entry, done: SetAsideDone): boolean {
    const isKnown = this.known.has(identityOf(entry));
    const hasRoom =
      this.known.size < MAX_FUTURE_ENTRIES && this.waitingBytes < MAX_FUTURE_WAITING_BYTES;
    if (!isKnown && hasRoom) return true;
    queueMicrotask(() => done(isKnown));
    return false;
  }

  private async countLines(): Promise<number> {
    const file = await this.files.open(this.path, "read");
    try {
      const piece = Buffer.alloc(PIECE_BYTES);
      let lines = 0;
      for (let at = 0; ;) {
        const length = await file.read(piece, at);
        if (length === 0) return lines;
        const filled = piece.subarray(0, length);
        for (let i = -1; (i = filled.indexOf(LINE_END, i + 1)) >= 0;) lines++;
        at += length;
      }
    } finally {
      await file.close();
    }
  }

  private async writeAll(): Promise<void> {
    // What is put aside in the same turn is written together.
    await Promise.resolve();
    while (this.waiting.length > 0) {
      const lines = this.waiting;
      this.waiting = [];
      this.waitingBytes = 0;
      const kept = await this.write(lines);
      for (const line of lines) line.done(kept?.has(line) ?? false);
    }
    // At once: what comes after the last look begins anew.
    this.writing = null;
  }

  /** Writes those for which there is room, durably. Returns them; null when that failed. */
  private async write(lines: readonly WaitingLine[]): Promise<Set<WaitingLine> | null> {
    try {
      const file = (this.file ??= await this.open());
      const kept = this.chooseFrom(lines);
      if (kept.size === 0) return kept;
      const bytes = this.textOf(kept);
      await file.write(bytes, this.bytes);
      await file.sync();
      this.bytes += bytes.length;
      this.isCutShort = false;
      this.entries += kept.size;
      this.sayOnce(lines[0].reason);
      return kept;
    } catch (error) {
      // How much of it was written shows when the file is opened anew.
      await this.letGo();
      this.complain(explainError(error));
      return null;
    }
  }

  /** The lines as they go into the file, after what there is of it. */
  private textOf(lines: Iterable<WaitingLine>): Uint8Array {
    const parts: Uint8Array[] = this.isCutShort ? [Uint8Array.of(LINE_END)] : [];
    let end = this.bytes + parts.length;
    for (const { bytes } of lines) {
      const part = this.sealer?.seal(bytes, end) ?? bytes;
      parts.push(part);
      end += part.length;
    }
    return Buffer.concat(parts);
  }

  private lengthOf({ bytes }: WaitingLine): number {
    return this.sealer === null ? bytes.length : LineSealer.lengthOf(bytes.length);
  }

  private chooseFrom(lines: readonly WaitingLine[]): Set<WaitingLine> {
    const { maxBytes } = this.options;
    const kept = new Set<WaitingLine>();
    let end = this.bytes + (this.isCutShort ? 1 : 0);
    for (const line of lines) {
      const limit = line.reason === "future" ? maxBytes * FUTURE_SHARE : maxBytes;
      const length = this.lengthOf(line);
      if (end + length <= limit) {
        kept.add(line);
        end += length;
      } else if (line.reason === "stale") {
        this.complain("it is full; move it away and restart the node");
      }
    }
    return kept;
  }

  /** Opens the file. When it was not there, its name is durable on return. */
  private async open(): Promise<OpenFile> {
    const { files, path } = this;
    await files.makeDirectory(dirname(path));
    const file = await files.open(path, "continue");
    try {
      this.bytes = await file.size();
      const last = new Uint8Array(1);
      if (this.bytes > 0) await file.read(last, this.bytes - 1);
      this.isCutShort = this.bytes > 0 && last[0] !== LINE_END;
      await files.syncDirectory(dirname(path));
      const { keys = noKeys } = this.options;
      const { current, randomWords } = keys;
      this.sealer = current === null ? null : new LineSealer(current, randomWords);
      return file;
    } catch (error) {
      await file.close().catch(() => {});
      throw error;
    }
  }

  private async letGo(): Promise<void> {
    const { file } = this;
    this.file = null;
    await file?.close().catch(() => {});
  }

  private sayOnce(reason: SetAsideReason): void {
    this.hasComplained = false;
    if (this.hasWarned) return;
    this.hasWarned = true;
    const fields = { reason, file: this.path };
    this.options.logger.warn("Entries are being set aside in a file", fields);
  }

  private complain(problem: string): void {
    if (this.hasComplained) return;
    this.hasComplained = true;
    this.options.logger.error("Entries cannot be set aside", { file: this.path, problem });
  }
}

function identityOf(entry: Entry): string {
  const { key, keyOffset, keyLength, timeHigh, timeLow, originHigh, originLow } = entry;
  const hash = Bun.hash(key.subarray(keyOffset, keyOffset + keyLength));
  return [hash, timeHigh, timeLow, originHigh, originLow].join();
}

function describe(entry: Entry, reason: SetAsideReason, nowMs: number): Record<string, unknown> {
  const { kind, timeHigh, timeLow, originHigh, originLow, expiresAtMs } = entry;
  const facts: Record<string, unknown> = {
    at: isoTimeOf(nowMs),
    reason,
    kind: KINDS[kind],
    ...asText("key", entry.keyBytes()),
  };
  if (kind === KIND_COUNTER) {
    facts["value"] = decimalOf(entry);
    facts["value_base64"] = Buffer.from(entry.valueBytes()).toString("base64");
  } else if (hasValue(kind)) Object.assign(facts, asText("value", entry.valueBytes()));
  facts["time"] = isoTimeOf(unixMsOf(timeHigh, timeLow));
  facts["origin"] = hex32(originHigh) + hex32(originLow);
  if (expiresAtMs !== 0) facts["expires"] = isoTimeOf(expiresAtMs);
  return facts;
}

function asText(name: string, bytes: Uint8Array): Record<string, string> {
  try {
    return { [name]: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { [`${name}_base64`]: Buffer.from(bytes).toString("base64") };
  }
}

function decimalOf({ value, valueOffset, valueLength }: Entry): string {
  const number = new Int64();
  sumOf(value, valueOffset, valueLength, number);
  const text = new Uint8Array(MAX_NUMBER_TEXT_BYTES);
  return Buffer.from(text.subarray(0, formatInt64(number, text, 0))).toString();
}

function hex32(word: number): string {
  return word.toString(16).padStart(8, "0");
}
