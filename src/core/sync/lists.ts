/** LIST and PARTS items, kept until there is room to answer them. */
import type { Part } from "../tree/bucket-part.ts";
import { FANOUT } from "../tree/digest-tree.ts";
import type { DigestSet } from "./digest-set.ts";
import type { FrameReader } from "./frames.ts";
import { LIST, SHORT_DIGEST_BYTES } from "./items.ts";
import { LISTED_BYTES_A_TURN, MAX_LISTED_ENTRIES, PARTS_COST_BYTES } from "./limits.ts";

const HEAD_BYTES = 16;

/** First in, first out. */
export class ListBuffer {
  /** The kind of the item that `begin` returned last: LIST or PARTS. */
  tag = LIST;
  /** If it is PARTS: which of the 16 parts are not empty. */
  present = 0;
  private count = 0;

  private bytes = new Uint8Array(1024);
  private view = new DataView(this.bytes.buffer);
  private at = 0;
  private end = 0;
  /** What waits, as the responder counts it. */
  private waitingBytes = 0;
  /** The bucket that was listed last. Each comes once, in ascending order. */
  private lastBucket = -1;

  get isWaiting(): boolean {
    return this.at < this.end;
  }

  /** Other buckets come now, from the first on. */
  beginAgain(): void {
    this.lastBucket = -1;
  }

  /** Copies an item from behind its part. False when it is malformed or too much. */
  add(reader: FrameReader, tag: number, { bucket, depth, path }: Part): boolean {
    const present = tag === LIST ? 0 : reader.u16();
    const count = tag === LIST ? reader.varint() : onesIn(present);
    const length = count * SHORT_DIGEST_BYTES;
    if (this.waitingBytes > LISTED_BYTES_A_TURN || count > MAX_LISTED_ENTRIES) return false;
    if (depth === 0 && bucket <= this.lastBucket) return false;
    if (depth === 0) this.lastBucket = bucket;
    const start = reader.skip(length);
    if (reader.overrun) return false;
    this.makeRoom(HEAD_BYTES + length);
    const { view, end } = this;
    view.setUint8(end, tag);
    view.setUint16(end + 1, present);
    view.setUint16(end + 3, bucket);
    view.setUint8(end + 5, depth);
    view.setUint16(end + 6, Math.floor(path / 0x1_0000_0000));
    view.setUint32(end + 8, path >>> 0);
    view.setUint32(end + 12, count);
    this.bytes.set(reader.bytes.subarray(start, start + length), end + HEAD_BYTES);
    this.end += HEAD_BYTES + length;
    this.waitingBytes += costOf(tag, count);
    return true;
  }

  /** Begins with the next item, and returns the part it is about. Then call `readDigests`. */
  begin(): Part {
    const { view, at } = this;
    this.tag = view.getUint8(at);
    this.present = view.getUint16(at + 1);
    this.count = view.getUint32(at + 12);
    const path = view.getUint16(at + 6) * 0x1_0000_0000 + view.getUint32(at + 8);
    return { bucket: view.getUint16(at + 3), depth: view.getUint8(at + 5), path };
  }

  /** Removes the item's digests, in the order in which they came, and adds them to `into`. */
  readDigests(into: DigestSet): void {
    this.waitingBytes -= costOf(this.tag, this.count);
    this.at += HEAD_BYTES;
    into.count = 0;
    for (let i = 0; i < this.count; i++, this.at += SHORT_DIGEST_BYTES) {
      into.add(this.view.getUint16(this.at) * 0x1_0000_0000 + this.view.getUint32(this.at + 2));
    }
    if (this.at === this.end) this.at = this.end = 0;
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

/** What an item counts for towards LISTED_BYTES_A_TURN, on both sides. */
export function costOf(tag: number, count: number): number {
  return tag === LIST ? 8 + count * SHORT_DIGEST_BYTES : PARTS_COST_BYTES;
}

function onesIn(bits: number): number {
  let ones = 0;
  for (let i = 0; i < FANOUT; i++) ones += (bits >>> i) & 1;
  return ones;
}
