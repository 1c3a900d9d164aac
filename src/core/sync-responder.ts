/**
 * What the side that was asked for a session says and understands once both have introduced
 * themselves: it walks down the tree, lists the buckets that differ, sends what the other wants,
 * and judges what the other offers. Buckets that are empty on the other side it sends without
 * being asked. It also answers who only wants to look: for keys (FETCH), digests (ASK_ALL) and
 * descriptions (ASK).
 *
 * An entry the initiator sends may be one whose key it also wants, being unable to tell. Which of
 * the two is newer is seen here, and only what the initiator does not have goes back.
 */
import { FANOUT } from "./digest-tree.ts";
import { compareBytes, compareVersions, Entry, KIND_COUNTER, type VersionWords } from "./entry.ts";
import { baseVersionOf } from "./merge.ts";
import type { Store } from "./store.ts";
import { DigestSet, digestOfId, readDigest, writeDigest } from "./sync-buckets.ts";
import type { Speech, SyncParts } from "./sync-initiator.ts";
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
  readHead,
  TURN_BEHIND,
  WANT,
  writeAbout,
} from "./sync-items.ts";
import {
  LISTED_BYTES_A_TURN,
  MAX_FETCHED_KEYS,
  MAX_OFFERS_A_TURN,
  WANTED_BESIDES,
} from "./sync-limits.ts";
import type { SyncMode } from "./sync-options.ts";
import { LevelWalk } from "./sync-walk.ts";

/** The responder's half of a session. */
export class Responder {
  private readonly walk: LevelWalk;
  private isWalking = false;
  /** What is done with the buckets that `walk` arrived at. */
  private task: "compare" | "describe" = "compare";
  /** The next of them: 16 for each of the walk's nodes. */
  private nextBucket = 0;

  private readonly digests = new DigestSet();
  private listedBytes = 0;
  private listedKeys = 0;
  /** Where in the queue begins what was wanted of the bucket under work. */
  private wantedFrom = 0;

  private readonly fetched = new Set<number>();
  private needs = new Uint8Array(0);
  private offers = 0;

  private readonly entry = new Entry();
  private readonly base: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };

  constructor(
    private readonly parts: SyncParts,
    private readonly store: Store,
    private readonly mode: SyncMode,
  ) {
    this.walk = new LevelWalk(parts.tree.levels);
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

  /** Takes an item of the peer's turn behind its tag. False when it is out of place. */
  take(tag: number): boolean {
    const { reader } = this.parts;
    const isInspected = this.mode === "inspect";
    switch (tag) {
      case DIGESTS:
        return this.isWalking && this.walk.hear(reader);
      case WANT:
        return !isInspected && this.takeWant();
      case OFFER:
        return !isInspected && this.takeOffer();
      case FETCH:
        return this.mode === "fetch" && this.takeFetch();
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

  /** An entry of the peer was merged: what is here now need not go back if it is the same. */
  settle(arrived: Entry): void {
    const { queue } = this.parts.flow;
    if (this.wantedFrom === queue.position) return;
    const id = this.store.locate(arrived.key, arrived.keyOffset, arrived.keyLength);
    const at = this.wantedAt(id);
    if (at < 0) return;
    this.store.read(id, this.entry);
    if (isSame(this.entry, arrived)) queue.strike(at);
  }

  /** The peer's turn is over. False when it ended too soon. */
  endHearing(flags: number): boolean {
    // While it still works on what was listed, that is what it may want, and no more is listed.
    if ((flags & TURN_BEHIND) === 0) this.listedBytes = this.listedKeys = 0;
    return !this.isWalking || this.walk.endHearing();
  }

  /** Says the next piece. */
  speak(): Speech {
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
    if (this.nextBucket >= this.walk.count * FANOUT) return "done";
    if (this.listedBytes > LISTED_BYTES_A_TURN) return "turn";
    this.openBucket(this.nextBucket++);
    return "more";
  }

  private openBucket(index: number): void {
    const { walk } = this;
    const node = Math.floor(index / FANOUT);
    const bit = 1 << (index % FANOUT);
    if ((walk.differing[node] & bit) === 0) return;
    const bucket = walk.nodes[node] * FANOUT + (index % FANOUT);
    if (this.task === "compare" && (walk.present[node] & bit) !== 0) this.list(bucket);
    else this.parts.tally.keysCompared += this.enqueueAll(bucket);
    // Done with: a later question is not to be answered with this one's answers.
    if (this.task === "describe") walk.differing[node] &= ~bit;
  }

  private list(bucket: number): void {
    const { tree, writer, tally } = this.parts;
    const { digests } = this;
    const { buckets } = tree;
    digests.count = 0;
    for (let id = buckets.first(bucket); id >= 0; id = buckets.next(id)) {
      digests.add(digestOfId(buckets, id));
    }
    writer.reserve(digestListBytes(digests.count));
    writer.u8(LIST);
    writer.u16(bucket);
    writer.varint(digests.count);
    for (let i = 0; i < digests.count; i++) writeDigest(writer, digests.digests[i]);
    this.listedBytes += digestListBytes(digests.count);
    this.listedKeys += digests.count;
    tally.keysCompared += digests.count;
  }

  private enqueueAll(bucket: number): number {
    const { flow, tree } = this.parts;
    const before = flow.queue.length;
    for (let id = tree.buckets.first(bucket); id >= 0; id = tree.buckets.next(id)) {
      flow.queue.push(id);
    }
    return flow.queue.length - before;
  }

  private takeFetch(): boolean {
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

  private takeWant(): boolean {
    const { flow, reader, tree } = this.parts;
    const bucket = reader.u16();
    const count = reader.varint();
    this.wantedFrom = flow.queue.position;
    if (count === 0) this.enqueueAll(bucket);
    else {
      const { digests } = this;
      digests.count = 0;
      for (let i = 0; i < count && !reader.overrun; i++) digests.add(readDigest(reader));
      digests.sort();
      const { buckets } = tree;
      for (let id = buckets.first(bucket); id >= 0; id = buckets.next(id)) {
        if (digests.indexOf(digestOfId(buckets, id)) >= 0) flow.queue.push(id);
      }
    }
    // What is wanted has been listed, or was added since.
    return !reader.overrun && flow.queue.length <= 2 * this.listedKeys + WANTED_BESIDES;
  }

  private takeOffer(): boolean {
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
    if (this.isWorthHaving(offer)) this.needs[at >>> 3] |= 1 << (at & 7);
    return true;
  }

  /** Whether an offered entry may change what is here; if it replaces that, that need not be sent. */
  private isWorthHaving(offer: Entry): boolean {
    const id = this.store.locate(offer.key, offer.keyOffset, offer.keyLength);
    if (id < 0 || offer.kind === KIND_COUNTER) return true;
    this.store.read(id, this.entry);
    baseVersionOf(this.entry, this.base);
    const order = compareVersions(offer, this.base);
    if (order > 0) {
      const at = this.wantedAt(id);
      if (at >= 0) this.parts.flow.queue.strike(at);
    }
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
    const { flow, tree, writer } = this.parts;
    const id = flow.queue.shift();
    // Its id may name another entry by now, which the tree need not have.
    if (!this.store.isUsed(id) || !tree.buckets.has(id)) return;
    this.store.read(id, this.entry);
    writer.reserve(entryItemBytes(this.entry.keyLength, ABOUT_VALUE_BYTES));
    writer.u8(ABOUT);
    writeDigest(writer, digestOfId(tree.buckets, id));
    writeAbout(writer, this.entry);
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

/** Whether two entries with one key are the same; an expired one and its tombstone are not. */
function isSame(a: Entry, b: Entry): boolean {
  if (a.kind !== b.kind || a.expiresAtMs !== b.expiresAtMs) return false;
  if (compareVersions(a, b) !== 0 || a.valueLength !== b.valueLength) return false;
  if (a.kind !== KIND_COUNTER) return true;
  return (
    compareBytes(a.value, a.valueOffset, a.valueLength, b.value, b.valueOffset, b.valueLength) === 0
  );
}
