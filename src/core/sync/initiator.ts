/**
 * The half of a session that is particular to the side that asked for it, once both have introduced
 * themselves. The initiator finds out from a sketch which buckets differ and names them with their
 * cells (CELLS), or walks down the tree. What a cell tells to be missing the peer asks for (WANT).
 * The lists of the other buckets the initiator answers: it asks for what it lacks (WANT), and sends
 * what the peer lacks (ENTRY). If a value is large and the peer may have a newer one under the same
 * key, it only says what it could send (OFFER). Of a large bucket the peer tells the digests of its
 * parts, and the initiator says which of those are to be listed (EXPAND).
 *
 * Lists are kept as they come and worked on in this side's turn, piece by piece, because an answer
 * can be longer than there is room to send. How much waits is bounded by what the responder lists
 * in one turn.
 */
import { FINDS_BY_SKETCH } from "../data/capabilities.ts";
import { isSamePart, type Part, partOf, PartQueue, wholeBucket } from "../tree/bucket-part.ts";
import { readPart, writePart } from "./part-frames.ts";
import { DIGEST_WORDS } from "../tree/digest-list.ts";
import { FANOUT } from "../tree/digest-tree.ts";
import { Entry } from "../data/entry.ts";
import { hasValue } from "../data/merge.ts";
import { IdQueue } from "../store/id-queue.ts";
import type { Store } from "../store/store.ts";
import { DigestSet, digestOfId, readDigest, writeDigest } from "./digest-set.ts";
import type { FrameReader } from "./frames.ts";
import {
  DIGESTS,
  digestListBytes,
  entryItemBytes,
  ESTIMATE,
  LIST,
  NEED,
  OFFER,
  EXPAND,
  PARTS,
  SYMBOLS,
  TURN_DONE,
  WANT,
  writeHead,
} from "./items.ts";
import { MAX_OFFERS_A_TURN, MAX_LISTED_ENTRIES, MIN_OFFERED_BYTES } from "./limits.ts";
import { ListBuffer } from "./lists.ts";
import { BucketNaming } from "./named-buckets.ts";
import type { SharedBySides, SpokenPart } from "./shared.ts";
import { SketchFinder } from "./sketch.ts";
import { LevelWalk } from "./walk.ts";
import { Wanted } from "./wanted.ts";

/** The initiator's half of a session. */
export class Initiator {
  /** The sketch, until it is known which buckets differ. */
  private sketch: SketchFinder | null = null;
  /** Those that are being named, or were last. */
  private naming: BucketNaming | null = null;
  /** Buckets of which the peer wanted what is not here; they are named again, to be listed. */
  private again: number[] = [];
  private readonly wanted: Wanted;

  private readonly walk: LevelWalk;
  private readonly theirs = new DigestSet();
  private isMatched = new Uint8Array(64);
  private matched = 0;
  /** The part whose list is being worked on, and those parts of it that are not matched yet. */
  private listed: Part | null = null;
  private readonly unmatched = new PartQueue();
  /** Parts of which the peer has nothing. */
  private readonly aloneParts = new PartQueue();
  /** Parts that the peer was asked to list, in the order in which it will. */
  private readonly expanded = new PartQueue();
  private readonly ownParts = new Uint32Array(FANOUT * DIGEST_WORDS);
  /** Entries that only this side has, of the part under work. */
  private readonly alone = new IdQueue();
  /** The peer has entries in that part which this side lacks, perhaps under the same keys. */
  private mayClash = false;
  /** What was offered in this turn, in order. */
  private readonly offered = new IdQueue();
  private readonly entry = new Entry();
  /** LIST and PARTS items of the peer's last turn. */
  private readonly lists = new ListBuffer();
  private expectsAnswer = false;
  private isPeerDone = false;

  constructor(
    private readonly parts: SharedBySides,
    store: Store,
    private isWalking: boolean,
  ) {
    this.walk = new LevelWalk(parts.tree.levels, parts.shortener, parts.onDiffering);
    this.wanted = new Wanted(parts.flow, store);
  }

  /** Handles an item of the peer's turn, whose tag has been read. False when it is out of place. */
  handle(tag: number): boolean {
    const { reader } = this.parts;
    if (tag === SYMBOLS || tag === ESTIMATE) return this.handleSketch(tag);
    if (tag === DIGESTS) return this.isWalking && this.handleDigests();
    if (tag === LIST || tag === PARTS) return !this.isWalking && this.handleList(tag);
    if (tag === WANT) return this.naming !== null && this.handleWant(this.naming);
    if (tag === NEED) return this.handleNeed(reader);
    return false;
  }

  /** An entry of the peer was merged. */
  noteMerged(arrived: Entry): void {
    this.wanted.noteMerged(arrived);
  }

  /** Gives back what it holds. */
  release(): void {
    this.sketch?.release();
    this.sketch = null;
  }

  /** Handles SYMBOLS or an ESTIMATE behind its tag. False when it is malformed or out of place. */
  private handleSketch(tag: number): boolean {
    const { parts } = this;
    if (!this.isWalking || (parts.features & FINDS_BY_SKETCH) === 0) return false;
    if (this.sketch === null && !this.walk.isAtStart) return false;
    const sketch = (this.sketch ??= new SketchFinder(parts));
    return tag === SYMBOLS
      ? sketch.handleSymbols(parts.reader)
      : sketch.handleEstimate(parts.reader);
  }

  private handleDigests(): boolean {
    if (this.sketch !== null) {
      this.release();
      // The peer has found out that there is too much for a sketch.
      this.walk.skipTo(2, false);
    }
    return this.walk.hear(this.parts.reader);
  }

  /** Handles a WANT behind its tag. False when it is malformed or out of place. */
  private handleWant(naming: BucketNaming): boolean {
    const { flow, reader, tree, shortener } = this.parts;
    const part = readPart(reader);
    const count = reader.varint();
    const digest = readDigest(reader);
    if (reader.overrun || part.depth > 0 || count !== 1) return false;
    if (!naming.mayBeAsked(part.bucket, this.parts)) return false;
    this.wanted.begin();
    let isHere = false;
    if (!tree.buckets.isLarge(part)) {
      tree.buckets.visit(part, (id) => {
        if (digestOfId(tree.buckets, id, shortener) !== digest) return;
        isHere = true;
        flow.queue.push(id);
      });
    }
    if (!isHere) this.again.push(part.bucket);
    return true;
  }

  /** The peer's turn is over. False when it ended too soon. */
  endHearing(flags: number): boolean {
    this.isPeerDone = (flags & TURN_DONE) !== 0;
    this.offered.clear();
    if (this.sketch !== null) return this.sketch.mayEndHearing;
    return !this.isWalking || this.walk.endHearing();
  }

  /** It has not worked on all that was listed. */
  get isBehind(): boolean {
    const isAlone = this.alone.length > 0 || this.aloneParts.length > 0;
    return this.lists.isWaiting || this.listed !== null || isAlone;
  }

  /** Says the next piece. */
  speak(): SpokenPart {
    const { flow, writer } = this.parts;
    if (this.sketch !== null) return this.sayOfSketch(this.sketch);
    if (this.naming !== null && this.naming.say(this.parts)) return "more";
    if (this.isWalking) {
      if (this.walk.say(writer)) return "more";
      this.isWalking = !this.walk.isDown;
      return "turn";
    }
    if (flow.queue.length > 0) {
      flow.sendNext();
      return "more";
    }
    if (this.isBehind && this.mayOffer) {
      this.workOnLists();
      return "more";
    }
    this.wanted.reset();
    if (this.again.length > 0 && this.isPeerDone) {
      this.name(this.again, false);
      this.again = [];
      return "more";
    }
    const isExpecting = this.expectsAnswer || this.isBehind || this.expanded.length > 0;
    if (!isExpecting && this.isPeerDone) return "end";
    this.expectsAnswer = false;
    return "turn";
  }

  /** Says the next piece while it is not known which buckets differ. */
  private sayOfSketch(sketch: SketchFinder): SpokenPart {
    const step = sketch.speak(this.parts.writer);
    if (step === "more" || step === "turn") return step;
    if (step === "walk") this.walk.skipTo(1, true);
    else {
      this.isWalking = false;
      const differing = sketch.differing();
      for (const bucket of differing) {
        this.parts.onDiffering(Math.floor(bucket / FANOUT));
        if (sketch.isAbsent(bucket)) this.aloneParts.push(wholeBucket(bucket));
      }
      this.name(
        differing.filter((bucket) => !sketch.isAbsent(bucket)),
        true,
      );
    }
    this.release();
    return "more";
  }

  /** Begins to name buckets that differ, which the peer answers in its turn. */
  private name(buckets: readonly number[], byCells: boolean): void {
    this.naming = new BucketNaming(buckets, byCells);
    this.lists.beginAgain();
    this.expectsAnswer = true;
  }

  /** Whether more may be offered in this turn. A part that is nearly done is not broken off. */
  private get mayOffer(): boolean {
    const { length } = this.alone;
    return this.offered.length < MAX_OFFERS_A_TURN || (length > 0 && length <= MAX_LISTED_ENTRIES);
  }

  /** Does a small piece of what the lists call for. */
  private workOnLists(): void {
    if (this.listed !== null) this.matchNext(this.listed);
    else if (this.alone.length > 0) this.sayNextAlone();
    else if (this.aloneParts.length > 0) this.sendPart(this.aloneParts.shift()!);
    else this.answerNext();
  }

  /** Handles a LIST or PARTS behind its tag. False when it is malformed or out of place. */
  private handleList(tag: number): boolean {
    const { reader } = this.parts;
    const part = readPart(reader);
    // Parts of buckets come when they were asked for, and in that order.
    if (part.depth > 0) {
      const expanded = this.expanded.shift();
      if (expanded === undefined || !isSamePart(expanded, part)) return false;
    }
    return this.lists.add(reader, tag, part);
  }

  private handleNeed(reader: FrameReader): boolean {
    const count = reader.varint();
    const bits = reader.skip((count + 7) >>> 3);
    if (reader.overrun || count !== this.offered.length) return false;
    for (let i = 0; i < count; i++) {
      const id = this.offered.shift();
      if ((reader.bytes[bits + (i >>> 3)] & (1 << (i & 7))) === 0) continue;
      this.parts.flow.queue.push(id);
      this.parts.flow.allow(id);
    }
    return true;
  }

  /** Begins with what was listed next. */
  private answerNext(): void {
    const { lists, theirs } = this;
    const part = lists.begin();
    lists.readDigests(theirs);
    if (lists.tag === PARTS) {
      this.answerParts(part);
      return;
    }
    theirs.sort();
    if (this.isMatched.length < theirs.count) this.isMatched = new Uint8Array(theirs.count * 2);
    this.isMatched.fill(0, 0, theirs.count);
    this.matched = 0;
    this.listed = part;
    this.unmatched.push(part);
  }

  /**
   * Says which parts of a large bucket are to be listed, and wants those of which nothing is here.
   */
  private answerParts(part: Part): void {
    const { tree, writer, shortener } = this.parts;
    const { ownParts } = this;
    tree.buckets.digestParts(part, ownParts);
    let toExpand = 0;
    let heard = 0;
    for (let digit = 0; digit < FANOUT; digit++) {
      const isThere = (this.lists.present & (1 << digit)) !== 0;
      const theirs = isThere ? this.theirs.digests[heard++] : 0;
      const own = shortener.of(ownParts, digit * DIGEST_WORDS);
      if (theirs === own) continue;
      const one = partOf(part, digit);
      if (theirs === 0) this.aloneParts.push(one);
      else if (own === 0) this.want(one, 0);
      else {
        toExpand |= 1 << digit;
        this.expanded.push(one);
      }
    }
    writer.reserve(3);
    writer.u8(EXPAND);
    writer.u16(toExpand);
    if (toExpand !== 0) this.expectsAnswer = true;
  }

  /**
   * Matches the list with the entries of one of its parts, or divides that part if it is large.
   * After the last one asks for what was not matched.
   */
  private matchNext(listed: Part): void {
    const { tree, counts, shortener } = this.parts;
    const { theirs, alone } = this;
    const part = this.unmatched.shift()!;
    if (tree.buckets.isLarge(part)) {
      for (let digit = 0; digit < FANOUT; digit++) this.unmatched.push(partOf(part, digit));
    } else {
      tree.buckets.visit(part, (id) => {
        const at = theirs.indexOf(digestOfId(tree.buckets, id, shortener));
        if (at < 0) alone.push(id);
        else if (this.isMatched[at] === 0) {
          this.isMatched[at] = 1;
          this.matched++;
        }
      });
    }
    if (this.unmatched.length > 0) return;
    this.listed = null;
    counts.keysCompared += theirs.count;
    const missing = theirs.count - this.matched;
    this.mayClash = missing > 0;
    if (missing > 0) this.want(listed, this.matched === 0 ? 0 : missing);
  }

  /** Queues a part of which the peer has nothing for sending, or divides it if it is large. */
  private sendPart(part: Part): void {
    const { buckets } = this.parts.tree;
    this.mayClash = false;
    if (!buckets.isLarge(part)) buckets.visit(part, (id) => this.alone.push(id));
    else for (let digit = 0; digit < FANOUT; digit++) this.aloneParts.push(partOf(part, digit));
  }

  /** Asks for the `count` entries of a part that were not matched; for all of it when that is 0. */
  private want(part: Part, count: number): void {
    const { writer } = this.parts;
    this.expectsAnswer = true;
    writer.reserve(digestListBytes(count));
    writer.u8(WANT);
    writePart(writer, part);
    writer.varint(count);
    for (let i = 0; count > 0 && i < this.theirs.count; i++) {
      if (this.isMatched[i] === 0) writeDigest(writer, this.theirs.digests[i]);
    }
  }

  private sayNextAlone(): void {
    const { flow, writer } = this.parts;
    const id = this.alone.shift();
    if (!flow.read(id, this.entry)) return;
    const { keyLength, valueLength } = this.entry;
    // A full peer still accepts what is no larger than its own entry, so even small values are
    // worth an offer.
    const isOffered = flow.peer.isFull
      ? hasValue(this.entry.kind)
      : valueLength >= MIN_OFFERED_BYTES;
    if (!this.mayClash || !isOffered) {
      flow.send(this.entry);
      return;
    }
    writer.reserve(entryItemBytes(keyLength, 0));
    writer.u8(OFFER);
    writeHead(writer, this.entry);
    this.offered.push(id);
    this.expectsAnswer = true;
  }
}
