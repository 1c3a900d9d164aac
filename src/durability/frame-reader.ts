/**
 * Reads the frames of a file in order, a window at a time, and says exactly where and how they
 * stop being good. Also finds whole frames beyond that, which is how a torn end is told from
 * damage, and how a damaged file is salvaged.
 */
import { FRAME_HEADER_BYTES, findMagic, isIntact, readHeader, type FrameHeader } from "./frame.ts";
import { readRecords, UNKNOWN_RECORD, type RecordSink } from "./record-reader.ts";
import type { OpenFile } from "./file-system.ts";
import { FileWindow, WINDOW_BYTES, WindowAhead } from "./file-window.ts";
import type { FrameOpener } from "./sealing.ts";

/** A flaw that no cut explains: the frame is as it was written. */
export const SENSELESS_RECORD = "a record makes no sense";
/** No flaw at all, but nothing that this version could read. */
export const RECORD_OF_LATER_VERSION = "a record is of a type that only a later version knows";

/** Where good frames end, and why. */
export interface Reading {
  /** Length of the file when it was opened. */
  readonly fileBytes: number;
  /** Every byte before this belongs to a good frame. */
  readonly goodBytes: number;
  readonly frames: number;
  readonly records: number;
  /** Bytes from the start that were durable when the last good frame was written. */
  readonly syncedBytes: number;
  /** What is wrong at `goodBytes`, null when the whole file is good. */
  readonly flaw: string | null;
}

/** A frame found by its looks. */
export interface FoundFrame {
  readonly position: number;
  /** Where the frame ends. */
  readonly end: number;
  readonly syncedBytes: number;
  /** Its records, sealed or not. */
  readonly payload: Uint8Array;
}

/**
 * Reads frames from the start of the file and hands their records to `sink`, which may throw
 * to stop, as `opener` does for want of a key. `onWindow` is told how far reading has come, now
 * and then.
 */
export async function readFrames(
  file: OpenFile,
  opener: FrameOpener,
  sink: RecordSink,
  onWindow: (bytesRead: number) => void = () => {},
): Promise<Reading> {
  const fileBytes = await file.size();
  const window = new WindowAhead(file, fileBytes);
  try {
    return await readAll(window, fileBytes, opener, sink, onWindow);
  } finally {
    await window.settled();
  }
}

async function readAll(
  window: WindowAhead,
  fileBytes: number,
  opener: FrameOpener,
  sink: RecordSink,
  onWindow: (bytesRead: number) => void,
): Promise<Reading> {
  const header: FrameHeader = { payloadBytes: 0, payloadChecksum: 0, syncedBytes: 0 };
  let position = 0;
  let frames = 0;
  let records = 0;
  let syncedBytes = 0;
  const stop = (flaw: string | null): Reading => ({
    fileBytes,
    goodBytes: position,
    frames,
    records,
    syncedBytes,
    flaw,
  });
  while (position < fileBytes) {
    if (!window.holds(position, FRAME_HEADER_BYTES)) {
      onWindow(position);
      if (!(await window.load(position, FRAME_HEADER_BYTES))) return stop("a frame is cut short");
    }
    if (!readHeader(window.bytes, position - window.start, position, header)) {
      return stop("a frame's header is wrong");
    }
    const { payloadBytes } = header;
    const payloadAt = position + FRAME_HEADER_BYTES;
    if (!window.holds(payloadAt, payloadBytes)) {
      onWindow(position);
      if (!(await window.load(payloadAt, payloadBytes))) return stop("a frame is cut short");
    }
    const start = payloadAt - window.start;
    if (!isIntact(window.bytes, start, header)) return stop("a frame's checksum is wrong");
    const payload = window.bytes.subarray(start, start + payloadBytes);
    const opened = opener.open(payload, position, header.syncedBytes);
    if (typeof opened === "string") return stop(opened);
    const count = readRecords(opened, 0, opened.length, sink);
    if (count < 0)
      return stop(count === UNKNOWN_RECORD ? RECORD_OF_LATER_VERSION : SENSELESS_RECORD);
    position = payloadAt + payloadBytes;
    syncedBytes = header.syncedBytes;
    frames++;
    records += count;
  }
  return stop(null);
}

/** The first whole frame that starts at or after `from`, or null. */
export async function findFrame(file: OpenFile, from: number): Promise<FoundFrame | null> {
  const fileBytes = await file.size();
  const header: FrameHeader = { payloadBytes: 0, payloadChecksum: 0, syncedBytes: 0 };
  const window = new FileWindow(file, fileBytes);
  for (let position = from; position + FRAME_HEADER_BYTES <= fileBytes;) {
    if (!window.holds(position, FRAME_HEADER_BYTES)) {
      await window.load(position, FRAME_HEADER_BYTES);
    }
    const found = findMagic(window.bytes, position - window.start, window.length);
    if (found < 0) {
      // A header may straddle the window's end.
      position = window.start + window.length - FRAME_HEADER_BYTES + 1;
      continue;
    }
    position = window.start + found;
    if (readHeader(window.bytes, found, position, header)) {
      const payloadAt = position + FRAME_HEADER_BYTES;
      const payload = new Uint8Array(Math.min(header.payloadBytes, fileBytes - payloadAt));
      await file.read(payload, payloadAt);
      if (payload.length === header.payloadBytes && isIntact(payload, 0, header)) {
        const end = payloadAt + header.payloadBytes;
        return { position, end, syncedBytes: header.syncedBytes, payload };
      }
    }
    position++;
  }
  return null;
}

/** Length of a file without the zeros at its end, `from` at least. */
export async function endOfContent(file: OpenFile, from: number): Promise<number> {
  const window = new Uint8Array(WINDOW_BYTES);
  for (let end = await file.size(); end > from;) {
    const start = Math.max(from, end - WINDOW_BYTES);
    const length = await file.read(window.subarray(0, end - start), start);
    const last = window.subarray(0, length).findLastIndex((byte) => byte !== 0);
    if (last >= 0) return start + last + 1;
    end = start;
  }
  return from;
}

/** All whole frames of a file in order, whatever lies between them. */
export async function* allFrames(file: OpenFile): AsyncGenerator<FoundFrame> {
  for (let from = 0; ;) {
    const frame = await findFrame(file, from);
    if (frame === null) return;
    yield frame;
    from = frame.end;
  }
}
