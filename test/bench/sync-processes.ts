/**
 * What healing costs two nodes of the built binary and those who use them meanwhile: an empty node
 * takes over a million keys; ten thousand keys of a million heal while both nodes serve clients; a
 * comparison of every key; a comparison of roots.
 *
 * The longest slices come from the nodes' own INFO, since CONFIG RESETSTAT right before: in processor
 * time, which is judged, and on the clock, where a processor shared with the peer, the load and the
 * compiler may have done something else meanwhile.
 */
import { eventually } from "../support/eventually.ts";
import { fill, keyCount, KEYS, request, sendAll } from "./load.ts";
import { PacedLoad, type Pace } from "./paced-load.ts";
import { facts } from "./replicated.ts";
import { median } from "./report.ts";
import { type Server, startMerklekv } from "./servers.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

const DIFFERING = 10_000;
const ROUNDS = 5;
const TAKEOVER_SECONDS = 15;
const HEAL_SECONDS = 3;
const SLICE_MS = 10;
const SETTLE_DEADLINE_MS = 60_000;

const SLICES: readonly { what: string; fact: string; atMost?: number }[] = [
  { what: "… longest slice of a session", fact: "sync_longest_slice_cpu_ms", atMost: SLICE_MS },
  { what: "… … on the clock", fact: "sync_longest_slice_ms" },
  { what: "… longest slice of the tree", fact: "tree_longest_slice_cpu_ms", atMost: SLICE_MS },
  { what: "… … on the clock", fact: "tree_longest_slice_ms" },
];

/** The load on each node: reads of all keys, and writes of few, so that they are not what differs. */
const REQUESTS_A_SECOND = 10_000;
const CONNECTIONS = 10;
const WRITTEN_KEYS = 100;
const READS_A_WRITE = 9;
/** How long it runs before the heal begins. */
const LEAD_MS = 1_000;
const LOAD = `${REQUESTS_A_SECOND.toLocaleString("en-US")} requests/s on each, 1 in 10 a SET`;

/** Two nodes. */
export type Pair = readonly [Server, Server];

/** What a sync came to. */
interface Sync {
  readonly seconds: number;
  /** Entries that went over, either way. */
  readonly entries: number;
  /** The longest slices on either node: facts of INFO, in ms. */
  readonly slicesMs: ReadonlyMap<string, number>;
}

/** The part. */
export async function processes({ isQuick, note }: SyncPlan): Promise<Row[]> {
  await using full = await startMerklekv("full");
  await using empty = await startMerklekv("empty");
  note("processes: filling one");
  await fill(full, "SET");
  const pair = [empty, full] as const;
  note("processes: an empty node takes over all");
  const rows = rowsOf("empty node takes over all", [await sync(pair)], TAKEOVER_SECONDS);
  if ((await keyCount(empty)) !== KEYS) throw new Error("it did not take over all keys");

  const heals: Sync[] = [];
  const answersMs: number[] = [];
  for (let round = 0; round < (isQuick ? 1 : ROUNDS); round++) {
    note(`processes: heal under load, round ${round + 1}`);
    await untilSettled(pair);
    await diverge(pair, round);
    const loads = await Promise.all(pair.map((node) => PacedLoad.start(node, paceOfLoad())));
    await Bun.sleep(LEAD_MS);
    for (const load of loads) load.slowestMs = 0;
    heals.push(await sync(pair));
    answersMs.push(...loads.map((load) => load.slowestMs));
    await Promise.all(loads.map((load) => load.stop()));
  }
  rows.push(...rowsOf(`10,000 differ, load of ${LOAD}`, heals, HEAL_SECONDS));
  rows.push({
    what: "… and the load's longest wait for an answer meanwhile",
    value: Math.max(...answersMs),
    unit: "ms",
  });

  note("processes: SYNC --verify and SYNC --full");
  // What the load wrote last differs; this says OK only when the roots are equal then.
  const verified = await sync(pair, "--verify");
  rows.push({ what: "SYNC --verify", value: verified.seconds, unit: "s" });
  rows.push(...rowsOf("SYNC --full of equal nodes", [await sync(pair, "--full", "--verify")]));
  return rows;
}

function rowsOf(name: string, syncs: readonly Sync[], seconds?: number): Row[] {
  const times = syncs.map((sync) => sync.seconds);
  const rows: Row[] = [
    {
      what: `${name}: time`,
      value: median(times),
      unit: "s",
      ...(seconds !== undefined && { atMost: seconds }),
    },
  ];
  if (syncs.length > 1) {
    rows.push({ what: `… longest of ${syncs.length}`, value: Math.max(...times), unit: "s" });
  }
  rows.push({ what: "… entries sent", value: median(syncs.map((sync) => sync.entries)), unit: "" });
  for (const { what, fact, atMost } of SLICES) {
    const value = Math.max(...syncs.map((sync) => sync.slicesMs.get(fact)!));
    rows.push({ what, value, unit: "ms", ...(atMost !== undefined && { atMost }) });
  }
  return rows;
}

/** `SYNC`, said to the first of the pair. Throws unless it answers OK. */
async function sync([node, peer]: Pair, ...flags: string[]): Promise<Sync> {
  for (const each of [node, peer]) await sendAll(each, [request("CONFIG", "RESETSTAT")]);
  const before = await transferred([node, peer]);
  const startedMs = performance.now();
  const answer = await askSlowly(node, ["SYNC", "127.0.0.1", `${peer.port}`, ...flags].join(" "));
  const seconds = (performance.now() - startedMs) / 1000;
  if (answer !== "OK") throw new Error(`SYNC was answered: ${answer}`);
  const infos = await Promise.all([node, peer].map(facts));
  const longest = (fact: string) => Math.max(...infos.map((info) => Number(info.get(fact))));
  return {
    seconds,
    entries: (await transferred([node, peer])) - before,
    slicesMs: new Map(SLICES.map(({ fact }) => [fact, longest(fact)])),
  };
}

/** Entries that any of these nodes has sent in a sync so far. */
export async function transferred(nodes: readonly Server[]): Promise<number> {
  const infos = await Promise.all(nodes.map(facts));
  return infos.reduce((sum, info) => sum + Number(info.get("sync_entries_sent")), 0);
}

/** Sends a node a line and awaits one, however long it takes. */
export async function askSlowly(server: Server, line: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let text = "";
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: server.port,
    socket: {
      data(_socket, chunk) {
        text += chunk.toString();
        if (text.includes("\n")) resolve(text.trimEnd());
      },
      close: () => reject(new Error("the node hung up")),
    },
  });
  socket.write(`${line}\n`);
  try {
    return await promise;
  } finally {
    socket.end();
  }
}

/** Makes every other one of these keys newer on the one node, the rest on the other. */
export async function diverge(pair: Pair, round: number): Promise<void> {
  const value = `round ${round}`.padEnd(22, "x");
  for (const [side, node] of pair.entries()) {
    const requests: string[] = [];
    for (let i = side; i < DIFFERING; i += 2) {
      requests.push(request("SET", keyName(Math.floor((i + 0.5) * (KEYS / DIFFERING))), value));
    }
    await sendAll(node, requests);
  }
}

function paceOfLoad(): Pace {
  let count = 0;
  const next = () => {
    const isWrite = count++ % (READS_A_WRITE + 1) === 0;
    const key = keyName(Math.floor(Math.random() * (isWrite ? WRITTEN_KEYS : KEYS)));
    return isWrite ? `SET ${key} written under load ${count}\n` : `GET ${key}\n`;
  };
  return { perSecond: REQUESTS_A_SECOND, connections: CONNECTIONS, next };
}

/** Waits until both trees have taken in all there is and are the same, which they are after a sync. */
async function untilSettled(pair: Pair): Promise<void> {
  await sync(pair);
  const roots = async () => (await Promise.all(pair.map(facts))).map((it) => it.get("merkle_root"));
  const areEqual = async () => new Set(await roots()).size === 1;
  await eventually("the roots are equal", areEqual, SETTLE_DEADLINE_MS);
}

function keyName(number: number): string {
  return `key:${String(number).padStart(12, "0")}`;
}
