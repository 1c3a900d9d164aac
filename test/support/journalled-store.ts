/** A store with a journal, on a simulated disk or a real directory, for tests of durability. */
import { HybridClock } from "../../src/core/data/clock.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { Store } from "../../src/core/store/store.ts";
import { openLog, type OpenLogOptions, type OpenedLog } from "../../src/durability/open-log.ts";
import { silentLogger } from "../../src/observability/log.ts";
import { realWorld } from "../../src/world.ts";
import { seeded } from "./random.ts";
import type { SimulatedDisk } from "./simulated-disk.ts";

/** Where logs are in simulated disks. */
export const DIRECTORY = "/data";

const one = new Int64().set(0, 1);
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** An empty store with a fixed seed. */
export function createStore(now: () => number = Date.now): Store {
  return new Store({
    clock: new HybridClock(now),
    origin: { high: 1, low: 2 },
    hashSeed: { high: 3, low: 4 },
    random: seeded(5),
    memoryLimitBytes: 0,
    maxClockSkewMs: 60_000,
    tombstoneGraceMs: 86_400_000,
  });
}

/** A store and the log it was recovered from. */
export interface JournalledStore extends OpenedLog {
  readonly store: Store;
}

/** Opens a log with a store of its own. */
export async function openStore(
  options: Partial<OpenLogOptions> & { now?: () => number } = {},
): Promise<JournalledStore> {
  const store = createStore(options.now);
  const isSimulated = options.files !== undefined;
  const { files, timing, lock } = realWorld;
  const opened = await openLog({
    directory: DIRECTORY,
    nodeId: "n1",
    fsync: "always",
    logger: silentLogger,
    files,
    timing,
    lock: isSimulated ? async () => ({ release() {} }) : lock,
    ...options,
    store,
  });
  store.observers.push(opened.journal.observer);
  return { store, ...opened };
}

/** The process of a log on a simulated disk is gone; another one opens the log anew. */
export function openAfterKill(
  files: SimulatedDisk,
  options: Parameters<typeof openStore>[0] = {},
): Promise<JournalledStore> {
  files.kill();
  return openStore({ files, ...options });
}

/** A text in UTF-8. */
export function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The number of the entry of a key, a deleted one too; -1 when there is none. */
export function locate(store: Store, key: string): number {
  const keyBytes = bytesOf(key);
  return store.locate(keyBytes, 0, keyBytes.length);
}

/** Writes a string. */
export function set(store: Store, key: string, value: string | Uint8Array, expiresAtMs = 0): void {
  const keyBytes = bytesOf(key);
  const bytes = typeof value === "string" ? bytesOf(value) : value;
  store.set(keyBytes, 0, keyBytes.length, bytes, 0, bytes.length, expiresAtMs);
}

/** Counts one up. */
export function increment(store: Store, key: string): void {
  const keyBytes = bytesOf(key);
  store.increment(keyBytes, 0, keyBytes.length, one);
}

/** Drops an entry as one that was set aside is. */
export function discard(store: Store, key: string): void {
  store.discard(locate(store, key));
}

/** Deletes a key. */
export function remove(store: Store, key: string): void {
  const keyBytes = bytesOf(key);
  store.delete(keyBytes, 0, keyBytes.length);
}

/** What clients see: every live key with its value. */
export function dataOf(store: Store): Record<string, string> {
  const data: Record<string, string> = {};
  const entry = new Entry();
  for (let id = 0; id < store.idLimit; id++) {
    if (!store.isUsed(id) || !store.isLive(id)) continue;
    store.readValue(id, entry);
    data[decoder.decode(entry.keyBytes())] = decoder.decode(entry.valueBytes());
  }
  return data;
}

/** Everything in the store, tombstones too, one text an entry, sorted. */
export function entriesOf(store: Store): string[] {
  const entries: string[] = [];
  const entry = new Entry();
  for (let id = 0; id < store.idLimit; id++) {
    if (!store.isUsed(id)) continue;
    store.read(id, entry);
    entries.push(
      JSON.stringify([
        Buffer.from(entry.keyBytes()).toString("hex"),
        entry.kind,
        Buffer.from(entry.valueBytes()).toString("hex"),
        [entry.timeHigh, entry.timeLow, entry.originHigh, entry.originLow],
        entry.expiresAtMs,
      ]),
    );
  }
  return entries.sort();
}

/** Resolves once all that is journalled by now is safe. */
export function untilSafe({ journal }: Pick<OpenedLog, "journal">): Promise<void> {
  return new Promise((resolve) => journal.whenSafe({ onSafe: resolve }));
}
