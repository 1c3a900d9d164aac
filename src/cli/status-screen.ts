/** The status of a cluster as a screen of text. */
import { formatAgo, type ClusterStatus, type NodeStatus } from "./cluster-view.ts";
import { numberOf, type Facts } from "./findings.ts";

/** How parts of the text are shown where there are colours. */
type Paint = "good" | "bad" | "dim" | "bold";

const CODES: Record<Paint, number> = { good: 32, bad: 31, dim: 2, bold: 1 };
const MIB = 1_048_576;
/** Nodes tell each other whole seconds, and a message takes a while. */
const CLOCK_PRECISION_MS = 2_000;

interface Cell {
  readonly text: string;
  readonly paint?: Paint;
}

const COLUMNS: readonly [title: string, of: (node: NodeStatus) => Cell][] = [
  ["NODE", ({ member }) => ({ text: printable(member.node_id), paint: "bold" })],
  [
    "VERSION",
    ({ member, facts }) => ({
      text: printable(facts?.get("version") ?? (member.version || "?")),
    }),
  ],
  ["BROKER", brokerOf],
  ["KEYS", (node) => ({ text: withFacts(node, (it) => grouped(numberOf(it, "total_keys"))) })],
  ["DATA", dataOf],
  ["WAITING", waitingOf],
  ["HEARD", heardOf],
  ["LAST SYNC", lastSyncOf],
  ["DISK", diskOf],
  ["MEMORY", (node) => ({ text: withFacts(node, (it) => `${it.get("memory_usage_mb")} MiB`) })],
  ["CLOCK", clockOf],
];

/** The screen, without a final newline. */
export function screenOf({ nodes, isWell }: ClusterStatus, hasColours: boolean): string {
  const paint = ({ text, paint: how }: Cell): string =>
    hasColours && how !== undefined ? `\x1b[${CODES[how]}m${text}\x1b[0m` : text;
  const rows = [
    COLUMNS.map(([title]): Cell => ({ text: title, paint: "dim" })),
    ...nodes.map((node) => COLUMNS.map(([, of]) => of(node))),
  ];
  const widths = COLUMNS.map((_, i) => Math.max(...rows.map((row) => row[i].text.length)));
  const lines = rows.map((row) =>
    row
      .map((cell, i) => paint(cell) + " ".repeat(widths[i] - cell.text.length))
      .join("  ")
      .trimEnd(),
  );
  const findings = nodes.flatMap(({ member, findings: all }) =>
    all.map(({ isWarning, what, advice }) => {
      const head = paint({
        text: isWarning ? "warning" : "note",
        paint: isWarning ? "bad" : "dim",
      });
      return `${head}: ${printable(member.node_id)}: ${printable(what)}; ${printable(advice)}`;
    }),
  );
  const end = isWell
    ? paint({ text: "All is well.", paint: "good" })
    : paint({ text: "Not all is well.", paint: "bad" });
  return [...lines, "", ...findings, end].join("\n");
}

function withFacts({ facts }: NodeStatus, of: (facts: Facts) => string): string {
  return facts === null ? "?" : of(facts);
}

function brokerOf({ member, facts }: NodeStatus): Cell {
  if (facts === null) {
    // Of itself it has said nothing.
    if (member.version === "") return { text: "?" };
    const text = member.online ? (member.hears ? "connected" : "deaf") : "away";
    return { text, paint: text === "connected" ? "good" : "bad" };
  }
  if (facts.get("replication_enabled") !== "1") return { text: "none", paint: "dim" };
  if (facts.get("replication_connected") !== "1") return { text: "away", paint: "bad" };
  const isHeard = facts.get("replication_heard") !== "0";
  return isHeard ? { text: "connected", paint: "good" } : { text: "not heard", paint: "bad" };
}

function dataOf({ isEqual, moreKeys, differingKeys }: NodeStatus): Cell {
  if (isEqual === null) return { text: "?" };
  if (isEqual) return { text: "equal", paint: "good" };
  if (differingKeys !== null && differingKeys > 0) {
    return { text: `differs in about ${grouped(differingKeys)} keys`, paint: "bad" };
  }
  if (moreKeys === null || moreKeys === 0) return { text: "differs", paint: "bad" };
  const sign = moreKeys > 0 ? "+" : "-";
  return { text: `differs, ${sign}${grouped(Math.abs(moreKeys))} keys`, paint: "bad" };
}

function waitingOf(node: NodeStatus): Cell {
  const text = withFacts(node, (facts) => {
    const waiting = numberOf(facts, "replication_waiting");
    return Number.isNaN(waiting) ? "-" : grouped(waiting);
  });
  return { text };
}

/** How new the writes are that were heard of it. */
function heardOf({ member }: NodeStatus): Cell {
  const { newest_write_seconds_ago: seconds } = member;
  return { text: seconds === null ? "-" : `${formatAgo(seconds * 1_000)} ago` };
}

function lastSyncOf({ member }: NodeStatus): Cell {
  const { last_sync_ms_ago } = member;
  return { text: last_sync_ms_ago === null ? "-" : `${formatAgo(last_sync_ms_ago)} ago` };
}

function diskOf(node: NodeStatus): Cell {
  const { facts } = node;
  if (facts === null) return { text: "?" };
  const state = facts.get("storage_state") ?? "ok";
  if (state !== "ok") return { text: state, paint: "bad" };
  if (facts.get("storage_engine") === "memory") return { text: "none", paint: "dim" };
  const free = numberOf(facts, "disk_free_bytes");
  return { text: Number.isNaN(free) ? "ok" : `${grouped(Math.round(free / MIB))} MiB free` };
}

function clockOf({ facts }: NodeStatus): Cell {
  if (facts === null) return { text: "?" };
  const ahead = numberOf(facts, "clock_ahead_of_peers_ms");
  const paint: Paint = facts.get("clock_off") === "1" ? "bad" : "good";
  if (Number.isNaN(ahead)) return { text: "-" };
  return { text: formatLead(ahead), paint };
}

/** How far a clock is ahead of others. Less than the precision says nothing. */
export function formatLead(ms: number): string {
  if (Math.abs(ms) <= CLOCK_PRECISION_MS) return "in step";
  return `${ms > 0 ? "+" : "-"}${formatAgo(Math.abs(ms))}`;
}

function grouped(number: number): string {
  return Number.isNaN(number) ? "?" : number.toLocaleString("en-US");
}

/** A node's words cannot disturb a terminal. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "�");
}
