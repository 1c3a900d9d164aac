/**
 * `merklekv diff`: lists in what two running nodes differ, which of them is newer, and what a
 * sync would do. It only looks. Writes on their way between the nodes show as well.
 */
import { parseHostPort, type HostPort } from "../config/address.ts";
import { isoTimeOf, unixMsOf } from "../core/clock.ts";
import { latestMissed } from "../core/contacts.ts";
import { KIND_COUNTER, KIND_TOMBSTONE, compareVersions, type Entry } from "../core/entry.ts";
import { OperationalError } from "../operational-error.ts";
import { UsageError, type Arguments, type Command } from "./arguments.ts";
import { Inspection, type Described } from "./inspection.ts";

/** Buckets asked for at once: what they hold is in memory together. */
const BUCKETS_A_QUESTION = 256;

/** The subcommand. Exit code 0: equal; 1: different; 2: it could not be found out. */
export const diff: Command = {
  usage: "diff HOST:PORT HOST:PORT [--json]",
  about:
    "Lists the keys in which two nodes differ, which side is newer, and what a sync would do.\n" +
    "Changes nothing. Exit code 0: they are equal; 1: they differ; 2: it could not be found out.",
  options: [{ long: "--json", about: "Print one JSON object a line." }],
  takesWords: true,

  async run(given) {
    const [first, second] = addressesIn(given);
    const isJson = given.has("--json") || given.words.includes("--json");
    const open: Inspection[] = [];
    try {
      for (const address of [first, second]) open.push(await Inspection.open(address));
      const [a, b] = open as [Inspection, Inspection];
      const count = await compare(a, b, (difference) => {
        console.log(isJson ? jsonLine(difference) : textLine(difference, a, b));
      });
      console.log(
        isJson ? JSON.stringify({ nodes: [nameOf(a), nameOf(b)], count }) : summary(a, b, count),
      );
      return count === 0 ? 0 : 1;
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      console.error(`merklekv: ${error.message}`);
      return 2;
    } finally {
      for (const inspection of open) inspection.close();
    }
  },
};

function addressesIn(given: Arguments): [HostPort, HostPort] {
  const words = given.words.filter((word) => word !== "--json");
  if (words.length !== 2) throw new UsageError(`two nodes are compared; usage: ${diff.usage}`);
  return words.map((word) => {
    const address = parseHostPort(word);
    if (address === undefined) throw new UsageError(`"${word}" is not HOST:PORT`);
    return address;
  }) as [HostPort, HostPort];
}

type Side = "a" | "b";

/** One key in which two nodes differ. */
interface Difference {
  readonly key: string;
  readonly a: Entry | null;
  readonly b: Entry | null;
  /** The side with the higher version; null when both have the same. */
  readonly newer: Side | null;
  /** What a sync would do. */
  readonly sync: "copy" | "delete" | "replace" | "merge" | "drop" | "set aside";
  /** The side at which it would do that; null for both. */
  readonly at: Side | null;
}

/** Visits every difference, bucket by bucket; how many there are. */
async function compare(
  a: Inspection,
  b: Inspection,
  visit: (difference: Difference) => void,
): Promise<number> {
  const differing: number[] = [];
  for (let bucket = 0; bucket < a.digests.length; bucket++) {
    if (a.digests[bucket] !== b.digests[bucket]) differing.push(bucket);
  }
  let count = 0;
  for (let i = 0; i < differing.length; i += BUCKETS_A_QUESTION) {
    const buckets = differing.slice(i, i + BUCKETS_A_QUESTION);
    const [inA, inB] = await Promise.all([a.describe(buckets), b.describe(buckets)]);
    for (const key of [...new Set([...inA.keys(), ...inB.keys()])].sort()) {
      const difference = judge(key, inA.get(key), inB.get(key), a, b);
      if (difference === null) continue;
      count++;
      visit(difference);
    }
  }
  return count;
}

function judge(
  key: string,
  inA: Described | undefined,
  inB: Described | undefined,
  a: Inspection,
  b: Inspection,
): Difference | null {
  if (inA?.digest === inB?.digest) return null;
  const [entryA, entryB] = [inA?.entry ?? null, inB?.entry ?? null];
  const facts = { key, a: entryA, b: entryB };
  if (entryA === null) return { ...facts, newer: "b", ...loneFate(entryB!, "b", b, a) };
  if (entryB === null) return { ...facts, newer: "a", ...loneFate(entryA, "a", a, b) };
  const order = compareVersions(entryA, entryB);
  const newer = order === 0 ? null : order > 0 ? "a" : "b";
  if (entryA.kind === KIND_COUNTER && entryB.kind === KIND_COUNTER) {
    return { ...facts, newer, sync: "merge", at: null };
  }
  if (newer === null) return { ...facts, newer, sync: "merge", at: null };
  const winner = newer === "a" ? entryA : entryB;
  const sync = winner.kind === KIND_TOMBSTONE ? "delete" : "replace";
  return { ...facts, newer, sync, at: other(newer) };
}

/** What becomes of an entry that only one side has. */
function loneFate(
  entry: Entry,
  side: Side,
  own: Inspection,
  peer: Inspection,
): Pick<Difference, "sync" | "at"> {
  if (compareVersions(entry, peer.hello.floor) < 0) return { sync: "drop", at: side };
  const isMissed =
    unixMsOf(entry.timeHigh, entry.timeLow) <= latestMissed(peer.hello, own.hello).upToMs;
  if (isMissed && entry.kind !== KIND_TOMBSTONE) return { sync: "set aside", at: side };
  return { sync: "copy", at: other(side) };
}

function other(side: Side): Side {
  return side === "a" ? "b" : "a";
}

const nameOf = ({ address, hello }: Inspection) => ({ address, node_id: hello.nodeId });

function jsonLine({ key, a, b, newer, sync, at }: Difference): string {
  return JSON.stringify({ ...keyFacts(key), a: entryFacts(a), b: entryFacts(b), newer, sync, at });
}

function keyFacts(key: string): Record<string, string> {
  const bytes = Buffer.from(key, "latin1");
  const text = bytes.toString();
  if (Buffer.from(text).equals(bytes)) return { key: text };
  return { key_base64: bytes.toString("base64") };
}

function entryFacts(entry: Entry | null): Record<string, unknown> | null {
  if (entry === null) return null;
  const facts: Record<string, unknown> = { kind: KINDS[entry.kind], time: timeOf(entry) };
  if (entry.kind !== KIND_TOMBSTONE) facts["value_bytes"] = entry.valueLength;
  if (entry.expiresAtMs !== 0) facts["expires"] = isoTimeOf(entry.expiresAtMs);
  return facts;
}

const KINDS = ["string", "tombstone", "counter"] as const;

function timeOf({ timeHigh, timeLow }: Entry): string {
  return new Date(unixMsOf(timeHigh, timeLow)).toISOString();
}

/** `city: n1 has 5 bytes of 12:01:02.003, n2 nothing; a sync copies it to n2` */
function textLine(
  { key, a, b, newer, sync, at }: Difference,
  inA: Inspection,
  inB: Inspection,
): string {
  const [nameA, nameB] = [labelOf(inA, inB), labelOf(inB, inA)];
  const place = at === "a" ? nameA : nameB;
  const does = {
    copy: `copies it to ${place}`,
    delete: `deletes it on ${place}`,
    replace: `replaces it on ${place}`,
    merge: "merges the two",
    drop: `drops it on ${place}, because of a FLUSH`,
    "set aside": `sets it aside on ${place}, which was away for too long`,
  }[sync];
  const newest = a !== null && b !== null && newer !== null ? ` (newer)` : "";
  const [markA, markB] = newer === "a" ? [newest, ""] : ["", newest];
  const sides = `${nameA} ${holds(a)}${markA}, ${nameB} ${holds(b)}${markB}`;
  return `${printable(key)}: ${sides}; a sync ${does}`;
}

function holds(entry: Entry | null): string {
  if (entry === null) return "has nothing";
  const time = timeOf(entry);
  if (entry.kind === KIND_TOMBSTONE) return `deleted it at ${time}`;
  if (entry.kind === KIND_COUNTER) return `counted at ${time}`;
  return `has ${entry.valueLength} ${entry.valueLength === 1 ? "byte" : "bytes"} of ${time}`;
}

/** The node's id, or its address when both have the same id. */
function labelOf(node: Inspection, peer: Inspection): string {
  return node.hello.nodeId === peer.hello.nodeId ? node.address : node.hello.nodeId;
}

/** A key as text that cannot disturb a terminal. */
function printable(key: string): string {
  const { key: text = key } = keyFacts(key);
  return /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}"\s]+$/u.test(text) ? text : JSON.stringify(text);
}

function summary(a: Inspection, b: Inspection, count: number): string {
  const names = `${a.hello.nodeId} (${a.address}) and ${b.hello.nodeId} (${b.address})`;
  if (count === 0) return `${names} hold the same.`;
  return `${names} differ in ${count} ${count === 1 ? "key" : "keys"}.`;
}
