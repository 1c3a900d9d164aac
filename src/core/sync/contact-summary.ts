/**
 * How contacts travel in a HELLO (`hello.ts`). A node's contacts with all of 4,096 members would be
 * 64 KB in every session, though most of them both sides know alike. So the members are divided
 * into groups by the first bits of their origins, and the initiator names those of some groups
 * one by one. Of all others together it sends a digest: who has the same digest of them knows by
 * it what they are. Where there are few members there is one group, which is named; else none is
 * at first. A responder that has another digest says AGAIN, with a digest of each group
 * (`items.ts`), and is told the groups that differ.
 *
 *   initiator   bits u8, the groups are 2^bits · mask, the lowest bit of a byte first: which groups
 *               are named · count · count × member · [digest 8 bytes of the others, if there may be
 *               others]
 *   AGAIN       bits u8 · for each group a digest of 6 bytes
 *   responder   bits, the lowest of a byte first: which of the named stand otherwise here · times
 *               of each of those · count · count × member: those of the named groups that were not
 *               named. Of the others the digest was right
 *
 * A member is origin 8 bytes · times. Times are contact · flags u8 · [purge · [learned]] ·
 * [forgotten], as flags say. A contact is a varint, seconds before the speaker's clock. The others
 * may be before or after that: 2 n + 1 for n seconds before, 2 n for n after. All is in whole
 * seconds, rounded so that what is claimed is never more than what is so, nor forgotten less. When
 * a purge was learned is told only of members that were not in contact for RECENT_MS and more, for
 * whom alone it matters; it differs from node to node, and is in no digest.
 *
 * Contacts change all the time, if by little. So where digests of them are compared they are told
 * in steps, of a length that the initiator says, by which nodes agree for most of the time. So do
 * purges, while deletions are purged one after the other. What a member has purged concerns only
 * who was not in contact with it since. So of a member that was in contact after the step in which
 * its purge falls, a digest has just the end of the step. Who has the same digest need not learn
 * when it was, for by then both knew all that the member has purged; and only reckons with it that
 * the peer may have forgotten deletions up to the end of the step (`Hello.forgottenUpToMs`).
 *
 * Digests are SHA-256 over members in the order of their origins, with the initiator's salt before
 * them, so nobody can have prepared two vectors that look alike.
 */
import { Contacts, purgeInSteps, MAX_MEMBERS, type Contact } from "./contacts.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import type { Salt } from "./short-digest.ts";

const DIGEST_BYTES = 8;
const GROUP_DIGEST_BYTES = 6;
/** No more than so many members are named without being asked for. */
export const FEW_MEMBERS = 8;
/** Members in a group, about. */
const GROUP_SIZE = 8;
const MAX_GROUP_BITS = 8;
const MEMBER_BYTES = 8 + 4 * 5 + 1;
/** Most bytes that a form takes besides members. */
const SUMMARY_BYTES = 128;
/** Most bytes that the digests of groups take. */
export const MAX_GROUPS_BYTES = 1 + 2 ** MAX_GROUP_BITS * GROUP_DIGEST_BYTES;
/** For whoever was in contact within this time nobody need know when a purge was learned, in ms. */
const RECENT_MS = 60_000;
/** Digested of a member: origin 8, contact 8, purge 8, forgotten 8. */
const DIGESTED_BYTES = 32;

const HAS_PURGED = 1;
const HAS_LEARNED = 2;
const IS_FORGOTTEN = 4;

/** What digests of members are made with. */
export interface DigestKey {
  /** The initiator's. */
  readonly salt: Salt;
  /** The steps that the initiator tells contacts in. */
  readonly stepMs: number;
}

/** Which groups are named one by one. */
export class GroupMask {
  private readonly bytes: Uint8Array;

  constructor(
    readonly bits: number,
    bytes?: Uint8Array,
  ) {
    this.bytes = bytes ?? new Uint8Array(maskBytes(bits));
  }

  /** Whether the members of a group, or of all groups, are named. */
  has(group: number): boolean {
    return (this.bytes[group >>> 3] & (1 << (group & 7))) !== 0;
  }

  add(group: number): void {
    this.bytes[group >>> 3] |= 1 << (group & 7);
  }

  get hasNone(): boolean {
    return this.bytes.every((byte) => byte === 0);
  }

  get hasAll(): boolean {
    for (let group = 0; group < 1 << this.bits; group++) if (!this.has(group)) return false;
    return true;
  }

  write(writer: FrameWriter): void {
    writer.u8(this.bits);
    writer.copy(this.bytes, 0, this.bytes.length);
  }

  /** Whether a member is in a group that is named. */
  covers(originHigh: number): boolean {
    return this.has(groupOf(originHigh, this.bits));
  }
}

/** The contacts of the initiator as it sends them. */
export class ContactSummary {
  /** Members that are sent one by one, in the order of their origins. */
  named = new Contacts();
  /** Of the others; null when there can be none. */
  digest: Uint8Array | null = null;
  /** The others, for whoever knows them; null for who does not. */
  others: Contacts | null = null;
  mask = new GroupMask(0);

  /** Names the members of these groups and makes a digest of the others, in such steps. */
  static of(told: Contacts, mask: GroupMask, key: DigestKey): ContactSummary {
    const summary = new ContactSummary();
    summary.mask = mask;
    const { named, others } = divided(told, mask);
    summary.named = named;
    summary.others = others;
    if (!mask.hasAll) summary.digest = digestOf(others, 0, others.size, key, DIGEST_BYTES);
    return summary;
  }

  /** Finds out the others by what is told here. False when the digest is of something else. */
  recognise(told: Contacts, key: DigestKey): boolean {
    if (this.digest !== null) {
      const { others } = divided(told, this.mask);
      const digest = digestOf(others, 0, others.size, key, DIGEST_BYTES);
      if (this.digest.some((byte, i) => byte !== digest[i])) return false;
      this.others = others;
    } else this.others = new Contacts();
    return true;
  }

  /** All members, as far as they are known. */
  all(): Contacts {
    const { named, others } = this;
    if (others === null) return named.clone();
    return named.size === 0 ? others.clone() : joined(named, others);
  }
}

/** What an initiator names without being asked: all, if they are few. */
export function firstMask(told: Contacts): GroupMask {
  const mask = new GroupMask(0);
  if (told.size <= FEW_MEMBERS) mask.add(0);
  return mask;
}

/** Writes digests of groups of members, for which there is room. */
export function writeGroups(writer: FrameWriter, told: Contacts, key: DigestKey): void {
  const bits = Math.ceil(Math.log2(Math.max(1, told.size / GROUP_SIZE)));
  const groups = groupDigests(told, Math.min(bits, MAX_GROUP_BITS), key);
  writer.u8(Math.min(bits, MAX_GROUP_BITS));
  for (const digest of groups) writer.copy(digest, 0, GROUP_DIGEST_BYTES);
}

/** Reads them; returns the groups in which these contacts differ. Null when it is none. */
export function readGroups(reader: FrameReader, told: Contacts, key: DigestKey): GroupMask | null {
  const bits = reader.u8();
  if (bits > MAX_GROUP_BITS) return null;
  const start = reader.skip(GROUP_DIGEST_BYTES << bits);
  if (reader.overrun) return null;
  const mask = new GroupMask(bits);
  for (const [group, digest] of groupDigests(told, bits, key).entries()) {
    const at = start + group * GROUP_DIGEST_BYTES;
    if (digest.some((byte, i) => byte !== reader.bytes[at + i])) mask.add(group);
  }
  return mask;
}

/** Most bytes that a summary takes. */
export function summaryBytes({ named }: ContactSummary): number {
  return SUMMARY_BYTES + named.size * MEMBER_BYTES;
}

/** Most bytes that the answer to a summary takes. */
export function answerBytes(told: Contacts, { named, mask }: ContactSummary): number {
  const most = mask.hasNone ? 0 : named.size + told.size;
  return SUMMARY_BYTES + named.size + most * MEMBER_BYTES;
}

/** Writes the initiator's form, for which there is room. */
export function writeSummary(writer: FrameWriter, clockMs: number, summary: ContactSummary): void {
  summary.mask.write(writer);
  writeMembers(writer, clockMs, summary.named);
  if (summary.digest !== null) writer.copy(summary.digest, 0, DIGEST_BYTES);
}

/** Reads the initiator's form; raises `overrun` when it is none. */
export function readSummary(reader: FrameReader, clockMs: number): ContactSummary {
  const summary = new ContactSummary();
  const bits = reader.u8();
  if (bits > MAX_GROUP_BITS) reader.overrun = true;
  const start = reader.skip(reader.overrun ? 0 : maskBytes(bits));
  if (reader.overrun) return summary;
  summary.mask = new GroupMask(bits, reader.bytes.slice(start, start + maskBytes(bits)));
  readMembers(reader, clockMs, summary.named);
  if (!summary.mask.hasAll) {
    const at = reader.skip(DIGEST_BYTES);
    summary.digest = reader.bytes.slice(at, at + DIGEST_BYTES);
  }
  return summary;
}

/** Writes how what is told here differs from what the initiator sent; there is room for it. */
export function writeAnswer(
  writer: FrameWriter,
  clockMs: number,
  told: Contacts,
  { named, mask }: ContactSummary,
): void {
  const bits = new Uint8Array((named.size + 7) >>> 3);
  const differing: Contact[] = [];
  const unnamed = new Contacts();
  for (let at = 0; at < named.size; at++) {
    const there = named.at(at);
    const here = told.get(there.originHigh, there.originLow) ?? { ...there, ...NOTHING };
    if (isAlike(here, there)) continue;
    bits[at >>> 3] |= 1 << (at & 7);
    differing.push(here);
  }
  for (let at = 0; at < told.size; at++) {
    const here = told.at(at);
    const isNamed = named.has(here.originHigh, here.originLow);
    if (!isNamed && mask.covers(here.originHigh)) unnamed.append(here);
  }
  writer.copy(bits, 0, bits.length);
  for (const member of differing) writeTimes(writer, clockMs, member);
  writeMembers(writer, clockMs, unnamed);
}

/** Reads such an answer to what this side sent; returns the peer's contacts, as it tells them. */
export function readAnswer(
  reader: FrameReader,
  clockMs: number,
  { named, others }: ContactSummary,
  areOthersAlike: boolean,
): Contacts {
  const bits = reader.skip((named.size + 7) >>> 3);
  if (reader.overrun) return new Contacts();
  const known = new Contacts();
  for (let at = 0; at < named.size; at++) {
    const member = named.at(at);
    const isOther = (reader.bytes[bits + (at >>> 3)] & (1 << (at & 7))) !== 0;
    const there = isOther ? readTimes(reader, clockMs, member) : member;
    if (!isOther) there.learnedMs = Infinity;
    // Who was named need not be a member there.
    const isMember = there.ms > 0 || there.purgedUpToMs > 0 || there.forgottenMs > 0;
    if (!isOther || isMember) known.append(there);
  }
  const unnamed = new Contacts();
  readMembers(reader, clockMs, unnamed);
  const told = joined(known, unnamed);
  return areOthersAlike && others !== null ? joined(told, others) : told;
}

/** The members that are named, and the others. Mostly there are none of one kind. */
function divided(told: Contacts, mask: GroupMask): { named: Contacts; others: Contacts } {
  if (mask.hasNone) return { named: new Contacts(), others: told };
  if (mask.hasAll) return { named: told, others: new Contacts() };
  const [named, others] = [new Contacts(), new Contacts()];
  for (let at = 0; at < told.size; at++) {
    const member = told.at(at);
    (mask.covers(member.originHigh) ? named : others).append(member);
  }
  return { named, others };
}

/** Of two vectors without a member in common, all members; the first if there are no others. */
function joined(a: Contacts, b: Contacts): Contacts {
  if (b.size === 0) return a;
  const all = new Contacts();
  for (let i = 0, j = 0; i < a.size || j < b.size;) {
    const left = i < a.size ? a.at(i) : null;
    const right = j < b.size ? b.at(j) : null;
    if (right === null || (left !== null && compareOrigins(left, right) < 0)) {
      all.append(left!);
      i++;
    } else {
      all.append(right);
      j++;
    }
  }
  return all;
}

const NOTHING = { ms: 0, purgedUpToMs: 0, learnedMs: Infinity, forgottenMs: 0 };

function isAlike(a: Contact, b: Contact): boolean {
  return a.ms === b.ms && a.purgedUpToMs === b.purgedUpToMs && a.forgottenMs === b.forgottenMs;
}

function maskBytes(bits: number): number {
  return Math.ceil((1 << bits) / 8);
}

function groupOf(originHigh: number, bits: number): number {
  return bits === 0 ? 0 : originHigh >>> (32 - bits);
}

function groupDigests(told: Contacts, bits: number, key: DigestKey): Uint8Array[] {
  const digests: Uint8Array[] = [];
  let from = 0;
  for (let group = 0; group < 1 << bits; group++) {
    let to = from;
    while (to < told.size && groupOf(told.at(to).originHigh, bits) === group) to++;
    digests.push(digestOf(told, from, to, key, GROUP_DIGEST_BYTES));
    from = to;
  }
  return digests;
}

/** Of the members from one place to below another. */
function digestOf(
  told: Contacts,
  from: number,
  to: number,
  { salt, stepMs }: DigestKey,
  length: number,
): Uint8Array {
  const bytes = new Uint8Array(8 + (to - from) * DIGESTED_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, salt.high);
  view.setUint32(4, salt.low);
  let at = 8;
  const add = (
    originHigh: number,
    originLow: number,
    ms: number,
    purgedUpToMs: number,
    _learnedMs: number,
    forgottenMs: number,
  ): void => {
    view.setUint32(at, originHigh);
    view.setUint32(at + 4, originLow);
    view.setFloat64(at + 8, ms);
    view.setFloat64(at + 16, purgeInSteps(ms, purgedUpToMs, stepMs));
    view.setFloat64(at + 24, forgottenMs);
    at += DIGESTED_BYTES;
  };
  told.forEach(add, from, to);
  const digest = new Uint8Array(32);
  Bun.SHA256.hash(bytes, digest);
  return digest.subarray(0, length);
}

function compareOrigins(a: Contact, b: Contact): number {
  return a.originHigh - b.originHigh || a.originLow - b.originLow;
}

function writeMembers(writer: FrameWriter, clockMs: number, members: Contacts): void {
  writer.varint(members.size);
  for (let at = 0; at < members.size; at++) {
    const member = members.at(at);
    writer.u32(member.originHigh);
    writer.u32(member.originLow);
    writeTimes(writer, clockMs, member);
  }
}

function writeTimes(writer: FrameWriter, clockMs: number, member: Contact): void {
  const { ms, purgedUpToMs, learnedMs, forgottenMs } = member;
  const isLearned = purgedUpToMs > 0 && learnedMs < Infinity && ms < clockMs - RECENT_MS;
  writer.varint(secondsBefore(clockMs, ms));
  writer.u8(
    (purgedUpToMs > 0 ? HAS_PURGED : 0) |
      (isLearned ? HAS_LEARNED : 0) |
      (forgottenMs > 0 ? IS_FORGOTTEN : 0),
  );
  if (purgedUpToMs > 0) writer.varint(timeCode(clockMs, purgedUpToMs));
  if (isLearned) writer.varint(timeCode(clockMs, learnedMs));
  if (forgottenMs > 0) writer.varint(timeCode(clockMs, forgottenMs));
}

/** Raises `overrun` when there are too many, or they are not in order. */
function readMembers(reader: FrameReader, clockMs: number, into: Contacts): void {
  const count = reader.varint();
  if (count > MAX_MEMBERS) reader.overrun = true;
  let last: Contact | null = null;
  for (let i = 0; i < count && !reader.overrun; i++) {
    const [originHigh, originLow] = [reader.u32(), reader.u32()];
    const member = readTimes(reader, clockMs, { originHigh, originLow });
    if (last !== null && compareOrigins(last, member) >= 0) reader.overrun = true;
    if (!reader.overrun) into.append(member);
    last = member;
  }
}

function readTimes(
  reader: FrameReader,
  clockMs: number,
  { originHigh, originLow }: Pick<Contact, "originHigh" | "originLow">,
): Contact {
  const ms = secondsBack(clockMs, reader.varint());
  const flags = reader.u8();
  const purgedUpToMs = (flags & HAS_PURGED) === 0 ? 0 : timeOf(clockMs, reader.varint());
  const learnedMs = (flags & HAS_LEARNED) === 0 ? Infinity : timeOf(clockMs, reader.varint());
  const forgottenMs = (flags & IS_FORGOTTEN) === 0 ? 0 : timeOf(clockMs, reader.varint());
  return { originHigh, originLow, ms, purgedUpToMs, learnedMs, forgottenMs };
}

/** How many whole seconds a time lies before the clock. A later time counts as the clock's. */
export function secondsBefore(clockMs: number, ms: number): number {
  return Math.max(0, Math.floor(clockMs / 1000) - Math.floor(ms / 1000));
}

/** The time that lies so many whole seconds before the clock, in ms; from 0 on. */
export function secondsBack(clockMs: number, seconds: number): number {
  return Math.max(0, Math.floor(clockMs / 1000) - seconds) * 1000;
}

/** A time before or after the clock as the item has it; in whole seconds, rounded up. */
function timeCode(clockMs: number, ms: number): number {
  const seconds = Math.floor(clockMs / 1000) - Math.ceil(ms / 1000);
  return seconds < 0 ? -2 * seconds : 1 + 2 * seconds;
}

function timeOf(clockMs: number, code: number): number {
  const seconds = code % 2 === 0 ? -code / 2 : (code - 1) / 2;
  return Math.max(0, Math.floor(clockMs / 1000) - seconds) * 1000;
}
