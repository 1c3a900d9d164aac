/** Writes down what an observer of the store is told. */
import { Entry, newVersion } from "../core/data/entry.ts";
import { expiryVersionOf } from "../core/data/merge.ts";
import { CHANGED_EXPIRY, type Change } from "../core/store/outcome.ts";
import type { Store } from "../core/store/store.ts";
import type { FrameBuffer } from "./frame-buffer.ts";

/** The parts of a store that tell what changed. */
export type ChangeSource = Pick<Store, "readChange" | "readPatch">;

const entry = new Entry();
const version = newVersion();

/** Adds the change of entry `id` that the store is telling of: as little as says it all. */
export function addChange(
  buffer: FrameBuffer,
  store: ChangeSource,
  id: number,
  change: Change,
): void {
  if (change === CHANGED_EXPIRY) {
    store.readChange(id, entry);
    expiryVersionOf(entry, version);
    return buffer.addExpiry(entry, version);
  }
  const patch = store.readPatch(id);
  if (patch !== null) return buffer.addPatch(patch);
  store.readChange(id, entry);
  buffer.addEntry(entry);
}
