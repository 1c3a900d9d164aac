/**
 * The envelope of the sync protocol: frames of
 *
 *   length u32 (of the payload; its highest bit: COMPRESSED) · CRC-32 of the payload u32 · payload
 *
 * all integers big-endian. A payload is one item after the other, never cut (`sync/items.ts`);
 * which items share a frame means nothing. It may be compressed (`compression.ts`) when the other
 * side has said that it reads that.
 *
 * The reader accepts the stream in pieces of any size, and trusts nothing in it. A length above the
 * limit or a wrong checksum ends the stream. Reading past the end of a frame gives zeros and raises
 * `overrun`, so that a parser needs to check once an item and not once a field. Memory grows with
 * what has arrived, not with what a length announces.
 */
import { readU32, unfilled } from "../bytes.ts";
import { decompress, MAX_UNPACKED_BYTES, type Compressor } from "../data/compression.ts";
import type { VersionWords } from "../data/entry.ts";

/** Bytes of a frame before its payload. */
export const FRAME_HEADER_BYTES = 8;
const LENGTH_BYTES = 4;
/** In the length of a frame: what follows is compressed. */
const COMPRESSED = 0x8000_0000;
/** A payload is sent when it has reached this length. It is longer only when a single item is. */
export const FRAME_BYTES = 65_536;
/** Buffers that are larger than this are not kept for the next frame. */
const KEEP_BYTES = 262_144;

/** Gathers items into frames. The methods named after types append one. */
export class FrameWriter {
  /** Bytes sent, headers included. */
  bytesSent = 0;
  /** Compresses frames; null while the other side is not known to read that. */
  compressor: Compressor | null = null;
  private bytes = new Uint8Array(4096);
  private view = new DataView(this.bytes.buffer);
  private at = FRAME_HEADER_BYTES;

  constructor(private readonly send: (frame: Uint8Array) => void) {}

  /** Bytes of items that wait for `flush`. */
  get waitingBytes(): number {
    return this.at - FRAME_HEADER_BYTES;
  }

  /** Makes room for an item of at most `length` bytes, in this frame or the next. */
  reserve(length: number): void {
    if (this.waitingBytes > 0 && this.at + length > FRAME_BYTES) this.flush();
    const needed = this.at + length;
    if (needed <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }

  /** Sends what waits, as one frame. */
  flush(): void {
    if (this.waitingBytes === 0) return;
    const packed = this.compressor?.compress(this.bytes.subarray(FRAME_HEADER_BYTES, this.at));
    if (packed) {
      this.bytes.set(packed, FRAME_HEADER_BYTES);
      this.at = FRAME_HEADER_BYTES + packed.length;
    }
    const frame = this.bytes.subarray(0, this.at);
    this.view.setUint32(0, this.waitingBytes + (packed ? COMPRESSED : 0));
    this.view.setUint32(4, Bun.hash.crc32(frame.subarray(FRAME_HEADER_BYTES)));
    this.bytesSent += frame.length;
    this.at = FRAME_HEADER_BYTES;
    this.send(frame);
    if (this.bytes.length <= KEEP_BYTES) return;
    this.bytes = new Uint8Array(FRAME_BYTES);
    this.view = new DataView(this.bytes.buffer);
  }

  u8(value: number): void {
    this.bytes[this.at++] = value;
  }

  u16(value: number): void {
    this.view.setUint16(this.at, value);
    this.at += 2;
  }

  u32(value: number): void {
    this.view.setUint32(this.at, value);
    this.at += 4;
  }

  /** An integer from 0 to 2^53 - 1, in 8 bytes. */
  u64(value: number): void {
    this.u32(Math.floor(value / 0x1_0000_0000));
    this.u32(value >>> 0);
  }

  /** An integer from 0 to 2^35 - 1, in 1 to 5 bytes of 7 bits, lowest first. */
  varint(value: number): void {
    while (value > 0x7f) {
      this.bytes[this.at++] = (value & 0x7f) | 0x80;
      value = Math.floor(value / 128);
    }
    this.bytes[this.at++] = value;
  }

  /** Time and origin, 16 bytes. */
  version({ timeHigh, timeLow, originHigh, originLow }: VersionWords): void {
    this.u32(timeHigh);
    this.u32(timeLow);
    this.u32(originHigh);
    this.u32(originLow);
  }

  copy(from: Uint8Array, offset: number, length: number): void {
    const { bytes, at } = this;
    if (length > 64) bytes.set(from.subarray(offset, offset + length), at);
    else for (let i = 0; i < length; i++) bytes[at + i] = from[offset + i];
    this.at += length;
  }
}

/** Takes a stream apart into frames and items. The methods named after types read one. */
export class FrameReader {
  /** Bytes received. */
  bytesReceived = 0;
  /** Why the stream cannot be read on, or empty. */
  failure = "";
  /** Something was read that is not there: the item, and with it the stream, is no good. */
  overrun = false;
  /** What items lie in; `at` is where the next field is. Changed by `push` and `next`. */
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  private frameEnd = 0;
  /** What has come, with the frame being read unless that was compressed: it has a buffer apart. */
  private stream = this.bytes;
  /** Where the next frame is in it, or will be, and where what has come ends. */
  private streamAt = 0;
  private streamEnd = 0;

  /**
   * A frame longer than `maxFrameBytes`, header included, ends the stream. `readsCompressed`: this
   * side has said that frames may be.
   */
  constructor(
    public maxFrameBytes: number,
    private readonly readsCompressed = true,
  ) {}

  /** Bytes that have come and are not read yet. */
  get waitingBytes(): number {
    return this.frameEnd - this.at + this.comingBytes;
  }

  /** Whether there is work to do without more bytes; a frame that is too long is one to refuse. */
  get hasFrame(): boolean {
    if (this.at < this.frameEnd) return true;
    if (this.comingBytes < LENGTH_BYTES) return false;
    const announced = this.announcedBytes();
    if (announced > this.maxFrameBytes) return true;
    return this.comingBytes >= Math.max(announced, FRAME_HEADER_BYTES);
  }

  /** Copies the next bytes of the stream. Offsets taken from `at` hold no longer. */
  push(bytes: Uint8Array): void {
    this.bytesReceived += bytes.length;
    if (this.streamEnd + bytes.length > this.stream.length) this.makeRoom(bytes.length);
    this.stream.set(bytes, this.streamEnd);
    this.streamEnd += bytes.length;
  }

  /** Goes to the next item, into the next frame when this one is read. False when there is none. */
  next(): boolean {
    if (this.at < this.frameEnd) return true;
    // Whoever speaks another protocol is found out by the first bytes, however few there are.
    if (this.failure !== "" || this.comingBytes < LENGTH_BYTES) return false;
    const announced = this.announcedBytes();
    if (announced > this.maxFrameBytes) {
      this.failure = `a frame of ${announced} bytes, more than ${this.maxFrameBytes}`;
      return false;
    }
    if (this.comingBytes < Math.max(announced, FRAME_HEADER_BYTES)) return false;
    this.failure = this.enter(announced);
    return this.failure === "";
  }

  /** Goes into the frame that comes next, of that length. What is wrong with it, or nothing. */
  private enter(announced: number): string {
    const { stream, streamAt } = this;
    const checksum = readU32(stream, streamAt + 4);
    const end = streamAt + announced;
    const payload = stream.subarray(streamAt + FRAME_HEADER_BYTES, end);
    if (Bun.hash.crc32(payload) !== checksum) return "a damaged frame";
    this.bytes = stream;
    this.at = streamAt + FRAME_HEADER_BYTES;
    this.frameEnd = end;
    if (this.isCompressed) {
      const maxBytes = Math.min(this.maxFrameBytes, MAX_UNPACKED_BYTES);
      const unpacked = decompress(payload, maxBytes);
      if (unpacked === "malformed") return "a frame that is not compressed as it says";
      if (unpacked === "oversized") {
        return `a frame that holds, compressed, more than ${maxBytes} bytes`;
      }
      this.bytes = unpacked;
      this.at = 0;
      this.frameEnd = unpacked.length;
    }
    this.streamAt = end;
    // Nobody sends them for a good reason, and thousands could be passed over in one turn.
    return this.at === this.frameEnd ? "an empty frame" : "";
  }

  /** The byte that comes next, without reading it. Only after `next` returned true. */
  peek(): number {
    return this.bytes[this.at];
  }

  u8(): number {
    return this.advance(1) ? this.bytes[this.at - 1] : 0;
  }

  u16(): number {
    if (!this.advance(2)) return 0;
    return (this.bytes[this.at - 2] << 8) | this.bytes[this.at - 1];
  }

  u32(): number {
    return this.advance(4) ? readU32(this.bytes, this.at - 4) : 0;
  }

  /** Up to 2^64; exact up to 2^53 - 1. */
  u64(): number {
    return this.u32() * 0x1_0000_0000 + this.u32();
  }

  version(into: VersionWords): void {
    into.timeHigh = this.u32();
    into.timeLow = this.u32();
    into.originHigh = this.u32();
    into.originLow = this.u32();
  }

  varint(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 28; factor *= 128) {
      const byte = this.u8();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    this.overrun = true;
    return 0;
  }

  /** Passes over `length` bytes; returns where in `bytes` they start. */
  skip(length: number): number {
    return this.advance(length) ? this.at - length : 0;
  }

  private advance(length: number): boolean {
    if (this.overrun || this.at + length > this.frameEnd) {
      this.overrun = true;
      this.at = this.frameEnd;
      return false;
    }
    this.at += length;
    return true;
  }

  /** Bytes that have come behind the frame being read. */
  private get comingBytes(): number {
    return this.streamEnd - this.streamAt;
  }

  private announcedBytes(): number {
    const length = readU32(this.stream, this.streamAt);
    return FRAME_HEADER_BYTES + (this.isCompressed ? length - COMPRESSED : length);
  }

  /** Whether the frame that comes next is, and may be. */
  private get isCompressed(): boolean {
    return this.readsCompressed && this.stream[this.streamAt] >= COMPRESSED / 2 ** 24;
  }

  private makeRoom(length: number): void {
    const from = this.stream;
    const isInStream = this.bytes === from;
    const start = isInStream ? this.at : this.streamAt;
    const waiting = this.streamEnd - start;
    const isTooSmall = waiting + length > from.length;
    const isTooLarge = from.length > KEEP_BYTES && waiting + length < KEEP_BYTES / 2;
    if (isTooSmall || isTooLarge) {
      this.stream = unfilled(Math.max(4096, (waiting + length) * (isTooSmall ? 2 : 1)));
      this.stream.set(from.subarray(start, this.streamEnd));
    } else from.copyWithin(0, start, this.streamEnd);
    this.streamAt -= start;
    this.streamEnd = waiting;
    if (!isInStream) return;
    this.bytes = this.stream;
    this.frameEnd -= start;
    this.at = 0;
  }
}
