/**
 * What the side that asked for a session says and understands once both have introduced
 * themselves: it walks down the tree, and answers the lists of the buckets that differ with what
 * it wants (WANT), what it has that the peer has not (ENTRY), and, when the value is large and the
 * peer may have a newer one under the same key, what it could send (OFFER).
 *
 * Lists are kept as they come and worked on in this side's turn, for an answer can be longer
 * than there is room to send. The responder lists so much a turn that this stays bounded.
 */
import { Entry } from "./entry.ts";
import { IdQueue } from "./id-queue.ts";
import type { MerkleTree } from "./merkle.ts";
import { DigestSet, digestOfId, writeDigest } from "./sync-buckets.ts";
import type { EntryFlow } from "./sync-entries.ts";
import type { FrameReader, FrameWriter } from "./sync-frames.ts";
import {
  DIGEST_PREFIX_BYTES,
  DIGESTS,
  digestListBytes,
  entryItemBytes,
  LIST,
  NEED,
  OFFER,
  TURN_DONE,
  WANT,
  writeHead,
} from "./sync-items.ts";
import { LISTED_BYTES_A_TURN, MAX_OFFERS_A_TURN, OFFERED_FROM_BYTES } from "./sync-limits.ts";
import type { SyncTally } from "./sync-tally.ts";
import { LevelWalk } from "./sync-walk.ts";

/** What one piece of a side's turn came to. */
export type Speech = "more" | "turn" | "done" | "end";

/** The parts of a session that both sides use. */
export interface SyncParts {
  readonly tree: MerkleTree;
  readonly reader: FrameReader;
  readonly writer: FrameWriter;
  readonly flow: EntryFlow;
  readonly tally: SyncTally;
}

/** The initiator's half of a session. */
export class Initiator {
  private readonly walk: LevelWalk;
  private readonly theirs = new DigestSet();
  private isMatched = new Uint8Array(64);
  /** Entries that only this side has, of the bucket under work. */
  private readonly alone = new IdQueue();
  /** The peer has something of that bucket which this side has not: perhaps under the same keys. */
  private mayClash = false;
  /** What was offered in this turn, in order. */
  private readonly offered = new IdQueue();
  private readonly entry = new Entry();
  /** LIST items of the peer's last turn, without tags. */
  private readonly lists = new ListBuffer();
  private expectsAnswer = false;
  private isPeerDone = false;

  constructor(
    private readonly parts: SyncParts,
    private isWalking: boolean,
  ) {
    this.walk = new LevelWalk(parts.tree.levels);
  }

  /** Takes an item of the peer's turn behind its tag. False when it is out of place. */
  take(tag: number): boolean {
    const { reader } = this.parts;
    if (tag === DIGESTS) return this.isWalking && this.walk.hear(reader);
    if (tag === LIST) return !this.isWalking && this.lists.add(reader);
    if (tag === NEED) return this.takeNeed(reader);
    return false;
  }

  /** The peer's turn is over. False when it ended too soon. */
  endHearing(flags: number): boolean {
    this.isPeerDone = (flags & TURN_DONE) !== 0;
    this.offered.clear();
    return !this.isWalking || this.walk.endHearing();
  }

  /** It has not worked on all that was listed. */
  get isBehind(): boolean {
    return this.lists.isWaiting;
  }

  /** Says the next piece. */
  speak(): Speech {
    const { flow, writer } = this.parts;
    if (this.isWalking) {
      if (this.walk.say(writer)) return "more";
      this.isWalking = !this.walk.isDown;
      return "turn";
    }
    if (flow.queue.length > 0) {
      flow.sendNext();
      return "more";
    }
    if (this.alone.length > 0) {
      this.sayNextAlone();
      return "more";
    }
    if (this.lists.isWaiting && this.offered.length < MAX_OFFERS_A_TURN) {
      this.answerList();
      return "more";
    }
    if (!this.expectsAnswer && !this.lists.isWaiting && this.isPeerDone) return "end";
    this.expectsAnswer = false;
    return "turn";
  }

  private takeNeed(reader: FrameReader): boolean {
    const count = reader.varint();
    const bits = reader.skip((count + 7) >>> 3);
    if (reader.overrun || count !== this.offered.length) return false;
    for (let i = 0; i < count; i++) {
      const id = this.offered.shift();
      if ((reader.bytes[bits + (i >>> 3)] & (1 << (i & 7))) !== 0) this.parts.flow.queue.push(id);
    }
    return true;
  }

  /** Compares a bucket with the peer's list of it. */
  private answerList(): void {
    const { buckets } = this.parts.tree;
    const { theirs, alone } = this;
    const bucket = this.lists.read(theirs);
    theirs.sort();
    if (this.isMatched.length < theirs.count) this.isMatched = new Uint8Array(theirs.count * 2);
    this.isMatched.fill(0, 0, theirs.count);
    let matched = 0;
    for (let id = buckets.first(bucket); id >= 0; id = buckets.next(id)) {
      const at = theirs.indexOf(digestOfId(buckets, id));
      if (at < 0) alone.push(id);
      else if (this.isMatched[at] === 0) {
        this.isMatched[at] = 1;
        matched++;
      }
    }
    this.parts.tally.keysCompared += theirs.count;
    const missing = theirs.count - matched;
    this.mayClash = missing > 0;
    if (missing === 0) return;
    this.expectsAnswer = true;
    this.want(bucket, matched === 0 ? 0 : missing);
  }

  /** Asks for what was not matched; for all of the bucket when `count` is 0. */
  private want(bucket: number, count: number): void {
    const { writer } = this.parts;
    writer.reserve(digestListBytes(count));
    writer.u8(WANT);
    writer.u16(bucket);
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
    if (!this.mayClash || valueLength < OFFERED_FROM_BYTES) {
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

/** LIST items, kept until there is room to answer them. */
class ListBuffer {
  private bytes = new Uint8Array(1024);
  private view = new DataView(this.bytes.buffer);
  private at = 0;
  private end = 0;
  /** The bucket that was listed last: each is once, and they come in order. */
  private lastBucket = -1;

  get isWaiting(): boolean {
    return this.at < this.end;
  }

  /** Copies an item from behind its tag. False when it is malformed or too much. */
  add(reader: FrameReader): boolean {
    const bucket = reader.u16();
    const count = reader.varint();
    const length = count * DIGEST_PREFIX_BYTES;
    // A last list may go over; the reader bounds its length.
    if (bucket <= this.lastBucket || this.end - this.at > LISTED_BYTES_A_TURN) return false;
    this.lastBucket = bucket;
    const start = reader.skip(length);
    if (reader.overrun) return false;
    this.makeRoom(6 + length);
    this.view.setUint16(this.end, bucket);
    this.view.setUint32(this.end + 2, count);
    this.bytes.set(reader.bytes.subarray(start, start + length), this.end + 6);
    this.end += 6 + length;
    return true;
  }

  /** Takes the next list out; returns its bucket. */
  read(into: DigestSet): number {
    const bucket = this.view.getUint16(this.at);
    const count = this.view.getUint32(this.at + 2);
    this.at += 6;
    into.count = 0;
    for (let i = 0; i < count; i++, this.at += DIGEST_PREFIX_BYTES) {
      into.add(this.view.getUint16(this.at) * 0x1_0000_0000 + this.view.getUint32(this.at + 2));
    }
    if (this.at === this.end) this.at = this.end = 0;
    return bucket;
  }

  private makeRoom(length: number): void {
    if (this.end + length <= this.bytes.length) return;
    const waiting = this.bytes.subarray(this.at, this.end);
    if (waiting.length + length > this.bytes.length / 2) {
      this.bytes = new Uint8Array((waiting.length + length) * 2);
      this.view = new DataView(this.bytes.buffer);
      this.bytes.set(waiting);
    } else this.bytes.copyWithin(0, this.at, this.end);
    this.end = waiting.length;
    this.at = 0;
  }
}
