/** Reads the records of a frame, as `record.ts` describes them. */
import { readU32 } from "../core/bytes.ts";
import {
  Entry,
  KIND_OTHER,
  MAX_KEY_BYTES,
  newVersion,
  type Kind,
  type VersionWords,
} from "../core/data/entry.ts";
import { Patch } from "../core/data/patch.ts";
import { PREFETCH_KEYS } from "../core/store/keyed-entries.ts";
import {
  DROP,
  DROP_RECORD_BYTES,
  END,
  ENTRY,
  ENTRY_KINDS,
  ENTRY_RECORD_BYTES,
  EXPIRY,
  EXPIRY_RECORD_BYTES,
  extraBytes,
  FILE_BACKUP,
  FILE_LOG,
  FLAGS,
  FLOOR,
  HEAD,
  METADATA,
  OTHER_ENTRY,
  OVERWRITE,
  PATCH,
  PATCH_RECORD_BYTES,
  readExtras,
  readTime,
  readVersion,
  SPLICE,
  SPLICE_RECORD_BYTES,
  type FileHead,
  type FileKind,
} from "./record.ts";

/** In place of a number of records: one makes no sense, though its checksum is right. */
const SENSELESS = -1;
/** In place of a number of records: a later version wrote it. */
export const UNKNOWN_RECORD = -2;

/** Takes records as they are read. Entries and byte views are valid for the call only. */
export interface RecordSink {
  head(head: FileHead): void;
  entry(entry: Entry): void;
  floor(version: VersionWords): void;
  metadata(name: string, value: Uint8Array): void;
  /** Of the entry only key and version count. */
  drop(entry: Entry): void;
  patch(patch: Patch): void;
  /** The version of the entry is that of its expiry; of the rest only the key counts. */
  expiry(entry: Entry): void;
  end(records: number): void;
  /**
   * The keys of entries that come next, up to PREFETCH_KEYS of them. Nothing depends on it: it is
   * a chance to have the memory loaded that looking them up needs.
   */
  ahead?(bytes: Uint8Array, starts: Int32Array, lengths: Int32Array, count: number): void;
}

const decoder = new TextDecoder();
const entry = new Entry();
const patch = new Patch();
const version = newVersion();

/**
 * Hands the records from `start` to `end` to the sink, in order. Returns how many there were;
 * SENSELESS when a record makes no sense; or UNKNOWN_RECORD when one is of a type that only a later
 * version knows. How long that is, and what it means for those behind it, nobody here can tell, so
 * what holds one is not to be read any further.
 */
export function readRecords(
  bytes: Uint8Array,
  start: number,
  end: number,
  sink: RecordSink,
): number {
  let count = 0;
  let lookedTo = sink.ahead === undefined ? end : start;
  for (let at = start; at < end; count++) {
    if (at >= lookedTo) lookedTo = lookAhead(bytes, at, end, sink);
    const type = bytes[at] & ~FLAGS;
    const isEntry = (type & ~ENTRY_KINDS) === ENTRY || type === OTHER_ENTRY;
    at = isEntry ? readEntry(bytes, at, end, sink) : readOther(bytes, at, end, sink);
    if (at < 0) return at;
  }
  return count;
}

const aheadStarts = new Int32Array(PREFETCH_KEYS);
const aheadLengths = new Int32Array(PREFETCH_KEYS);

/**
 * Says what keys the entries from `at` on have, as far as they follow each other. Returns how far
 * it has looked.
 */
function lookAhead(bytes: Uint8Array, at: number, end: number, sink: RecordSink): number {
  let count = 0;
  while (count < PREFETCH_KEYS && at < end) {
    const tag = bytes[at];
    const keyAt = at + ENTRY_RECORD_BYTES + extraBytes(tag);
    if ((tag & ~FLAGS & ~ENTRY_KINDS) !== ENTRY || keyAt > end) break;
    const keyLength = ((bytes[at + 1] << 8) | bytes[at + 2]) + 1;
    aheadStarts[count] = keyAt;
    aheadLengths[count] = keyLength;
    at = keyAt + keyLength + readU32(bytes, at + 3);
    if (at > end) break;
    count++;
  }
  if (count > 1) sink.ahead!(bytes, aheadStarts, aheadLengths, count);
  // The next look is for what comes behind what is no entry.
  return count === PREFETCH_KEYS ? at : at + 1;
}

/** Returns where the next record starts, or one of those two; so do the others. */
function readEntry(bytes: Uint8Array, at: number, end: number, sink: RecordSink): number {
  const tag = bytes[at];
  const keyAt = at + ENTRY_RECORD_BYTES + extraBytes(tag);
  if (keyAt > end) return SENSELESS;
  const keyLength = ((bytes[at + 1] << 8) | bytes[at + 2]) + 1;
  const valueLength = readU32(bytes, at + 3);
  const next = keyAt + keyLength + valueLength;
  if (next > end || keyLength > MAX_KEY_BYTES) return SENSELESS;
  entry.kind = (tag & OTHER_ENTRY) !== 0 ? KIND_OTHER : ((tag & ENTRY_KINDS) as Kind);
  readVersion(bytes, at + 7, entry);
  readExtras(bytes, at + ENTRY_RECORD_BYTES, tag, entry);
  entry.key = bytes;
  entry.keyOffset = keyAt;
  entry.keyLength = keyLength;
  entry.value = bytes;
  entry.valueOffset = keyAt + keyLength;
  entry.valueLength = valueLength;
  sink.entry(entry);
  return next;
}

function readOther(bytes: Uint8Array, at: number, end: number, sink: RecordSink): number {
  const left = end - at;
  switch (bytes[at]) {
    case HEAD: {
      const next = left < 10 ? Infinity : at + 10 + ((bytes[at + 8] << 8) | bytes[at + 9]);
      const fileKind = bytes[at + 3];
      if (next > end || fileKind < FILE_LOG || fileKind > FILE_BACKUP) return SENSELESS;
      sink.head({
        formatVersion: (bytes[at + 1] << 8) | bytes[at + 2],
        fileKind: fileKind as FileKind,
        number: readU32(bytes, at + 4),
        nodeId: decoder.decode(bytes.subarray(at + 10, next)),
      });
      return next;
    }
    case END: {
      if (left < 7) return SENSELESS;
      const high = (bytes[at + 1] << 8) | bytes[at + 2];
      sink.end(high * 0x1_0000_0000 + readU32(bytes, at + 3));
      return at + 7;
    }
    case FLOOR:
      if (left < 17) return SENSELESS;
      readVersion(bytes, at + 1, version);
      sink.floor(version);
      return at + 17;
    case METADATA: {
      const nameLength = left < 2 ? 0 : bytes[at + 1];
      const valueAt = at + 6 + nameLength;
      if (nameLength === 0 || valueAt > end) return SENSELESS;
      const next = valueAt + readU32(bytes, valueAt - 4);
      if (next > end) return SENSELESS;
      const name = decoder.decode(bytes.subarray(at + 2, at + 2 + nameLength));
      sink.metadata(name, bytes.subarray(valueAt, next));
      return next;
    }
    case DROP:
      return readDrop(bytes, at, end, sink);
    case PATCH:
    case OVERWRITE:
    case SPLICE:
      return readPatch(bytes, at, end, sink);
    case EXPIRY:
      return readExpiry(bytes, at, end, sink);
    default:
      return UNKNOWN_RECORD;
  }
}

function readDrop(bytes: Uint8Array, at: number, end: number, sink: RecordSink): number {
  const keyAt = at + DROP_RECORD_BYTES;
  if (keyAt > end) return SENSELESS;
  const keyLength = ((bytes[at + 1] << 8) | bytes[at + 2]) + 1;
  if (keyAt + keyLength > end || keyLength > MAX_KEY_BYTES) return SENSELESS;
  readVersion(bytes, at + 3, entry);
  entry.setKey(bytes, keyAt, keyLength);
  sink.drop(entry);
  return keyAt + keyLength;
}

function readExpiry(bytes: Uint8Array, at: number, end: number, sink: RecordSink): number {
  const keyAt = at + EXPIRY_RECORD_BYTES;
  if (keyAt > end) return SENSELESS;
  const keyLength = ((bytes[at + 1] << 8) | bytes[at + 2]) + 1;
  if (keyAt + keyLength > end || keyLength > MAX_KEY_BYTES) return SENSELESS;
  readVersion(bytes, at + 3, entry);
  entry.setExpiry(readTime(bytes, at + 19));
  entry.learnedMs = readTime(bytes, at + 27);
  entry.setKey(bytes, keyAt, keyLength);
  sink.expiry(entry);
  return keyAt + keyLength;
}

function readPatch(bytes: Uint8Array, at: number, end: number, sink: RecordSink): number {
  const isSplice = bytes[at] === SPLICE;
  const keyAt = at + (isSplice ? SPLICE_RECORD_BYTES : PATCH_RECORD_BYTES);
  if (keyAt > end) return SENSELESS;
  const keyLength = ((bytes[at + 1] << 8) | bytes[at + 2]) + 1;
  const valueLength = readU32(bytes, keyAt - 4);
  const next = keyAt + keyLength + valueLength;
  if (next > end || keyLength > MAX_KEY_BYTES) return SENSELESS;
  readVersion(bytes, at + 3, patch.entry);
  readVersion(bytes, at + 19, patch.previous);
  patch.hasExpiry = bytes[at] === PATCH;
  patch.entry.setExpiry(patch.hasExpiry ? readTime(bytes, at + 35) : 0);
  patch.at = readU32(bytes, isSplice ? at + 35 : at + 43);
  patch.removed = isSplice ? readU32(bytes, at + 39) : valueLength;
  patch.entry.setKey(bytes, keyAt, keyLength);
  patch.entry.setValue(bytes, keyAt + keyLength, valueLength);
  sink.patch(patch);
  return next;
}
