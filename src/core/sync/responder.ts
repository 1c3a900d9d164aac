/**
 * The half of a session that is particular to the side that was asked for it, once both have
 * introduced themselves. The responder makes a sketch, or walks down the tree. Of the buckets that
 * differ it compares those whose cells it was told, lists the others, sends what the initiator
 * wants, and decides about what the initiator offers. Buckets that are empty on the other side it
 * sends without being asked. It also answers initiators that only want to look: for keys (FETCH),
 * digests (ASK_ALL) and descriptions (ASK).
 *
 * The initiator cannot tell which of the entries that only it has and those that only the responder
 * has are under the same key. So it may send an entry and want one of the same key. The responder
 * can see which of the two is newer, and sends only what the initiator lacks.
 */
import { type Part, partOf, PartQueue, wholeBucket } from "../tree/bucket-part.ts";
import { readPart, writePart } from "./part-frames.ts";
import { DIGEST_WORDS } from "../tree/digest-list.ts";
import { FANOUT } from "../tree/digest-tree.ts";
import { Entry } from "../data/entry.ts";
import { hasValue } from "../data/merge.ts";
import type { Store } from "../store/store.ts";
import { CellComparison } from "./cells.ts";
import { DigestSet, digestOfId, readDigest, writeDigest } from "./digest-set.ts";
import type { SpokenPart, SharedBySides } from "./shared.ts";
import {
  ABOUT,
  ABOUT_VALUE_BYTES,
  ASK,
  ASK_ALL,
  CELLS,
  DIGESTS,
  digestListBytes,
  entryItemBytes,
  ESTIMATE,
  FETCH,
  LIST,
  MORE,
  OFFER,
  EXPAND,
  PARTS,
  TURN_BEHIND,
  WANT,
  writeAbout,
} from "./items.ts";
import {
  LISTED_BYTES_A_TURN,
  MAX_FETCHED_KEYS,
  MAX_LISTED_ENTRIES,
  EXTRA_WANTED_ENTRIES,
  MIN_OFFERED_BYTES,
} from "./limits.ts";
import { costOf } from "./lists.ts";
import { type NamedBucket, NamedBuckets } from "./named-buckets.ts";
import { Offers } from "./offers.ts";
import type { SyncMode } from "./options.ts";
import { SketchTeller } from "./sketch.ts";
import { LevelWalk, writeDigests } from "./walk.ts";
import { Wanted } from "./wanted.ts";

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
  /** The sketch, until the initiator knows which buckets differ, or walks. */
  private sketch: SketchTeller | null = null;
  /** Those buckets. */
  private readonly named = new NamedBuckets();
  private hasNamed = false;
  private readonly comparison: CellComparison;

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
  private readonly wanted: Wanted;

  private readonly fetched = new Set<number>();
  private readonly offers: Offers;

  private readonly entry = new Entry();

  constructor(
    private readonly parts: SharedBySides,
    private readonly store: Store,
    private readonly mode: SyncMode,
  ) {
    this.comparison = new CellComparison(parts.tree.buckets, parts.shortener);
    // Who looks into this node asks for everything, whether it differs or not.
    const onDiffering = mode === "inspect" ? () => {} : parts.onDiffering;
    this.walk = new LevelWalk(parts.tree.levels, parts.shortener, onDiffering);
    this.wanted = new Wanted(parts.flow, store);
    this.offers = new Offers(parts, store, this.wanted);
  }

  /** The roots differ: begins with a sketch if `mayBeFew` buckets differ, else with the walk. */
  begin(mayBeFew: boolean): void {
    this.sketch = mayBeFew ? SketchTeller.begin(this.parts) : null;
    if (this.sketch !== null) return;
    this.isWalking = true;
    this.walk.lead();
  }

  /** Gives back what it holds. */
  release(): void {
    this.sketch?.release();
    this.sketch = null;
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
      case ESTIMATE:
        return this.sketch !== null && this.sketch.handleEstimate(reader);
      case MORE:
        return this.sketch !== null && this.sketch.handleMore(reader);
      case CELLS:
        return this.handleCells();
      case DIGESTS:
        return this.handleDigests();
      case WANT:
        return !isInspected && this.handleWant();
      case EXPAND:
        return !isInspected && this.handleExpand();
      case OFFER:
        return !isInspected && this.offers.handle();
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

  /** An entry of the peer was merged. */
  noteMerged(arrived: Entry): void {
    this.wanted.noteMerged(arrived);
  }

  private handleCells(): boolean {
    if (this.sketch !== null) {
      this.release();
      this.hasNamed = true;
    }
    return this.hasNamed && this.named.add(this.parts.reader);
  }

  private handleDigests(): boolean {
    if (this.sketch !== null) {
      this.release();
      // The peer goes on with a walk in place of the sketch.
      this.isWalking = true;
      this.walk.skipTo(1, false);
    }
    return this.isWalking && this.walk.hear(this.parts.reader);
  }

  /** The peer's turn is over. False when it ended too soon. */
  endHearing(flags: number): boolean {
    // While the peer still works on what was listed, nothing more is listed, and the bounds of what
    // it may want stay as they are.
    if ((flags & TURN_BEHIND) === 0) {
      if (this.told.length > 0) return false;
      this.listedBytes = this.listedKeys = this.wantedKeys = 0;
    }
    this.named.beginTurn();
    if (this.sketch !== null && !this.sketch.isAsked) return false;
    if (this.sketch !== null && this.sketch.hasTooMany) {
      this.release();
      this.isWalking = true;
      this.walk.skipTo(2, true);
      return true;
    }
    return !this.isWalking || this.walk.endHearing();
  }

  /** Says the next piece. */
  speak(): SpokenPart {
    const { flow, writer } = this.parts;
    this.offers.answer();
    if (flow.queue.length > 0) {
      if (this.task === "describe") this.describeNext();
      else flow.sendNext();
      return "more";
    }
    this.wanted.reset();
    if (this.sketch !== null) return this.sketch.speak(writer) ? "more" : "turn";
    if (this.isWalking && !this.walk.isDown) {
      if (this.walk.say(writer)) return "more";
      this.isWalking = !this.walk.isDown;
      return "turn";
    }
    this.isWalking = false;
    const isThrough = this.nextBucket >= this.walk.count * FANOUT && this.named.length === 0;
    if (isThrough && this.pending.length === 0) return this.told.length > 0 ? "turn" : "done";
    if (this.listedBytes > LISTED_BYTES_A_TURN) return "turn";
    if (this.pending.length > 0) this.expand(this.pending.shift()!);
    else if (this.named.length > 0) this.answer(this.named.shift(this.parts.tree.buckets)!);
    else this.expandBucket(this.nextBucket++);
    return "more";
  }

  /** Says what differs in a bucket that was named, or lists or sends it. */
  private answer({ bucket, action, cell }: NamedBucket): void {
    const { comparison, parts } = this;
    parts.onDiffering(Math.floor(bucket / FANOUT));
    const part = wholeBucket(bucket);
    const isSmall = cell !== null && !parts.tree.buckets.isLarge(part);
    if (!isSmall || !comparison.compare(bucket, cell)) {
      return this.expand({ ...part, isAbsent: action === "send" });
    }
    const { ownId, theirDigest } = comparison;
    // They may be two versions of one key, of which only the newer one should travel.
    if (ownId >= 0 && theirDigest !== 0 && this.isWorthAnOffer(ownId)) return this.list(part);
    parts.counts.keysCompared += parts.tree.buckets.count(part);
    if (theirDigest !== 0) this.want(part, theirDigest);
    if (ownId >= 0) parts.flow.queue.push(ownId);
  }

  /**
   * Whether the initiator should be asked before an entry is sent that it may have a newer one of.
   */
  private isWorthAnOffer(id: number): boolean {
    this.store.read(id, this.entry);
    if (this.parts.flow.peer.isFull) return hasValue(this.entry.kind);
    return this.entry.valueLength >= MIN_OFFERED_BYTES;
  }

  /** Asks for the one entry of a bucket that was found to be missing. */
  private want(part: Part, digest: number): void {
    const { writer } = this.parts;
    writer.reserve(digestListBytes(1));
    writer.u8(WANT);
    writePart(writer, part);
    writer.varint(1);
    writeDigest(writer, digest);
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
    this.wanted.begin();
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
}
