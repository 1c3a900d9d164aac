/** Walking over keys in their order, in steps, while others write. */
import { Entry } from "../core/data/entry.ts";
import type { Store } from "../core/store/store.ts";
import { STEP_WORK } from "./slices.ts";

/** What a row costs, whatever is in it, in units of STEP_WORK. */
export const ROW_WORK = 8;
/** So many bytes of a key cost one more. */
export const BYTES_A_WORK = 8;

/** What it costs to ask whether a key may be shown. */
export const FILTER_WORK = 16;

const found = new Entry();

/** A walk over the live keys with a prefix, in order and in steps. */
export class OrderWalk {
  private last: Uint8Array | undefined;

  /**
   * `visit` gets the entries after the key `after`, as they are stored, and their ids. It returns
   * how much work it was (see `STEP_WORK`), or -1 to end the walk.
   */
  constructor(
    private readonly store: Store,
    private readonly prefix: Uint8Array,
    after: Uint8Array | undefined,
    private readonly visit: (entry: Entry, id: number) => number,
  ) {
    if (after !== undefined && Buffer.compare(after, prefix) >= 0) this.last = after;
  }

  /** See `Step`. */
  step(): boolean {
    const { store, prefix, last } = this;
    const { order } = store;
    // The order may have changed since the last step: the place is found again by key.
    let position =
      last === undefined
        ? order.seek(prefix, 0, prefix.length)
        : order.seekAfter(last, 0, last.length);
    let work = STEP_WORK;
    for (; position >= 0; position = order.next(position)) {
      const id = order.at(position);
      store.read(id, found);
      if (!hasPrefix(found, prefix)) return true;
      if (work <= 0) return false;
      work -= ROW_WORK + ((found.keyLength / BYTES_A_WORK) | 0);
      const visited = store.isLive(id) ? this.visit(found, id) : 0;
      if (visited < 0) return true;
      work -= visited;
      if (work <= 0) this.last = found.keyBytes();
    }
    return true;
  }
}

function hasPrefix(entry: Entry, prefix: Uint8Array): boolean {
  if (entry.keyLength < prefix.length) return false;
  const { key, keyOffset } = entry;
  for (let i = 0; i < prefix.length; i++) if (key[keyOffset + i] !== prefix[i]) return false;
  return true;
}
