/** Writes down what an observer of the store is told. */
import { Entry } from "../core/data/entry.ts";
import type { Store } from "../core/store/store.ts";
import type { FrameBuffer } from "./record.ts";

/** The parts of a store that tell what changed. */
export type ChangeSource = Pick<Store, "readChange" | "readPatch">;

const entry = new Entry();

/** Adds the change of entry `id` that the store is telling of: as little as says it all. */
export function addChange(buffer: FrameBuffer, store: ChangeSource, id: number): void {
  const patch = store.readPatch(id);
  if (patch !== null) return buffer.addPatch(patch);
  store.readChange(id, entry);
  buffer.addEntry(entry);
}
