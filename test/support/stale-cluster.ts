/** Nodes on one clock, some of which have forgotten deletions that others never heard of. */
import { expect } from "bun:test";
import { del, set } from "./sync-data.ts";
import { runPair, SyncNode } from "./sync-pair.ts";

/** When the clocks of a cluster begin, in Unix ms. */
export const START_MS = 1_700_000_000_000;
/** How long deletions are kept. */
export const GRACE_MS = 100_000;

/** Nodes on one clock that have met, and a key on all of them. */
export function cluster(...names: string[]) {
  const time = { ms: START_MS, isCertain: true };
  const nowMs = (): number => time.ms;
  const mayForget = (): boolean => time.isCertain;
  const options = { nowMs, mayForget, tombstoneGraceMs: GRACE_MS };
  const nodes = names.map((name) => new SyncNode(name, options));
  set(nodes[0], "key", "v");
  set(nodes[0], "counter", "7");
  time.ms += 10_000;
  for (const node of nodes.slice(1)) heal(nodes[0], node);
  return { time, nodes };
}

/** Has two nodes sync, which has to succeed. */
export function heal(a: SyncNode, b: SyncNode): void {
  const { initiator, responder } = runPair(a, b);
  expect([initiator.reason, responder.reason]).toEqual(["", ""]);
}

/** Deletes everything of the cluster's on one node and lets the grace pass. */
export function deleteAndForget(node: SyncNode, time: { ms: number }): void {
  time.ms += 10_000;
  del(node, "key");
  del(node, "counter");
  time.ms += GRACE_MS + 1;
  node.store.sweep(1000);
  expect(node.store.deletions.purgedUpToMs).toBe(time.ms - GRACE_MS - 1);
}
