/** What the log is told of sessions that fail, on a clock that the test moves. */
import { beforeEach, expect, test } from "bun:test";
import { SyncStatistics, type SessionSummary } from "../../../src/anti-entropy/sync-statistics.ts";
import { silentLogger, type Fields, type Logger } from "../../../src/observability/log.ts";
import { readFact } from "../../support/facts.ts";
import { readSeries } from "../../support/series.ts";

let nowMs: number;
let lines: string[];
let statistics: SyncStatistics;

beforeEach(() => {
  nowMs = 0;
  lines = [];
  const write = (message: string, fields?: Fields) => {
    lines.push([message, fields?.["reason"], fields?.["failures"]].filter(Boolean).join(" | "));
  };
  const logger: Logger = { ...silentLogger, info: write, warn: write, error: write };
  statistics = new SyncStatistics("me", logger, () => nowMs);
});

const outcome = (reason: string): SessionSummary => ({
  ok: reason === "",
  failure: reason === "" ? null : "unreachable",
  reason,
  peerNodeId: "n2",
});
const note = (reason: string, address = "n2:1") =>
  statistics.record(outcome(reason), address, "initiator", 5);

test("a peer that stays away is told of less and less often, and when it is back", () => {
  for (; nowMs < 3_600_000; nowMs += 10_000) note("refused");
  expect(lines[0]).toBe("A sync failed | refused");
  expect(lines.length).toBe(6);
  expect(lines[1]).toBe("A sync failed | refused | 7");
  note("");
  expect(lines[6]).toBe("Syncs with a peer succeed again | 360");
  note("");
  expect(lines.length).toBe(7);
});

test("another reason is told at once", () => {
  note("refused");
  note("refused");
  note("silence");
  expect(lines).toEqual(["A sync failed | refused", "A sync failed | silence | 3"]);
});

test("many addresses are remembered, but not all there are", () => {
  for (let i = 0; i < 1_500; i++) note("refused", `n${i}:1`);
  lines = [];
  note("refused", "n1499:1");
  note("refused", "n0:1");
  expect(lines).toEqual(["A sync failed | refused"]);
  expect(readFact(SyncStatistics.facts, statistics, "sync_failed")).toBe(1_502);
});

test("another node of this name is believed while sessions meet it, not for ever", () => {
  const meet = () =>
    statistics.record({ ...outcome("same name"), failure: "duplicate" }, "n2:1", "responder", 5);
  const isTold = () => readFact(SyncStatistics.facts, statistics, "sync_duplicate_node_id");
  expect(isTold()).toBe(0);
  for (; nowMs < 3_600_000; nowMs += 300_000) {
    meet();
    expect(isTold()).toBe(1);
  }
  expect(lines).toEqual([expect.stringContaining("Another live node uses this node's id")]);
  nowMs += 900_000;
  expect(isTold()).toBe(0);
  meet();
  expect(isTold()).toBe(1);
  expect(lines.length).toBe(2);
});

test("metrics tell how long ago each peer was compared with, and the log how it went", () => {
  const fields: Fields[] = [];
  const logger = { ...silentLogger, info: (_: string, it: Fields = {}) => void fields.push(it) };
  statistics = new SyncStatistics("me", logger, () => nowMs);
  note("refused");
  expect([...statistics.sinceSuccess()]).toEqual([]);
  const moved = { entriesSent: 3, entriesReceived: 1, entriesApplied: 1, roundTrips: 2 };
  const session = { ...outcome(""), ...moved, bytesSent: 40, bytesReceived: 30 };
  statistics.record(session, "n2:1", "responder", 12.4);
  nowMs += 500;
  statistics.record({ ...outcome(""), peerNodeId: "n3" }, "n3:1", "initiator", 1);
  nowMs += 1;
  expect([...statistics.sinceSuccess()]).toEqual([
    ["n2", 501],
    ["n3", 1],
  ]);
  expect(readSeries(SyncStatistics.series, statistics, "sync_duration_ms")).toEqual({ "": 2 });
  expect(fields[0]).toMatchObject({
    ...{ peer: "n2", sent: 3, received: 1, applied: 1 },
    ...{ round_trips: 2, bytes_sent: 40, bytes_received: 30, ms: 12 },
  });
});
