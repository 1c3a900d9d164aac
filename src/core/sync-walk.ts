/**
 * The way down the tree, to the buckets in which two nodes differ. The sides take turns; each
 * message goes one level deeper, and says nothing of nodes that are equal:
 *
 *   DIGESTS   mask u16 · for each bit set, the lowest first:
 *             presence u16 · for each bit set: the first 6 bytes of a child's digest
 *
 * One item for each node whose children's digests the other side sent last, in that order. The
 * mask says which of those children differ; of each that does, the digests of its own
 * children follow, without those that are empty. The first message, which answers no other, is
 * one item with the root's children.
 *
 * The tree may change between two messages, by writes or by other sessions. Then a node
 * may be looked into in vain; it is never passed over wrongly, for equal digests mean equal
 * entries at some moment of the session.
 */
import { BUCKET_LEVEL, BUCKETS, FANOUT, type DigestTree } from "./digest-tree.ts";
import type { FrameReader, FrameWriter } from "./sync-frames.ts";
import { DIGEST_PREFIX_BYTES, DIGESTS } from "./sync-items.ts";

const CHILDREN_BYTES = FANOUT * DIGEST_PREFIX_BYTES;
const MAX_ITEM_BYTES = 3 + FANOUT * (2 + CHILDREN_BYTES);
const MAX_NODES = BUCKETS / FANOUT;

/** One side's way down. It begins as the side that the first message goes to. */
export class LevelWalk {
  /** Level of the nodes that the next message tells the children of. */
  level = 0;
  /** Nodes of which the peer told the children, and which of those differ. */
  readonly nodes = new Uint16Array(MAX_NODES);
  readonly differing = new Uint16Array(MAX_NODES);
  /** Which of their children are not empty at the peer. */
  readonly present = new Uint16Array(MAX_NODES);
  count = 0;
  private said = 0;

  /** Nodes of which this side told the children last, in the order of the peer's items. */
  private told = new Uint16Array(MAX_NODES);
  private toldCount = 1;
  private heard = 0;
  private telling = new Uint16Array(MAX_NODES);
  private tellingCount = 0;

  private readonly own = new Uint8Array(CHILDREN_BYTES);

  constructor(private readonly tree: DigestTree) {}

  /** Makes this the side that sends the first message. */
  lead(): void {
    this.toldCount = 0;
    this.differing[0] = 1;
    this.count = 1;
  }

  /** Does without a walk: arrives at all buckets at once, or with a mask of 0 at none yet. */
  select(mask: number): void {
    for (let node = 0; node < MAX_NODES; node++) this.nodes[node] = node;
    this.differing.fill(mask);
    this.present.fill(0xffff);
    this.count = MAX_NODES;
    this.level = BUCKET_LEVEL;
  }

  /** Makes the next message one that tells the digests of all buckets, whatever the peer has. */
  tellAll(): void {
    this.count = MAX_NODES / FANOUT;
    for (let node = 0; node < this.count; node++) this.nodes[node] = node;
    this.differing.fill(0xffff);
    this.heard = this.toldCount = 0;
    this.level = BUCKET_LEVEL - 2;
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

  /** Writes the next item of this side's message. False when there are no more; the peer's is next. */
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
      this.telling[this.tellingCount++] = first + child;
      sayChildren(this.tree, this.level, first + child, this.own, writer);
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
    const { own, count } = this;
    this.tree.copyChildren(this.level, node, DIGEST_PREFIX_BYTES, own, 0);
    const present = reader.u16();
    let differing = 0;
    for (let child = 0; child < FANOUT; child++) {
      const at = child * DIGEST_PREFIX_BYTES;
      const isPresent = (present & (1 << child)) !== 0;
      const from = isPresent ? reader.skip(DIGEST_PREFIX_BYTES) : -1;
      for (let i = 0; i < DIGEST_PREFIX_BYTES; i++) {
        if (own[at + i] !== (from < 0 ? 0 : reader.bytes[from + i])) differing |= 1 << child;
      }
    }
    this.nodes[count] = node;
    this.differing[count] = differing;
    this.present[count] = present;
    this.count++;
  }
}

function sayChildren(
  tree: DigestTree,
  level: number,
  node: number,
  scratch: Uint8Array,
  writer: FrameWriter,
): void {
  tree.copyChildren(level, node, DIGEST_PREFIX_BYTES, scratch, 0);
  let present = 0;
  for (let i = 0; i < CHILDREN_BYTES; i++) {
    if (scratch[i] !== 0) present |= 1 << Math.floor(i / DIGEST_PREFIX_BYTES);
  }
  writer.u16(present);
  for (let child = 0; child < FANOUT; child++) {
    if ((present & (1 << child)) !== 0) {
      writer.copy(scratch, child * DIGEST_PREFIX_BYTES, DIGEST_PREFIX_BYTES);
    }
  }
}
