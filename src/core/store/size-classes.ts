/**
 * The sizes of slots in the arena: steps of 4 bytes from 8 to 64, then eight steps to each
 * doubling, so that a slot wastes at most an eighth of its bytes (3 bytes below 64).
 */

/** Bytes of a slab that is cut into slots of one size. */
export const SLAB_BYTES = 262_144;
/** Slots above this size get a slab of their own. */
export const LARGEST_SLOT_BYTES = 32_768;

/** Bytes of a slot, by size class. */
export const classBytes = sizeClasses();
/** The smallest class that holds so many units of 4 bytes. */
export const classOfUnits = classTable();

/** How many slots a slab of that class is cut into. */
export function slotsPerSlab(slabClass: number): number {
  return Math.floor(SLAB_BYTES / classBytes[slabClass]);
}

function sizeClasses(): number[] {
  const sizes: number[] = [];
  for (let size = 8; size <= 64; size += 4) sizes.push(size);
  for (let base = 64; base < LARGEST_SLOT_BYTES; base *= 2) {
    for (let step = 1; step <= 8; step++) sizes.push(base + (base / 8) * step);
  }
  return sizes;
}

function classTable(): Uint8Array {
  const table = new Uint8Array(LARGEST_SLOT_BYTES / 4 + 1);
  let slabClass = 0;
  for (let units = 0; units < table.length; units++) {
    while (classBytes[slabClass] < units * 4) slabClass++;
    table[units] = slabClass;
  }
  return table;
}
