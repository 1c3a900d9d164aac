/** Fills a store with many keys, as replication would have. */
import { timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";
import { Entry } from "../../src/core/data/entry.ts";
import type { SyncNode } from "../support/sync-pair.ts";

const entry = new Entry();
const key = new Uint8Array(16);
const value = new TextEncoder().encode("0123456789012345678901");

/** Writes the key of that number: 16 bytes, a value of 22. */
export function writeKey(node: SyncNode, number: number, atMs: number, origin: number): void {
  for (let i = 15, rest = number; i >= 0; i--, rest = Math.floor(rest / 10)) {
    key[i] = 0x30 + (rest % 10);
  }
  entry.setKey(key).setValue(value);
  entry.setVersion(timeHighOf(atMs), timeLowOf(atMs), origin, origin);
  node.store.apply(entry);
}

/** Writes keys 0 to `count` - 1. */
export function fillNode(node: SyncNode, count: number, atMs: number): void {
  for (let i = 0; i < count; i++) writeKey(node, i, atMs + i, 1);
}
