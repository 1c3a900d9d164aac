/** Sessions with peers that cannot be reached, or say nothing: they end, and give back their places. */
import { expect, test } from "bun:test";
import type { Dial } from "../../../src/anti-entropy/dial.ts";
import { LongestSlice } from "../../../src/anti-entropy/longest-slice.ts";
import { Sessions } from "../../../src/anti-entropy/sessions.ts";
import { SyncStatistics } from "../../../src/anti-entropy/sync-statistics.ts";
import { Contacts } from "../../../src/core/sync/contacts.ts";
import { MemoryJournal } from "../../../src/durability/journal.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import type { Link } from "../../../src/ports.ts";
import { Timeline } from "../../sim/timeline.ts";
import { SyncNode } from "../../support/sync-pair.ts";

const SILENCE_MS = 10_000;
const PEER = { host: "peer", port: 1 };
const ROUND = { mode: "watermark", occasion: "known", greeting: "PEER ROUND" } as const;

/** A node with one place for sessions of each kind, which reaches peers by `dial`. */
function create(dial: Dial) {
  const timeline = new Timeline();
  const nowMs = () => timeline.nowMs;
  const timing = {
    nowMs,
    after: (delayMs: number, task: () => void) => timeline.after(delayMs, task),
    soon: (task: () => void) => timeline.after(0, task),
  };
  const { store, tree } = new SyncNode("me", { nowMs: () => 1_700_000_000_000 + nowMs() });
  const bugs: unknown[] = [];
  const sessions = new Sessions({
    timing,
    dial,
    randomWords: (count) => new Uint32Array(count),
    durability: new MemoryJournal(),
    maxQueuedBytes: 1_000,
    maxSessions: 1,
    isKnown: () => true,
    silenceMs: SILENCE_MS,
    longestSlice: new LongestSlice(nowMs, () => 0),
    statistics: new SyncStatistics("me", silentLogger, nowMs),
    onPostponed() {},
    onBug: (error) => bugs.push(error),
    common: {
      ...{ store, tree, contacts: new Contacts(), cluster: "test", nodeId: "me", epoch: 1 },
      ...{ lagMs: 2_000, maxFrameBytes: 1_000_000, nowMs: () => 1_700_000_000_000 + nowMs() },
      onSetAside() {},
    },
  });
  return { sessions, timeline, bugs };
}

/** A connection to somebody who never says anything; counts how often it was ended. */
function silentLink() {
  const ended = { times: 0 };
  const link: Link = {
    address: "peer:1",
    queuedBytes: 0,
    send() {},
    pause() {},
    resume() {},
    end: () => void ended.times++,
  };
  return { link, ended };
}

test("a peer that cannot be reached leaves the place to the next", async () => {
  const { sessions } = create(() => Promise.reject(new Error("cannot reach it")));
  for (let i = 0; i < 3; i++) {
    const { failure, reason } = await sessions.run(PEER, ROUND);
    expect([failure, reason]).toEqual(["unreachable", "cannot reach it"]);
    expect([sessions.active, sessions.hasRoom("known")]).toEqual([0, true]);
  }
});

test("a peer that is silent is given up in time: its connection ends, and its place is free", async () => {
  const { link, ended } = silentLink();
  const { sessions, timeline, bugs } = create(async (_host, _port, _greeting, handle) => {
    handle(link);
  });
  const outcome = sessions.run(PEER, ROUND);
  timeline.runUntil(SILENCE_MS / 2);
  expect([sessions.active, sessions.hasRoom("known"), ended.times]).toEqual([1, false, 0]);
  timeline.runUntil(2 * SILENCE_MS);
  expect(ended.times).toBe(1);
  expect((await outcome).reason).toContain("nothing came from peer:1 for 10 s");
  expect([sessions.active, sessions.hasRoom("known")]).toEqual([0, true]);
  expect(bugs).toEqual([]);
});

test("who says PEER and not who it is does not stay", () => {
  const { link, ended } = silentLink();
  const { sessions, timeline } = create(() => Promise.reject(new Error("not asked")));
  const results: string[] = [];
  sessions.serve(link, ({ reason }) => results.push(reason));
  timeline.runUntil(2 * SILENCE_MS);
  expect([ended.times, sessions.active]).toEqual([1, 0]);
  expect(results).toEqual(["peer:1 did not say who it is within 5 s"]);
});
