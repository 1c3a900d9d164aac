/**
 * How contacts travel in a HELLO (`hello.ts`). All contacts of a node with 128 members would be 2
 * KB in every session, though most of them are with members that are gone, and never change. So the
 * initiator names only the members last in contact, and sends a digest of its contacts with all
 * others. If the responder's contacts with those have the same digest, it knows what they are;
 * otherwise it asks for all of them (AGAIN in `items.ts`).
 *
 *   initiator   count · count × (origin 8 bytes · contact · purge) · [digest 8 bytes, if there are
 *               others]
 *   responder   bits, the lowest of a byte first: for which of the named its own times differ · for
 *               each of those: contact · purge · count · count × (origin 8 bytes · contact ·
 *               purge): the members that the initiator did not name; if the digest was the same,
 *               none of those that it covers
 *
 * A contact is a varint: how many seconds it lies before the speaker's clock. A purge time is one
 * too: 0 for none, 1 + 2 n for n seconds before the clock, 2 n for n seconds after it. All are
 * whole seconds, rounded so that a node never claims to know more than it does, nor to have
 * forgotten less.
 *
 * The digest is SHA-256 over the initiator's salt and then the others in the order of their
 * origins. Because of the salt, nobody can prepare two vectors with the same digest.
 */
import { type Contacts, MAX_MEMBERS } from "./contacts.ts";
import type { Salt } from "./short-digest.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";

const DIGEST_BYTES = 8;
/** Most bytes that either form takes. */
export const MAX_SUMMARY_BYTES = 64 + MAX_MEMBERS * 20;

/** What is said of a member. Times are Unix milliseconds, in whole seconds. */
interface Member {
  readonly originHigh: number;
  readonly originLow: number;
  readonly ms: number;
  readonly purgedUpToMs: number;
}

/** The contacts of the initiator as it sends them. */
export class ContactSummary {
  /** Members that are sent one by one, in this order. */
  named: Member[] = [];
  /** Of the others; null when there are none. */
  digest: Uint8Array | null = null;
  /** The others, in the order of their origins; empty while they are known by their digest only. */
  others: Member[] = [];

  /** Names this many members, those last in contact, and makes a digest of the others. */
  static of(contacts: Contacts, most: number, salt: Salt): ContactSummary {
    const summary = new ContactSummary();
    const members = membersOf(contacts).sort((a, b) => b.ms - a.ms || compareOrigins(a, b));
    summary.named = members.slice(0, most);
    summary.others = members.slice(most).sort(compareOrigins);
    if (summary.others.length > 0) summary.digest = digestOf(summary.others, salt);
    return summary;
  }

  /** Concludes from these contacts who the others are. False when their digest is another. */
  recognise(contacts: Contacts, salt: Salt): boolean {
    if (this.digest === null) return true;
    const others = this.notNamed(contacts);
    const digest = digestOf(others, salt);
    if (this.digest.some((byte, i) => byte !== digest[i])) return false;
    this.others = others;
    return true;
  }

  /** Those of these contacts that are not named here, in the order of their origins. */
  notNamed(contacts: Contacts): Member[] {
    const named = new Set(this.named.map(nameOf));
    return membersOf(contacts)
      .filter((it) => !named.has(nameOf(it)))
      .sort(compareOrigins);
  }

  /** Notes all of it in these contacts. */
  noteIn(contacts: Contacts): void {
    for (const member of [...this.named, ...this.others]) note(contacts, member);
  }
}

/** Writes the initiator's form, for which there is room. */
export function writeSummary(writer: FrameWriter, clockMs: number, summary: ContactSummary): void {
  writer.varint(summary.named.length);
  for (const member of summary.named) {
    writeOrigin(writer, member);
    writeTimes(writer, clockMs, member);
  }
  if (summary.digest !== null) writer.copy(summary.digest, 0, DIGEST_BYTES);
}

/** Reads the initiator's form; raises `overrun` when there are too many. */
export function readSummary(
  reader: FrameReader,
  clockMs: number,
  hasOthers: boolean,
): ContactSummary {
  const summary = new ContactSummary();
  summary.named = readMembers(reader, clockMs);
  if (hasOthers) {
    const start = reader.skip(DIGEST_BYTES);
    summary.digest = reader.bytes.slice(start, start + DIGEST_BYTES);
  }
  return summary;
}

/** Writes how these contacts differ from what the initiator sent, for which there is room. */
export function writeAnswer(
  writer: FrameWriter,
  clockMs: number,
  contacts: Contacts,
  summary: ContactSummary,
): void {
  const own = new Map(membersOf(contacts).map((member) => [nameOf(member), member]));
  const bits = new Uint8Array((summary.named.length + 7) >>> 3);
  const differing: Member[] = [];
  for (const [i, member] of summary.named.entries()) {
    const here = own.get(nameOf(member)) ?? { ...member, ms: 0, purgedUpToMs: 0 };
    if (here.ms === member.ms && here.purgedUpToMs === member.purgedUpToMs) continue;
    bits[i >>> 3] |= 1 << (i & 7);
    differing.push(here);
  }
  writer.copy(bits, 0, bits.length);
  for (const member of differing) writeTimes(writer, clockMs, member);
  const unnamed = summary.others.length > 0 ? [] : summary.notNamed(contacts);
  writer.varint(unnamed.length);
  for (const member of unnamed) {
    writeOrigin(writer, member);
    writeTimes(writer, clockMs, member);
  }
}

/** Reads such an answer to what this side sent; notes the peer's contacts in `into`. */
export function readAnswer(
  reader: FrameReader,
  clockMs: number,
  summary: ContactSummary,
  areOthersAlike: boolean,
  into: Contacts,
): void {
  const bits = reader.skip((summary.named.length + 7) >>> 3);
  if (reader.overrun) return;
  for (const [i, member] of summary.named.entries()) {
    const isOther = (reader.bytes[bits + (i >>> 3)] & (1 << (i & 7))) !== 0;
    const there = isOther ? readTimes(reader, clockMs, member) : member;
    // The responder need not know a member that was named.
    if (!isOther || there.ms > 0 || there.purgedUpToMs > 0) note(into, there);
  }
  for (const member of readMembers(reader, clockMs)) note(into, member);
  if (areOthersAlike) for (const member of summary.others) note(into, member);
}

function membersOf(contacts: Contacts): Member[] {
  const members: Member[] = [];
  contacts.forEach((originHigh, originLow, ms, purgedUpToMs) => {
    members.push({
      originHigh,
      originLow,
      ms: Math.floor(ms / 1000) * 1000,
      purgedUpToMs: Math.ceil(purgedUpToMs / 1000) * 1000,
    });
  });
  return members;
}

function note(contacts: Contacts, { originHigh, originLow, ms, purgedUpToMs }: Member): void {
  contacts.note(originHigh, originLow, ms, purgedUpToMs);
}

function digestOf(members: readonly Member[], salt: Salt): Uint8Array {
  const bytes = new Uint8Array(8 + members.length * 24);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, salt.high);
  view.setUint32(4, salt.low);
  for (const [i, { originHigh, originLow, ms, purgedUpToMs }] of members.entries()) {
    const at = 8 + i * 24;
    view.setUint32(at, originHigh);
    view.setUint32(at + 4, originLow);
    view.setFloat64(at + 8, ms);
    view.setFloat64(at + 16, purgedUpToMs);
  }
  const digest = new Uint8Array(32);
  Bun.SHA256.hash(bytes, digest);
  return digest.subarray(0, DIGEST_BYTES);
}

function nameOf({ originHigh, originLow }: Member): string {
  return `${originHigh} ${originLow}`;
}

function compareOrigins(a: Member, b: Member): number {
  return a.originHigh - b.originHigh || a.originLow - b.originLow;
}

function writeOrigin(writer: FrameWriter, { originHigh, originLow }: Member): void {
  writer.u32(originHigh);
  writer.u32(originLow);
}

function writeTimes(writer: FrameWriter, clockMs: number, { ms, purgedUpToMs }: Member): void {
  writer.varint(secondsBefore(clockMs, ms));
  writer.varint(purgeCode(clockMs, purgedUpToMs));
}

function readMembers(reader: FrameReader, clockMs: number): Member[] {
  const members: Member[] = [];
  const count = reader.varint();
  if (count > MAX_MEMBERS) reader.overrun = true;
  for (let i = 0; i < count && !reader.overrun; i++) {
    const [originHigh, originLow] = [reader.u32(), reader.u32()];
    members.push(readTimes(reader, clockMs, { originHigh, originLow }));
  }
  return members;
}

function readTimes(
  reader: FrameReader,
  clockMs: number,
  { originHigh, originLow }: Pick<Member, "originHigh" | "originLow">,
): Member {
  const ms = secondsBack(clockMs, reader.varint());
  return { originHigh, originLow, ms, purgedUpToMs: purgeOf(clockMs, reader.varint()) };
}

/** How many whole seconds a time lies before the clock. A later time counts as the clock's. */
export function secondsBefore(clockMs: number, ms: number): number {
  return Math.max(0, Math.floor(clockMs / 1000) - Math.floor(ms / 1000));
}

/** The time that lies so many whole seconds before the clock, in ms; from 0 on. */
export function secondsBack(clockMs: number, seconds: number): number {
  return Math.max(0, Math.floor(clockMs / 1000) - seconds) * 1000;
}

/** A purge time as it is written in the item: in whole seconds, rounded up. */
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
