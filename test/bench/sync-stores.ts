/**
 * What a session costs, between two stores in one process, joined by a pipe: bytes both ways
 * without the values' own, round trips, time, the longest slice; an empty node taking over the
 * other; what the tree takes.
 */
import { SyncNode, runPair } from "../support/sync-pair.ts";
import { fillNode, writeKey } from "./sync-fill.ts";
import { median } from "./report.ts";
import type { SyncResult } from "../../src/core/sync/session.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

/** Long ago, so that everything lies below the watermark. */
const START_MS = Date.now() - 36_000_000;

interface Targets {
  readonly bytes?: number;
  readonly roundTrips?: number;
  readonly seconds?: number;
  readonly processorMs?: number;
}

const HEALS: readonly (Targets & { readonly differing: number })[] = [
  { differing: 0, bytes: 300, roundTrips: 1 },
  { differing: 1, bytes: 400, roundTrips: 2, processorMs: 30 },
  { differing: 100, bytes: 12_000, roundTrips: 3, processorMs: 30 },
  { differing: 10_000, bytes: 1_100_000, roundTrips: 4, seconds: 3, processorMs: 30 },
];
/** Heals of each kind, each of other keys: whether two of those share a bucket is chance. */
const ROUNDS = 9;
const TAKEOVER_SECONDS = 15;
const SLICE_MS = 10;
const TREE_BYTES_A_KEY = 25;

/** What a heal came to; times in ms, of the initiator and the responder. */
interface Heal {
  readonly result: SyncResult;
  readonly bytes: number;
  readonly ms: number;
  readonly longestSliceMs: number;
  readonly processorMs: readonly [number, number];
}

/** The part. */
export async function stores({ keys, note, isQuick }: SyncPlan): Promise<Row[]> {
  const rows: Row[] = [];
  note("stores: filling one");
  const full = new SyncNode("full");
  const empty = new SyncNode("empty");
  fillNode(full, keys, START_MS);
  rootOf(full);
  note("stores: an empty one takes over all");
  const takeover = heal([empty, full]);
  rows.push(...rowsOf("empty, takes over all", [takeover], { seconds: TAKEOVER_SECONDS }));
  let round = 0;
  for (const { differing, ...targets } of HEALS) {
    const name = `${differing.toLocaleString("en-US")} differ`;
    note(`stores: ${name}`);
    const heals: Heal[] = [];
    for (let i = 0; i < (isQuick ? 1 : ROUNDS); i++, round++) {
      diverge([full, empty], keys, differing, round);
      heals.push(heal([full, empty]));
    }
    rows.push(...rowsOf(name, heals, targets));
  }
  const treeBytes = full.tree.bytes() / keys;
  rows.push({ what: "tree", value: treeBytes, unit: "B a key", atMost: TREE_BYTES_A_KEY });
  return rows;
}

/** Heals two nodes, whose trees have taken in all there is. */
function heal(pair: readonly [SyncNode, SyncNode]): Heal {
  for (const node of pair) rootOf(node);
  let longestSliceMs = 0;
  const processorMs: [number, number] = [0, 0];
  const onSlice = (ms: number, end: number): void => {
    processorMs[end] += ms;
    longestSliceMs = Math.max(longestSliceMs, ms);
  };
  const startedMs = performance.now();
  const result = runPair(...pair, {}, { onSlice, sliceClock: processorTimeMs }).initiator;
  const ms = performance.now() - startedMs;
  if (!result.ok) throw new Error(result.reason);
  if (rootOf(pair[0]) !== rootOf(pair[1])) throw new Error("the roots differ");
  const valueBytes = result.valueBytesSent + result.valueBytesReceived;
  const bytes = result.bytesSent + result.bytesReceived - valueBytes;
  return { result, bytes, ms, longestSliceMs, processorMs };
}

/** The medians of some heals of one kind. */
function rowsOf(name: string, heals: readonly Heal[], targets: Targets): Row[] {
  const row = (what: string, unit: string, atMost: number | undefined, of: (it: Heal) => number) =>
    ({
      what: `${name}: ${what}`,
      value: median(heals.map(of)),
      unit,
      ...(atMost !== undefined && { atMost }),
    }) satisfies Row;
  const { bytes, roundTrips, seconds, processorMs } = targets;
  return [
    row("bytes both ways", "B", bytes, (it) => it.bytes),
    row("round trips", "", roundTrips, (it) => it.result.roundTrips),
    {
      what: `${name}: most round trips of ${heals.length}`,
      value: Math.max(...heals.map((it) => it.result.roundTrips)),
      unit: "",
    },
    row("entries sent", "", undefined, ({ result: it }) => it.entriesSent + it.entriesReceived),
    row("time", "s", seconds, (it) => it.ms / 1000),
    row("longest slice, processor time", "ms", SLICE_MS, (it) => it.longestSliceMs),
    row("processor time, initiator", "ms", processorMs, (it) => it.processorMs[0]),
    row("processor time, responder", "ms", processorMs, (it) => it.processorMs[1]),
  ];
}

/** Makes `count` keys differ; every other one is newer on the one side, the rest on the other. */
function diverge(
  nodes: readonly [SyncNode, SyncNode],
  keys: number,
  count: number,
  round: number,
): void {
  const atMs = START_MS + keys + round * 100_000;
  const first = Math.floor((round * keys) / (ROUNDS * Math.max(count, 1)));
  for (let i = 0; i < count; i++) {
    const key = (first + Math.floor((i + 0.5) * (keys / count))) % keys;
    writeKey(nodes[i % 2], key, atMs + i, 2);
  }
}

/** The processor time of this process so far, in ms. */
function processorTimeMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function rootOf({ tree }: SyncNode): string | null {
  while (tree.update(0xffff_ffff, 0xffff_ffff, 1000, () => performance.now()));
  return tree.rootHex();
}
