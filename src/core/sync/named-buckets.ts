/**
 * The buckets that differ, as the initiator names them to the responder in CELLS items: in
 * ascending order, and each with what is to be done about it.
 */
import { wholeBucket } from "../tree/bucket-part.ts";
import { BUCKETS } from "../tree/digest-tree.ts";
import { PREFETCHED_BUCKETS, type MerkleBuckets } from "../tree/merkle-buckets.ts";
import { Cell, CELL_BYTES } from "./cells.ts";
import type { FrameReader } from "./frames.ts";
import type { SharedBySides } from "./shared.ts";
import { CELLS } from "./items.ts";

/** What the responder does about a bucket: lists it, compares it with the cell, or sends it all. */
export type BucketAction = "list" | "compare" | "send";
/** The numbers of the actions: index into this. */
const ACTIONS: readonly BucketAction[] = ["list", "compare", "send"];
/** Numbers of buckets are multiplied by this, so that there is room for an action. */
const SHIFT = 4;

const BUCKETS_AN_ITEM = PREFETCHED_BUCKETS;
/** Each once, and once more when what the initiator was asked for was not there. */
const MAX_NAMED = 2 * BUCKETS;

/** The initiator's side: names some buckets. */
export class BucketNaming {
  private next = 0;
  private last = -1;
  private isSaid = false;
  /** Which of them were named with a cell, and the first that may be asked about. */
  private readonly hasCell: Uint8Array;
  private firstToAsk = 0;
  /** Up to which of them what they hold was prefetched, to be looked through. */
  private prefetched = 0;

  /** `buckets` in ascending order. `byCells`: those that are not large are compared by cells. */
  constructor(
    private readonly buckets: readonly number[],
    private readonly byCells: boolean,
  ) {
    this.hasCell = new Uint8Array(buckets.length);
  }

  /** Writes the next item, if only an empty one. False when all is said. */
  say(parts: SharedBySides): boolean {
    if (this.isSaid) return false;
    const { writer } = parts;
    const end = Math.min(this.next + BUCKETS_AN_ITEM, this.buckets.length);
    writer.reserve(6 + BUCKETS_AN_ITEM * (4 + CELL_BYTES));
    writer.u8(CELLS);
    writer.varint(end - this.next);
    parts.tree.buckets.prefetch(this.buckets.slice(this.next, end));
    for (; this.next < end; this.next++) this.name(this.buckets[this.next], parts);
    this.isSaid = this.next === this.buckets.length;
    return true;
  }

  private name(bucket: number, { writer, tree, shortener, counts }: SharedBySides): void {
    const { buckets } = tree;
    const part = wholeBucket(bucket);
    const isComparable = this.byCells && !buckets.isLarge(part);
    const action = buckets.count(part) === 0 ? "send" : isComparable ? "compare" : "list";
    writer.varint((bucket - this.last - 1) * SHIFT + ACTIONS.indexOf(action));
    this.last = bucket;
    if (action !== "compare") return;
    Cell.of(buckets, bucket, shortener).write(writer);
    this.hasCell[this.next] = 1;
    counts.keysCompared += buckets.count(part);
  }

  /**
   * Whether the peer may ask for an entry of a bucket, which was named with a cell: once each, in
   * the order in which they were named.
   */
  mayBeAsked(bucket: number, { tree }: SharedBySides): boolean {
    const { buckets } = this;
    while (this.firstToAsk < buckets.length && buckets[this.firstToAsk] < bucket) {
      this.firstToAsk++;
    }
    const at = this.firstToAsk++;
    if (at >= this.prefetched) {
      this.prefetched = at + PREFETCHED_BUCKETS;
      tree.buckets.prefetch(buckets.slice(at, this.prefetched));
    }
    return buckets[at] === bucket && this.hasCell[at] === 1;
  }
}

/** A bucket that was named, and its cell if that is to be compared. */
export interface NamedBucket {
  readonly bucket: number;
  readonly action: BucketAction;
  readonly cell: Cell | null;
}

/** The responder's side: keeps those that were named, first in, first out. */
export class NamedBuckets {
  private waiting: NamedBucket[] = [];
  private head = 0;
  private last = -1;
  private named = 0;

  /** How many wait. */
  get length(): number {
    return this.waiting.length - this.head;
  }

  /** Those of the next turn begin with the first bucket again. */
  beginTurn(): void {
    this.last = -1;
  }

  /** Reads a CELLS item behind its tag. False when it is malformed or too much. */
  add(reader: FrameReader): boolean {
    const count = reader.varint();
    this.named += count;
    if (count > BUCKETS_AN_ITEM || this.named > MAX_NAMED) return false;
    for (let i = 0; i < count; i++) {
      const step = reader.varint();
      const bucket = this.last + 1 + Math.floor(step / SHIFT);
      const action = ACTIONS[step % SHIFT];
      if (reader.overrun || bucket >= BUCKETS || action === undefined) return false;
      const cell = action === "compare" ? Cell.read(reader) : null;
      this.waiting.push({ bucket, action, cell });
      this.last = bucket;
    }
    return !reader.overrun;
  }

  /** Takes the first. What it and those behind it hold is prefetched, some at a time. */
  shift(buckets: MerkleBuckets): NamedBucket | undefined {
    if (this.head % PREFETCHED_BUCKETS === 0) {
      const upcoming = this.waiting.slice(this.head, this.head + PREFETCHED_BUCKETS);
      buckets.prefetch(upcoming.map(({ bucket }) => bucket));
    }
    const first = this.waiting[this.head++];
    if (this.head >= this.waiting.length) {
      this.waiting = [];
      this.head = 0;
    }
    return first;
  }
}
