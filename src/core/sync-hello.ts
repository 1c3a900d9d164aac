/**
 * The HELLO item, with which both sides of a session introduce themselves:
 *
 *   magic u32 · protocol version u8 · mode u8 (from the responder: 1 when the roots are equal) ·
 *   parts u8 (HAS_PURGED, HAS_FLOOR) · cluster · node id · epoch u64 · longest frame varint ·
 *   clock u64 · watermark: seconds before the clock varint · [purge time u64] · [floor 16 bytes] ·
 *   root 16 bytes · count u8 · count × (origin 8 bytes · contact: seconds before the clock varint ·
 *   what that member purged varint: 0 for nothing, 1 + 2 n for up to n seconds before the clock,
 *   2 n for up to n after)
 *
 * Texts are UTF-8 with their length before them. It is as short as it can be, for between equal
 * nodes it is all that travels, with a few bytes more for each member of the cluster.
 */
import { Contacts, MAX_MEMBERS } from "./contacts.ts";
import type { VersionWords } from "./entry.ts";
import { originOf, type Origin } from "./origin.ts";
import type { FrameReader, FrameWriter } from "./sync-frames.ts";
import { HELLO, ROOT_BYTES } from "./sync-items.ts";

/** Nodes with different versions do not talk to each other. */
export const SYNC_VERSION = 2;

const MAGIC = 0x4d4b5653;
const MAX_TEXT_BYTES = 1024;
const HAS_PURGED = 1;
const HAS_FLOOR = 2;

/** What a node says of itself. Times are Unix milliseconds unless said otherwise. */
export class Hello {
  /** The mode's number, or from the responder 1 when the roots are equal. */
  mode = 0;
  cluster = "";
  nodeId = "";
  epoch = 0;
  /** Follows from the node id, so it is not sent. */
  origin: Origin = { high: 0, low: 0 };
  maxFrameBytes = 0;
  /** The node's hybrid logical clock, or its real one when that is ahead. */
  clockMs = 0;
  /** As of when to compare: a whole second, not after the clock. */
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
  writer.reserve(256 + 2 * MAX_TEXT_BYTES + MAX_MEMBERS * 18);
  const { purgedUpToMs, floor } = hello;
  const hasFloor = floor.timeHigh !== 0 || floor.timeLow !== 0;
  writer.u8(HELLO);
  writer.u32(MAGIC);
  writer.u8(SYNC_VERSION);
  writer.u8(hello.mode);
  writer.u8((purgedUpToMs > 0 ? HAS_PURGED : 0) | (hasFloor ? HAS_FLOOR : 0));
  writeText(writer, hello.cluster);
  writeText(writer, hello.nodeId);
  writer.u64(hello.epoch);
  writer.varint(hello.maxFrameBytes);
  writer.u64(hello.clockMs);
  writer.varint(secondsBefore(hello.clockMs, hello.watermarkMs));
  if (purgedUpToMs > 0) writer.u64(purgedUpToMs);
  if (hasFloor) {
    writer.u32(floor.timeHigh);
    writer.u32(floor.timeLow);
    writer.u32(floor.originHigh);
    writer.u32(floor.originLow);
  }
  writer.copy(hello.root, 0, ROOT_BYTES);
  writer.u8(hello.contacts.size);
  hello.contacts.forEach((originHigh, originLow, ms, purgedUpToMs) => {
    writer.u32(originHigh);
    writer.u32(originLow);
    // Rounded so that what is claimed is never more than what is so, nor forgotten less.
    writer.varint(secondsBefore(hello.clockMs, ms));
    writer.varint(purgeCode(hello.clockMs, purgedUpToMs));
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
  const parts = reader.u8();
  hello.cluster = readText(reader);
  hello.nodeId = readText(reader);
  hello.origin = originOf(hello.nodeId);
  hello.epoch = reader.u64();
  hello.maxFrameBytes = reader.varint();
  hello.clockMs = reader.u64();
  hello.watermarkMs = secondsBack(hello.clockMs, reader.varint());
  if ((parts & HAS_PURGED) !== 0) hello.purgedUpToMs = reader.u64();
  if ((parts & HAS_FLOOR) !== 0) {
    hello.floor.timeHigh = reader.u32();
    hello.floor.timeLow = reader.u32();
    hello.floor.originHigh = reader.u32();
    hello.floor.originLow = reader.u32();
  }
  const root = reader.skip(ROOT_BYTES);
  hello.root = reader.bytes.slice(root, root + ROOT_BYTES);
  const count = reader.u8();
  for (let i = 0; i < count; i++) {
    const [high, low] = [reader.u32(), reader.u32()];
    const ms = secondsBack(hello.clockMs, reader.varint());
    hello.contacts.note(high, low, ms, purgeOf(hello.clockMs, reader.varint()));
  }
  return reader.overrun ? null : hello;
}

/** How many whole seconds a time lies before the clock. A later time counts as the clock's. */
function secondsBefore(clockMs: number, ms: number): number {
  return Math.max(0, Math.floor(clockMs / 1000) - Math.floor(ms / 1000));
}

/** The time that lies so many whole seconds before the clock, in ms; from 0 on. */
function secondsBack(clockMs: number, seconds: number): number {
  return Math.max(0, Math.floor(clockMs / 1000) - seconds) * 1000;
}

/** A purge time as the item has it; in whole seconds, rounded up. */
function purgeCode(clockMs: number, purgedUpToMs: number): number {
  if (purgedUpToMs === 0) return 0;
  const seconds = Math.floor(clockMs / 1000) - Math.ceil(purgedUpToMs / 1000);
  return seconds < 0 ? -2 * seconds : 1 + 2 * seconds;
}

function purgeOf(clockMs: number, code: number): number {
  if (code === 0) return 0;
  const seconds = code % 2 === 0 ? -code / 2 : (code - 1) / 2;
  return Math.max(0, Math.floor(clockMs / 1000) - seconds) * 1000;
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
