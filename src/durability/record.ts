/**
 * Records: what a frame's payload is made of. Here is what one looks like, what tells its kind, and
 * what several kinds have in common; `frame-buffer.ts` writes them, `record-reader.ts` reads them.
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
import { readU32, writeU32, readU64, writeU64 } from "../core/bytes.ts";
import {
  isNoVersion,
  KIND_TOMBSTONE,
  MAX_EXPIRES_AT_MS,
  type Entry,
  type VersionWords,
} from "../core/data/entry.ts";

/** A segment of the log. */
export const FILE_LOG = 1;
/** A snapshot: stands for all log segments with a lower number. */
export const FILE_SNAPSHOT = 2;
/** A backup: like a snapshot, but made to be kept elsewhere. */
export const FILE_BACKUP = 3;

/** One of the three FILE_ constants. */
export type FileKind = 1 | 2 | 3;

/** The first record of every file. */
export interface FileHead {
  readonly formatVersion: number;
  readonly fileKind: FileKind;
  readonly number: number;
  readonly nodeId: string;
}

// The byte that a record begins with.

/** The first record of a file. */
export const HEAD = 0x01;
/** The last one. */
export const END = 0x02;
/** A flush floor. */
export const FLOOR = 0x03;
/** A small value with a name. */
export const METADATA = 0x04;
/** An entry is no longer there. */
export const DROP = 0x05;
/** A string was changed, and its expiry too; in former formats. */
export const PATCH = 0x06;
/** An entry got another expiry. */
export const EXPIRY = 0x07;
/** A string was changed; in former formats. */
export const OVERWRITE = 0x08;
/** A string was changed. */
export const SPLICE = 0x0a;
/** An entry; its kind is added. */
export const ENTRY = 0x20;
/** An entry of a kind that only later versions know. */
export const OTHER_ENTRY = 0x40;
/** The bits of ENTRY in which its kind is. */
export const ENTRY_KINDS = 3;
/** Added to ENTRY: it has an expiry. */
const EXPIRES = 0x04;
/** Added to ENTRY: the expiry has a version of its own. */
const HAS_EXPIRY_VERSION = 0x08;
/** Added to ENTRY: it says when its death was learned of. */
const HAS_LEARNED = 0x10;
/** All that may be added to ENTRY. */
export const FLAGS = EXPIRES | HAS_EXPIRY_VERSION | HAS_LEARNED;

/** Bytes of an entry record besides key and value, without what it may have besides. */
export const ENTRY_RECORD_BYTES = 23;
const TIME_BYTES = 8;
const VERSION_BYTES = 16;
/** Most bytes of what an entry record may have besides. */
export const MAX_EXTRA_BYTES = TIME_BYTES + VERSION_BYTES + TIME_BYTES;
/** Bytes of an expiry record besides the key. */
export const EXPIRY_RECORD_BYTES = 35;
/** Bytes of a drop record besides the key. */
export const DROP_RECORD_BYTES = 19;
/** Bytes of a splice record besides key and bytes. */
export const SPLICE_RECORD_BYTES = 47;
/** Bytes of a patch record besides key and bytes. */
export const PATCH_RECORD_BYTES = 51;

/** What an entry has besides key, value and version, as the flags that say so. */
export function flagsOf({ expiresAtMs, expiryVersion, learnedMs }: Entry): number {
  return (
    (expiresAtMs === 0 ? 0 : EXPIRES) |
    (isNoVersion(expiryVersion) ? 0 : HAS_EXPIRY_VERSION) |
    (learnedMs === 0 ? 0 : HAS_LEARNED)
  );
}

/** How many bytes that takes. */
export function extraBytes(flags: number): number {
  return (
    ((flags & EXPIRES) === 0 ? 0 : TIME_BYTES) +
    ((flags & HAS_EXPIRY_VERSION) === 0 ? 0 : VERSION_BYTES) +
    ((flags & HAS_LEARNED) === 0 ? 0 : TIME_BYTES)
  );
}

/** Writes what the flags of an entry say that it has. Returns how many bytes that takes. */
export function writeExtras(bytes: Uint8Array, start: number, flags: number, from: Entry): number {
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

/** Reads what the flags say that an entry has. */
export function readExtras(bytes: Uint8Array, start: number, flags: number, into: Entry): void {
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
export function readTime(bytes: Uint8Array, at: number): number {
  return Math.min(readU64(bytes, at), MAX_EXPIRES_AT_MS);
}

/** Writes a version, 16 bytes. */
export function writeVersion(bytes: Uint8Array, at: number, from: VersionWords): void {
  writeU32(bytes, at, from.timeHigh);
  writeU32(bytes, at + 4, from.timeLow);
  writeU32(bytes, at + 8, from.originHigh);
  writeU32(bytes, at + 12, from.originLow);
}

/** Reads one. */
export function readVersion(bytes: Uint8Array, at: number, into: VersionWords): void {
  into.timeHigh = readU32(bytes, at);
  into.timeLow = readU32(bytes, at + 4);
  into.originHigh = readU32(bytes, at + 8);
  into.originLow = readU32(bytes, at + 12);
}
