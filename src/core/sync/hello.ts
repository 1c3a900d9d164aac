/**
 * The HELLO item, with which both sides of a session introduce themselves:
 *
 *   magic u32 · lowest version u8 · highest version u8 · features varint (`capabilities.ts`) ·
 *   mode u8 (from the responder: 1 when the roots are equal) · parts u8 (HAS_PURGED, HAS_FLOOR,
 *   HAS_OTHERS, IS_FULL, IS_UNSURE) · cluster · node id · epoch u64 · salt 8 bytes · longest frame
 *   varint · clock u64 · watermark: seconds before the clock varint · the latest time accepted: 2 n
 *   for n seconds after the clock, 1 + 2 n for n before, varint · [purge time u64] · [floor 16
 *   bytes] · root 16 bytes · step varint · contacts (`contact-summary.ts`) · length of what else
 *   there is varint · what else there is
 *
 * It begins like this in every version, for only by it the two sides learn which they have in
 * common. What else there is, is any number of: what it is u8 · its length u16 · it. What it is not
 * known to be is passed over, so a later version may say more. Known is 1, from the initiator: the
 * trace that the session belongs to, in bytes that are the program's own.
 *
 * Texts are UTF-8 with their length before them. The item is as short as possible, because between
 * equal nodes it is all that travels. From the responder, HAS_OTHERS says that it knows the same of
 * the members that were not named. The step, in seconds, is what contacts are rounded to.
 */
import {
  agree,
  areCapabilities,
  CURRENT,
  describeDisagreement,
  type Capabilities,
} from "../data/capabilities.ts";
import { Contacts } from "./contacts.ts";
import type { VersionWords } from "../data/entry.ts";
import { isClusterName, isNodeId } from "../data/name.ts";
import { originOf, type Origin } from "../data/origin.ts";
import type { Salt } from "./short-digest.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import { HELLO, ROOT_BYTES } from "./items.ts";
import {
  readAnswer,
  readSummary,
  secondsBack,
  secondsBefore,
  answerBytes,
  summaryBytes,
  ContactSummary,
  GroupMask,
  writeAnswer,
  writeSummary,
} from "./contact-summary.ts";

const MAGIC = 0x4d4b5653;
const MAX_TEXT_BYTES = 1024;
const HAS_PURGED = 1;
const HAS_FLOOR = 2;
const HAS_OTHERS = 4;
const IS_FULL = 8;
const IS_UNSURE = 16;
/** Among what else there is. */
const TRACE = 1;
const EXTRA_HEAD_BYTES = 3;
/** No trace that is told of is longer. */
const MAX_TRACE_BYTES = 1_024;
const NOTHING = new Uint8Array(0);

/** What a node says of itself. Times are Unix milliseconds unless said otherwise. */
export class Hello {
  capabilities: Capabilities = CURRENT;
  /** The mode's number, or from the responder 1 when the roots are equal. */
  mode = 0;
  cluster = "";
  nodeId = "";
  epoch = 0;
  /** Follows from the node id, so it is not sent. */
  origin: Origin = { high: 0, low: 0 };
  /** What this side brings to the salt of the session. */
  salt: Salt = { high: 0, low: 0 };
  maxFrameBytes = 0;
  /** The node's hybrid logical clock, or its real one when that is ahead. */
  clockMs = 0;
  /** As of when to compare: a whole second, not after the clock. */
  watermarkMs = 0;
  /** It does not accept entries that are dated later; in whole seconds. */
  acceptsUpToMs = Infinity;
  /**
   * It accepts no new entries now, only deletions and what needs no more room than what it
   * replaces.
   */
  isFull = false;
  /** It does not know for certain what time it is. */
  isUnsure = false;
  purgedUpToMs = 0;
  floor: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  /** The first ROOT_BYTES of the tree's root. */
  root = new Uint8Array(ROOT_BYTES);
  /** As they are told (`Contacts.told`), in steps of `stepMs`. */
  contacts = new Contacts();
  /** In what steps both sides tell of contacts; whole seconds. The initiator's counts. */
  stepMs = 1_000;
  /** From an initiator, the trace that the session belongs to; empty for none. */
  trace: Uint8Array = NOTHING;
  /** Up to when deletions may have been purged by members that were not named. Not sent. */
  othersPurgedMs = 0;
  /** How long this node keeps deletions. Not sent, for it is the same on all nodes. */
  graceMs = 0;
  /** Which members an initiator names one by one. */
  mask = new GroupMask(0, Uint8Array.of(1));
  /** The contacts as an initiator sent them, which the answer refers to. */
  summary = new ContactSummary();

  /**
   * Completes the contacts that an initiator sent, if those it did not name are the same as in
   * `told`, by a node that keeps deletions for `graceMs`. False when they are not: then only those
   * that it named are known.
   */
  recognise(told: Contacts, graceMs = 0): boolean {
    const isKnown = this.summary.recognise(told, this);
    this.noteOthers(this.summary.others, this.stepMs, graceMs);
    this.contacts = this.summary.all();
    return isKnown;
  }

  /**
   * The node has the same digest of these members, in such steps: so it may have forgotten what
   * whoever has that may have, but nothing that is younger than the grace by its clock.
   */
  noteOthers(others: Contacts | null, stepMs: number, graceMs: number): void {
    if (others === null) return;
    const latestMs = Math.max(0, this.clockMs - graceMs);
    this.othersPurgedMs = Math.min(others.purgedAtMostMs(stepMs), latestMs);
  }

  /**
   * The time of the latest deletion that the node may have forgotten, whoever purged it, as far as
   * it says so.
   */
  forgottenUpToMs(): number {
    let upToMs = Math.max(this.purgedUpToMs, this.othersPurgedMs);
    this.contacts.forEach((_high, _low, _ms, purgedUpToMs) => {
      upToMs = Math.max(upToMs, purgedUpToMs);
    });
    return upToMs;
  }
}

/** Writes the item; the responder's when it answers an initiator's. */
export function writeHello(writer: FrameWriter, hello: Hello, answered: Hello | null = null): void {
  const { capabilities, clockMs, contacts, purgedUpToMs, floor } = hello;
  const hasFloor = floor.timeHigh !== 0 || floor.timeLow !== 0;
  if (answered === null) hello.summary = ContactSummary.of(contacts, hello.mask, hello);
  const contactBytes =
    answered === null ? summaryBytes(hello.summary) : answerBytes(contacts, answered.summary);
  writer.reserve(256 + 2 * MAX_TEXT_BYTES + contactBytes + hello.trace.length);
  const hasOthers = answered !== null && answered.summary.others !== null;
  writer.u8(HELLO);
  writer.u32(MAGIC);
  writer.u8(capabilities.lowest);
  writer.u8(capabilities.highest);
  writer.varint(capabilities.features);
  writer.u8(hello.mode);
  writer.u8(
    (purgedUpToMs > 0 ? HAS_PURGED : 0) |
      (hasFloor ? HAS_FLOOR : 0) |
      (hasOthers ? HAS_OTHERS : 0) |
      (hello.isFull ? IS_FULL : 0) |
      (hello.isUnsure ? IS_UNSURE : 0),
  );
  writeText(writer, hello.cluster);
  writeText(writer, hello.nodeId);
  writer.u64(hello.epoch);
  writer.u32(hello.salt.high);
  writer.u32(hello.salt.low);
  writer.varint(hello.maxFrameBytes);
  writer.u64(clockMs);
  writer.varint(secondsBefore(clockMs, hello.watermarkMs));
  writer.varint(limitCode(clockMs, hello.acceptsUpToMs));
  if (purgedUpToMs > 0) writer.u64(purgedUpToMs);
  if (hasFloor) {
    writer.version(floor);
  }
  writer.copy(hello.root, 0, ROOT_BYTES);
  writer.varint(hello.stepMs / 1000);
  if (answered === null) writeSummary(writer, clockMs, hello.summary);
  else writeAnswer(writer, clockMs, contacts, answered.summary);
  const { trace } = hello;
  writer.varint(trace.length === 0 ? 0 : EXTRA_HEAD_BYTES + trace.length);
  if (trace.length === 0) return;
  writer.u8(TRACE);
  writer.u16(trace.length);
  writer.copy(trace, 0, trace.length);
}

/**
 * Reads the item behind its tag; `answering` is this side's own, if the item is the responder's.
 * Null when it is none, a text when there is no version that both speak.
 */
export function readHello(
  reader: FrameReader,
  answering: Hello | null = null,
  own: Capabilities = CURRENT,
): Hello | string | null {
  if (reader.u32() !== MAGIC) return null;
  const hello = new Hello();
  const capabilities = { lowest: reader.u8(), highest: reader.u8(), features: reader.varint() };
  hello.capabilities = capabilities;
  if (reader.overrun || !areCapabilities(capabilities)) return null;
  if (agree(own, capabilities) === null) return describeDisagreement(own, capabilities);
  hello.mode = reader.u8();
  const parts = reader.u8();
  hello.cluster = readText(reader);
  hello.nodeId = readText(reader);
  // An inspector belongs to no cluster. In other modes that is refused (`Greeting.meet`).
  const isNamed = hello.cluster === "" || isClusterName(hello.cluster);
  if (!reader.overrun && !(isNamed && isNodeId(hello.nodeId))) {
    return "its name, or that of its cluster, is none that a configuration could give";
  }
  hello.origin = originOf(hello.nodeId);
  hello.epoch = reader.u64();
  hello.salt = { high: reader.u32(), low: reader.u32() };
  hello.maxFrameBytes = reader.varint();
  hello.clockMs = reader.u64();
  hello.watermarkMs = secondsBack(hello.clockMs, reader.varint());
  hello.acceptsUpToMs = limitOf(hello.clockMs, reader.varint());
  if ((parts & HAS_PURGED) !== 0) hello.purgedUpToMs = reader.u64();
  if ((parts & HAS_FLOOR) !== 0) {
    reader.version(hello.floor);
  }
  const root = reader.skip(ROOT_BYTES);
  hello.root = reader.bytes.slice(root, root + ROOT_BYTES);
  hello.isFull = (parts & IS_FULL) !== 0;
  hello.isUnsure = (parts & IS_UNSURE) !== 0;
  hello.stepMs = Math.max(1, reader.varint()) * 1000;
  const { clockMs } = hello;
  if (answering === null) hello.summary = readSummary(reader, clockMs);
  else {
    const areOthersAlike = (parts & HAS_OTHERS) !== 0;
    const { summary, stepMs, graceMs } = answering;
    hello.contacts = readAnswer(reader, clockMs, summary, areOthersAlike);
    if (areOthersAlike) hello.noteOthers(summary.others, stepMs, graceMs);
  }
  const extraBytes = reader.varint();
  const extra = reader.skip(extraBytes);
  if (reader.overrun) return null;
  hello.trace = findTrace(reader.bytes.subarray(extra, extra + extraBytes));
  return hello;
}

/** A copy of what is said of a trace among what else there is; empty when nothing is. */
function findTrace(extra: Uint8Array): Uint8Array {
  for (let at = 0; at + EXTRA_HEAD_BYTES <= extra.length;) {
    const what = extra[at];
    const from = at + EXTRA_HEAD_BYTES;
    at = from + (extra[at + 1] << 8) + extra[at + 2];
    if (what !== TRACE || at > extra.length || at - from > MAX_TRACE_BYTES) continue;
    return extra.slice(from, at);
  }
  return NOTHING;
}

/** The latest time accepted, as it is written in the item: in whole seconds, rounded down. */
function limitCode(clockMs: number, limitMs: number): number {
  const seconds = Math.floor(limitMs / 1000) - Math.floor(clockMs / 1000);
  return seconds < 0 ? 1 - 2 * seconds : 2 * Math.min(seconds, 2 ** 33);
}

function limitOf(clockMs: number, code: number): number {
  const seconds = code % 2 === 0 ? code / 2 : (1 - code) / 2;
  return (Math.floor(clockMs / 1000) + seconds) * 1000;
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
