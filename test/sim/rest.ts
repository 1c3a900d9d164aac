/** What must be true of all nodes once the simulated world is at rest. */
import { AntiEntropy } from "../../src/anti-entropy/anti-entropy.ts";
import { Entry, KIND_HUSK, KIND_STRING, compareVersions } from "../../src/core/data/entry.ts";
import { baseVersionOf, isDeadBy } from "../../src/core/data/merge.ts";
import { KEYS_BY_SECRET } from "../../src/core/data/capabilities.ts";
import { LATEST } from "../../src/core/tree/merkle.ts";
import { KEYED_BY_NAME } from "../../src/core/tree/record-digest.ts";
import type { Store } from "../../src/core/store/store.ts";
import type { Try } from "./clients.ts";
import { shownBy } from "./oracle.ts";
import { EPOCH_MS, type SimNode } from "./sim-node.ts";
import { SECRETS, type Simulation } from "./simulation.ts";
import { contentsOf } from "../support/entry-contents.ts";
import { clusterSecrets } from "../support/secrets.ts";
import { treesOver } from "../support/trees.ts";

/** How two nodes differ at that time, in Unix ms; null when all hold the same. */
export function findDifference(nodes: readonly SimNode[], nowMs: number): string | null {
  const [first, ...others] = nodes.map((node) => contentsOfAll(node.serving!.store, nowMs));
  for (const [index, other] of others.entries()) {
    for (const key of new Set([...first.keys(), ...other.keys()])) {
      if (first.get(key) !== other.get(key)) {
        return `${key} is ${first.get(key)} on ${nodes[0].id} and ${other.get(key)} on ${nodes[index + 1].id}`;
      }
    }
  }
  return null;
}

/** Whose journal has not written everything; null when all have. */
export function findUnsafe(nodes: readonly SimNode[]): string | null {
  for (const { id, serving } of nodes) {
    const { failure, position, safePosition } = serving!.journal;
    if (failure !== null) return `${id} writes nothing: ${failure.message}`;
    if (safePosition < position) return `${id} has ${position - safePosition} bytes to write`;
  }
  return null;
}

function contentsOfAll(store: Store, nowMs: number): Map<string, string> {
  const contents = new Map<string, string>();
  const view = new Entry();
  for (let id = 0; id < store.idLimit; id++) {
    if (!store.isUsed(id)) continue;
    store.read(id, view);
    // Of what has expired nobody needs the value.
    if (view.kind === KIND_STRING && isDeadBy(nowMs, view)) {
      view.kind = KIND_HUSK;
      view.valueLength = 0;
    }
    contents.set(Buffer.from(view.keyBytes()).toString(), contentsOf(view));
  }
  return contents;
}

/** Fails unless every node shows for every key what it must. */
export function checkContents(simulation: Simulation): void {
  const { keys, present, oracle, timeline } = simulation;
  const view = new Entry();
  for (const [name, key] of keys) {
    if (present.every(({ serving }) => isMissing(serving!.store, key))) {
      simulation.counts.missing++;
      continue;
    }
    const expected = oracle.expected(name, EPOCH_MS + timeline.nowMs);
    for (const { id, serving } of present) {
      const shown = shownBy(serving!.store, key, view);
      if (shown?.value === expected?.value && shown?.expiresAtMs === expected?.expiresAtMs)
        continue;
      const [is, be] = [shown, expected].map((it) => JSON.stringify(it));
      return oracle.fail(`${id}: ${name} is ${is} and should be ${be}`);
    }
  }
}

/** Whether a node let go of the value of a key that lives after all. Clocks were wrong. */
function isMissing(store: Store, key: Uint8Array): boolean {
  const id = store.locate(key, 0, key.length);
  return id >= 0 && store.isMissing(id);
}

/** Fails unless every node knows what time it is. */
export function checkClocks({ oracle, present }: Simulation): void {
  for (const { id, serving } of present) {
    const { state } = serving!.clockWatch;
    if (state !== "trusted") oracle.fail(`${id} has a clock that is right, and it is ${state}`);
  }
}

/** What some node has not taken of what was written, or something later of that key; null for none. */
export function findUntaken({ present }: Simulation, tries: readonly Try[]): string | null {
  const view = new Entry();
  for (const { by, entry } of tries) {
    for (const { id, serving } of present) {
      const { store } = serving!;
      // It was flushed while its clock was ahead.
      if (compareVersions(store.floor, entry) > 0) continue;
      const found = store.locate(entry.key, entry.keyOffset, entry.keyLength);
      if (found >= 0) {
        store.read(found, view);
        baseVersionOf(view, view);
        if (compareVersions(view, entry) >= 0) continue;
      }
      const key = Buffer.from(entry.keyBytes()).toString();
      return `${id} has not taken what a client of ${by} was told is written of ${key}`;
    }
  }
  return null;
}

/**
 * Which node's root is not that of a tree made anew; null when all are. What has expired is not
 * over for a node that has just started and does not know its peers' time: that takes a minute.
 */
export function findOddRoot({ present }: Simulation): string | null {
  const now = () => 0;
  const roots = new Map<string, string | null>();
  for (const { id, serving } of present) {
    const { tree, trees } = serving!.antiEntropy;
    const { currentKey } = trees;
    while (tree.update(LATEST, LATEST, 1, now));
    if (!roots.has(currentKey)) {
      roots.set(currentKey, freshRoot(present[0].serving!.store, currentKey));
    }
    if (tree.rootHex() !== roots.get(currentKey)) {
      return `${id}: the root is not that of what it holds`;
    }
  }
  return null;
}

/** The root of a tree of that key made anew. */
function freshRoot(store: Store, key: string): string | null {
  const { length } = store.observers;
  const timing = { nowMs: () => 0, after: () => () => {}, soon: () => () => {} };
  const trees = treesOver(store, { timing, cluster: "sim", secrets: clusterSecrets(...SECRETS) });
  const { tree } = trees.lend(key, key === KEYED_BY_NAME ? 0 : KEYS_BY_SECRET);
  while (tree.update(LATEST, LATEST, 1, () => 0));
  store.observers.length = length;
  return tree.rootHex();
}

/** The trees of one seed in so many are checked: that takes as long as a third of a seed. */
const SEEDS_A_TREE = 10;

/** Fails unless the invariants of these nodes' stores, and in some seeds their trees, hold. */
export function checkInvariants({ oracle, seed }: Simulation, nodes: readonly SimNode[]): void {
  for (const { id, serving } of nodes) {
    if (serving === null) continue;
    const { store, antiEntropy } = serving;
    const { trees } = antiEntropy;
    try {
      store.verify();
      if (seed % SEEDS_A_TREE !== 0) continue;
      for (const tree of trees.all()) tree.verify(store.idLimit, (entry) => store.isUsed(entry));
    } catch (error) {
      return oracle.fail(`${id}: ${String(error)}`);
    }
  }
}

/** How many syncs of their present processes came to no good end. */
export function countFailedSyncs(nodes: readonly SimNode[]): number {
  const fact = AntiEntropy.facts.find(({ name }) => name === "sync_failed")!;
  return nodes.reduce((sum, { serving }) => sum + Number(fact.read(serving!.antiEntropy)), 0);
}

/** Fails if a process still holds a connection that it should have ended, one older than that. */
export function checkLinks({ oracle, present, timeline }: Simulation, maxMs: number): void {
  for (const { id, process } of present) {
    const links = [...(process?.links ?? [])].filter(({ isPeers }) => isPeers);
    const oldest = Math.min(...links.map(({ sinceMs }) => sinceMs));
    const forMs = timeline.nowMs - oldest;
    if (forMs > maxMs) oracle.fail(`${id} has had a connection to a peer for ${forMs} ms`);
  }
}
