/**
 * The single-event form that other implementations publish on `<topic_prefix>/events`:
 * one CBOR map an event, read here and never written.
 *
 *   v       1
 *   op      "set" "del" "incr" "decr" "append" "prepend"
 *   key     text
 *   val     the resulting value, whatever the operation: an array of byte numbers (or a
 *           byte string); null for "del"
 *   ts      u64, Unix nanoseconds
 *   src     node id, text
 *   op_id   array of 16 byte numbers (or a byte string); merging needs no such id
 *   prev    ignored
 *   ttl     seconds to live from `ts` on, or null
 *
 * It becomes a plain last-write-wins entry. The nanoseconds below a millisecond fill the
 * 16-bit counter of the version, so that such events keep their order.
 *
 * This is the only file that imports cbor-x, and in its pure form: the package's native
 * addon crashes Bun. Our own reader walks over the message and hands it one small field at a time:
 * it refuses tags and deep nesting, and what it bounds cannot be made to take long.
 */
import { Decoder } from "cbor-x/index-no-eval";
import { timeHighOf, timeLowOf } from "../core/data/clock.ts";
import {
  Entry,
  KIND_STRING,
  KIND_TOMBSTONE,
  MAX_EXPIRES_AT_MS,
  MAX_KEY_BYTES,
} from "../core/data/entry.ts";
import { ARRAY, BYTES, CborReader, MAP, TEXT, UINT } from "./cbor.ts";
import { isNodeId } from "../core/data/name.ts";
import { originOf } from "../core/data/origin.ts";
import type { DropReason } from "./wire.ts";

/** The version of this form. */
const EVENT_VERSION = 1;
const WRITES = new Set(["set", "incr", "decr", "append", "prepend"]);
/** The fields of an event, `val` apart. */
const FIELDS = new Set(["v", "op", "key", "ts", "src", "op_id", "ttl"]);
const LONGEST_NAME = 8;
/** Most fields of an event, the unknown ones counted. */
const MAX_FIELDS = 64;
/** Most bytes of one of them: the longest key, and what is around it. */
const MAX_FIELD_BYTES = MAX_KEY_BYTES + 8;
const OPERATION_ID_BYTES = 16;
const NANOSECONDS_A_MS = 1_000_000n;
const MAX_TIMESTAMP = 2n ** 64n - 1n;

/** Thrown and caught in this file only. */
class Refusal extends Error {
  constructor(readonly reason: DropReason) {
    super(reason);
  }
}

/** Reads single events into one reused entry. */
export class EventReader {
  /** Node id of the sender of the event read last. */
  source = "";
  /** The event read last, as an entry; valid until the next `read`. */
  readonly entry = new Entry();

  private readonly scanner = new CborReader();
  private readonly decoder = new Decoder({ mapsAsObjects: false, useRecords: false });

  /** Values above `maxValueBytes` are dropped as oversized. */
  constructor(public maxValueBytes: number) {}

  /** Reads a message. Null when `source` and `entry` are filled, else why it is dropped. */
  read(message: Uint8Array): DropReason | null {
    try {
      this.fill(this.decode(message));
      return null;
    } catch (error) {
      if (error instanceof Refusal) return error.reason;
      throw error;
    }
  }

  /**
   * The fields that are known, each decoded by itself; the others are stepped over. The reader
   * bounds how much of that there can be, which a decoder of whole messages does not.
   */
  private decode(message: Uint8Array): Map<string, unknown> {
    const { scanner } = this;
    const fields = new Map<string, unknown>();
    try {
      scanner.reset(message);
      const pairs = scanner.expect(MAP);
      if (pairs > MAX_FIELDS) throw new Refusal("malformed");
      for (let i = 0; i < pairs; i++) {
        const name = this.name();
        if (name === "val") fields.set(name, this.value());
        else {
          const start = scanner.offset;
          scanner.skip();
          if (!FIELDS.has(name)) continue;
          const field = message.subarray(start, scanner.offset);
          if (field.length > MAX_FIELD_BYTES) throw new Refusal("oversized");
          fields.set(name, this.decoder.decode(field));
        }
      }
    } catch (error) {
      if (error instanceof Refusal) throw error;
      // cbor-x throws errors of many types at bytes it cannot read.
      if (error instanceof Error) throw new Refusal("malformed");
      throw error;
    }
    if (scanner.offset !== message.length) throw new Refusal("malformed");
    return fields;
  }

  /** The name of a field; one that is longer than any known name is stepped over as "". */
  private name(): string {
    const { scanner } = this;
    const length = scanner.string(TEXT);
    const start = scanner.offset;
    scanner.offset += length;
    if (length > LONGEST_NAME) return "";
    return String.fromCharCode(...scanner.bytes.subarray(start, scanner.offset));
  }

  /** The value: a byte string, or an array of byte numbers; of anything else, undefined. */
  private value(): Uint8Array | undefined {
    const { scanner } = this;
    const start = scanner.offset;
    scanner.head();
    const length = scanner.high * 0x1_0000_0000 + scanner.low;
    if (scanner.major === BYTES) {
      scanner.offset = start;
      scanner.skip();
      return scanner.bytes.subarray(scanner.offset - length, scanner.offset);
    }
    if (scanner.major !== ARRAY) {
      scanner.offset = start;
      scanner.skip();
      return undefined;
    }
    if (length > this.maxValueBytes) throw new Refusal("oversized");
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      const byte = scanner.expect(UINT);
      if (byte > 255) throw new Refusal("malformed");
      bytes[i] = byte;
    }
    return bytes;
  }

  private fill(event: Map<string, unknown>): void {
    const version = event.get("v");
    if (typeof version !== "number") throw new Refusal("malformed");
    if (version !== EVENT_VERSION) throw new Refusal("unknown");
    const operation = event.get("op");
    if (typeof operation !== "string") throw new Refusal("malformed");
    if (operation !== "del" && !WRITES.has(operation)) throw new Refusal("unknown");
    this.source = textOf(event.get("src"));
    if (!isNodeId(this.source)) throw new Refusal("malformed");
    const operationId = event.get("op_id");
    if (operationId !== undefined) bytesOf(operationId, OPERATION_ID_BYTES, OPERATION_ID_BYTES);

    const entry = this.entry;
    const key = new TextEncoder().encode(textOf(event.get("key")));
    if (key.length > MAX_KEY_BYTES) throw new Refusal("oversized");
    entry.setKey(key);
    if (operation === "del") {
      entry.kind = KIND_TOMBSTONE;
      entry.setValue(NO_BYTES);
    } else {
      entry.kind = KIND_STRING;
      entry.setValue(bytesOf(event.get("val"), 0, this.maxValueBytes));
    }
    const timestamp = timestampOf(event.get("ts"));
    const unixMs = Number(timestamp / NANOSECONDS_A_MS);
    const counter = Number(((timestamp % NANOSECONDS_A_MS) * 65_536n) / NANOSECONDS_A_MS);
    const origin = originOf(this.source);
    entry.setVersion(timeHighOf(unixMs), timeLowOf(unixMs) + counter, origin.high, origin.low);
    entry.setExpiry(operation === "del" ? 0 : expiryOf(event.get("ttl"), unixMs));
  }
}

const NO_BYTES = new Uint8Array(0);

function textOf(value: unknown): string {
  if (typeof value !== "string" || value === "") throw new Refusal("malformed");
  return value;
}

function bytesOf(value: unknown, minLength: number, maxLength: number): Uint8Array {
  if (!(value instanceof Uint8Array) && !Array.isArray(value)) throw new Refusal("malformed");
  if (value.length < minLength) throw new Refusal("malformed");
  if (value.length > maxLength) throw new Refusal("oversized");
  if (value instanceof Uint8Array) return value;
  for (const byte of value) {
    if (!Number.isInteger(byte) || byte < 0 || byte > 255) throw new Refusal("malformed");
  }
  return Uint8Array.from(value);
}

function timestampOf(value: unknown): bigint {
  // cbor-x gives a number where it is exact, and a foreign encoder may have sent a float.
  const timestamp = typeof value === "number" && Number.isInteger(value) ? BigInt(value) : value;
  if (typeof timestamp !== "bigint" || timestamp < 0n || timestamp > MAX_TIMESTAMP) {
    throw new Refusal("malformed");
  }
  return timestamp;
}

function expiryOf(ttlSeconds: unknown, fromMs: number): number {
  if (ttlSeconds === undefined || ttlSeconds === null) return 0;
  const seconds = Number(ttlSeconds);
  if (typeof ttlSeconds !== "number" && typeof ttlSeconds !== "bigint") {
    throw new Refusal("malformed");
  }
  const expiresAtMs = fromMs + seconds * 1000;
  if (!Number.isInteger(seconds) || seconds < 0 || expiresAtMs > MAX_EXPIRES_AT_MS) {
    throw new Refusal("malformed");
  }
  return expiresAtMs;
}
