/** A set of ids that are dense from 0 on: a bit each, in chunks that come as they are needed. */

const CHUNK_SHIFT = 15;
const CHUNK_IDS = 1 << CHUNK_SHIFT;
const CHUNK_MASK = CHUNK_IDS - 1;

/** See the file header. */
export class IdMarks {
  /** How many ids are marked. */
  count = 0;
  private chunks: Int32Array[] = [];

  /** Every marked id is below this. */
  get idLimit(): number {
    return this.chunks.length * CHUNK_IDS;
  }

  /** Whether an id is marked. */
  has(id: number): boolean {
    const chunk = this.chunks[id >>> CHUNK_SHIFT];
    return chunk !== undefined && (chunk[(id & CHUNK_MASK) >>> 5] & (1 << (id & 31))) !== 0;
  }

  /** Loads the marks of ids, none below 0, into the processor's caches. Returns no meaning. */
  touch(ids: Int32Array, count: number): number {
    const { chunks } = this;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const id = ids[i];
      if (id < 0 || id >>> CHUNK_SHIFT >= chunks.length) continue;
      sum ^= chunks[id >>> CHUNK_SHIFT][(id & CHUNK_MASK) >>> 5];
    }
    return sum;
  }

  /** Marks an id. */
  mark(id: number): void {
    const { chunks } = this;
    while (id >>> CHUNK_SHIFT >= chunks.length) chunks.push(new Int32Array(CHUNK_IDS / 32));
    const chunk = chunks[id >>> CHUNK_SHIFT];
    const word = (id & CHUNK_MASK) >>> 5;
    const before = chunk[word];
    const after = before | (1 << (id & 31));
    if (after === before) return;
    chunk[word] = after;
    this.count++;
  }

  /** Takes the mark off an id, if there is one. */
  unmark(id: number): void {
    if (!this.has(id)) return;
    this.chunks[id >>> CHUNK_SHIFT][(id & CHUNK_MASK) >>> 5] &= ~(1 << (id & 31));
    this.count--;
  }

  /**
   * Writes the marked ids from `from` on to `out`, in ascending order, as many as there is room
   * for. Returns how many.
   */
  copyFrom(from: number, out: Int32Array): number {
    let count = 0;
    const { idLimit } = this;
    for (let first = from & ~31; first < idLimit; first += 32) {
      let bits = this.chunks[first >>> CHUNK_SHIFT][(first & CHUNK_MASK) >>> 5];
      if (first < from) bits &= -1 << (from & 31);
      while (bits !== 0) {
        if (count === out.length) return count;
        out[count++] = first + 31 - Math.clz32(bits & -bits);
        bits &= bits - 1;
      }
    }
    return count;
  }

  /** Takes all marks off and lets go of the memory. */
  clear(): void {
    this.chunks = [];
    this.count = 0;
  }

  /** Memory held, in bytes. */
  bytes(): number {
    return (this.chunks.length * CHUNK_IDS) / 8;
  }
}
