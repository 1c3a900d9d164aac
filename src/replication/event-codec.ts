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
 * addon crashes Bun. The message is walked by our own reader first, which refuses tags
 * and deep nesting.
 */
import { Decoder } from "cbor-x/index-no-eval";
import { timeHighOf, timeLowOf } from "../core/clock.ts";
import { Entry, KIND_STRING, KIND_TOMBSTONE, MAX_KEY_BYTES } from "../core/entry.ts";
import { CborError, CborReader } from "./cbor.ts";
import { originOf } from "../core/origin.ts";
import { FORMAT_VERSION, MAX_EXPIRES_AT_MS, type DropReason } from "./wire.ts";

const WRITES = new Set(["set", "incr", "decr", "append", "prepend"]);
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
  constructor(private readonly maxValueBytes: number) {}

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

  private decode(message: Uint8Array): Map<unknown, unknown> {
    let decoded: unknown;
    try {
      this.scanner.open(message);
      this.scanner.skip();
      decoded = this.decoder.decode(message);
    } catch (error) {
      // cbor-x throws errors of many types at bytes it cannot read.
      if (error instanceof CborError || error instanceof Error) throw new Refusal("malformed");
      throw error;
    }
    if (!(decoded instanceof Map) || this.scanner.offset !== message.length) {
      throw new Refusal("malformed");
    }
    return decoded;
  }

  private fill(event: Map<unknown, unknown>): void {
    const version = event.get("v");
    if (typeof version !== "number") throw new Refusal("malformed");
    if (version !== FORMAT_VERSION) throw new Refusal("unknown");
    const operation = event.get("op");
    if (typeof operation !== "string") throw new Refusal("malformed");
    if (operation !== "del" && !WRITES.has(operation)) throw new Refusal("unknown");
    this.source = textOf(event.get("src"));
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
    entry.expiresAtMs = operation === "del" ? 0 : expiryOf(event.get("ttl"), unixMs);
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
