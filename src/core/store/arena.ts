/**
 * Off-heap memory for keys and values.
 *
 * Slots of one size class share a slab, an ArrayBuffer of 256 KiB; what is larger
 * than the largest class gets a slab of its own. A slot is named by a reference,
 * `slab * 2^16 + offset in units of 4 bytes`, so no JavaScript object exists per slot. A
 * reference takes as many bits as the slabs need, up to REFERENCE_BITS: more slabs than any
 * machine has memory for. (The scheme is the slab allocator of Bonwick, 1994, as memcached
 * uses it.)
 *
 * Invariants
 * - A slab belongs to one size class from its first slot until its last one is freed;
 *   then it goes back to the system. Empty slabs are never kept, save one a class.
 * - A slab with room is on its class's stack of partial slabs, or is the class's current
 *   slab. The stack may also hold stale numbers; they are checked when popped.
 * - Free slots of a slab form a list through their first word.
 * - `freeSlots` counts those of a class that may be allocated: not those of slabs being emptied, in
 *   which `leaving` counts what is still in use.
 * - `bytesReserved` is the sum of the sizes of all slabs.
 * - The live slots of a large slab are counted as 0. What is counted instead is who reads it
 *   (`share`): as long as there is somebody, nothing is written into it.
 *
 * Fragmentation: a slot wastes at most 1/8 of its bytes (`size-classes.ts`), and
 * `markSparse` marks slabs under half full, which the owner of the slots empties by
 * moving them; so under any churn memory stays within about twice what is live.
 */

import { release, unfilled } from "../bytes.ts";
import type { Leftovers } from "./leftovers.ts";
import {
  LARGEST_SLOT_BYTES,
  SLAB_BYTES,
  classBytes,
  classOfUnits,
  slotsPerSlab,
} from "./size-classes.ts";

const UNIT_BITS = 16;
/** A unit is a word of 4 bytes. */
const UNIT_SHIFT = 2;
const UNIT_MASK = (1 << UNIT_BITS) - 1;
/** What a slot above that is rounded up to. */
const PAGE_BYTES = 4_096;
/** Class number of a slab that holds one large slot. */
const LARGE = 255;
/** Marks a slab number that is not in use. */
const VACANT = 254;
/** Bits of a reference at most: 2^22 slabs, which is 1 TiB of full ones. */
export const REFERENCE_BITS = 38;
const MAX_SLABS = 2 ** (REFERENCE_BITS - UNIT_BITS);
const SLAB_STEP = 1 << UNIT_BITS;
const WORD = 2 ** 32;
const NO_UNIT = 0xffff;
const MOST_READERS = 0xffff;

/** States of a slab: on no stack, on its class's stack, or being emptied by its owner. */
const UNLISTED = 0;
const PARTIAL = 1;
const EMPTYING = 2;

/** What `allocate` returns when memory is used up. A valid reference is never negative. */
export const OUT_OF_MEMORY = -1;

/** Slots of bytes by reference; see the file header. */
export class Arena {
  /**
   * The bytes of each slab. A slot starts at `offsetOf(reference)` in `bytes[slabOf(reference)]`.
   */
  readonly bytes: Uint8Array[] = [];
  /** The same slabs as 32-bit words; slots are aligned to those. */
  readonly words: Uint32Array[] = [];
  /** Bytes taken from the system for slots. */
  bytesReserved = 0;

  private slabClass = new Uint8Array(64).fill(VACANT);
  private liveSlots = new Uint16Array(64);
  private freeUnit = new Uint16Array(64);
  private nextUnit = new Uint32Array(64);
  private slabState = new Uint8Array(64);
  private readonly vacantSlabs: number[] = [];
  private readonly partialSlabs: number[][] = classBytes.map(() => []);
  private readonly currentSlab = new Int32Array(classBytes.length).fill(-1);
  private readonly freeSlots = new Int32Array(classBytes.length);
  private readonly slabCount = new Int32Array(classBytes.length);
  private readonly leaving = new Int32Array(classBytes.length);
  /** Slabs that were marked as being emptied; some may be empty and gone. */
  private readonly marked: number[] = [];
  private scanPosition = 0;

  /** How many slabs are being emptied and are not empty yet. */
  emptyingCount = 0;

  /** True when a slot holding `oldBytes` can hold `newBytes` without waste. */
  fitsInPlace(reference: number, newBytes: number): boolean {
    const slab = slabOf(reference);
    const slabClass = this.slabClass[slab];
    if (slabClass !== LARGE) {
      return (
        newBytes <= LARGEST_SLOT_BYTES && classOfUnits[(newBytes + 3) >>> UNIT_SHIFT] === slabClass
      );
    }
    if (this.liveSlots[slab] > 0) return false;
    const capacity = this.bytes[slab].length;
    return newBytes <= capacity && newBytes > LARGEST_SLOT_BYTES && newBytes * 2 > capacity;
  }

  /** Bytes that the slot could hold. */
  capacityOf(reference: number): number {
    const slab = slabOf(reference);
    const slabClass = this.slabClass[slab];
    return slabClass === LARGE ? this.bytes[slab].length : classBytes[slabClass];
  }

  /**
   * A slot of at least `length` bytes with undefined contents. Returns its reference,
   * or OUT_OF_MEMORY when a new slab would be needed and `bytesReserved` would
   * then exceed `limitBytes`, or the system has no memory for it.
   */
  allocate(length: number, limitBytes: number): number {
    if (length > LARGEST_SLOT_BYTES) return this.allocateLarge(length, limitBytes);
    const slabClass = classOfUnits[(length + 3) >>> UNIT_SHIFT];
    let slab = this.currentSlab[slabClass];
    if (slab < 0 || !this.hasRoom(slab, slabClass)) {
      slab = this.nextPartialSlab(slabClass, limitBytes);
      if (slab < 0) return OUT_OF_MEMORY;
    }
    this.liveSlots[slab]++;
    this.freeSlots[slabClass]--;
    const free = this.freeUnit[slab];
    if (free !== NO_UNIT) {
      this.freeUnit[slab] = this.words[slab][free];
      return slab * SLAB_STEP + free;
    }
    const unit = this.nextUnit[slab];
    this.nextUnit[slab] = unit + (classBytes[slabClass] >>> UNIT_SHIFT);
    return slab * SLAB_STEP + unit;
  }

  /** Gives a slot back. The reference must not be used again. */
  free(reference: number): void {
    const slab = slabOf(reference);
    const slabClass = this.slabClass[slab];
    if (slabClass === LARGE) return this.releaseSlab(slab);
    const unit = reference & UNIT_MASK;
    this.words[slab][unit] = this.freeUnit[slab];
    this.freeUnit[slab] = unit;
    if (this.slabState[slab] === EMPTYING) this.leaving[slabClass]--;
    else this.freeSlots[slabClass]++;
    if (--this.liveSlots[slab] === 0 && slab !== this.currentSlab[slabClass]) {
      return this.releaseSlab(slab);
    }
    if (this.slabState[slab] === UNLISTED && slab !== this.currentSlab[slabClass]) {
      this.slabState[slab] = PARTIAL;
      this.partialSlabs[slabClass].push(slab);
    }
  }

  /**
   * The bytes that a slot lies in, to be read for as long as anybody likes: they stay as they are,
   * whatever becomes of the slot, until `unshare` was called as often as this. Null for a slot that
   * shares its slab with others.
   */
  share(reference: number): Uint8Array | null {
    const slab = slabOf(reference);
    if (this.slabClass[slab] !== LARGE || this.liveSlots[slab] === MOST_READERS) return null;
    this.liveSlots[slab]++;
    return this.bytes[slab];
  }

  /** Whether somebody reads a slot, so that `own` would have to copy it. */
  isShared(reference: number): boolean {
    const slab = slabOf(reference);
    return this.slabClass[slab] === LARGE && this.liveSlots[slab] > 0;
  }

  /** The bytes that `share` returned for this slot are not read any more. */
  unshare(reference: number, bytes: Uint8Array): void {
    const slab = slabOf(reference);
    if (this.bytes[slab] === bytes) this.liveSlots[slab]--;
  }

  /**
   * Makes sure that a slot may be written into: one that others read moves, under its reference, to
   * bytes that are its own. False when the system has no memory for that.
   */
  own(reference: number): boolean {
    if (!this.isShared(reference)) return true;
    const slab = slabOf(reference);
    const buffer = bufferOf(this.bytes[slab].length);
    if (buffer === null) return false;
    const bytes = new Uint8Array(buffer);
    bytes.set(this.bytes[slab]);
    this.bytes[slab] = bytes;
    this.words[slab] = new Uint32Array(buffer);
    this.liveSlots[slab] = 0;
    return true;
  }

  /**
   * Looks at the next `count` slabs, going round, and marks those as being emptied that are under
   * half full while their live slots fit into the free slots of others of their class. From then on
   * nothing is allocated in them: the caller moves every live slot out, and a slab vanishes with
   * its last one. True when all slabs have been looked at once more.
   */
  markSparse(count: number): boolean {
    for (let i = 0; i < count && this.scanPosition < this.bytes.length; i++) {
      const slab = this.scanPosition++;
      if (this.isSparse(slab)) this.markEmptying(slab);
    }
    if (this.scanPosition < this.bytes.length) return false;
    this.scanPosition = 0;
    return true;
  }

  /** Whether a slot is in a slab that is being emptied. */
  isLeaving(reference: number): boolean {
    return this.slabState[slabOf(reference)] === EMPTYING;
  }

  /** Takes back what `markSparse` said: slots may be allocated in what is not empty yet. */
  keepMarked(): void {
    for (const slab of this.marked) {
      if (this.slabState[slab] !== EMPTYING) continue;
      const slabClass = this.slabClass[slab];
      const live = this.liveSlots[slab];
      this.slabState[slab] = PARTIAL;
      this.partialSlabs[slabClass].push(slab);
      this.leaving[slabClass] -= live;
      this.freeSlots[slabClass] += slotsPerSlab(slabClass) - live;
    }
    this.marked.length = 0;
    this.emptyingCount = 0;
  }

  private isSparse(slab: number): boolean {
    const slabClass = this.slabClass[slab];
    // Neither vacant nor large.
    if (!(slabClass < VACANT) || this.slabState[slab] === EMPTYING) return false;
    if (slab === this.currentSlab[slabClass]) return false;
    const capacity = slotsPerSlab(slabClass);
    const live = this.liveSlots[slab];
    if (live * 2 >= capacity || this.slabCount[slabClass] < 3) return false;
    const freeElsewhere = this.freeSlots[slabClass] - (capacity - live);
    return freeElsewhere >= live + this.leaving[slabClass];
  }

  private markEmptying(slab: number): void {
    const slabClass = this.slabClass[slab];
    const live = this.liveSlots[slab];
    this.slabState[slab] = EMPTYING;
    this.leaving[slabClass] += live;
    this.freeSlots[slabClass] -= slotsPerSlab(slabClass) - live;
    this.marked.push(slab);
    this.emptyingCount++;
  }

  /** Drops everything at once; the memory becomes `leftovers`, but for what others still read. */
  clear(leftovers: Leftovers): void {
    for (let slab = 0; slab < this.bytes.length; slab++) {
      const isRead = this.slabClass[slab] === LARGE && this.liveSlots[slab] > 0;
      if (!isRead && this.slabClass[slab] !== VACANT) leftovers.add(this.bytes[slab]);
    }
    this.bytes.length = 0;
    this.words.length = 0;
    this.vacantSlabs.length = 0;
    for (const slabs of this.partialSlabs) slabs.length = 0;
    this.currentSlab.fill(-1);
    this.freeSlots.fill(0);
    this.slabCount.fill(0);
    this.leaving.fill(0);
    this.slabState.fill(0);
    this.marked.length = this.emptyingCount = 0;
    this.bytesReserved = 0;
    this.scanPosition = 0;
  }

  /**
   * Throws unless the invariants hold, and exactly the slots in `held` are in use; for tests, for
   * it looks at everything.
   */
  verify(held: ReadonlySet<number>): void {
    const free = new Int32Array(classBytes.length);
    const leaving = new Int32Array(classBytes.length);
    const slabs = new Int32Array(classBytes.length);
    let reserved = 0;
    let live = 0;
    this.bytes.forEach((bytes, slab) => {
      reserved += bytes.length;
      const slabClass = this.slabClass[slab];
      if (slabClass === VACANT) return this.verifyVacant(slab);
      if (slabClass === LARGE) {
        live++;
        if (!held.has(slab * SLAB_STEP)) throw new Error(`arena: large slab ${slab} is not in use`);
        return;
      }
      this.verifySlab(slab, slabClass, held);
      live += this.liveSlots[slab];
      if (this.slabState[slab] === EMPTYING) leaving[slabClass] += this.liveSlots[slab];
      else free[slabClass] += slotsPerSlab(slabClass) - this.liveSlots[slab];
      slabs[slabClass]++;
    });
    if (reserved !== this.bytesReserved) {
      throw new Error(`arena: ${reserved} bytes are reserved, not ${this.bytesReserved}`);
    }
    if (live !== held.size) throw new Error(`arena: ${live} slots are live, ${held.size} in use`);
    for (let slabClass = 0; slabClass < classBytes.length; slabClass++) {
      if (free[slabClass] !== this.freeSlots[slabClass]) {
        throw new Error(`arena: the free slots of class ${slabClass} are miscounted`);
      }
      if (leaving[slabClass] !== this.leaving[slabClass]) {
        throw new Error(`arena: what leaves slabs of class ${slabClass} is miscounted`);
      }
      if (slabs[slabClass] !== this.slabCount[slabClass]) {
        throw new Error(`arena: the slabs of class ${slabClass} are miscounted`);
      }
    }
  }

  private verifyVacant(slab: number): void {
    if (this.bytes[slab].length > 0) throw new Error(`arena: vacant slab ${slab} keeps its memory`);
    if (this.vacantSlabs.filter((it) => it === slab).length !== 1) {
      throw new Error(`arena: vacant slab ${slab} is not in the list of those once`);
    }
  }

  /**
   * What is free in a slab, by its list and its counts; and that it is where room is looked for.
   */
  private verifySlab(slab: number, slabClass: number, held: ReadonlySet<number>): void {
    const step = classBytes[slabClass] >>> UNIT_SHIFT;
    const used = this.nextUnit[slab] / step;
    const freed = new Set<number>();
    for (let unit = this.freeUnit[slab]; unit !== NO_UNIT; unit = this.words[slab][unit]) {
      if (unit % step !== 0 || unit >= this.nextUnit[slab] || freed.has(unit)) {
        throw new Error(`arena: the free list of slab ${slab} is broken at ${unit}`);
      }
      freed.add(unit);
    }
    if (used - freed.size !== this.liveSlots[slab]) {
      throw new Error(`arena: the live slots of slab ${slab} are miscounted`);
    }
    for (let unit = 0; unit < slotsPerSlab(slabClass) * step; unit += step) {
      const isLive = unit < this.nextUnit[slab] && !freed.has(unit);
      if (isLive !== held.has(slab * SLAB_STEP + unit)) {
        throw new Error(
          `arena: slot ${unit} of slab ${slab} is ${isLive ? "lost" : "in use, free"}`,
        );
      }
    }
    if (slab === this.currentSlab[slabClass]) return;
    if (this.liveSlots[slab] === 0) throw new Error(`arena: empty slab ${slab} is kept`);
    const isPartial = this.slabState[slab] === PARTIAL;
    if (isPartial && !this.partialSlabs[slabClass].includes(slab)) {
      throw new Error(`arena: partial slab ${slab} is not on the stack`);
    }
    if (this.slabState[slab] === UNLISTED && this.hasRoom(slab, slabClass)) {
      throw new Error(`arena: slab ${slab} has room that nobody will find`);
    }
  }

  private hasRoom(slab: number, slabClass: number): boolean {
    return (
      this.freeUnit[slab] !== NO_UNIT ||
      (this.nextUnit[slab] << UNIT_SHIFT) + classBytes[slabClass] <= SLAB_BYTES
    );
  }

  private nextPartialSlab(slabClass: number, limitBytes: number): number {
    const partial = this.partialSlabs[slabClass];
    while (partial.length > 0) {
      const slab = partial.pop()!;
      if (this.slabClass[slab] !== slabClass || this.slabState[slab] !== PARTIAL) continue;
      this.slabState[slab] = UNLISTED;
      this.currentSlab[slabClass] = slab;
      return slab;
    }
    if (this.bytesReserved + SLAB_BYTES > limitBytes) return OUT_OF_MEMORY;
    const slab = this.addSlab(SLAB_BYTES, slabClass);
    if (slab < 0) return OUT_OF_MEMORY;
    this.freeSlots[slabClass] += slotsPerSlab(slabClass);
    this.slabCount[slabClass]++;
    this.currentSlab[slabClass] = slab;
    return slab;
  }

  private allocateLarge(length: number, limitBytes: number): number {
    const size = Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
    if (this.bytesReserved + size > limitBytes) return OUT_OF_MEMORY;
    const slab = this.addSlab(size, LARGE);
    return slab < 0 ? OUT_OF_MEMORY : slab * SLAB_STEP;
  }

  private addSlab(size: number, slabClass: number): number {
    if (this.vacantSlabs.length === 0 && this.bytes.length >= MAX_SLABS) return OUT_OF_MEMORY;
    const buffer = bufferOf(size);
    if (buffer === null) return OUT_OF_MEMORY;
    const slab = this.vacantSlabs.pop() ?? this.bytes.length;
    while (slab >= this.slabClass.length) this.growTables();
    this.bytes[slab] = new Uint8Array(buffer);
    this.words[slab] = new Uint32Array(buffer);
    this.slabClass[slab] = slabClass;
    this.liveSlots[slab] = 0;
    this.freeUnit[slab] = NO_UNIT;
    this.nextUnit[slab] = 0;
    this.slabState[slab] = UNLISTED;
    this.bytesReserved += size;
    return slab;
  }

  private releaseSlab(slab: number): void {
    const slabClass = this.slabClass[slab];
    if (slabClass !== LARGE) {
      if (this.slabState[slab] === EMPTYING) this.emptyingCount--;
      else this.freeSlots[slabClass] -= slotsPerSlab(slabClass);
      this.slabCount[slabClass]--;
    }
    this.bytesReserved -= this.bytes[slab].length;
    // Somebody may still be reading what is large. The rest goes back now, and not when the
    // collector comes round, which has nothing to do in a node that rests.
    if (slabClass !== LARGE || this.liveSlots[slab] === 0) release(this.bytes[slab]);
    this.bytes[slab] = NOTHING;
    this.words[slab] = NO_WORDS;
    this.slabClass[slab] = VACANT;
    this.slabState[slab] = UNLISTED;
    this.vacantSlabs.push(slab);
  }

  private growTables(): void {
    const size = this.slabClass.length * 2;
    const slabClass = new Uint8Array(size).fill(VACANT);
    slabClass.set(this.slabClass);
    this.slabClass = slabClass;
    this.liveSlots = grown(this.liveSlots, size);
    this.freeUnit = grown(this.freeUnit, size);
    const nextUnit = new Uint32Array(size);
    nextUnit.set(this.nextUnit);
    this.nextUnit = nextUnit;
    const slabState = new Uint8Array(size);
    slabState.set(this.slabState);
    this.slabState = slabState;
  }
}

const NOTHING = new Uint8Array(0);
const NO_WORDS = new Uint32Array(0);

/** The number of the slab that a reference points into. */
export function slabOf(reference: number): number {
  return reference < WORD ? reference >>> UNIT_BITS : Math.floor(reference / SLAB_STEP);
}

/** Where in its slab a reference points, in bytes. */
export function offsetOf(reference: number): number {
  return (reference & UNIT_MASK) << UNIT_SHIFT;
}

/** Null when the system has no memory for it. */
function bufferOf(bytes: number): ArrayBuffer | null {
  try {
    return unfilled(bytes).buffer;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function grown(table: Uint16Array, size: number): Uint16Array<ArrayBuffer> {
  const larger = new Uint16Array(size);
  larger.set(table);
  return larger;
}
