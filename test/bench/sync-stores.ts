/**
 * What a session costs, between two stores in one process, joined by a pipe: bytes both ways
 * without the values' own, round trips, time, the longest slice; an empty node taking over the
 * other; what the tree takes.
 */
import { SyncNode, runPair } from "../support/sync-pair.ts";
import { fillNode, writeKey } from "./sync-fill.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

/** Long ago, so that everything lies below the watermark. */
const START_MS = Date.now() - 3_600_000;

interface Targets {
  readonly bytes?: number;
  readonly roundTrips?: number;
  readonly seconds?: number;
}

const HEALS: readonly (Targets & { readonly differing: number })[] = [
  { differing: 0, bytes: 300, roundTrips: 1 },
  { differing: 1, bytes: 1_500, roundTrips: 7 },
  { differing: 100, bytes: 60_000, roundTrips: 7 },
  { differing: 10_000, bytes: 3_500_000, roundTrips: 8, seconds: 3 },
];
const TAKEOVER_SECONDS = 15;
const SLICE_MS = 10;
const TREE_BYTES_A_KEY = 25;

/** The part. */
export async function stores({ keys, note }: SyncPlan): Promise<Row[]> {
  const rows: Row[] = [];
  note("stores: filling one");
  const full = new SyncNode("full");
  const empty = new SyncNode("empty");
  fillNode(full, keys, START_MS);
  rootOf(full);
  note("stores: an empty one takes over all");
  rows.push(...heal("empty, takes over all", [empty, full], { seconds: TAKEOVER_SECONDS }));
  for (const [i, { differing, ...targets }] of HEALS.entries()) {
    const name = `${differing.toLocaleString("en-US")} differ`;
    note(`stores: ${name}`);
    diverge([full, empty], keys, differing, START_MS + keys + i * 100_000);
    rows.push(...heal(name, [full, empty], targets));
  }
  const treeBytes = full.tree.bytes() / keys;
  rows.push({ what: "tree", value: treeBytes, unit: "B a key", atMost: TREE_BYTES_A_KEY });
  return rows;
}

/** Heals two nodes and tells what that took. */
function heal(name: string, pair: readonly [SyncNode, SyncNode], targets: Targets): Row[] {
  const slices: number[] = [];
  const startedMs = performance.now();
  const result = runPair(...pair, {}, { onSlice: (ms) => slices.push(ms) }).initiator;
  const seconds = (performance.now() - startedMs) / 1000;
  if (!result.ok) throw new Error(`${name}: ${result.reason}`);
  if (rootOf(pair[0]) !== rootOf(pair[1])) throw new Error(`${name}: the roots differ`);
  const valueBytes = result.valueBytesSent + result.valueBytesReceived;
  const row = (what: string, value: number, unit: string, atMost?: number): Row => {
    return { what: `${name}: ${what}`, value, unit, ...(atMost !== undefined && { atMost }) };
  };
  return [
    row(
      "bytes both ways",
      result.bytesSent + result.bytesReceived - valueBytes,
      "B",
      targets.bytes,
    ),
    row("round trips", result.roundTrips, "", targets.roundTrips),
    row("entries sent", result.entriesSent + result.entriesReceived, ""),
    row("time", seconds, "s", targets.seconds),
    row("longest slice", Math.max(...slices), "ms", SLICE_MS),
  ];
}

/** Makes `count` keys differ; every other one is newer on the one side, the rest on the other. */
function diverge(
  nodes: readonly [SyncNode, SyncNode],
  keys: number,
  count: number,
  atMs: number,
): void {
  for (let i = 0; i < count; i++) {
    writeKey(nodes[i % 2], Math.floor((i + 0.5) * (keys / count)), atMs + i, 2);
  }
}

function rootOf({ tree }: SyncNode): string | null {
  while (tree.update(0xffff_ffff, 0xffff_ffff, 1000, () => performance.now()));
  return tree.rootHex();
}
