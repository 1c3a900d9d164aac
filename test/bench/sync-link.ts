/**
 * What heals cost over a long way: 50 ms of delay in each direction, with and without 1 % of loss,
 * and among 128 members. Two stores in one process and a line in virtual time between their
 * sessions, so the times are those of the way alone. The line behaves as TCP does in the main: it
 * begins with ten segments, doubles that each round trip up to a limit, and a lost segment holds up
 * all behind it for a round trip and halves what goes next. Where the kernel can do it, `tc … netem`
 * would be the real thing.
 */
import { originOf } from "../../src/core/data/origin.ts";
import type { SyncResult, SyncSession } from "../../src/core/sync/session.ts";
import { seeded } from "../support/random.ts";
import { SyncNode } from "../support/sync-pair.ts";
import { median } from "./report.ts";
import { fillNode, writeKey } from "./sync-fill.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

const START_MS = Date.now() - 36_000_000;
const DELAY_MS = 50;
const LOSS = 0.01;
const MEMBERS = 128;
const ROUNDS = 5;
const SEGMENT_BYTES = 1_448;
const FIRST_WINDOW = 10;
const MAX_WINDOW = 1_024;
const DIFFERING = [0, 1, 100, 10_000];

/** One direction of a connection. */
class Line {
  private window = FIRST_WINDOW;
  private freeAtMs = 0;

  constructor(
    private readonly loss: number,
    private readonly random: () => number,
  ) {}

  /** When bytes that are sent at a time have all arrived. */
  arrivalMs(bytes: number, atMs: number): number {
    let sentAtMs = Math.max(atMs, this.freeAtMs);
    for (let left = Math.ceil(bytes / SEGMENT_BYTES); left > 0;) {
      const flight = Math.min(left, this.window);
      left -= flight;
      let hasLost = false;
      for (let i = 0; i < flight; i++) hasLost ||= this.random() < this.loss;
      this.window = Math.max(2, Math.min(MAX_WINDOW, this.window * (hasLost ? 0.5 : 2)));
      if (left > 0 || hasLost) sentAtMs += 2 * DELAY_MS;
    }
    this.freeAtMs = sentAtMs;
    return sentAtMs + DELAY_MS;
  }
}

interface Arrival {
  readonly atMs: number;
  readonly to: number;
  readonly bytes: Uint8Array;
}

/** Runs a session over such a connection; what came of it, and after how long in virtual time. */
function overLine(
  nodes: readonly [SyncNode, SyncNode],
  loss: number,
  random: () => number,
): { result: SyncResult; ms: number } {
  const lines = [new Line(loss, random), new Line(loss, random)] as const;
  const underWay: Arrival[] = [];
  let nowMs = 0;
  let result: SyncResult | null = null;
  const sessions = nodes.map((node, i): SyncSession => {
    let sent: Uint8Array[] = [];
    const session = node.session(
      i === 0 ? "initiator" : "responder",
      (frame) => sent.push(frame.slice()),
      (it) => void (i === 0 && (result = it)),
    );
    const { step } = session;
    // What is said in one go goes off together.
    session.step = () => {
      const isMore = step.call(session);
      if (!isMore && sent.length > 0) {
        const bytes = Buffer.concat(sent);
        sent = [];
        underWay.push({ atMs: lines[i].arrivalMs(bytes.length, nowMs), to: 1 - i, bytes });
      }
      return isMore;
    };
    return session;
  });
  sessions[0].start();
  for (;;) {
    for (const session of sessions) while (session.step());
    if (result !== null) return { result, ms: nowMs };
    underWay.sort((a, b) => a.atMs - b.atMs);
    const next = underWay.shift();
    if (next === undefined) throw new Error("the session is stuck");
    nowMs = next.atMs;
    sessions[next.to].receive(next.bytes);
  }
}

/** The part. */
export async function link({ keys, note, isQuick }: SyncPlan): Promise<Row[]> {
  note("link: filling two");
  const nodes = [new SyncNode("north"), new SyncNode("south")] as const;
  for (const node of nodes) fillNode(node, keys, START_MS);
  for (let member = 1; member <= MEMBERS - 2; member++) {
    const { high, low } = originOf(`node-${member}`);
    for (const { contacts } of nodes) contacts.note(high, low, START_MS - 1_000 * member, 0);
  }
  const rows: Row[] = [];
  const random = seeded(50);
  let round = 0;
  for (const differing of DIFFERING) {
    for (const loss of [0, LOSS]) {
      note(`link: ${differing} differ, loss of ${100 * loss} %`);
      const runs = Array.from({ length: isQuick ? 1 : ROUNDS }, () => {
        diverge(nodes, keys, differing, ++round);
        return overLine(nodes, loss, random);
      });
      const failed = runs.find(({ result }) => !result.ok);
      if (failed !== undefined) throw new Error(failed.result.reason);
      const name = `${differing.toLocaleString("en-US")} differ, of ${MEMBERS} members`;
      const way = `${DELAY_MS} ms away, loss of ${100 * loss} %`;
      const of = (what: (run: (typeof runs)[number]) => number) => median(runs.map(what));
      rows.push(
        { what: `${name}: bytes both ways`, value: of(({ result }) => bytesOf(result)), unit: "B" },
        { what: `… round trips`, value: of(({ result }) => result.roundTrips), unit: "" },
        { what: `… time ${way}`, value: of(({ ms }) => ms / 1000), unit: "s" },
      );
    }
  }
  return rows;
}

function bytesOf(result: SyncResult): number {
  const valueBytes = result.valueBytesSent + result.valueBytesReceived;
  return result.bytesSent + result.bytesReceived - valueBytes;
}

function diverge(
  nodes: readonly [SyncNode, SyncNode],
  keys: number,
  count: number,
  round: number,
): void {
  for (let i = 0; i < count; i++) {
    const key = (round * 997 + Math.floor((i + 0.5) * (keys / count))) % keys;
    writeKey(nodes[i % 2], key, START_MS + keys + round * 100_000 + i, 2);
  }
}
