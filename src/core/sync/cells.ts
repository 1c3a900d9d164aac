/**
 * What a bucket that differs holds, in 10 bytes: the XOR of its entries' digests, cut short, and
 * the XOR of a check of each of those, which is a hash of it. What two nodes' cells differ by is
 * made of those entries alone that only one of them has. If that is one entry, the check fits the
 * digest; if it is one on either side, as when both have a key in different versions, whoever looks
 * tries which of its own entries leaves a digest that the rest of the check fits.
 *
 * Once in 2^32 tries a check fits by chance. Then the other side is asked for an entry that it has
 * not got, and asks for the list of the bucket in turn.
 */
import { wholeBucket } from "../tree/bucket-part.ts";
import type { MerkleBuckets } from "../tree/merkle-buckets.ts";
import { mixed } from "./coded-symbols.ts";
import { digestOfId } from "./digest-set.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import type { DigestShortener } from "./short-digest.ts";

/** Length of a cell as it travels. */
export const CELL_BYTES = 10;

const TWO_TO_32 = 0x1_0000_0000;

/** A cell, or what two differ by. */
export class Cell {
  /** The XOR of the digests, lower 32 bits and upper 16, and that of their checks. */
  low = 0;
  high = 0;
  check = 0;

  /** The cell of a bucket, or of as much of it as the tree has. */
  static of(buckets: MerkleBuckets, bucket: number, shortener: DigestShortener): Cell {
    const cell = new Cell();
    buckets.visit(wholeBucket(bucket), (id) => {
      const digest = digestOfId(buckets, id, shortener);
      const low = digest | 0;
      const high = Math.floor(digest / TWO_TO_32);
      cell.low ^= low;
      cell.high ^= high;
      cell.check ^= checkOf(low, high, shortener.key);
    });
    return cell;
  }

  /** Reads one; the reader tells whether it was there. */
  static read(reader: FrameReader): Cell {
    const cell = new Cell();
    cell.high = reader.u16();
    cell.low = reader.u32() | 0;
    cell.check = reader.u32() | 0;
    return cell;
  }

  /** Writes it, for which there is room. */
  write(writer: FrameWriter): void {
    writer.u16(this.high);
    writer.u32(this.low >>> 0);
    writer.u32(this.check >>> 0);
  }
}

/** Finds out by what single entries a bucket differs from the peer's. */
export class CellComparison {
  /** The entry that only this side has; -1 for none. */
  ownId = -1;
  /** The digest, cut short, of the one that only the peer has; 0 for none. */
  theirDigest = 0;

  private count = 0;
  private ids = new Int32Array(64);
  private lows = new Int32Array(64);
  private highs = new Int32Array(64);

  constructor(
    private readonly buckets: MerkleBuckets,
    private readonly shortener: DigestShortener,
  ) {}

  /**
   * Compares a bucket with the peer's cell of it. True when one entry is all that only this side
   * has, or only the peer, or one each, or nothing: then `ownId` and `theirDigest` say which.
   */
  compare(bucket: number, { low, high, check }: Cell): boolean {
    const { key } = this.shortener;
    this.ownId = -1;
    this.theirDigest = 0;
    this.gather(bucket);
    for (let i = 0; i < this.count; i++) {
      low ^= this.lows[i];
      high ^= this.highs[i];
      check ^= checkOf(this.lows[i], this.highs[i], key);
    }
    if ((low | high) === 0) return check === 0;
    if (check === checkOf(low, high, key)) {
      const place = this.placeOf(low, high);
      if (place >= 0) this.ownId = this.ids[place];
      else this.theirDigest = numberOf(low, high);
      return true;
    }
    for (let i = 0; i < this.count; i++) {
      const restLow = low ^ this.lows[i];
      const restHigh = high ^ this.highs[i];
      const rest = check ^ checkOf(this.lows[i], this.highs[i], key);
      if (rest !== checkOf(restLow, restHigh, key)) continue;
      this.ownId = this.ids[i];
      this.theirDigest = numberOf(restLow, restHigh);
      return true;
    }
    return false;
  }

  private gather(bucket: number): void {
    const { buckets, shortener } = this;
    this.count = 0;
    buckets.visit(wholeBucket(bucket), (id) => {
      if (this.count === this.ids.length) this.makeRoom();
      const digest = digestOfId(buckets, id, shortener);
      this.ids[this.count] = id;
      this.lows[this.count] = digest | 0;
      this.highs[this.count++] = Math.floor(digest / TWO_TO_32);
    });
  }

  private placeOf(low: number, high: number): number {
    for (let i = 0; i < this.count; i++) {
      if (this.lows[i] === low && this.highs[i] === high) return i;
    }
    return -1;
  }

  private makeRoom(): void {
    const [ids, lows, highs] = [this.ids, this.lows, this.highs];
    this.ids = new Int32Array(2 * ids.length);
    this.lows = new Int32Array(2 * ids.length);
    this.highs = new Int32Array(2 * ids.length);
    this.ids.set(ids);
    this.lows.set(lows);
    this.highs.set(highs);
  }
}

/** The check of a digest that was cut short under the salt which `key` is of. */
function checkOf(low: number, high: number, key: number): number {
  return mixed(low ^ mixed(high, key), key);
}

function numberOf(low: number, high: number): number {
  return high * TWO_TO_32 + (low >>> 0);
}
