/**
 * Reads one file of a data directory or a backup: frames in order, the right head in front, an
 * end that counts its records. What is wrong comes back as a verdict; what belongs to somebody
 * else is an error.
 */
import { OperationalError } from "../operational-error.ts";
import { checkHead, laterRecordError, type ExpectedHead } from "./data-directory.ts";
import { withExplanation, type FileSystem, type OpenFile } from "./file-system.ts";
import { MAGIC_BYTES } from "./frame.ts";
import {
  endOfContent,
  findFrame,
  readFrames,
  RECORD_OF_LATER_VERSION,
  SENSELESS_RECORD,
  type Reading,
} from "./frame-reader.ts";
import { type RecordSink } from "./record-reader.ts";
import { FILE_LOG, type FileHead } from "./record.ts";
import {
  UNSEALED_FILE,
  UNSEALED_FRAME,
  WRONG_SEAL,
  type DirectorySeals,
  type FileSeal,
  type FrameOpener,
} from "./sealing.ts";

/** No head is longer than this, its frame included: a node's id has at most 128 characters. */
const MAX_HEAD_BYTES = 640;

/** What was found in a file. */
export interface FileReading extends Reading {
  /** With what its frames are sealed; null if they are not. */
  readonly seal: FileSeal | null;
  /** Null when not even the head is good. */
  readonly head: FileHead | null;
  /** Whether the last record is an end. */
  readonly isEnded: boolean;
  /** Entries among the records. */
  readonly entries: number;
}

/** Takes what a file holds besides head and end. */
export type DataSink = Omit<RecordSink, "head" | "end">;

/**
 * Reads a whole file. Throws an OperationalError when it cannot be read or its head is not the
 * expected one; whatever the sink throws passes through.
 */
export async function readDataFile(
  files: FileSystem,
  path: string,
  seals: DirectorySeals,
  expected: ExpectedHead,
  sink: DataSink,
  onProgress?: (bytesRead: number) => void,
): Promise<FileReading> {
  const file = await withExplanation(`read ${path}`, files.open(path, "read"));
  try {
    const opener = seals.opener(path);
    const checker = new FileChecker(path, expected, opener, sink);
    const reading = await withExplanation(
      `read ${path}`,
      readFrames(file, opener, checker, onProgress),
    );
    if (reading.flaw === RECORD_OF_LATER_VERSION) throw laterRecordError(path, reading.goodBytes);
    if (expected.fileKind !== FILE_LOG || reading.flaw === null) return checker.verdict(reading);
    // Zeros at the end of a log are space that was allocated and not needed.
    const fileBytes = await withExplanation(`read ${path}`, endOfContent(file, reading.goodBytes));
    const flaw = fileBytes === reading.goodBytes ? null : reading.flaw;
    return checker.verdict({ ...reading, fileBytes, flaw });
  } finally {
    await file.close();
  }
}

/**
 * Whether a log that stops being good at `goodBytes` was merely cut off by a crash: nothing
 * beyond that had been durable. See `frame.ts`.
 */
export async function isTornEnd(
  files: FileSystem,
  path: string,
  reading: FileReading,
): Promise<boolean> {
  const { goodBytes, fileBytes, flaw } = reading;
  if (flaw !== null && NEVER_TORN.has(flaw)) return false;
  const file = await withExplanation(`read ${path}`, files.open(path, "read"));
  try {
    if (goodBytes === 0 && !(await isTornHead(file, fileBytes))) return false;
    return !(await withExplanation(`read ${path}`, wasSyncedBeyond(file, goodBytes)));
  } finally {
    await file.close();
  }
}

/**
 * Whether a file without a good head may be the beginning of a log: the head is durable before
 * anything follows it. Else it is somebody's file of another kind, or damaged.
 */
async function isTornHead(file: OpenFile, fileBytes: number): Promise<boolean> {
  if (fileBytes > MAX_HEAD_BYTES) return false;
  const start = new Uint8Array(Math.min(fileBytes, MAGIC_BYTES.length));
  await file.read(start, 0);
  return start.every((byte, i) => byte === 0 || byte === MAGIC_BYTES[i]);
}

async function wasSyncedBeyond(file: OpenFile, goodBytes: number): Promise<boolean> {
  for (let from = goodBytes + 1; ;) {
    const found = await findFrame(file, from);
    if (found === null) return false;
    if (found.syncedBytes > goodBytes) return true;
    from = found.end;
  }
}

const EMPTY = "it is empty";
const LOST_RECORDS = "records are missing before its end";
/** What no crash leaves behind. */
const NEVER_TORN: ReadonlySet<string> = new Set([
  LOST_RECORDS,
  SENSELESS_RECORD,
  WRONG_SEAL,
  UNSEALED_FRAME,
  UNSEALED_FILE,
]);

/** Passes data on and keeps an eye on head and end. */
class FileChecker implements RecordSink {
  private fileHead: FileHead | null = null;
  private isEnded = false;
  private entries = 0;
  private records = 0;
  private lostRecords = false;

  constructor(
    private readonly path: string,
    private readonly expected: ExpectedHead,
    private readonly opener: FrameOpener,
    private readonly sink: DataSink,
  ) {}

  head(head: FileHead): void {
    checkHead(this.path, head, this.expected);
    this.fileHead = head;
    this.records++;
  }

  ahead(...[bytes, starts, lengths, count]: Parameters<NonNullable<RecordSink["ahead"]>>): void {
    this.sink.ahead?.(bytes, starts, lengths, count);
  }

  entry(entry: Parameters<RecordSink["entry"]>[0]): void {
    this.count();
    this.entries++;
    this.sink.entry(entry);
  }

  floor(version: Parameters<RecordSink["floor"]>[0]): void {
    this.count();
    this.sink.floor(version);
  }

  metadata(name: string, value: Uint8Array): void {
    this.count();
    this.sink.metadata(name, value);
  }

  drop(entry: Parameters<RecordSink["drop"]>[0]): void {
    this.count();
    this.sink.drop(entry);
  }

  patch(patch: Parameters<RecordSink["patch"]>[0]): void {
    this.count();
    this.sink.patch(patch);
  }

  expiry(entry: Parameters<RecordSink["expiry"]>[0]): void {
    this.count();
    this.sink.expiry(entry);
  }

  end(records: number): void {
    if (records !== this.records) this.lostRecords = true;
    this.count();
    this.isEnded = true;
  }

  verdict(reading: Reading): FileReading {
    const { fileHead: head, isEnded, entries } = this;
    let { flaw } = reading;
    if (flaw === null && this.lostRecords) flaw = LOST_RECORDS;
    if (flaw === null && head === null) flaw = EMPTY;
    // A log may end without one: its process was killed.
    if (flaw === null && !isEnded && this.expected.fileKind !== FILE_LOG) flaw = "it has no end";
    const seal = this.opener.file ?? null;
    return { ...reading, head, seal, isEnded: flaw === null && isEnded, entries, flaw };
  }

  private count(): void {
    if (this.fileHead === null) throw new OperationalError(`${this.path} has no head`);
    this.records++;
    this.isEnded = false;
  }
}
