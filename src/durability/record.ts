/**
 * Records: what a frame's payload is made of. PURE.
 *
 * Each starts with a byte that says what it is. All integers are big-endian, and there is one
 * way to write each record.
 *
 *   head   01  format version u16 · file kind u8 · file number u32 · node id: length u16, UTF-8
 *   end    02  records before this one in the file, u48
 *   floor  03  version: time 8 bytes, origin 8 bytes
 *   meta   04  name: length u8, ASCII · value: length u32, bytes
 *   drop   05  key length - 1 u16 · version 16 bytes · key
 *   patch  06  key length - 1 u16 · version 16 bytes · version before 16 bytes ·
 *              expiry in Unix ms u64, 0 when it does not expire · at u32 · bytes u32 · key · bytes
 *   expiry 07  key length - 1 u16 · version 16 bytes · expiry in Unix ms u64, 0 when it does not
 *              expire · when its death was learned of u64, 0 if not later than it died · key
 *   over   08  as a patch, which leaves the expiry as it is: what it says of that means nothing
 *   09              never a record: a payload that begins so is sealed, see `sealing.ts`
 *   splice 0a  key length - 1 u16 · version 16 bytes · version before 16 bytes · at u32 ·
 *              bytes removed u32 · bytes u32 · key · bytes
 *   entry  20 + kind, + 4 when it expires, + 8 when that was decided by another write than that of
 *              its base, + 10 when its death was learned of later
 *              key length - 1 u16 · value length u32 · version 16 bytes · [expiry in Unix ms u64] ·
 *              [version of the expiry 16 bytes] · [when its death was learned of u64] · key · value
 *   other  40, with + 4, + 8 and + 10 as above: an entry of a kind that only later versions know
 *
 * Head is the first record of every file and alone in its frame. End is the last of a snapshot
 * and of a backup, and of a log segment that was closed; a log that is opened again goes on
 * after it. Metadata are small values to remember by name (the clock, an epoch, the purge time, …):
 * the last one counts, and an empty value means that there is none. A drop says that an entry is no
 * longer there, in this version or an older one, without a deletion that merging would know of:
 * it was purged, or it was set aside. A splice says that a string, in exactly the version before,
 * got another version, and bytes in place of those removed from `at` on. With any other version it
 * means nothing. An expiry says that an entry got another one, of that version. These are the
 * records whose place among the others matters: they undo, or change, what stands before them.
 *
 * Files of the formats 1 to 4 are read as well. Up to 3 they know one version for value and expiry,
 * and what a tombstone has in the place of an expiry is when it was learned of. In place of splices
 * they have patches, of the formats 3 and 4, which remove as many bytes as they bring: 06, which
 * change the expiry too, and 08.
 */
import { readU32, writeU32, readU64, writeU64, enlarged, release } from "../core/bytes.ts";
import {
  copyBytes,
  Entry,
  isNoVersion,
  KIND_OTHER,
  KIND_TOMBSTONE,
  MAX_EXPIRES_AT_MS,
  MAX_KEY_BYTES,
  newVersion,
  type Kind,
  type VersionWords,
} from "../core/data/entry.ts";
import { Patch } from "../core/data/patch.ts";
import { PREFETCH_KEYS } from "../core/store/keyed-entries.ts";
import { finishFrame, FORMAT_VERSION, FRAME_HEADER_BYTES } from "./frame.ts";
import type { FrameSealer } from "./sealing.ts";

/** A segment of the log. */
export const FILE_LOG = 1;
/** A snapshot: stands for all log segments with a lower number. */
export const FILE_SNAPSHOT = 2;
/** A backup: like a snapshot, but made to be kept elsewhere. */
export const FILE_BACKUP = 3;

/** One of the three FILE_ constants. */
export type FileKind = 1 | 2 | 3;

/** In place of a number of records: one makes no sense, though its checksum is right. */
export const SENSELESS = -1;
/** In place of a number of records: a later version wrote it. */
export const UNKNOWN_RECORD = -2;

/** The first record of every file. */
export interface FileHead {
  readonly formatVersion: number;
  readonly fileKind: FileKind;
  readonly number: number;
  readonly nodeId: string;
}

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

const HEAD = 0x01;
const END = 0x02;
const FLOOR = 0x03;
const METADATA = 0x04;
const DROP = 0x05;
const PATCH = 0x06;
const EXPIRY = 0x07;
const OVERWRITE = 0x08;
const SPLICE = 0x0a;
const ENTRY = 0x20;
const OTHER_ENTRY = 0x40;
const ENTRY_KINDS = 3;
const EXPIRES = 0x04;
const HAS_EXPIRY_VERSION = 0x08;
const HAS_LEARNED = 0x10;
const FLAGS = EXPIRES | HAS_EXPIRY_VERSION | HAS_LEARNED;

/** Bytes of an entry record besides key and value, without what it may have besides. */
export const ENTRY_RECORD_BYTES = 23;
const TIME_BYTES = 8;
const VERSION_BYTES = 16;
const MAX_EXTRA_BYTES = TIME_BYTES + VERSION_BYTES + TIME_BYTES;
/** Bytes of an expiry record besides the key. */
const EXPIRY_RECORD_BYTES = 35;
/** Bytes of a drop record besides the key. */
const DROP_RECORD_BYTES = 19;
/** Bytes of a splice record, and of a patch, besides key and bytes. */
const SPLICE_RECORD_BYTES = 47;
const PATCH_RECORD_BYTES = 51;
/** The longest name of metadata, and the longest node id, in bytes. */
const MAX_METADATA_NAME_BYTES = 255;
const MAX_NODE_ID_BYTES = 65_535;
/** A buffer larger than this is let go once it has been written. */
const KEPT_BYTES = 4 * 1024 * 1024;
const INITIAL_BYTES = 4 * 1024;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A growing buffer in which the records of one frame gather, behind room for its header. */
export class FrameBuffer {
  /** Bytes so far, room for the header included. */
  length = FRAME_HEADER_BYTES;
  /** Records so far. */
  records = 0;
  private bytes = new Uint8Array(INITIAL_BYTES);

  get isEmpty(): boolean {
    return this.length === FRAME_HEADER_BYTES;
  }

  /** Forgets everything, and the buffer too if one large value made it large. */
  reset(): void {
    this.length = FRAME_HEADER_BYTES;
    this.records = 0;
    if (this.bytes.length <= KEPT_BYTES) return;
    release(this.bytes);
    this.bytes = new Uint8Array(INITIAL_BYTES);
  }

  /** The finished frame: a view, valid until the next change. See `finishFrame`. */
  finish(position: number, syncedBytes = position, sealer: FrameSealer | null = null): Uint8Array {
    const { bytes, length } = this;
    if (sealer !== null) return sealer.finish(bytes, length, position, syncedBytes);
    return finishFrame(bytes, length, position, syncedBytes);
  }

  /** Adds an entry, copying its bytes. */
  addEntry(entry: Entry): void {
    const { keyLength, valueLength } = entry;
    let at = this.reserve(ENTRY_RECORD_BYTES + MAX_EXTRA_BYTES + keyLength + valueLength);
    const { bytes } = this;
    const flags = flagsOf(entry);
    bytes[at] = flags | (entry.kind === KIND_OTHER ? OTHER_ENTRY : ENTRY | entry.kind);
    bytes[at + 1] = (keyLength - 1) >>> 8;
    bytes[at + 2] = keyLength - 1;
    writeU32(bytes, at + 3, valueLength);
    writeVersion(bytes, at + 7, entry);
    at += ENTRY_RECORD_BYTES;
    if (flags !== 0) at += writeExtras(bytes, at, flags, entry);
    copyBytes(entry.key, entry.keyOffset, keyLength, bytes, at);
    copyBytes(entry.value, entry.valueOffset, valueLength, bytes, at + keyLength);
    this.length = at + keyLength + valueLength;
    this.records++;
  }

  /** Adds a flush floor. */
  addFloor(version: VersionWords): void {
    const at = this.reserve(17);
    this.bytes[at] = FLOOR;
    writeVersion(this.bytes, at + 1, version);
    this.length = at + 17;
    this.records++;
  }

  /** Adds metadata. The name is 1 to 255 ASCII characters. */
  addMetadata(name: string, value: Uint8Array): void {
    const nameBytes = encoder.encode(name);
    if (nameBytes.length < 1 || nameBytes.length > MAX_METADATA_NAME_BYTES) {
      throw new Error(`the name of metadata has 1 to ${MAX_METADATA_NAME_BYTES} bytes: ${name}`);
    }
    const at = this.reserve(6 + nameBytes.length + value.length);
    const valueAt = at + 6 + nameBytes.length;
    this.bytes[at] = METADATA;
    this.bytes[at + 1] = nameBytes.length;
    this.bytes.set(nameBytes, at + 2);
    writeU32(this.bytes, valueAt - 4, value.length);
    this.bytes.set(value, valueAt);
    this.length = valueAt + value.length;
    this.records++;
  }

  /** Adds that an entry is no longer there, nor any older one of its key. */
  addDrop(entry: Entry): void {
    const { keyLength } = entry;
    const at = this.reserve(DROP_RECORD_BYTES + keyLength);
    const { bytes } = this;
    bytes[at] = DROP;
    bytes[at + 1] = (keyLength - 1) >>> 8;
    bytes[at + 2] = keyLength - 1;
    writeVersion(bytes, at + 3, entry);
    copyBytes(entry.key, entry.keyOffset, keyLength, bytes, at + DROP_RECORD_BYTES);
    this.length = at + DROP_RECORD_BYTES + keyLength;
    this.records++;
  }

  /** Adds the expiry of an entry. */
  addExpiry(entry: Entry, version: VersionWords): void {
    const { keyLength } = entry;
    const at = this.reserve(EXPIRY_RECORD_BYTES + keyLength);
    const { bytes } = this;
    bytes[at] = EXPIRY;
    bytes[at + 1] = (keyLength - 1) >>> 8;
    bytes[at + 2] = keyLength - 1;
    writeVersion(bytes, at + 3, version);
    writeU64(bytes, at + 19, entry.expiresAtMs);
    writeU64(bytes, at + 27, entry.learnedMs);
    copyBytes(entry.key, entry.keyOffset, keyLength, bytes, at + EXPIRY_RECORD_BYTES);
    this.length = at + EXPIRY_RECORD_BYTES + keyLength;
    this.records++;
  }

  /** Adds what changed of a string. */
  addPatch({ entry, at: patchAt, removed, previous }: Patch): void {
    const { keyLength, valueLength } = entry;
    let at = this.reserve(SPLICE_RECORD_BYTES + keyLength + valueLength);
    const { bytes } = this;
    bytes[at] = SPLICE;
    bytes[at + 1] = (keyLength - 1) >>> 8;
    bytes[at + 2] = keyLength - 1;
    writeVersion(bytes, at + 3, entry);
    writeVersion(bytes, at + 19, previous);
    writeU32(bytes, at + 35, patchAt);
    writeU32(bytes, at + 39, removed);
    writeU32(bytes, at + 43, valueLength);
    at += SPLICE_RECORD_BYTES;
    copyBytes(entry.key, entry.keyOffset, keyLength, bytes, at);
    copyBytes(entry.value, entry.valueOffset, valueLength, bytes, at + keyLength);
    this.length = at + keyLength + valueLength;
    this.records++;
  }

  /** Adds the head of a file in today's format. */
  addHead(fileKind: FileKind, number: number, nodeId: string): void {
    const id = encoder.encode(nodeId);
    if (id.length > MAX_NODE_ID_BYTES) throw new Error("the node id is too long");
    const at = this.reserve(10 + id.length);
    const { bytes } = this;
    bytes[at] = HEAD;
    bytes[at + 1] = FORMAT_VERSION >>> 8;
    bytes[at + 2] = FORMAT_VERSION;
    bytes[at + 3] = fileKind;
    writeU32(bytes, at + 4, number);
    bytes[at + 8] = id.length >>> 8;
    bytes[at + 9] = id.length;
    bytes.set(id, at + 10);
    this.length = at + 10 + id.length;
    this.records++;
  }

  /** Adds the end of a file that has `records` records before it. */
  addEnd(records: number): void {
    const at = this.reserve(7);
    const high = Math.floor(records / 0x1_0000_0000);
    this.bytes[at] = END;
    this.bytes[at + 1] = high >>> 8;
    this.bytes[at + 2] = high;
    writeU32(this.bytes, at + 3, records >>> 0);
    this.length = at + 7;
    this.records++;
  }

  /** Makes room; returns where the next record starts. */
  private reserve(count: number): number {
    const needed = this.length + count;
    if (needed > this.bytes.length) {
      this.bytes = enlarged(this.bytes, this.length, needed);
    }
    return this.length;
  }
}

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

function flagsOf({ expiresAtMs, expiryVersion, learnedMs }: Entry): number {
  return (
    (expiresAtMs === 0 ? 0 : EXPIRES) |
    (isNoVersion(expiryVersion) ? 0 : HAS_EXPIRY_VERSION) |
    (learnedMs === 0 ? 0 : HAS_LEARNED)
  );
}

function extraBytes(flags: number): number {
  return (
    ((flags & EXPIRES) === 0 ? 0 : TIME_BYTES) +
    ((flags & HAS_EXPIRY_VERSION) === 0 ? 0 : VERSION_BYTES) +
    ((flags & HAS_LEARNED) === 0 ? 0 : TIME_BYTES)
  );
}

/** Writes what the flags of an entry say that it has. Returns how many bytes that takes. */
function writeExtras(bytes: Uint8Array, start: number, flags: number, from: Entry): number {
  let at = start;
  if ((flags & EXPIRES) !== 0) {
    writeU64(bytes, at, from.expiresAtMs);
    at += TIME_BYTES;
  }
  if ((flags & HAS_EXPIRY_VERSION) !== 0) {
    writeVersion(bytes, at, from.expiryVersion);
    at += VERSION_BYTES;
  }
  if ((flags & HAS_LEARNED) !== 0) {
    writeU64(bytes, at, from.learnedMs);
    at += TIME_BYTES;
  }
  return at - start;
}

function readExtras(bytes: Uint8Array, start: number, flags: number, into: Entry): void {
  let at = start;
  into.setExpiry(0);
  into.learnedMs = 0;
  if ((flags & EXPIRES) !== 0) {
    into.expiresAtMs = readTime(bytes, at);
    at += TIME_BYTES;
  }
  if ((flags & HAS_EXPIRY_VERSION) !== 0) {
    readVersion(bytes, at, into.expiryVersion);
    at += VERSION_BYTES;
  } else if (into.kind === KIND_TOMBSTONE) {
    // As earlier formats have it: a deletion does not expire.
    into.learnedMs = into.expiresAtMs;
    into.expiresAtMs = 0;
  }
  if ((flags & HAS_LEARNED) !== 0) into.learnedMs = readTime(bytes, at);
}

/** A time in Unix ms. Earlier versions took later ones than there are now: those are never near. */
function readTime(bytes: Uint8Array, at: number): number {
  return Math.min(readU64(bytes, at), MAX_EXPIRES_AT_MS);
}

function writeVersion(bytes: Uint8Array, at: number, from: VersionWords): void {
  writeU32(bytes, at, from.timeHigh);
  writeU32(bytes, at + 4, from.timeLow);
  writeU32(bytes, at + 8, from.originHigh);
  writeU32(bytes, at + 12, from.originLow);
}

function readVersion(bytes: Uint8Array, at: number, into: VersionWords): void {
  into.timeHigh = readU32(bytes, at);
  into.timeLow = readU32(bytes, at + 4);
  into.originHigh = readU32(bytes, at + 8);
  into.originLow = readU32(bytes, at + 12);
}
