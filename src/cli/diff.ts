/**
 * `merklekv diff`: lists in what two running nodes differ, which of them is newer, and what a
 * sync would do. It only looks. Writes on their way between the nodes show as well.
 */
import { OPEN_PEERS } from "../anti-entropy/peer-security.ts";
import { parseNodeAddress, type NodeAddress } from "../config/address.ts";
import { isNodeId } from "../core/data/name.ts";
import { unixMsOf } from "../core/data/clock.ts";
import { latestMissed } from "../core/sync/contacts.ts";
import {
  KIND_COUNTER,
  KIND_HUSK,
  KIND_TOMBSTONE,
  compareVersions,
  type Entry,
  type VersionWords,
} from "../core/data/entry.ts";
import {
  REPLACE,
  baseVersionOf,
  compareExpiries,
  hasValue,
  latestVersionOf,
  mergeRule,
  writtenMs,
} from "../core/data/merge.ts";
import { PeerSeal } from "../anti-entropy/peer-seal.ts";
import { OperationalError } from "../operational-error.ts";
import { isoTimeOf } from "../timing.ts";
import { realWorld } from "../world.ts";
import { tlsGiven, tlsOptions } from "./tls-options.ts";
import { UsageError, type Arguments, type Subcommand } from "./arguments.ts";
import { secretFile, secretsFor } from "./cluster-secret.ts";
import { loginGiven, loginOptions, type Login } from "./login.ts";
import { Progress } from "./progress.ts";
import { Inspection, type Described, type Place } from "./inspection.ts";

/** Buckets asked for at once: what they hold is in memory together. */
const BUCKETS_A_QUESTION = 256;

/** The subcommand. Exit code 0: equal; 1: different; 2: it could not be found out. */
export const diff: Subcommand = {
  usage: "diff HOST:PORT HOST:PORT|NODE_ID [--json] [--secret-file FILE] [--user NAME] [--tls …]",
  about:
    "Lists the keys in which two nodes differ, which side is newer, and what a sync would do.\n" +
    "A node that cannot be reached from here is given by its id; the first one then asks it,\n" +
    "through the broker if need be.\n" +
    "tls://HOST:PORT speaks TLS to that one, and --tls to both. With a cluster secret no login is\n" +
    "needed; without one, a user who may run PEER and use all keys, at both nodes.\n" +
    "Changes nothing. Exit code 0: they are equal; 1: they differ; 2: it could not be found out.",
  options: [
    { long: "--json", about: "Print one JSON object a line." },
    secretFile,
    ...loginOptions,
    ...tlsOptions,
  ],
  acceptsOperands: "anywhere",

  async run(given) {
    const isJson = given.has("--json");
    let open: Inspection[] = [];
    try {
      const places = placesIn(given, await loginGiven(given));
      const seal = new PeerSeal(secretsFor(given), realWorld.randomWords);
      open = await Inspection.openBoth(places, seal);
      const [a, b] = open as [Inspection, Inspection];
      mustBeTwoOfOneCluster(a, b);
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

/** Throws an OperationalError when no sync could ever be between these. */
function mustBeTwoOfOneCluster(a: Inspection, b: Inspection): void {
  const [one, two] = [a.hello, b.hello];
  const isSame = one.nodeId === two.nodeId && one.epoch === two.epoch;
  if (isSame) {
    throw new OperationalError(`${a.address} and ${b.address} are one node, "${one.nodeId}"`);
  }
  if (one.cluster === two.cluster) return;
  const clusters = `"${one.nodeId}" belongs to the cluster "${one.cluster}", "${two.nodeId}" to "${two.cluster}"`;
  throw new OperationalError(`${clusters}: nothing goes over between the two`);
}

function placesIn(given: Arguments, login: Login | null): [Place, Place] {
  const { words } = given;
  if (words.length !== 2) throw new UsageError(`two nodes are compared; usage: ${diff.usage}`);
  const [first, second] = words as [string, string];
  const tls = tlsGiven(given);
  const security = tls ?? OPEN_PEERS;
  const read = (word: string): NodeAddress | undefined => {
    const address = parseNodeAddress(word);
    return address && { ...address, isSecure: address.isSecure || tls !== null };
  };
  const hostPort = read(first);
  if (hostPort === undefined) throw new UsageError(`"${first}" is not HOST:PORT`);
  const common = { security, login };
  return [{ hostPort, nodeId: "", ...common }, placeOf(second, read(second), hostPort, common)];
}

/** An address, or the id of a node that the one at `first` reaches. */
function placeOf(
  word: string,
  hostPort: NodeAddress | undefined,
  first: NodeAddress,
  common: Pick<Place, "security" | "login">,
): Place {
  if (hostPort !== undefined) return { hostPort, nodeId: "", ...common };
  if (!isNodeId(word)) throw new UsageError(`"${word}" is neither HOST:PORT nor a node id`);
  return { hostPort: first, nodeId: word, ...common };
}

type Side = "a" | "b";

/** One key in which two nodes differ. */
interface Difference {
  readonly key: string;
  readonly a: Described | null;
  readonly b: Described | null;
  /** The side with the higher version; null when both have the same. */
  readonly newer: Side | null;
  /** What a sync would do. That goes by what counters stand on, not by which side is newer. */
  readonly sync: "copy" | "delete" | "replace" | "expiry" | "merge" | "drop" | "set aside";
  /** The side at which it would do that; null for both. */
  readonly at: Side | null;
}

type Fate = Pick<Difference, "sync" | "at">;

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
  const progress = new Progress("comparing", differing.length, "buckets");
  for (let i = 0; i < differing.length; i += BUCKETS_A_QUESTION) {
    const buckets = differing.slice(i, i + BUCKETS_A_QUESTION);
    // Lines take its place.
    progress.end();
    const [inA, inB] = await Promise.all([a.describe(buckets), b.describe(buckets)]);
    for (const key of [...new Set([...inA.keys(), ...inB.keys()])].sort()) {
      const difference = judge(key, inA.get(key), inB.get(key), a, b);
      if (difference === null) continue;
      count++;
      visit(difference);
    }
    progress.add(buckets.length);
  }
  progress.end();
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
  const facts = { key, a: inA ?? null, b: inB ?? null };
  if (inA === undefined) return { ...facts, newer: "b", ...loneFate(inB!.entry, "b", b, a) };
  if (inB === undefined) return { ...facts, newer: "a", ...loneFate(inA.entry, "a", a, b) };
  const order = compareVersions(latestVersionOf(inA.entry), latestVersionOf(inB.entry));
  const newer = order === 0 ? null : order > 0 ? "a" : "b";
  return { ...facts, newer, ...commonFate(inA.entry, inB.entry) };
}

/** What becomes of two entries with one key. */
function commonFate(inA: Entry, inB: Entry): Fate {
  const replacesInB = mergeRule(inB, inA) === REPLACE;
  const expiryOrder = compareExpiries(inA, inB);
  // Neither is taken when counters are joined, or when only ends of long values can tell.
  if (!replacesInB && mergeRule(inA, inB) !== REPLACE) {
    if (expiryOrder === 0 || compareVersions(inA, inB) !== 0) return { sync: "merge", at: null };
    return { sync: "expiry", at: expiryOrder > 0 ? "b" : "a" };
  }
  const winner = replacesInB ? inA : inB;
  const sync = winner.kind === KIND_TOMBSTONE ? "delete" : "replace";
  return { sync, at: replacesInB ? "b" : "a" };
}

/** What becomes of an entry that only one side has. */
function loneFate(entry: Entry, side: Side, own: Inspection, peer: Inspection): Fate {
  const base = baseOf(entry);
  if (compareVersions(base, peer.hello.floor) < 0) return { sync: "drop", at: side };
  const { upToMs } = latestMissed(peer.hello, own.hello);
  const isMissed = upToMs > 0 && writtenMs(entry) <= upToMs;
  if (isMissed && hasValue(entry.kind)) return { sync: "set aside", at: side };
  return { sync: "copy", at: other(side) };
}

/** The version of what an entry stands on. */
function baseOf(entry: Entry): VersionWords {
  const base = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  baseVersionOf(entry, base);
  return base;
}

function other(side: Side): Side {
  return side === "a" ? "b" : "a";
}

const nameOf = ({ address, hello }: Inspection) => ({ address, node_id: hello.nodeId });

function jsonLine({ key, a, b, newer, sync, at }: Difference): string {
  return JSON.stringify({ ...keyFacts(key), a: factsOf(a), b: factsOf(b), newer, sync, at });
}

function keyFacts(key: string): Record<string, string> {
  const bytes = Buffer.from(key, "latin1");
  const text = bytes.toString();
  if (Buffer.from(text).equals(bytes)) return { key: text };
  return { key_base64: bytes.toString("base64") };
}

function factsOf(described: Described | null): Record<string, unknown> | null {
  if (described === null) return null;
  const { entry, valueBytes } = described;
  const facts: Record<string, unknown> = { kind: KINDS[entry.kind], time: timeOf(entry) };
  if (entry.kind === KIND_COUNTER) facts["base_time"] = baseTimeOf(entry);
  if (hasValue(entry.kind)) facts["value_bytes"] = valueBytes;
  if (entry.expiresAtMs !== 0) facts["expires"] = isoTimeOf(entry.expiresAtMs);
  return facts;
}

const KINDS = ["string", "tombstone", "counter", "expired", "other"] as const;

function timeOf({ timeHigh, timeLow }: VersionWords): string | number {
  return isoTimeOf(unixMsOf(timeHigh, timeLow));
}

/** When what a counter counts on from was written; null when it was begun from nothing. */
function baseTimeOf(counter: Entry): string | number | null {
  const base = baseOf(counter);
  return base.timeHigh === 0 && base.timeLow === 0 ? null : timeOf(base);
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
    expiry: `changes the expiry on ${place}`,
    merge: "merges the two",
    drop: `drops it on ${place}, because of a FLUSH`,
    "set aside": `sets it aside on ${place}, which was away for too long`,
  }[sync];
  const newest = a !== null && b !== null && newer !== null ? ` (newer)` : "";
  const [markA, markB] = newer === "a" ? [newest, ""] : ["", newest];
  const sides = `${nameA} ${holds(a)}${markA}, ${nameB} ${holds(b)}${markB}`;
  return `${printable(key)}: ${sides}; a sync ${does}`;
}

function holds(described: Described | null): string {
  if (described === null) return "has nothing";
  const { entry, valueBytes } = described;
  const time = timeOf(entry);
  if (entry.kind === KIND_TOMBSTONE) return `deleted it at ${time}`;
  if (entry.kind === KIND_HUSK) return `let go of what expired, of ${time}`;
  if (entry.kind === KIND_COUNTER) {
    const baseTime = baseTimeOf(entry);
    return `counted at ${time}${baseTime === null ? "" : ` on from ${baseTime}`}`;
  }
  return `has ${valueBytes} ${valueBytes === 1 ? "byte" : "bytes"} of ${time}`;
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
