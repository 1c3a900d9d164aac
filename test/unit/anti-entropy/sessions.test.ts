/** Sessions with peers that cannot be reached, or say nothing: they end, and give back their places. */
import { describe, expect, test } from "bun:test";
import { DifferenceMap } from "../../../src/anti-entropy/difference-map.ts";
import { LongestSlice } from "../../../src/anti-entropy/longest-slice.ts";
import type { PeerSeal } from "../../../src/anti-entropy/peer-seal.ts";
import { Sessions } from "../../../src/anti-entropy/sessions.ts";
import type { TreesOptions } from "../../../src/anti-entropy/trees.ts";
import { CURRENT, KEYS_BY_SECRET, OLDEST } from "../../../src/core/data/capabilities.ts";
import { SyncStatistics } from "../../../src/anti-entropy/sync-statistics.ts";
import type { Reach } from "../../../src/anti-entropy/ways.ts";
import { Contacts } from "../../../src/core/sync/contacts.ts";
import { MemoryJournal } from "../../../src/durability/journal.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import type { Link } from "../../../src/ports.ts";
import type { Store } from "../../../src/core/store/store.ts";
import type { Timing } from "../../../src/timing.ts";
import { noTracer } from "../../../src/tracer.ts";
import { Timeline } from "../../sim/timeline.ts";
import { PipedLink } from "../../support/piped-links.ts";
import { sealOf } from "../../support/sealed-pair.ts";
import { clusterSecrets } from "../../support/secrets.ts";
import { SyncNode } from "../../support/sync-pair.ts";
import { treesOver } from "../../support/trees.ts";

const ONE = clusterSecrets("one");
const SILENCE_MS = 10_000;
const PEER = { hostPort: { host: "peer", port: 1, isSecure: false }, relayTo: "" };
const ROUND = { mode: "watermark", occasion: "known", greeting: "PEER ROUND" } as const;
const ALL = { mode: "now", occasion: "known", greeting: "PEER" } as const;

interface World {
  readonly timeline: Timeline;
  readonly timing: Timing;
}

/** A look at the time takes that long, in ms: so work takes time, and goes in slices. */
function createWorld(lookMs = 0): World {
  const timeline = new Timeline();
  let spentMs = 0;
  const timing = {
    nowMs: () => timeline.nowMs + (spentMs += lookMs),
    after: (delayMs: number, task: () => void) => timeline.after(delayMs, task),
    soon: (task: () => void) => timeline.after(0, task),
  };
  return { timeline, timing };
}

/** A node with one place for sessions of each kind, which reaches peers by `reach`. */
function create(
  reach: Reach,
  world = createWorld(),
  nodeId = "me",
  maxQueuedBytes = 1_000,
  seal = sealOf(null),
  more: Partial<Pick<TreesOptions, "secrets" | "capabilities">> = {},
) {
  const { timeline, timing } = world;
  const wallMs = () => 1_700_000_000_000 + timeline.nowMs;
  const { store } = new SyncNode(nodeId, { nowMs: wallMs });
  const trees = treesOver(store, { timing, secrets: ONE, ...more });
  const bugs: unknown[] = [];
  const warnings: unknown[] = [];
  const logger = { ...silentLogger, warn: (_: string, fields = {}) => void warnings.push(fields) };
  const sessions = new Sessions({
    timing,
    reach,
    seal,
    trees,
    randomWords: (count) => new Uint32Array(count),
    durability: new MemoryJournal(),
    maxQueuedBytes,
    maxSessions: 1,
    isKnown: () => true,
    silenceMs: SILENCE_MS,
    longestSlice: new LongestSlice(timing.nowMs, () => 0),
    differences: new DifferenceMap(timing),
    statistics: new SyncStatistics(nodeId, logger, timing.nowMs),
    onPostponed() {},
    onPeerTime() {},
    onBug: (error) => bugs.push(error),
    tracer: noTracer,
    random: () => 0,
    common: {
      ...{ store, contacts: new Contacts(), cluster: "test", nodeId, epoch: 1 },
      // As many bytes go over as there are.
      ...{ lagMs: 2_000, maxFrameBytes: 1_000_000, nowMs: wallMs, compresses: false },
      onSetAside() {},
      ...(more.capabilities && { capabilities: more.capabilities }),
    },
  });
  return { sessions, store, trees, timeline, bugs, warnings };
}

/** A node that calls and one that answers. */
function createPair(
  options: {
    lookMs?: number;
    maxQueuedBytes?: number;
    seals?: [PeerSeal, PeerSeal];
    trees?: [Parameters<typeof create>[5], Parameters<typeof create>[5]];
  } = {},
) {
  const world = createWorld(options.lookMs);
  const { timing } = world;
  const links: PipedLink[] = [];
  const unreachable: Reach = () => Promise.reject(new Error("not asked"));
  const [guestSeal, hostSeal] = options.seals ?? [sealOf(null), sealOf(null)];
  const [guestTrees, hostTrees] = options.trees ?? [];
  const host = create(unreachable, world, "host", options.maxQueuedBytes, hostSeal, hostTrees);
  const reach: Reach = async (_peer, greeting, handle) => {
    const [mine, theirs] = PipedLink.pair(timing, ["guest:1", "host:1"]);
    theirs.handler = host.sessions.serve(theirs, greeting === "PEER ROUND", () => {});
    mine.handler = handle(mine);
    links.push(mine, theirs);
  };
  const guest = create(reach, world, "guest", options.maxQueuedBytes, guestSeal, guestTrees);
  return { guest, host, links, timeline: world.timeline };
}

/** Strings of so many bytes under so many keys. */
function fill({ store }: { store: Store }, count: number, bytes: number): void {
  for (let i = 0; i < count; i++) {
    const key = Buffer.from(`key:${i}`);
    store.set(key, 0, key.length, Buffer.alloc(bytes, i), 0, bytes, 0);
  }
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
  const { sessions, timeline, bugs } = create(async (_peer, _greeting, handle) => {
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
  sessions.serve(link, false, ({ reason }) => results.push(reason));
  timeline.runUntil(2 * SILENCE_MS);
  expect([ended.times, sessions.active]).toEqual([1, 0]);
  expect(results).toEqual(["peer:1 did not say who it is within 5 s"]);
});

test("a guest's place is free for the next one as soon as its session is over", async () => {
  const { guest, host, timeline } = createPair();
  fill(host, 3, 10);
  for (let visit = 0; visit < 3; visit++) {
    const outcome = guest.sessions.run(PEER, ALL);
    timeline.runUntil(timeline.nowMs + SILENCE_MS / 10);
    const { ok, reason } = await outcome;
    expect([ok, reason]).toEqual([true, ""]);
  }
  expect(guest.store.size).toBe(3);
});

test("a session that filled the connection goes on once that is empty again", async () => {
  const { guest, host, timeline } = createPair({ maxQueuedBytes: 1_000 });
  fill(host, 1_000, 500);
  const outcome = guest.sessions.run(PEER, ALL);
  timeline.runUntil(SILENCE_MS / 2);
  expect([guest.sessions.active, guest.store.size]).toEqual([0, 1_000]);
  expect((await outcome).ok).toBe(true);
});

test("a session that had enough to work on reads on when it is done with that", async () => {
  const pair = createPair({ lookMs: 0.4, maxQueuedBytes: 1_000_000 });
  const { guest, host, links, timeline } = pair;
  fill(host, 1_000, 1_000);
  const outcome = guest.sessions.run(PEER, ALL);
  timeline.runUntil(SILENCE_MS / 2);
  expect(links[0].pauses).toBeGreaterThan(0);
  expect([guest.sessions.active, guest.store.size]).toEqual([0, 1_000]);
  expect((await outcome).ok).toBe(true);
});

describe("in a cluster with a secret", () => {
  const sealed = (): [PeerSeal, PeerSeal] => [sealOf(ONE), sealOf(ONE)];

  test.each([ROUND, ALL])("nodes compare and heal: $greeting", async (request) => {
    const pair = createPair({ seals: sealed(), maxQueuedBytes: 100_000 });
    const { guest, host, timeline } = pair;
    fill(host, 300, 500);
    timeline.runUntil(SILENCE_MS);
    const outcome = guest.sessions.run(PEER, request);
    timeline.runUntil(timeline.nowMs + SILENCE_MS);
    const { ok, reason, peerNodeId } = await outcome;
    expect([ok, reason, peerNodeId]).toEqual([true, "", "host"]);
    expect(guest.store.size).toBe(300);
    expect([guest.bugs, host.bugs]).toEqual([[], []]);
  });

  test("a session that filled the connection goes on once that is empty again", async () => {
    const { guest, host, timeline } = createPair({ seals: sealed(), maxQueuedBytes: 1_000 });
    fill(host, 1_000, 500);
    const outcome = guest.sessions.run(PEER, ALL);
    timeline.runUntil(SILENCE_MS / 2);
    expect([guest.sessions.active, guest.store.size]).toEqual([0, 1_000]);
    expect((await outcome).ok).toBe(true);
  });

  test("what is more than rides in an opening is fetched, too", async () => {
    const { guest, host, timeline } = createPair({ seals: sealed(), maxQueuedBytes: 200_000 });
    const keys = [1, 2, 3].map((n) => Buffer.alloc(60_000, n));
    for (const key of keys) host.store.set(key, 0, key.length, Buffer.from("value"), 0, 5, 0);
    const request = {
      mode: "fetch",
      occasion: "known",
      greeting: "PEER",
      fetchKeys: keys,
    } as const;
    const outcome = guest.sessions.run(PEER, request);
    timeline.runUntil(SILENCE_MS / 2);
    expect((await outcome).ok).toBe(true);
    expect(guest.store.size).toBe(3);
  });

  test.each([
    ["the host has none", [sealOf(ONE), sealOf(null)], "it has no cluster", "it has a cluster"],
    ["the guest has none", [sealOf(null), sealOf(ONE)], "the peer ended", "it has no cluster"],
    [
      "theirs is another",
      [sealOf(ONE), sealOf(clusterSecrets("two"))],
      "it has another",
      "it has another",
    ],
  ] as [string, [PeerSeal, PeerSeal], string, string][])(
    "nodes without the same refuse each other at once, and both say why: %s",
    async (_what, seals, guestSays, hostSays) => {
      const { guest, host, timeline } = createPair({ seals });
      fill(host, 3, 10);
      const outcome = guest.sessions.run(PEER, ALL);
      timeline.runUntil(100);
      const { ok, reason } = await outcome;
      expect([ok, guest.store.size]).toEqual([false, 0]);
      expect(reason).toStartWith(guestSays);
      expect(reason).toContain("cluster.secret_file");
      expect(guest.warnings).toEqual([expect.objectContaining({ reason })]);
      const said = host.warnings as { reason: string }[];
      expect(said.length).toBe(1);
      expect(said[0].reason).toStartWith(hostSays);
      expect(said[0].reason).toContain("cluster.secret_file");
      expect([guest.sessions.active, host.sessions.active]).toEqual([0, 0]);
    },
  );

  test("who sends an opening byte by byte, and never all of it, does not stay", () => {
    const { link, ended } = silentLink();
    const { sessions, timeline } = create(
      () => Promise.reject(new Error("not asked")),
      createWorld(),
      "host",
      1_000,
      sealOf(ONE),
    );
    const results: string[] = [];
    const handler = sessions.serve(link, false, ({ reason }) => results.push(reason));
    handler.receive(Buffer.of(0xc1, ...Buffer.from(ONE.current.id, "hex"), 0xff, 0xff));
    for (let i = 0; i < 100; i++) {
      timeline.runUntil(timeline.nowMs + SILENCE_MS / 100);
      handler.receive(Buffer.alloc(100));
    }
    expect([ended.times, sessions.active]).toEqual([1, 0]);
    expect(results).toEqual(["peer:1 did not say who it is within 5 s"]);
  });

  test("who answers without it counts as not reached, so that another way is tried", async () => {
    const { guest, timeline } = createPair({ seals: [sealOf(ONE), sealOf(null)] });
    const outcome = guest.sessions.run(PEER, ALL);
    timeline.runUntil(100);
    expect((await outcome).failure).toBe("unreachable");
  });
});

describe("two nodes whose trees have different keys compare one that both can have", () => {
  const rotating = [clusterSecrets("one", ["two"]), clusterSecrets("two", ["one"])] as const;
  const OLDER = { ...CURRENT, features: CURRENT.features & ~KEYS_BY_SECRET };
  const [NEW, OLD] = [{ secrets: ONE }, { secrets: ONE, capabilities: OLDER }];

  /** Both have something of their own, and one session heals that; the next one finds them equal. */
  async function expectHealed(
    [ofGuest, ofHost]: readonly [typeof NEW, typeof NEW],
    request: typeof ROUND | typeof ALL,
  ) {
    const seals: [PeerSeal, PeerSeal] = [sealOf(ofGuest.secrets), sealOf(ofHost.secrets)];
    const trees: [typeof NEW, typeof NEW] = [ofGuest, ofHost];
    const { guest, host, timeline } = createPair({ seals, trees, maxQueuedBytes: 100_000 });
    const bytes = Buffer.from("value");
    for (let i = 0; i < 200; i++) {
      const key = Buffer.from(`key:${i}`);
      for (const { store } of i % 3 === 0 ? [guest] : [host]) {
        store.set(key, 0, key.length, bytes, 0, bytes.length, 0);
      }
    }
    timeline.runUntil(SILENCE_MS);
    const visit = async () => {
      const outcome = guest.sessions.run(PEER, request);
      timeline.runUntil(timeline.nowMs + SILENCE_MS);
      const { ok, reason, hasMoved } = await outcome;
      expect([ok, reason]).toEqual([true, ""]);
      return hasMoved;
    };
    expect(await visit()).toBe(true);
    expect([guest.store.size, host.store.size]).toEqual([200, 200]);
    expect(await visit()).toBe(false);
    expect([guest.bugs, host.bugs]).toEqual([[], []]);
    return { guest, host, timeline };
  }

  test.each([ROUND, ALL])("in the middle of a change of the secret: $greeting", async (request) => {
    const sides = rotating.map((secrets) => ({ secrets }));
    const { guest, host } = await expectHealed([sides[0], sides[1]], request);
    for (const { trees } of [guest, host]) expect(trees.all()).toHaveLength(2);
  });

  test.each([
    ["a node of the version before calls", [OLD, NEW]],
    ["a node of the version before is called", [NEW, OLD]],
    ["one of the oldest calls", [{ ...OLD, capabilities: OLDEST }, NEW]],
    ["one of the oldest is called", [NEW, { ...OLD, capabilities: OLDEST }]],
  ] as const)("%s", async (_, sides) => {
    for (const request of [ROUND, ALL]) {
      const { guest, host, timeline } = await expectHealed(sides, request);
      const [older, newer] = sides[0] === NEW ? [host, guest] : [guest, host];
      expect(older.trees.all()).toHaveLength(1);
      expect(newer.trees.all()).toHaveLength(2);
      timeline.runUntil(timeline.nowMs + 3_600_000);
      expect(newer.trees.all()).toEqual([newer.trees.current]);
    }
  });

  test("a session goes on when its secret is dropped in the middle", async () => {
    const seals = [sealOf(ONE), sealOf(ONE)] as [PeerSeal, PeerSeal];
    const { guest, host, timeline } = createPair({ seals, maxQueuedBytes: 1_000 });
    fill(host, 1_000, 500);
    const outcome = guest.sessions.run(PEER, ALL);
    for (let ms = 1; ms < SILENCE_MS && guest.store.size === 0; ms++) timeline.runUntil(ms);
    expect(guest.sessions.active).toBe(1);
    for (const { trees } of [guest, host]) trees.renew(clusterSecrets("two"));
    timeline.runUntil(SILENCE_MS);
    expect((await outcome).ok).toBe(true);
    expect(guest.store.size).toBe(1_000);
    timeline.runUntil(3_600_000);
    for (const { trees } of [guest, host]) expect(trees.all()).toEqual([trees.current]);
  });
});
