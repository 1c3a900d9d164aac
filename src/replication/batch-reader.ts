/**
 * Reads batches in the form that `wire.ts` describes. By hand, because every write of the
 * other nodes comes through here, and because it comes from strangers: nothing is
 * allocated for an event, and no length is believed that the bytes do not bear out.
 */
import { CURRENT, type Capabilities } from "../core/data/capabilities.ts";
import {
  Entry,
  KIND_COUNTER,
  KIND_HUSK,
  KIND_OTHER,
  KIND_STRING,
  KIND_TOMBSTONE,
  MAX_EXPIRES_AT_MS,
  MAX_KEY_BYTES,
} from "../core/data/entry.ts";
import { ARRAY, BYTES, CborError, CborReader, MAP, TEXT, UINT } from "./cbor.ts";
import { isNodeId } from "../core/data/name.ts";
import { originOf } from "../core/data/origin.ts";
import { decodeContext, type TraceContext } from "../trace-context.ts";
import { MAX_BATCH_TRACES } from "./batch-traces.ts";
import { OLDEST_FORMAT_VERSION, type DropReason } from "./wire.ts";

/** There is no further event. */
export const EVENT_END = 0;
/** An entry to apply is in `entry`. */
export const EVENT_ENTRY = 1;
/** The floor moved to the version in `entry`. */
export const EVENT_FLUSH = 2;
/** The peer holds a version of the key in `entry`, whose value was too large to send. */
export const EVENT_REFERENCE = 3;
/** The event was dropped for the reason in `dropped`; the next one can be read. */
export const EVENT_DROPPED = 4;
/** Only an expiry was written, in the version that `entry` has. */
export const EVENT_EXPIRY = 5;

/** What `BatchReader.next` found: one of the EVENT_ constants. */
export type EventKind = 0 | 1 | 2 | 3 | 4 | 5;

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

const SET = ascii("set");
const DEL = ascii("del");
const COUNTER = ascii("counter");
const REF = ascii("ref");
const FLUSH = ascii("flush");
const EXPIRE = ascii("expire");
const HUSK = ascii("husk");
const OTHER = ascii("other");
const OPERATIONS = [SET, DEL, COUNTER, EXPIRE, REF, FLUSH, HUSK, OTHER];
/** Operations of events without a value. */
const BARE_OPERATIONS = [DEL, EXPIRE, REF, HUSK];

const OP = ascii("op");
const KEY = ascii("key");
const VAL = ascii("val");
const TS = ascii("ts");
const EXP = ascii("exp");
const XTS = ascii("xts");
const XSRC = ascii("xsrc");
const FIELDS = [OP, KEY, VAL, TS, EXP, XTS, XSRC];

/** Items that `look` walks over before it lets others have their turn: a few microseconds each. */
const ITEMS_A_LOOK = 64;

/**
 * Reads a batch one event at a time, so that a long one can be applied in slices. `start` and
 * `look` walk over the whole message first: one that is broken anywhere changes nothing at all.
 */
export class BatchReader {
  /** Node id of the sender. */
  source = "";
  /** Its epoch. */
  epoch = 0;
  /** The number of this batch within the epoch. */
  sequence = 0;
  /** The event read last; key and value lie in the message. */
  readonly entry = new Entry();
  /** Why the event read last was dropped. */
  dropped: DropReason = "malformed";

  private readonly reader = new CborReader();
  private walk: Generator<void, DropReason | null> = this.readHeader(NOTHING);
  private remaining = 0;
  private version = 0;
  /** Where what is said of traces begins; -1 when nothing is. */
  private tracesAt = -1;
  /** Whose origin that is; a name that is none until there was a batch. */
  private originSource = " ";
  private originHigh = 0;
  private originLow = 0;

  /** Values above `maxValueBytes` are dropped as oversized. */
  constructor(
    public maxValueBytes: number,
    private readonly capabilities: Capabilities = CURRENT,
  ) {}

  /** Starts on a message, which `look` then walks over. */
  start(message: Uint8Array): void {
    this.remaining = 0;
    this.walk = this.readHeader(message);
  }

  /**
   * Walks a little further over the message. Undefined when that has to go on, null when it is a
   * batch, whose events can be read now, else why it is none.
   */
  look(): DropReason | null | undefined {
    try {
      const { done, value } = this.walk.next();
      return done ? value : undefined;
    } catch (error) {
      if (error instanceof CborError) return "malformed";
      throw error;
    }
  }

  /**
   * What the batch says of traces that it belongs to; none if that is malformed. To be asked before
   * the first event is read.
   */
  traces(): readonly TraceContext[] {
    const { reader, tracesAt } = this;
    if (tracesAt < 0) return [];
    const back = reader.offset;
    try {
      reader.offset = tracesAt;
      const found: TraceContext[] = [];
      const count = Math.min(reader.expect(ARRAY), MAX_BATCH_TRACES);
      for (let i = 0; i < count; i++) {
        const length = this.readBytes();
        const end = reader.offset;
        const context = decodeContext(reader.bytes.subarray(end - length, end));
        if (context !== null) found.push(context);
      }
      return found;
    } catch (error) {
      if (error instanceof CborError) return [];
      throw error;
    } finally {
      reader.offset = back;
    }
  }

  /** Leaves out what has not been read of the batch. */
  skipRest(): void {
    this.remaining = 0;
  }

  /** Reads the next event into `entry`. */
  next(): EventKind {
    if (this.remaining === 0) return EVENT_END;
    this.remaining--;
    const start = this.reader.offset;
    try {
      return this.readEvent();
    } catch (error) {
      if (!(error instanceof CborError)) throw error;
      // `look` has walked over this event, so the walk succeeds again.
      this.reader.offset = start;
      this.reader.skip();
      return this.drop("malformed");
    }
  }

  private *readHeader(message: Uint8Array): Generator<void, DropReason | null> {
    const reader = this.reader;
    reader.reset(message);
    let version = -1;
    let eventsAt = -1;
    let source = "";
    this.epoch = 0;
    this.sequence = 0;
    this.tracesAt = -1;
    let walked = 0;
    for (let pairs = reader.expect(MAP); pairs > 0; pairs--) {
      switch (reader.text()) {
        case "v":
          version = reader.expect(UINT);
          break;
        case "src":
          source = reader.text();
          break;
        case "epoch":
          this.epoch = reader.expect(UINT);
          break;
        case "seq":
          this.sequence = reader.expect(UINT);
          break;
        case "events":
          eventsAt = reader.offset;
          for (let events = reader.expect(ARRAY); events > 0; events--) {
            reader.skip();
            if (++walked % ITEMS_A_LOOK === 0) yield;
          }
          break;
        case "traces":
          this.tracesAt = reader.offset;
          reader.skip();
          break;
        default:
          reader.skip();
      }
      if (++walked % ITEMS_A_LOOK === 0) yield;
    }
    if (reader.offset !== message.length || version < 0) return "malformed";
    if (version < OLDEST_FORMAT_VERSION || version > this.capabilities.highest) return "unknown";
    this.version = version;
    if (eventsAt < 0) return "malformed";
    // Batches of one node tend to follow each other.
    if (source !== this.originSource && !isNodeId(source)) return "malformed";
    if (!isCount(this.epoch) || !isCount(this.sequence)) return "malformed";
    reader.offset = eventsAt;
    this.remaining = reader.expect(ARRAY);
    this.setSource(source);
    return null;
  }

  private setSource(source: string): void {
    this.source = source;
    if (source === this.originSource) return;
    const origin = originOf(source);
    this.originSource = source;
    this.originHigh = origin.high;
    this.originLow = origin.low;
  }

  private readEvent(): EventKind {
    const { reader, entry } = this;
    let operation: Uint8Array | null | undefined;
    let timed = false;
    entry.keyLength = 0;
    entry.valueLength = -1;
    entry.setExpiry(0);
    for (let pairs = reader.expect(MAP); pairs > 0; pairs--) {
      switch (this.readWord(FIELDS)) {
        case OP:
          operation = this.readWord(OPERATIONS);
          break;
        case KEY:
          entry.keyLength = this.readBytes();
          entry.keyOffset = reader.offset - entry.keyLength;
          break;
        case VAL:
          entry.valueLength = this.readBytes();
          entry.valueOffset = reader.offset - entry.valueLength;
          break;
        case TS:
          reader.expect(UINT);
          entry.setVersion(reader.high, reader.low, this.originHigh, this.originLow);
          timed = true;
          break;
        case EXP:
          entry.expiresAtMs = reader.expect(UINT);
          break;
        case XTS:
          reader.expect(UINT);
          entry.expiryVersion.timeHigh = reader.high;
          entry.expiryVersion.timeLow = reader.low;
          break;
        case XSRC:
          reader.expect(UINT);
          entry.expiryVersion.originHigh = reader.high;
          entry.expiryVersion.originLow = reader.low;
          break;
        default:
          reader.skip();
      }
    }
    entry.key = entry.value = reader.bytes;
    if (operation === null) return this.drop("unknown");
    if (operation === undefined || !timed) return this.drop("malformed");
    return this.judge(operation);
  }

  private judge(operation: Uint8Array): EventKind {
    const entry = this.entry;
    if (operation === FLUSH) return EVENT_FLUSH;
    if (entry.keyLength === 0) return this.drop("malformed");
    if (entry.keyLength > MAX_KEY_BYTES) return this.drop("oversized");
    if (entry.expiresAtMs > MAX_EXPIRES_AT_MS) return this.drop("malformed");
    // In version 1 the "exp" of a deletion says when it came about.
    if (operation === DEL && this.version === 1) entry.setExpiry(0);
    if (BARE_OPERATIONS.includes(operation)) {
      entry.kind = operation === HUSK ? KIND_HUSK : KIND_TOMBSTONE;
      entry.valueLength = 0;
      if (operation === REF) return EVENT_REFERENCE;
      return operation === EXPIRE ? EVENT_EXPIRY : EVENT_ENTRY;
    }
    if (entry.valueLength < 0) return this.drop("malformed");
    if (entry.valueLength > this.maxValueBytes) return this.drop("oversized");
    if (operation === OTHER) entry.kind = KIND_OTHER;
    else entry.kind = operation === SET ? KIND_STRING : KIND_COUNTER;
    return EVENT_ENTRY;
  }

  private drop(reason: DropReason): EventKind {
    this.dropped = reason;
    return EVENT_DROPPED;
  }

  private readBytes(): number {
    const length = this.reader.string(BYTES);
    this.reader.offset += length;
    return length;
  }

  /** Reads a text string and finds it among the words; null when it is none of them. */
  private readWord(words: readonly Uint8Array[]): Uint8Array | null {
    const { reader } = this;
    const length = reader.string(TEXT);
    const at = reader.offset;
    reader.offset += length;
    for (let i = 0; i < words.length; i++) {
      const word = words[i];
      if (word.length !== length) continue;
      let same = 0;
      while (same < length && word[same] === reader.bytes[at + same]) same++;
      if (same === length) return word;
    }
    return null;
  }
}

const NOTHING = new Uint8Array(0);

function isCount(value: number): boolean {
  return value > 0 && value <= Number.MAX_SAFE_INTEGER;
}
