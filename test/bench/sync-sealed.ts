/**
 * What a cluster secret costs a session, between two stores in one process: bytes on the wire
 * without the values' own, round trips, and processor time of both sides together, with the secret
 * and without.
 */
import { SealedPair, sealOf } from "../support/sealed-pair.ts";
import { clusterSecrets } from "../support/secrets.ts";
import { SyncNode } from "../support/sync-pair.ts";
import type { SyncResult } from "../../src/core/sync/result.ts";
import { fillNode, writeKey } from "./sync-fill.ts";
import type { Row, SyncPlan } from "./sync-report.ts";

/** Long ago, so that everything lies below the watermark. */
const START_MS = Date.now() - 3_600_000;
const SECRETS = clusterSecrets("one");
const HEALS = [
  { differing: 0, bytes: 400, roundTrips: 1 },
  { differing: 100, bytes: 65_000, roundTrips: 7 },
  { differing: 10_000, bytes: 3_500_000, roundTrips: 8 },
] as const;
/** Sessions of each kind, of which the medians count. */
const TIMES = 9;
const QUICK_TIMES = 3;

interface Talk {
  readonly result: SyncResult;
  readonly wireBytes: number;
  readonly cpuMs: number;
}

/** The part. */
export async function sealed({ keys, isQuick, note }: SyncPlan): Promise<Row[]> {
  note("sealed: filling two stores");
  const pair = [new SyncNode("one"), new SyncNode("other")] as const;
  for (const node of pair) fillNode(node, keys, START_MS);
  for (const { tree } of pair) {
    while (tree.update(0xffff_ffff, 0xffff_ffff, 1_000, () => performance.now()));
  }
  let atMs = START_MS + keys;
  const diverge = (count: number): void => {
    for (let i = 0; i < count; i++) {
      writeKey(pair[i % 2], Math.floor((i + 0.5) * (keys / count)), atMs++, 2);
    }
  };
  const rows: Row[] = [];
  for (const { differing, bytes, roundTrips } of HEALS) {
    const name = `with a secret, ${differing} differ`;
    note(`sealed: ${differing} differ`);
    const talks: [Talk[], Talk[]] = [[], []];
    for (let i = 0; i < (isQuick ? QUICK_TIMES : TIMES); i++) {
      for (const [kind, secrets] of [null, SECRETS].entries()) {
        diverge(differing);
        talks[kind].push(talk(pair, secrets));
      }
    }
    const [plain, sealing] = talks;
    const { wireBytes, result } = sealing.at(-1)!;
    rows.push(
      { what: `${name}: bytes both ways`, value: wireBytes, unit: "B", atMost: bytes },
      { what: `${name}: round trips`, value: result.roundTrips, unit: "", atMost: roundTrips },
      { what: `${name}: processor time`, value: medianOf(sealing), unit: "ms" },
      {
        what: `without a secret, ${differing} differ: bytes`,
        value: plain.at(-1)!.wireBytes,
        unit: "B",
      },
      {
        what: `without a secret, ${differing} differ: processor time`,
        value: medianOf(plain),
        unit: "ms",
      },
    );
  }
  return rows;
}

/** One session, from its first byte to its last. */
function talk(
  [initiator, responder]: readonly [SyncNode, SyncNode],
  secrets: typeof SECRETS | null,
): Talk {
  const before = process.cpuUsage();
  const pair = new SealedPair(sealOf(secrets), sealOf(secrets));
  const results: SyncResult[] = [];
  const ends = [
    { link: pair.caller, listener: pair.atCaller, node: initiator, role: "initiator" },
    { link: pair.callee, listener: pair.atCallee, node: responder, role: "responder" },
  ] as const;
  const sessions = ends.map(({ link, listener, node, role }) => {
    const session = node.session(
      role,
      (frame) => link.send(frame),
      (result) => void results.push(result),
    );
    listener.onReceive = (bytes) => session.receive(bytes);
    return session;
  });
  sessions[0].start();
  while (results.length < 2) {
    for (const session of sessions) while (session.step());
    pair.run();
  }
  const { user, system } = process.cpuUsage(before);
  const result = results.find(({ ok }) => !ok) ?? results[0];
  if (!result.ok) throw new Error(`a session failed: ${result.reason}`);
  const onWire = pair.wire.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const wireBytes = onWire - result.valueBytesSent - result.valueBytesReceived;
  return { result, wireBytes, cpuMs: (user + system) / 1_000 };
}

function medianOf(talks: readonly Talk[]): number {
  const sorted = talks.map(({ cpuMs }) => cpuMs).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
