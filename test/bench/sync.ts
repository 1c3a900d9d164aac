/**
 * What healing costs, as a table: `bun run bench:sync [--keys N]`. Two stores of a million keys
 * in one process, joined by a pipe: bytes both ways without the values' own, round trips, time,
 * the longest slice; an empty node taking over the other; what the tree takes.
 */
import { SyncNode, runPair } from "../support/sync-pair.ts";
import { fillNode, writeKey } from "./sync-fill.ts";

const KEYS = Number(process.argv[process.argv.indexOf("--keys") + 1]) || 1_000_000;
/** Long ago, so that everything lies below the watermark. */
const START_MS = Date.now() - 3_600_000;

/** One line of the table: what was measured, what it is to be, whether it is. */
interface Row {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  readonly atMost?: number;
}

const TARGETS = [
  { differing: 0, bytes: 300, roundTrips: 1 },
  { differing: 1, bytes: 1_500, roundTrips: 7 },
  { differing: 100, bytes: 60_000, roundTrips: 7 },
  { differing: 10_000, bytes: 3_500_000, roundTrips: 8, seconds: 3 },
];
const TAKEOVER_SECONDS = 15;
const SLICE_MS = 10;
const TREE_BYTES_A_KEY = 25;

const rows: Row[] = [];

/** Heals two nodes and adds what that took to the table. */
function heal(
  name: string,
  [initiator, responder]: readonly [SyncNode, SyncNode],
  targets: { bytes?: number; roundTrips?: number; seconds?: number },
): void {
  const slices: number[] = [];
  const startedMs = performance.now();
  const result = runPair(initiator, responder, {}, { onSlice: (ms) => slices.push(ms) }).initiator;
  const seconds = (performance.now() - startedMs) / 1000;
  if (!result.ok) throw new Error(`${name}: ${result.reason}`);
  if (rootOf(initiator) !== rootOf(responder)) throw new Error(`${name}: the roots differ`);
  const valueBytes = result.valueBytesSent + result.valueBytesReceived;
  const row = (what: string, value: number, unit: string, atMost?: number): void => {
    rows.push({ what: `${name}: ${what}`, value, unit, ...(atMost !== undefined && { atMost }) });
  };
  row("bytes both ways", result.bytesSent + result.bytesReceived - valueBytes, "B", targets.bytes);
  row("round trips", result.roundTrips, "", targets.roundTrips);
  row("entries sent", result.entriesSent + result.entriesReceived, "");
  row("time", seconds, "s", targets.seconds);
  row("longest slice", Math.max(...slices), "ms", SLICE_MS);
  row("slices above 4 ms", slices.filter((ms) => ms > 4).length, `of ${slices.length}`);
}

/** Makes `count` keys differ; every other one is newer on the one side, the rest on the other. */
function diverge(nodes: readonly [SyncNode, SyncNode], count: number, atMs: number): void {
  for (let i = 0; i < count; i++) {
    const key = Math.floor((i + 0.5) * (KEYS / count));
    writeKey(nodes[i % 2], key, atMs + i, 2);
  }
}

function rootOf({ tree }: SyncNode): string | null {
  while (tree.update(0xffff_ffff, 0xffff_ffff, 1000, () => performance.now()));
  return tree.rootHex();
}

function cell({ value, unit }: Row): string {
  const text = Number.isInteger(value) ? value.toLocaleString("en-US") : value.toFixed(2);
  return `${text} ${unit}`.trim();
}

const full = new SyncNode("full");
const empty = new SyncNode("empty");
fillNode(full, KEYS, START_MS);
rootOf(full);
heal("an empty node takes over all", [empty, full], { seconds: TAKEOVER_SECONDS });
for (const [i, { differing, ...targets }] of TARGETS.entries()) {
  diverge([full, empty], differing, START_MS + KEYS + i * 100_000);
  heal(`${differing.toLocaleString("en-US")} differ`, [full, empty], targets);
}
rows.push({
  what: "tree",
  value: full.tree.bytes() / KEYS,
  unit: "B a key",
  atMost: TREE_BYTES_A_KEY,
});

console.log(
  `${KEYS.toLocaleString("en-US")} keys of 16 bytes, values of 22, both nodes in one process`,
);
for (const row of rows) {
  const target = row.atMost === undefined ? "" : `≤ ${row.atMost.toLocaleString("en-US")}`;
  const isMet = row.atMost === undefined ? "" : row.value <= row.atMost ? "yes" : "NO";
  console.log(
    `${row.what.padEnd(46)} ${cell(row).padStart(16)}  ${target.padStart(12)}  ${isMet}`.trimEnd(),
  );
}
const judged = rows.filter((row) => row.atMost !== undefined);
const met = judged.filter((row) => row.value <= row.atMost!);
console.log(`\n${met.length} of ${judged.length} targets met`);
