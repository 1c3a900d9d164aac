/**
 * The walk down the tree, to the buckets in which two nodes differ. The sides take turns. Each
 * message goes one level deeper, and says nothing of nodes that are equal:
 *
 *   DIGESTS   mask u16 · for each bit set, the lowest first:
 *             presence u16 · for each bit set: a child's digest, cut short
 *
 * A message has one such item for each node whose children's digests the other side sent last, in
 * that order. The mask says which of those children differ. For each child that does, the digests
 * of its own children follow, without those that are empty. The first message answers no other: it
 * is one item with the root's children. After a sketch that did not help (`sketch.ts`) the walk
 * begins further down, as if all above differed: so that it takes no more messages for that.
 *
 * The tree may change between two messages, by writes or by other sessions. Then the walk may look
 * into a node where nothing differs any more; but it never wrongly passes over one, because equal
 * digests mean equal entries at some moment of the session.
 */
import { BUCKET_LEVEL, BUCKETS, FANOUT, type DigestTree } from "../tree/digest-tree.ts";
import { DIGEST_WORDS } from "../tree/digest-list.ts";
import type { DigestShortener } from "./short-digest.ts";
import { readDigest, writeDigest } from "./digest-set.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import { SHORT_DIGEST_BYTES, DIGESTS } from "./items.ts";

const MAX_ITEM_BYTES = 3 + FANOUT * (2 + FANOUT * SHORT_DIGEST_BYTES);
const MAX_NODES = BUCKETS / FANOUT;
/** The level of the buckets' parents. */
const LOWEST = BUCKET_LEVEL - 1;

/** One side of the walk. It begins as the side that receives the first message. */
export class LevelWalk {
  /** Level of the nodes whose children the next message tells of. */
  level = 0;
  /**
   * Nodes whose children the peer told of, and which of those children differ. The lists begin with
   * room for one level of the tree and grow level by level, because most sessions need only one.
   */
  nodes = new Uint16Array(FANOUT);
  differing = new Uint16Array(FANOUT);
  /** Which of their children are not empty at the peer. */
  present = new Uint16Array(FANOUT);
  count = 0;
  private said = 0;

  /** Nodes of which this side told the children last, in the order of the peer's items. */
  private told = new Uint16Array(FANOUT);
  private toldCount = 1;
  private heard = 0;
  private telling = new Uint16Array(FANOUT);
  private tellingCount = 0;

  constructor(
    private readonly tree: DigestTree,
    private readonly shortener: DigestShortener,
    private readonly onDiffering: (node: number) => void,
  ) {}

  /** Makes this the side that sends the first message. */
  lead(): void {
    this.toldCount = 0;
    this.differing[0] = 1;
    this.count = 1;
  }

  /**
   * Begins with the message that tells the digests of the level below `level`, as if those above
   * had been told and all differed. Then this side's is next (`isSpeaker`), or the peer's.
   */
  skipTo(level: number, isSpeaker: boolean): void {
    const parents = FANOUT ** (level - 1);
    this.makeRoom(parents);
    this.told = new Uint16Array(Math.max(parents, FANOUT));
    for (let node = 0; node < parents; node++) this.nodes[node] = this.told[node] = node;
    this.differing.fill(0xffff);
    this.level = level;
    this.count = isSpeaker ? parents : 0;
    this.toldCount = parents;
    this.heard = this.said = this.tellingCount = 0;
  }

  /** Replaces the walk: arrives at all buckets at once, or with a mask of 0 at none for now. */
  select(mask: number): void {
    this.makeRoom(MAX_NODES);
    for (let node = 0; node < MAX_NODES; node++) this.nodes[node] = node;
    this.differing.fill(mask);
    this.present.fill(0xffff);
    this.count = MAX_NODES;
    this.level = BUCKET_LEVEL;
  }

  /** Makes the next message one that tells the digests of all buckets, whatever the peer has. */
  tellAll(): void {
    this.makeRoom(MAX_NODES / FANOUT);
    this.count = MAX_NODES / FANOUT;
    for (let node = 0; node < this.count; node++) this.nodes[node] = node;
    this.differing.fill(0xffff);
    this.heard = this.toldCount = 0;
    this.level = BUCKET_LEVEL - 2;
  }

  /** Whether nothing was said or heard yet. */
  get isAtStart(): boolean {
    return this.level === 0 && this.heard === 0;
  }

  /** Whether the buckets have been compared: `nodes` are their parents then. */
  get isDown(): boolean {
    return this.level === BUCKET_LEVEL;
  }

  /** Ends the peer's message; this side's is next. False when items are missing. */
  endHearing(): boolean {
    if (this.heard !== this.toldCount) return false;
    this.level++;
    this.said = 0;
    this.tellingCount = 0;
    return true;
  }

  /**
   * Writes the next item of this side's message. False when there are no more; the peer's is next.
   */
  say(writer: FrameWriter): boolean {
    if (this.said === this.count) {
      [this.told, this.telling] = [this.telling, this.told];
      this.toldCount = this.tellingCount;
      this.level++;
      this.count = 0;
      this.heard = 0;
      return false;
    }
    const mask = this.differing[this.said];
    const first = this.nodes[this.said++] * FANOUT;
    writer.reserve(MAX_ITEM_BYTES);
    writer.u8(DIGESTS);
    writer.u16(mask);
    for (let child = 0; child < FANOUT; child++) {
      if ((mask & (1 << child)) === 0) continue;
      if (this.tellingCount === this.telling.length) this.telling = enlarged(this.telling);
      this.telling[this.tellingCount++] = first + child;
      if (this.level === LOWEST) this.onDiffering(first + child);
      const at = this.tree.offsetOf(this.level + 1, (first + child) * FANOUT);
      writeDigests(writer, this.tree.words, at, this.shortener);
    }
    return true;
  }

  /** Reads an item of the peer's message behind its tag. False when it is out of place. */
  hear(reader: FrameReader): boolean {
    if (this.isDown || this.heard >= this.toldCount) return false;
    const first = this.told[this.heard++] * FANOUT;
    const mask = reader.u16();
    for (let child = 0; child < FANOUT; child++) {
      if ((mask & (1 << child)) !== 0) this.hearChildren(reader, first + child);
    }
    return true;
  }

  private hearChildren(reader: FrameReader, node: number): void {
    const { count } = this;
    const { words } = this.tree;
    const at = this.tree.offsetOf(this.level + 1, node * FANOUT);
    const present = reader.u16();
    let differing = 0;
    for (let child = 0; child < FANOUT; child++) {
      const theirs = (present & (1 << child)) === 0 ? 0 : readDigest(reader);
      if (theirs !== this.shortener.of(words, at + child * DIGEST_WORDS)) differing |= 1 << child;
    }
    if (differing !== 0 && this.level === LOWEST) this.onDiffering(node);
    if (count === this.nodes.length) this.makeRoom(count * FANOUT);
    this.nodes[count] = node;
    this.differing[count] = differing;
    this.present[count] = present;
    this.count++;
  }

  private makeRoom(count: number): void {
    while (this.nodes.length < count) {
      this.nodes = enlarged(this.nodes);
      this.differing = enlarged(this.differing);
      this.present = enlarged(this.present);
    }
  }
}

function enlarged(list: Uint16Array): Uint16Array<ArrayBuffer> {
  const larger = new Uint16Array(list.length * FANOUT);
  larger.set(list);
  return larger;
}

/**
 * Writes, for which there is room, presence and digests of 16 siblings, which lie from `at` on in
 * `words`.
 */
export function writeDigests(
  writer: FrameWriter,
  words: Uint32Array,
  at: number,
  shortener: DigestShortener,
): number {
  let present = 0;
  for (let i = 0; i < FANOUT; i++) {
    short[i] = shortener.of(words, at + i * DIGEST_WORDS);
    if (short[i] !== 0) present |= 1 << i;
  }
  writer.u16(present);
  for (let i = 0; i < FANOUT; i++) if (short[i] !== 0) writeDigest(writer, short[i]);
  return present;
}

const short = new Float64Array(FANOUT);
