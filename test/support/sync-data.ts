/** What the tests of sync sessions put into stores, and how they compare them. */
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { KEEP_EXPIRY } from "../../src/core/store/own-writes.ts";
import { LATEST } from "../../src/core/tree/merkle.ts";
import { SyncNode } from "./sync-pair.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** SET, as a client of the node does it. */
export function set(node: SyncNode, key: string, value: string, expiresAtMs = 0): void {
  const [k, v] = [encoder.encode(key), encoder.encode(value)];
  node.store.set(k, 0, k.length, v, 0, v.length, expiresAtMs);
}

/** SET KEEPTTL. */
export function setValue(node: SyncNode, key: string, value: string): void {
  set(node, key, value, KEEP_EXPIRY);
}

/** PEXPIREAT, or PERSIST for 0; does nothing to what is not there. */
export function expire(node: SyncNode, key: string, expiresAtMs: number): void {
  const k = encoder.encode(key);
  node.store.expire(k, 0, k.length, expiresAtMs);
}

/** DEL. */
export function del(node: SyncNode, key: string): void {
  const k = encoder.encode(key);
  node.store.delete(k, 0, k.length);
}

/** INCR; does nothing to what is no number. */
export function incr(node: SyncNode, key: string, by: number): void {
  const k = encoder.encode(key);
  node.store.increment(k, 0, k.length, new Int64().set(by < 0 ? -1 : 0, by >>> 0));
}

/** GET; null when the key is missing. */
export function get(node: SyncNode, key: string): string | null {
  const k = encoder.encode(key);
  const id = node.store.find(k, 0, k.length);
  if (id < 0) return null;
  const entry = new Entry();
  node.store.readValue(id, entry);
  return decoder.decode(entry.valueBytes());
}

/** Copies of all entries of a node, tombstones too. */
export function entriesOf(node: SyncNode): Entry[] {
  const entries: Entry[] = [];
  const entry = new Entry();
  for (let id = 0; id < node.store.idLimit; id++) {
    if (!node.store.isUsed(id)) continue;
    node.store.read(id, entry);
    entries.push(entry.clone());
  }
  return entries;
}

/** The key of an entry as text. */
export function keyOf(entry: Entry): string {
  return decoder.decode(entry.keyBytes());
}

/** Root over all a node holds now. */
export function rootOf(node: SyncNode): string {
  while (node.store.sweep(10_000));
  while (node.tree.update(LATEST, LATEST, 1000, () => 0));
  return node.tree.rootHex()!;
}

/** A node that got everything these have, by plain merging and nothing else. */
export function mergeOf(...nodes: SyncNode[]): SyncNode {
  const merged = new SyncNode("merged", nodes[0].options);
  for (const { store } of nodes) {
    const { timeHigh, timeLow, originHigh, originLow } = store.floor;
    merged.store.applyFloor(timeHigh, timeLow, originHigh, originLow);
  }
  for (const node of nodes) for (const entry of entriesOf(node)) merged.store.apply(entry);
  return merged;
}
