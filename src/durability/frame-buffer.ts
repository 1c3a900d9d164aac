/** Gathers the records of one frame, as `record.ts` describes them, until it is written. */
import { enlarged, release, writeU32, writeU64 } from "../core/bytes.ts";
import { copyBytes, KIND_OTHER, type Entry, type VersionWords } from "../core/data/entry.ts";
import type { Patch } from "../core/data/patch.ts";
import { finishFrame, FORMAT_VERSION, FRAME_HEADER_BYTES } from "./frame.ts";
import {
  DROP,
  DROP_RECORD_BYTES,
  END,
  ENTRY,
  ENTRY_RECORD_BYTES,
  EXPIRY,
  EXPIRY_RECORD_BYTES,
  flagsOf,
  FLOOR,
  HEAD,
  MAX_EXTRA_BYTES,
  METADATA,
  OTHER_ENTRY,
  SPLICE,
  SPLICE_RECORD_BYTES,
  writeExtras,
  writeVersion,
  type FileKind,
} from "./record.ts";
import type { FrameSealer } from "./sealing.ts";

/** The longest name of metadata, and the longest node id, in bytes. */
const MAX_METADATA_NAME_BYTES = 255;
const MAX_NODE_ID_BYTES = 65_535;
/** A buffer larger than this is let go once it has been written. */
const KEPT_BYTES = 4 * 1024 * 1024;
const INITIAL_BYTES = 4 * 1024;

const encoder = new TextEncoder();

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
