/**
 * The half of a session that is particular to the side that was asked for it, once both have
 * introduced themselves. The responder walks down the tree, lists the buckets that differ, sends
 * what the initiator wants, and decides about what the initiator offers. Buckets that are empty on
 * the other side it sends without being asked. It also answers initiators that only want to look:
 * for keys (FETCH), digests (ASK_ALL) and descriptions (ASK).
 *
 * The initiator cannot tell which of the entries that only it has and those that only the responder
 * has are under the same key. So it may send an entry and want one of the same key. The responder
 * can see which of the two is newer, and sends only what the initiator lacks.
 */
import { type Part, partOf, PartQueue, wholeBucket } from "../tree/bucket-part.ts";
import { readPart, writePart } from "./part-frames.ts";
import { DIGEST_WORDS } from "../tree/digest-list.ts";
import { FANOUT } from "../tree/digest-tree.ts";
import {
  compareBytes,
  compareVersions,
  Entry,
  KIND_COUNTER,
  KIND_OTHER,
  KIND_STRING,
  type VersionWords,
} from "../data/entry.ts";
import { baseVersionOf, compareExpiries } from "../data/merge.ts";
import type { Store } from "../store/store.ts";
import { DigestSet, digestOfId, readDigest, writeDigest } from "./digest-set.ts";
import type { SpokenPart, SharedBySides } from "./initiator.ts";
import {
  ABOUT,
  ABOUT_VALUE_BYTES,
  ASK,
  ASK_ALL,
  DIGESTS,
  digestListBytes,
  entryItemBytes,
  FETCH,
  LIST,
  NEED,
  OFFER,
  EXPAND,
  PARTS,
  readHead,
  TURN_BEHIND,
  WANT,
  writeAbout,
} from "./items.ts";
import {
  LISTED_BYTES_A_TURN,
  MAX_FETCHED_KEYS,
  MAX_OFFERS_A_TURN,
  MAX_LISTED_ENTRIES,
  EXTRA_WANTED_ENTRIES,
} from "./limits.ts";
import { costOf } from "./lists.ts";
import type { SyncMode } from "./options.ts";
import { LevelWalk, writeDigests } from "./walk.ts";

/**
 * A part that is to be expanded: it is listed; or, when the peer has nothing of it or asked for a
 * description, its entries are sent or described.
 */
interface PendingPart extends Part {
  readonly isAbsent: boolean;
}

/** A part whose own parts the peer was told of, and which of those are not empty. */
interface ToldPart extends Part {
  readonly present: number;
}

/** The responder's half of a session. */
export class Responder {
  private readonly walk: LevelWalk;
  private isWalking = false;
  /** What is done with the buckets that `walk` arrived at. */
  private task: "compare" | "describe" = "compare";
  /** The next of them: 16 for each of the walk's nodes. */
  private nextBucket = 0;

  /** Parts that are to be expanded before the next bucket. */
  private readonly pending = new PartQueue<PendingPart>();
  /** Parts in PARTS items that the peer has not answered. */
  private readonly told = new PartQueue<ToldPart>();
  private readonly digests = new DigestSet();
  private readonly partDigests = new Uint32Array(FANOUT * DIGEST_WORDS);
  private listedBytes = 0;
  private listedKeys = 0;
  private wantedKeys = 0;
  /** Where in the queue begins what the peer wants of the bucket that it is working on. */
  private wantedFrom = 0;

  private readonly fetched = new Set<number>();
  private needs = new Uint8Array(0);
  private offers = 0;

  private readonly entry = new Entry();
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };

  constructor(
    private readonly parts: SharedBySides,
    private readonly store: Store,
    private readonly mode: SyncMode,
  ) {
    this.walk = new LevelWalk(parts.tree.levels, parts.shortener);
  }

  /** The roots differ: the walk begins. */
  beginWalk(): void {
    this.isWalking = true;
    this.walk.lead();
  }

  /** Compares every bucket, without a walk. */
  compareAll(): void {
    this.walk.select(0xffff);
  }

  /** Handles an item of the peer's turn, whose tag has been read. False when it is out of place. */
  handle(tag: number): boolean {
    const { reader } = this.parts;
    const isInspected = this.mode === "inspect";
    switch (tag) {
      case DIGESTS:
        return this.isWalking && this.walk.hear(reader);
      case WANT:
        return !isInspected && this.handleWant();
      case EXPAND:
        return !isInspected && this.handleExpand();
      case OFFER:
        return !isInspected && this.handleOffer();
      case FETCH:
        return this.mode === "fetch" && this.handleFetch();
      case ASK_ALL:
        if (!isInspected) return false;
        this.isWalking = true;
        this.task = "compare";
        this.nextBucket = 0;
        this.walk.tellAll();
        return true;
      case ASK: {
        if (!isInspected) return false;
        const bucket = reader.u16();
        if (this.task !== "describe") this.walk.select(0);
        this.isWalking = false;
        this.task = "describe";
        this.nextBucket = 0;
        this.walk.differing[Math.floor(bucket / FANOUT)] |= 1 << (bucket % FANOUT);
        return true;
      }
      default:
        return false;
    }
  }

  /** An entry of the peer was merged. If that is what is here now, it need not be sent back. */
  noteMerged(arrived: Entry): void {
    const { queue } = this.parts.flow;
    if (this.wantedFrom === queue.position) return;
    const id = this.store.locate(arrived.key, arrived.keyOffset, arrived.keyLength);
    const at = this.wantedAt(id);
    if (at < 0) return;
    this.store.read(id, this.entry);
    if (isSame(this.entry, arrived)) return queue.strike(at);
    if (hasSameString(this.entry, arrived)) this.parts.flow.spareValue(id, arrived);
    if (this.entry.valueLength <= arrived.valueLength) this.parts.flow.allow(id);
  }

  /** The peer's turn is over. False when it ended too soon. */
  endHearing(flags: number): boolean {
    // While the peer still works on what was listed, nothing more is listed, and the bounds of what
    // it may want stay as they are.
    if ((flags & TURN_BEHIND) === 0) {
      if (this.told.length > 0) return false;
      this.listedBytes = this.listedKeys = this.wantedKeys = 0;
    }
    return !this.isWalking || this.walk.endHearing();
  }

  /** Says the next piece. */
  speak(): SpokenPart {
    const { flow, writer } = this.parts;
    if (this.offers > 0) this.answerOffers();
    if (flow.queue.length > 0) {
      if (this.task === "describe") this.describeNext();
      else flow.sendNext();
      return "more";
    }
    this.wantedFrom = 0;
    if (this.isWalking && !this.walk.isDown) {
      if (this.walk.say(writer)) return "more";
      this.isWalking = !this.walk.isDown;
      return "turn";
    }
    this.isWalking = false;
    const isThrough = this.nextBucket >= this.walk.count * FANOUT;
    if (isThrough && this.pending.length === 0) return this.told.length > 0 ? "turn" : "done";
    if (this.listedBytes > LISTED_BYTES_A_TURN) return "turn";
    if (this.pending.length > 0) this.expand(this.pending.shift()!);
    else this.expandBucket(this.nextBucket++);
    return "more";
  }

  private expandBucket(index: number): void {
    const { walk } = this;
    const node = Math.floor(index / FANOUT);
    const bit = 1 << (index % FANOUT);
    if ((walk.differing[node] & bit) === 0) return;
    const part = wholeBucket(walk.nodes[node] * FANOUT + (index % FANOUT));
    const isAbsent = this.task === "describe" || (walk.present[node] & bit) === 0;
    this.expand({ ...part, isAbsent });
    // Its bit is cleared, so that the answer to a later question does not describe it again.
    if (this.task === "describe") walk.differing[node] &= ~bit;
  }

  /** Lists or sends a part. A large one is told of, or divided, part by part. */
  private expand(part: PendingPart): void {
    const { buckets } = this.parts.tree;
    if (!part.isAbsent) this.list(part);
    else if (!buckets.isLarge(part)) this.parts.counts.keysCompared += this.enqueueAll(part);
    else {
      for (let digit = 0; digit < FANOUT; digit++) {
        this.pending.push({ ...partOf(part, digit), isAbsent: true });
      }
    }
  }

  private list(part: Part): void {
    const { tree, writer, counts, shortener } = this.parts;
    const { buckets } = tree;
    if (buckets.isLarge(part)) {
      this.listParts(part);
      return;
    }
    const { digests } = this;
    digests.count = 0;
    buckets.visit(part, (id) => digests.add(digestOfId(buckets, id, shortener)));
    writer.reserve(digestListBytes(digests.count));
    writer.u8(LIST);
    writePart(writer, part);
    writer.varint(digests.count);
    for (let i = 0; i < digests.count; i++) writeDigest(writer, digests.digests[i]);
    this.listedBytes += costOf(LIST, digests.count);
    this.listedKeys += digests.count;
    counts.keysCompared += digests.count;
  }

  private listParts(part: Part): void {
    const { tree, writer, shortener } = this.parts;
    tree.buckets.digestParts(part, this.partDigests);
    writer.reserve(digestListBytes(FANOUT));
    writer.u8(PARTS);
    writePart(writer, part);
    const present = writeDigests(writer, this.partDigests, 0, shortener);
    this.told.push({ ...part, present });
    this.listedBytes += costOf(PARTS, FANOUT);
    this.listedKeys += tree.buckets.count(part);
  }

  private enqueueAll(part: Part): number {
    const { flow, tree } = this.parts;
    const before = flow.queue.length;
    tree.buckets.visit(part, (id) => flow.queue.push(id));
    return flow.queue.length - before;
  }

  /** Handles an EXPAND: which parts of one that the peer was told of differ. */
  private handleExpand(): boolean {
    const mask = this.parts.reader.u16();
    const told = this.told.shift();
    if (told === undefined || (mask & ~told.present) !== 0) return false;
    for (let digit = 0; digit < FANOUT; digit++) {
      if ((mask & (1 << digit)) === 0) continue;
      this.pending.push({ ...partOf(told, digit), isAbsent: false });
    }
    return true;
  }

  private handleFetch(): boolean {
    const { flow, reader } = this.parts;
    const length = reader.varint();
    const start = reader.skip(length);
    if (reader.overrun || this.fetched.size >= MAX_FETCHED_KEYS) return false;
    const id = this.store.locate(reader.bytes, start, length);
    // Once is enough: a value may be large.
    if (id < 0 || this.fetched.has(id)) return true;
    this.fetched.add(id);
    flow.queue.push(id);
    return true;
  }

  private handleWant(): boolean {
    const { flow, reader, tree, shortener } = this.parts;
    const { buckets } = tree;
    const part = readPart(reader);
    const count = reader.varint();
    if (reader.overrun) return false;
    this.wantedFrom = flow.queue.position;
    // A peer can only want what was listed, or was added since.
    const here = buckets.count(part);
    this.wantedKeys += here;
    if (this.wantedKeys > 2 * this.listedKeys + EXTRA_WANTED_ENTRIES) return false;
    if (count === 0) {
      if (buckets.isLarge(part)) this.pending.push({ ...part, isAbsent: true });
      else this.enqueueAll(part);
      return true;
    }
    if (here > MAX_LISTED_ENTRIES || count > MAX_LISTED_ENTRIES) return false;
    const { digests } = this;
    digests.count = 0;
    for (let i = 0; i < count && !reader.overrun; i++) digests.add(readDigest(reader));
    if (reader.overrun) return false;
    digests.sort();
    buckets.visit(part, (id) => {
      if (digests.indexOf(digestOfId(buckets, id, shortener)) >= 0) flow.queue.push(id);
    });
    return true;
  }

  private handleOffer(): boolean {
    const { flow, reader } = this.parts;
    const offer = flow.arrived;
    readHead(reader, offer);
    if (reader.overrun || this.offers >= 2 * MAX_OFFERS_A_TURN) return false;
    const at = this.offers++;
    if (at >>> 3 >= this.needs.length) {
      const larger = new Uint8Array(Math.max(1024, this.needs.length * 2));
      larger.set(this.needs);
      this.needs = larger;
    }
    if ((at & 7) === 0) this.needs[at >>> 3] = 0;
    if (this.isWorthHaving(offer) && this.hasRoomFor(offer)) this.needs[at >>> 3] |= 1 << (at & 7);
    return true;
  }

  /**
   * Whether there is room for an offered entry. For one that is no larger than what it replaces
   * there always is.
   */
  private hasRoomFor(offer: Entry): boolean {
    const { flow, counts } = this.parts;
    if (!this.store.isFull && !this.store.isReadOnly) return true;
    const id = this.store.locate(offer.key, offer.keyOffset, offer.keyLength);
    if (id >= 0) this.store.read(id, this.entry);
    if (id >= 0 && offer.valueLength <= this.entry.valueLength) return true;
    counts.miss(flow.fullReason);
    return false;
  }

  /**
   * Whether an offered entry may change what is here. If it replaces that, then what is here need
   * not be sent.
   */
  private isWorthHaving(offer: Entry): boolean {
    const { flow } = this.parts;
    const id = this.store.locate(offer.key, offer.keyOffset, offer.keyLength);
    // What only later versions know may be like what is here but for its bytes.
    if (id < 0 || offer.kind === KIND_COUNTER || offer.kind === KIND_OTHER) return true;
    this.store.read(id, this.entry);
    baseVersionOf(this.entry, this.base);
    const order = compareVersions(offer, this.base);
    const expiryOrder = compareExpiries(offer, this.entry);
    const isHere = expiryOrder !== 0 && hasSameString(this.entry, offer);
    if ((isHere || order > 0) && expiryOrder >= 0) this.strike(id);
    if (order < 0 && this.entry.valueLength <= offer.valueLength) flow.allow(id);
    if (isHere) flow.spareValue(id, offer);
    if ((isHere || order < 0) && expiryOrder > 0) flow.mergeExpiry(offer);
    if (isHere) return false;
    return order >= 0;
  }

  private answerOffers(): void {
    const { writer } = this.parts;
    const length = (this.offers + 7) >>> 3;
    writer.reserve(8 + length);
    writer.u8(NEED);
    writer.varint(this.offers);
    writer.copy(this.needs, 0, length);
    this.offers = 0;
  }

  private describeNext(): void {
    const { flow, tree, writer, shortener } = this.parts;
    const id = flow.queue.shift();
    // The id may belong to another entry by now, which need not be in the tree.
    if (!this.store.isUsed(id) || !tree.buckets.has(id)) return;
    this.store.read(id, this.entry);
    writer.reserve(entryItemBytes(this.entry.keyLength, ABOUT_VALUE_BYTES));
    writer.u8(ABOUT);
    writeDigest(writer, digestOfId(tree.buckets, id, shortener));
    writeAbout(writer, this.entry);
  }

  /** What was wanted of an entry need not be sent. */
  private strike(id: number): void {
    const at = this.wantedAt(id);
    if (at >= 0) this.parts.flow.queue.strike(at);
  }

  /** Where in the queue an entry of the bucket under work is wanted, or -1. */
  private wantedAt(id: number): number {
    const { queue } = this.parts.flow;
    for (let at = this.wantedFrom; id >= 0 && at < queue.position; at++) {
      if (queue.at(at) === id) return at;
    }
    return -1;
  }
}

/** Whether two entries with one key are the same; an expired one and its husk are not. */
function isSame(a: Entry, b: Entry): boolean {
  if (a.kind !== b.kind || a.valueLength !== b.valueLength) return false;
  if (compareVersions(a, b) !== 0 || compareExpiries(a, b) !== 0) return false;
  if (a.kind !== KIND_COUNTER && a.kind !== KIND_OTHER) return true;
  return (
    compareBytes(a.value, a.valueOffset, a.valueLength, b.value, b.valueOffset, b.valueLength) === 0
  );
}

/** Whether two entries with one key are one string, by its version, whatever their expiries are. */
function hasSameString(a: Entry, b: Entry): boolean {
  return a.kind === KIND_STRING && b.kind === KIND_STRING && compareVersions(a, b) === 0;
}
