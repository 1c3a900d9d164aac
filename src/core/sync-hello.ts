/**
 * The HELLO item, with which both sides of a session introduce themselves:
 *
 *   magic u32 · protocol version u8 · mode u8 (from the responder: 1 when the roots are equal) ·
 *   cluster · node id · epoch u64 · origin 8 bytes · longest frame u32 · clock u64 ·
 *   watermark u64 · purge time u64 · floor 16 bytes · root 16 bytes ·
 *   count u8 · count × (origin 8 bytes · contact u32 · what that member purged u32, both in
 *   whole seconds)
 *
 * Texts are UTF-8 with their length before them.
 */
import { Contacts, MAX_MEMBERS } from "./contacts.ts";
import type { Origin } from "./origin.ts";
import type { VersionWords } from "./entry.ts";
import type { FrameReader, FrameWriter } from "./sync-frames.ts";
import { HELLO, ROOT_BYTES } from "./sync-items.ts";

/** Nodes with different versions do not talk to each other. */
export const SYNC_VERSION = 1;

const MAGIC = 0x4d4b5653;
const MAX_TEXT_BYTES = 1024;

/** What a node says of itself. Times are Unix milliseconds unless said otherwise. */
export class Hello {
  /** The mode's number, or from the responder 1 when the roots are equal. */
  mode = 0;
  cluster = "";
  nodeId = "";
  epoch = 0;
  origin: Origin = { high: 0, low: 0 };
  maxFrameBytes = 0;
  /** The node's hybrid logical clock, or its real one when that is ahead. */
  clockMs = 0;
  /** As of when to compare. */
  watermarkMs = 0;
  purgedUpToMs = 0;
  floor: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  /** The first ROOT_BYTES of the tree's root. */
  root = new Uint8Array(ROOT_BYTES);
  contacts = new Contacts();

  /** Up to when deletions were dated that are forgotten here, whoever purged them. */
  forgottenUpToMs(): number {
    let upToMs = this.purgedUpToMs;
    this.contacts.forEach((_high, _low, _ms, purgedUpToMs) => {
      upToMs = Math.max(upToMs, purgedUpToMs);
    });
    return upToMs;
  }
}

/** Writes the item. */
export function writeHello(writer: FrameWriter, hello: Hello): void {
  writer.reserve(256 + 2 * MAX_TEXT_BYTES + MAX_MEMBERS * 16);
  writer.u8(HELLO);
  writer.u32(MAGIC);
  writer.u8(SYNC_VERSION);
  writer.u8(hello.mode);
  writeText(writer, hello.cluster);
  writeText(writer, hello.nodeId);
  writer.u64(hello.epoch);
  writer.u32(hello.origin.high);
  writer.u32(hello.origin.low);
  writer.u32(hello.maxFrameBytes);
  writer.u64(hello.clockMs);
  writer.u64(hello.watermarkMs);
  writer.u64(hello.purgedUpToMs);
  writer.u32(hello.floor.timeHigh);
  writer.u32(hello.floor.timeLow);
  writer.u32(hello.floor.originHigh);
  writer.u32(hello.floor.originLow);
  writer.copy(hello.root, 0, ROOT_BYTES);
  writer.u8(hello.contacts.size);
  hello.contacts.forEach((originHigh, originLow, ms, purgedUpToMs) => {
    writer.u32(originHigh);
    writer.u32(originLow);
    // Rounded so that what is claimed is never more than what is so, nor forgotten less.
    writer.u32(Math.floor(ms / 1000));
    writer.u32(Math.ceil(purgedUpToMs / 1000));
  });
}

/** Reads the item behind its tag. Null when it is none, a text when its version is another. */
export function readHello(reader: FrameReader): Hello | string | null {
  if (reader.u32() !== MAGIC) return null;
  const version = reader.u8();
  if (version !== SYNC_VERSION && !reader.overrun) {
    return `it speaks version ${version} of the sync protocol, this node version ${SYNC_VERSION}`;
  }
  const hello = new Hello();
  hello.mode = reader.u8();
  hello.cluster = readText(reader);
  hello.nodeId = readText(reader);
  hello.epoch = reader.u64();
  hello.origin = { high: reader.u32(), low: reader.u32() };
  hello.maxFrameBytes = reader.u32();
  hello.clockMs = reader.u64();
  hello.watermarkMs = reader.u64();
  hello.purgedUpToMs = reader.u64();
  hello.floor.timeHigh = reader.u32();
  hello.floor.timeLow = reader.u32();
  hello.floor.originHigh = reader.u32();
  hello.floor.originLow = reader.u32();
  const root = reader.skip(ROOT_BYTES);
  hello.root = reader.bytes.slice(root, root + ROOT_BYTES);
  const count = reader.u8();
  for (let i = 0; i < count; i++) {
    const [high, low] = [reader.u32(), reader.u32()];
    hello.contacts.note(high, low, reader.u32() * 1000, reader.u32() * 1000);
  }
  return reader.overrun ? null : hello;
}

/** Writes a length and a text, cut at what a reader accepts. */
export function writeText(writer: FrameWriter, text: string): void {
  const bytes = new TextEncoder().encode(text).subarray(0, MAX_TEXT_BYTES);
  writer.varint(bytes.length);
  writer.copy(bytes, 0, bytes.length);
}

/** Reads such a text; raises `overrun` when it is too long. */
export function readText(reader: FrameReader): string {
  const length = reader.varint();
  if (length > MAX_TEXT_BYTES) reader.overrun = true;
  const start = reader.skip(length);
  if (reader.overrun) return "";
  return new TextDecoder().decode(reader.bytes.subarray(start, start + length));
}
