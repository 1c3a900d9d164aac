/** What comes of a write, and who wants to know of it. */

/** The entry changed the store. */
export const APPLIED = 1;
/** The store already knew as much or more. */
export const UNCHANGED = 0;
/** The version lies further ahead of this node's time than `maxClockSkewMs`. */
export const REFUSED_FUTURE = -1;
/** The memory limit is reached, or the system has no more memory. */
export const REFUSED_FULL = -2;
/** The entry is not well-formed: key length, kind, expiry or counter bytes. */
export const REFUSED_INVALID = -3;
/** `increment`: the value is not a 64-bit integer. */
export const NOT_A_NUMBER = -4;
/** `increment`: the result would leave 64 bits. */
export const OUT_OF_RANGE = -5;
/** Nothing is accepted for now: the disk is full or fails (`Store.isReadOnly`). */
export const REFUSED_READ_ONLY = -6;
/** A counter has, or would have, more parts than strangers may bring (`counter.ts`). */
export const REFUSED_LARGE = -7;

/** `applyExpiry`: there is no such key here that could expire. */
export const REFUSED_MISSING = -8;

/** What came of a write; one of the constants above. */
export type Outcome = 1 | 0 | -1 | -2 | -3 | -4 | -5 | -6 | -7 | -8;

/** An entry was added, or its value replaced. */
export const CHANGED_VALUE = 0;
/** The entry is the counter that it was, with increments of others. */
export const CHANGED_PARTS = 1;
/** Only the expiry is another. */
export const CHANGED_EXPIRY = 2;

/** What changed of an entry; one of the CHANGED_ constants. */
export type Change = 0 | 1 | 2;

/** Who wants to know of every change: the outbox, the Merkle tree, the log. */
export interface ChangeObserver {
  /** An entry was added or changed. `local`: by a client of this node. */
  changed(id: number, local: boolean, change: Change): void;
  /**
   * Some of the first `count` of these entries may be about to change; ids below 0 stand for none.
   * What `changed` will need of them can be loaded into the processor's caches.
   */
  touch?(ids: Int32Array, count: number): void;
  /**
   * The value of an expired entry was found to be missing here, as the entry lives after all, or
   * not to be missing after all. Nothing was written.
   */
  missed?(id: number): void;
  /** An entry was found to have expired. Nothing was written. */
  expired?(id: number): void;
  /**
   * An entry is about to be dropped for good; its id may name another one later. `flushed`: the
   * flush floor says so already; else it was a deletion past its grace, or was discarded.
   */
  removed(id: number, flushed: boolean): void;
  /**
   * The flush floor moved: entries with a base below it are gone. With `cleared`, everything was
   * dropped at once and no `removed` follows; else `removed` comes for each entry as it goes.
   */
  flushed(local: boolean, cleared: boolean): void;
}
