/**
 * Writes batches in the form that `wire.ts` describes. By hand, because every write of a
 * client comes through here: an event takes a fraction of a microsecond and allocates
 * nothing.
 */
import { CURRENT } from "../core/data/capabilities.ts";
import {
  KIND_COUNTER,
  KIND_HUSK,
  KIND_OTHER,
  KIND_STRING,
  KIND_TOMBSTONE,
  isNoVersion,
  type Entry,
  type VersionWords,
} from "../core/data/entry.ts";
import { hasValue } from "../core/data/merge.ts";
import { encodeContext, type TraceContext } from "../trace-context.ts";
import { ARRAY, CborWriter, MAP, UINT } from "./cbor.ts";

/** Most bytes of an event besides its key and value. */
const EVENT_OVERHEAD_BYTES = 96;
const INITIAL_BYTES = 128 * 1024;
/** Fields of a batch, and with one that tells of traces; the head of either is one byte. */
const PAIRS = 5;
const PAIRS_WITH_TRACES = 6;
/** The name of that field and the head of its array; the length of each of its strings. */
const TRACES_HEAD_BYTES = 12;
const LENGTH_BYTES = 3;

/** The first bytes of an event: a map of so many pairs, the operation, the next field's name. */
function headOf(pairs: number, operation: string, next: string): Uint8Array {
  const writer = new CborWriter(EVENT_OVERHEAD_BYTES);
  writer.head(MAP, pairs);
  for (const text of ["op", operation, next]) writer.text(text);
  return writer.bytes.slice(0, writer.length);
}

function nameOf(field: string): Uint8Array {
  const writer = new CborWriter(EVENT_OVERHEAD_BYTES);
  writer.text(field);
  return writer.bytes.slice(0, writer.length);
}

/** Operation and number of fields, without those of an expiry, of each kind, by KIND_ constant. */
const OPERATIONS: (readonly [operation: string, pairs: number])[] = [];
OPERATIONS[KIND_STRING] = ["set", 4];
OPERATIONS[KIND_COUNTER] = ["counter", 4];
OPERATIONS[KIND_TOMBSTONE] = ["del", 3];
OPERATIONS[KIND_HUSK] = ["husk", 3];
OPERATIONS[KIND_OTHER] = ["other", 4];
/** Heads of the operation of each kind, by how many fields its expiry takes. */
const HEADS = OPERATIONS.map(([operation, pairs]) =>
  [0, 1, 2, 3].map((more) => headOf(pairs + more, operation, "key")),
);
const EXPIRE_HEADS = [0, 1].map((more) => headOf(3 + more, "expire", "key"));
const REFERENCE_HEADS = [0, 1, 2, 3].map((more) => headOf(3 + more, "ref", "key"));
const FLUSH_HEAD = headOf(2, "flush", "ts");
const VAL_NAME = nameOf("val");
const TS_NAME = nameOf("ts");
const EXP_NAME = nameOf("exp");
const XTS_NAME = nameOf("xts");
const XSRC_NAME = nameOf("xsrc");

/** Encodes batches of one node into one reused buffer. */
export class BatchWriter {
  /** Events in the batch so far. */
  count = 0;
  private readonly writer = new CborWriter(INITIAL_BYTES);
  private sequenceAt = 0;
  private countAt = 0;
  private bodyAt = 0;

  /** `epoch` is a safe integer. */
  constructor(
    private readonly nodeId: string,
    private readonly epoch: number,
  ) {
    this.begin();
  }

  /** Bytes of the batch so far. */
  get length(): number {
    return this.writer.length;
  }

  /** Bytes of a batch without events. */
  get emptyLength(): number {
    return this.bodyAt;
  }

  /** Takes back what was added since the batch was so long and had so many events. */
  rollBack(length: number, count: number): void {
    this.writer.length = length;
    this.count = count;
  }

  /** Starts an empty batch, in the form of that version. */
  begin(version = CURRENT.highest): void {
    const { writer } = this;
    writer.length = 0;
    writer.head(MAP, PAIRS);
    writer.text("v");
    writer.head(UINT, version);
    writer.text("src");
    writer.text(this.nodeId);
    writer.text("epoch");
    writer.integer(this.epoch);
    writer.text("seq");
    this.sequenceAt = writer.length;
    writer.integer(0);
    writer.text("events");
    // The number of events takes four bytes whatever it is: it is filled in at the end.
    writer.head(ARRAY, 0xffff_ffff);
    this.countAt = writer.length - 4;
    this.bodyAt = writer.length;
    this.count = 0;
  }

  /** Adds an entry that this node wrote. */
  addEntry(entry: Entry): void {
    this.add(entry, HEADS[entry.kind], hasValue(entry.kind));
  }

  /** Adds an entry that this node wrote, without its value. */
  addReference(entry: Entry): void {
    this.add(entry, REFERENCE_HEADS, false);
  }

  /** `heads` are those of the operation, by how many fields an expiry takes. */
  private add(entry: Entry, heads: readonly Uint8Array[], isWithValue: boolean): void {
    const writer = this.writer;
    const valueLength = isWithValue ? entry.valueLength : 0;
    writer.room(EVENT_OVERHEAD_BYTES + entry.keyLength + valueLength);
    const expires = entry.expiresAtMs !== 0;
    const isApart = !isNoVersion(entry.expiryVersion);
    const head = heads[(expires ? 1 : 0) + (isApart ? 2 : 0)];
    writer.raw(head, 0, head.length);
    writer.byteString(entry.key, entry.keyOffset, entry.keyLength);
    if (isWithValue) {
      writer.raw(VAL_NAME, 0, VAL_NAME.length);
      writer.byteString(entry.value, entry.valueOffset, valueLength);
    }
    writer.raw(TS_NAME, 0, TS_NAME.length);
    writer.uint64(entry.timeHigh, entry.timeLow);
    if (expires) this.addTime(entry.expiresAtMs);
    if (isApart) {
      const { timeHigh, timeLow, originHigh, originLow } = entry.expiryVersion;
      writer.raw(XTS_NAME, 0, XTS_NAME.length);
      writer.uint64(timeHigh, timeLow);
      writer.raw(XSRC_NAME, 0, XSRC_NAME.length);
      writer.uint64(originHigh, originLow);
    }
    this.count++;
  }

  /** Adds only the expiry of an entry, which this node wrote with that version. */
  addExpiry(entry: Entry, version: VersionWords): void {
    const writer = this.writer;
    writer.room(EVENT_OVERHEAD_BYTES + entry.keyLength);
    const expires = entry.expiresAtMs !== 0;
    const head = EXPIRE_HEADS[expires ? 1 : 0];
    writer.raw(head, 0, head.length);
    writer.byteString(entry.key, entry.keyOffset, entry.keyLength);
    writer.raw(TS_NAME, 0, TS_NAME.length);
    writer.uint64(version.timeHigh, version.timeLow);
    if (expires) this.addTime(entry.expiresAtMs);
    this.count++;
  }

  private addTime(expiresAtMs: number): void {
    this.writer.raw(EXP_NAME, 0, EXP_NAME.length);
    this.writer.integer(expiresAtMs);
  }

  /** Adds a floor that this node raised. */
  addFlush(timeHigh: number, timeLow: number): void {
    this.writer.room(EVENT_OVERHEAD_BYTES);
    this.writer.raw(FLUSH_HEAD, 0, FLUSH_HEAD.length);
    this.writer.uint64(timeHigh, timeLow);
    this.count++;
  }

  /** Tells of traces that events belong to, as far as they fit. The last that is added. */
  addTraces(contexts: readonly TraceContext[], maxBytes: number): void {
    const { writer } = this;
    let roomBytes = maxBytes - writer.length - TRACES_HEAD_BYTES;
    const told: Uint8Array[] = [];
    for (const context of contexts) {
      const bytes = encodeContext(context);
      roomBytes -= bytes.length + LENGTH_BYTES;
      if (roomBytes < 0) break;
      told.push(bytes);
    }
    if (told.length === 0) return;
    writer.bytes[0] = (MAP << 5) | PAIRS_WITH_TRACES;
    writer.text("traces");
    writer.room(maxBytes - writer.length);
    writer.head(ARRAY, told.length);
    for (const bytes of told) writer.byteString(bytes, 0, bytes.length);
  }

  /** The finished batch, as bytes of its own. `sequence` is a safe integer. */
  finish(sequence: number): Buffer {
    const writer = this.writer;
    const end = writer.length;
    writer.length = this.sequenceAt;
    writer.integer(sequence);
    writer.length = this.countAt;
    writer.word(this.count);
    writer.length = end;
    return Buffer.from(writer.bytes.subarray(0, end));
  }
}
