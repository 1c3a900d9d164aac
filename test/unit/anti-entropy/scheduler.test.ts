/** When the scheduler syncs with whom, on a clock that the test moves. */
import { beforeEach, describe, expect, test } from "bun:test";
import {
  Scheduler,
  type Job,
  type JobResult,
  type SchedulerOptions,
} from "../../../src/anti-entropy/scheduler.ts";
import type { PresenceChange } from "../../../src/anti-entropy/presence-view.ts";
import { seeded } from "../../support/random.ts";
import { formatDestination } from "../../../src/anti-entropy/destination.ts";

const INTERVAL_MS = 60_000;

interface Started {
  readonly address: string;
  readonly job: Job;
  readonly atMs: number;
  end(result?: Partial<JobResult>): Promise<void>;
}

let started: Started[];
let nowMs: number;
let peers: PresenceChange[];
let connected: boolean;
let connections: number;
let droppedEvents: number;
let hasRoom: boolean;
let isHealing: boolean;
let ownRoot: string;
/** How often the root was to be announced. */
let announced: number;

beforeEach(() => {
  started = [];
  nowMs = 1_000_000;
  peers = [];
  connected = true;
  connections = 1;
  droppedEvents = 0;
  hasRoom = true;
  isHealing = true;
  ownRoot = "own root";
  announced = 0;
});

function create(options: Partial<SchedulerOptions> = {}): Scheduler {
  const scheduler = new Scheduler({
    nodeId: "self",
    peerList: [],
    intervalMs: INTERVAL_MS,
    discoveryMs: 600_000,
    prefersTls: () => false,
    presence: () => ({
      connected,
      connections,
      droppedEvents,
      takeChanges: () => peers,
      announceRoot: () => void announced++,
    }),
    isAcquainted: () => false,
    rootHex: () => ownRoot,
    isHealing: () => isHealing,
    acceptsUpToMs: () => nowMs,
    hasRoom: () => hasRoom,
    run(peer, job) {
      const { promise, resolve } = Promise.withResolvers<JobResult>();
      const address = formatDestination(peer);
      const end = async (result: Partial<JobResult> = {}) => {
        resolve({
          ok: true,
          isBusy: false,
          hasMoved: true,
          hasLearned: false,
          peerNodeId: "",
          ...result,
        });
        await promise;
        await Promise.resolve();
      };
      started.push({ address, job, atMs: nowMs, end });
      return promise;
    },
    random: () => 0.5,
    ...options,
  });
  scheduler.tick(nowMs);
  return scheduler;
}

const presence = (nodeId: string, facts: Partial<PresenceChange> = {}): PresenceChange => ({
  nodeId,
  address: `${nodeId}:7379`,
  epoch: 1,
  connection: 1,
  root: "own root",
  online: true,
  isLive: true,
  isRelayed: false,
  tlsAddress: "",
  ...facts,
});

/** Moves the clock in the steps of the real ticker. */
function pass(scheduler: Scheduler, ms: number): void {
  for (const end = nowMs + ms; nowMs < end;) {
    nowMs = Math.min(nowMs + 500, end);
    scheduler.tick(nowMs);
  }
}

/** Lets everything known until now be done with. */
async function settle(scheduler: Scheduler): Promise<void> {
  pass(scheduler, 2_000);
  for (const each of started) await each.end();
  pass(scheduler, 2_000);
  started = [];
}

/** Knows node n at an address from the configuration and at n:7379, which presence tells of. */
async function createWithTwoAddresses(listed: string): Promise<Scheduler> {
  peers = [presence("n")];
  const scheduler = create({ peerList: [listed] });
  await settle(scheduler);
  while (!addresses().includes(listed)) {
    for (const each of started.splice(0)) await each.end({ peerNodeId: "n" });
    pass(scheduler, INTERVAL_MS);
  }
  for (const each of started.splice(0)) await each.end({ peerNodeId: "n" });
  expect(scheduler.peerCount).toBe(1);
  pass(scheduler, 2_000);
  return scheduler;
}

const addresses = () => started.map((each) => each.address);
const modes = () => started.map((each) => each.job.mode);

describe("rounds", () => {
  test("come every interval, with each peer in turn", async () => {
    peers = [presence("b"), presence("a")];
    const scheduler = create({ peerList: ["c:7379"] });
    await settle(scheduler);
    for (const expected of ["a:7379", "b:7379", "c:7379", "a:7379"]) {
      pass(scheduler, INTERVAL_MS);
      expect(addresses()).toEqual([expected]);
      expect(modes()).toEqual(["watermark"]);
      await started.pop()!.end();
    }
  });

  test("are a tenth earlier or later as chance has it", () => {
    for (const [chance, atMs] of [
      [0, 54_000],
      [0.999, 66_000],
    ] as const) {
      started = [];
      const scheduler = create({ peerList: ["a:1"], random: () => chance });
      const beganMs = nowMs;
      pass(scheduler, 70_000);
      expect(started[0].atMs - beganMs).toBe(atMs);
    }
  });

  test("skip this node itself, and a node met at two addresses", async () => {
    const scheduler = create({ peerList: ["a:1", "b:2", "me:3"] });
    const learned: Record<string, string> = { "a:1": "a", "b:2": "a", "me:3": "self" };
    for (let i = 0; i < 6; i++) {
      pass(scheduler, INTERVAL_MS);
      for (const each of started.splice(0)) {
        await each.end({ peerNodeId: learned[each.address] });
        if (i >= 3) expect(each.address).toBe("a:1");
      }
    }
    expect(scheduler.peerCount).toBe(1);
  });

  test("wait while there is no room, and while healing is off", () => {
    const scheduler = create({ peerList: ["a:1"] });
    hasRoom = false;
    pass(scheduler, 2 * INTERVAL_MS);
    expect(started).toEqual([]);
    hasRoom = true;
    isHealing = false;
    pass(scheduler, 2 * INTERVAL_MS);
    expect(started).toEqual([]);
    isHealing = true;
    pass(scheduler, INTERVAL_MS);
    expect(started.length).toBe(1);
  });

  test("are not begun with a peer that a session is under way with", () => {
    const scheduler = create({ peerList: ["a:1"] });
    pass(scheduler, 3 * INTERVAL_MS);
    expect(started.length).toBe(1);
  });
});

describe("at once", () => {
  test("after a gap, with the node whose events were lost", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    await settle(scheduler);
    scheduler.noteGap("b");
    expect(addresses()).toEqual(["b:7379"]);
    expect(modes()).toEqual(["now"]);
  });

  test("after a gap of a node nobody knows, with everybody", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    await settle(scheduler);
    scheduler.noteGap("stranger");
    pass(scheduler, 1_000);
    expect(addresses()).toEqual(["a:7379", "b:7379"]);
  });

  test("again after a gap that came during a session, but not for one before it", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    scheduler.noteGap("a");
    await started[0].end();
    pass(scheduler, 5_000);
    expect(started.length).toBe(1);

    scheduler.noteGap("a");
    pass(scheduler, 500);
    scheduler.noteGap("a");
    await started[1].end();
    pass(scheduler, 5_000);
    expect(started.length).toBe(3);
  });

  test("not when the peer came itself meanwhile", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    hasRoom = false;
    scheduler.noteGap("a");
    scheduler.noteVisit("a", scheduler.wants);
    hasRoom = true;
    pass(scheduler, 5_000);
    expect(started).toEqual([]);
  });

  test("but all the same when the peer had come before", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    hasRoom = false;
    const begun = scheduler.wants;
    scheduler.noteGap("a");
    scheduler.noteVisit("a", begun);
    hasRoom = true;
    pass(scheduler, 5_000);
    expect(started.length).toBe(1);
  });

  test("again when more is missed during a session, however soon", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    scheduler.noteGap("a");
    scheduler.noteGap("a");
    await started[0].end();
    pass(scheduler, 5_000);
    expect(started.length).toBe(2);
  });

  test("with everybody after a reconnection, and after writes were dropped", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    await settle(scheduler);
    connections = 2;
    pass(scheduler, 1_000);
    expect(addresses()).toEqual(["a:7379", "b:7379"]);
    await settle(scheduler);
    droppedEvents = 1;
    pass(scheduler, 1_000);
    expect(addresses()).toEqual(["a:7379", "b:7379"]);
  });

  test("after writes were dropped while nobody was there, with who comes first", async () => {
    const scheduler = create();
    droppedEvents++;
    pass(scheduler, 5_000);
    // Its root is that from before the writes, as this node's own still is.
    peers = [presence("a")];
    pass(scheduler, 1_000);
    expect(addresses()).toEqual(["a:7379"]);
    await settle(scheduler);
    peers = [presence("a"), presence("b")];
    pass(scheduler, 5_000);
    expect(addresses()).toEqual([]);
  });

  test("with a peer that comes online with another root", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    await settle(scheduler);
    peers = [
      presence("a", { connection: 2 }),
      presence("b", { connection: 2, root: "other" }),
      presence("c", { root: null }),
      presence("d", { root: "other", online: false }),
    ];
    pass(scheduler, 1_000);
    expect(addresses()).toEqual(["b:7379", "c:7379"]);
    await settle(scheduler);
    peers = [];
    pass(scheduler, 5_000);
    expect(started).toEqual([]);
  });

  test("with a peer that holds something else while nothing is under way", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    await settle(scheduler);
    peers = [presence("a"), presence("b", { root: "other" })];
    pass(scheduler, 500);
    peers = [];
    pass(scheduler, 2_000);
    expect(addresses()).toEqual([]);
    pass(scheduler, 2_000);
    expect(addresses()).toEqual(["b:7379"]);
    await settle(scheduler);
    pass(scheduler, 10_000);
    expect(addresses()).toEqual([]);
  });

  test("not with one that was heard of while this node's own root changed, or is equal by now", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    await settle(scheduler);
    const hear = (root: string): void => {
      peers = [presence("b", { root })];
      pass(scheduler, 500);
      peers = [];
    };
    // What it tells of is on its way here.
    hear("next");
    pass(scheduler, 1_500);
    ownRoot = "next";
    pass(scheduler, 10_000);
    // Here it has come, and not there yet.
    ownRoot = "later";
    pass(scheduler, 1_500);
    hear("next");
    pass(scheduler, 10_000);
    hear("other");
    pass(scheduler, 1_000);
    hear("later");
    pass(scheduler, 10_000);
    expect(addresses()).toEqual([]);
  });

  test("and says what its own root is when that has changed and stands still", async () => {
    const scheduler = create();
    pass(scheduler, 10_000);
    expect(announced).toBe(0);
    for (const root of ["1", "2", "3"]) {
      ownRoot = root;
      pass(scheduler, 2_000);
    }
    expect(announced).toBe(0);
    pass(scheduler, 2_000);
    expect(announced).toBe(1);
    pass(scheduler, 60_000);
    expect(announced).toBe(1);
  });
});

describe("values left for fetching", () => {
  const key = (text: string) => new TextEncoder().encode(text);

  test("are asked for at once, those that come meanwhile together", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    isHealing = false;
    for (const name of ["one", "two", "three"]) scheduler.noteReference("a", key(name));
    expect(started.map(({ job }) => job)).toEqual([{ mode: "fetch", fetchKeys: [key("one")] }]);
    await started[0].end();
    pass(scheduler, 500);
    expect(started[1].job).toEqual({ mode: "fetch", fetchKeys: [key("two"), key("three")] });
  });

  test("are asked for once it is known where their node is", async () => {
    const scheduler = create();
    isHealing = false;
    scheduler.noteReference("a", key("one"));
    scheduler.noteReference("stranger", key("two"));
    expect(started).toEqual([]);
    peers = [presence("a")];
    pass(scheduler, 500);
    expect(started.map(({ job }) => job)).toEqual([{ mode: "fetch", fetchKeys: [key("one")] }]);
    await started[0].end();
    // Who stays unknown is left to a comparison with everybody.
    isHealing = true;
    pass(scheduler, 2_000);
    expect(modes()).toEqual(["fetch", "now"]);
  });

  test("are asked for once, however often they were written meanwhile", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    for (let i = 0; i < 2_000; i++) {
      for (const nodeId of ["a", "b"]) scheduler.noteReference(nodeId, key("one"));
    }
    await started[0].end();
    peers = [presence("a"), presence("b")];
    pass(scheduler, 500);
    expect(addresses()).toEqual(["a:7379", "a:7379", "b:7379"]);
    const fetch: Job = { mode: "fetch", fetchKeys: [key("one")] };
    expect(started.map(({ job }) => job)).toEqual([fetch, fetch, fetch]);
  });

  test("are left to a sync when there are too many, or fetching fails", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    for (let i = 0; i < 3_000; i++) scheduler.noteReference("a", key(String(i)));
    await started[0].end();
    pass(scheduler, 500);
    expect(modes()).toEqual(["fetch", "now"]);
    await started[1].end();
    scheduler.noteReference("a", key("one"));
    await started[2].end({ ok: false });
    pass(scheduler, 2_000);
    expect(modes()).toEqual(["fetch", "now", "fetch", "now"]);
    await started[3].end();
    pass(scheduler, 5_000);
    expect(started.length).toBe(4);
  });

  test("are asked for again after a failure while healing is off, at another address if there is one", async () => {
    const scheduler = await createWithTwoAddresses("z:1");
    isHealing = false;
    scheduler.noteReference("n", key("one"));
    await started[0].end({ ok: false, isBusy: true });
    pass(scheduler, 1_000);
    await started[1].end({ ok: false });
    pass(scheduler, 500);
    expect(addresses()).toEqual(["n:7379", "n:7379", "z:1"]);
    for (const { job } of started) expect(job).toEqual({ mode: "fetch", fetchKeys: [key("one")] });
    await started[2].end();
    pass(scheduler, 5_000);
    expect(started.length).toBe(3);
  });

  test("are left to a sync also when the peer came itself, but before", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    const begun = scheduler.wants;
    scheduler.noteReference("a", key("one"));
    await started[0].end({ ok: false });
    scheduler.noteVisit("a", begun);
    pass(scheduler, 2_000);
    expect(modes()).toEqual(["fetch", "now"]);
  });
});

describe("a peer that fails", () => {
  test("is tried again later and later, and at once when it comes back", async () => {
    peers = [presence("a")];
    const scheduler = create({ random: () => 0.999_999 });
    await settle(scheduler);
    scheduler.noteGap("a");
    const waits: number[] = [];
    for (let i = 0; i < 6; i++) {
      const failedMs = nowMs;
      const { length } = started;
      await started.at(-1)!.end({ ok: false });
      while (started.length === length) pass(scheduler, 500);
      waits.push(nowMs - failedMs);
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000]);

    await started.at(-1)!.end({ ok: false });
    pass(scheduler, 500);
    const { length } = started;
    peers = [presence("a", { connection: 2, root: "other" })];
    pass(scheduler, 1_000);
    expect(started.length).toBe(length + 1);
  });

  test("being busy is no failure: it is asked again within a second", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    scheduler.noteGap("a");
    for (let i = 0; i < 5; i++) {
      const { length } = started;
      await started.at(-1)!.end({ ok: false, isBusy: true });
      pass(scheduler, 1_000);
      expect(started.length).toBe(length + 1);
    }
  });
});

describe("a node with two addresses", () => {
  test("is asked at the other for what was wanted when one fails, and in rounds from then on", async () => {
    const scheduler = await createWithTwoAddresses("a:1");
    scheduler.noteGap("n");
    await started[0].end({ ok: false });
    pass(scheduler, 500);
    expect(addresses()).toEqual(["a:1", "n:7379"]);
    expect(modes()).toEqual(["now", "now"]);
    await started[1].end();
    for (let i = 0; i < 3; i++) {
      started = [];
      pass(scheduler, INTERVAL_MS);
      expect(addresses()).toEqual(["n:7379"]);
      await started[0].end();
    }
  });

  test("is not asked at the one it announces while the other fails less", async () => {
    const scheduler = await createWithTwoAddresses("z:1");
    scheduler.noteGap("n");
    await started[0].end({ ok: false });
    pass(scheduler, 5_000);
    expect(addresses()).toEqual(["n:7379", "z:1"]);
    await started[1].end();
    pass(scheduler, 5_000);
    connections = 2;
    pass(scheduler, 5_000);
    expect(addresses()).toEqual(["n:7379", "z:1", "z:1"]);
  });
});

test("of two nodes announced at one address the one that started last counts", async () => {
  const old = presence("old", { address: "a:1", epoch: 1, connection: 9, root: "other" });
  const replaced = presence("new", { address: "a:1", epoch: 2 });
  for (const both of [
    [old, replaced],
    [replaced, old],
  ]) {
    peers = both;
    const scheduler = create();
    await settle(scheduler);
    pass(scheduler, 5_000);
    expect(started).toEqual([]);
    scheduler.noteGap("new");
    expect(addresses()).toEqual(["a:1"]);
    started = [];
  }
});

describe("nodes that are reached through the broker", () => {
  const hidden = (nodeId: string, facts: Partial<PresenceChange> = {}) =>
    presence(nodeId, { address: "none", isRelayed: true, root: "other", ...facts });

  test("are known by their ids, where they offer that", async () => {
    peers = [hidden("a"), hidden("b", { isRelayed: false })];
    const scheduler = create();
    pass(scheduler, 1_000);
    expect(addresses()).toEqual(["broker/a"]);
    expect(scheduler.destinationOf("a")).toMatchObject({ hostPort: null, relayTo: "a" });
  });

  test("are asked once, however often they announce themselves", async () => {
    peers = [hidden("a", { root: null }), presence("n", { isRelayed: true, root: null })];
    const scheduler = create();
    pass(scheduler, 1_000);
    for (const each of started.splice(0)) await each.end({ peerNodeId: each.address.slice(-1) });
    pass(scheduler, 10_000);
    expect(addresses()).toEqual([]);
  });

  test("and have an address as well can be reached both ways", () => {
    peers = [presence("a", { isRelayed: true })];
    const scheduler = create();
    pass(scheduler, 500);
    const hostPort = { host: "a", port: 7379 };
    expect(scheduler.destinationOf("a")).toMatchObject({ hostPort, relayTo: "a" });
    peers = [presence("a", { isRelayed: false, connection: 2 })];
    pass(scheduler, 500);
    expect(scheduler.destinationOf("a")).toMatchObject({ hostPort, relayTo: "" });
  });

  test("are no hindrance to each other when they announce one address", async () => {
    const at = (nodeId: string, epoch: number) =>
      presence(nodeId, { address: "192.168.1.2:7379", epoch, isRelayed: true, root: "other" });
    for (const both of [
      [at("old", 1), at("new", 2)],
      [at("new", 2), at("old", 1)],
    ]) {
      peers = both;
      const scheduler = create();
      pass(scheduler, 1_000);
      expect(addresses().sort()).toEqual(["192.168.1.2:7379", "broker/old"]);
      expect(scheduler.destinationOf("old")).toMatchObject({ hostPort: null, relayTo: "old" });
      expect(scheduler.destinationOf("new")).toMatchObject({ relayTo: "new" });
      started = [];
    }
  });

  test("are forgotten when they leave, and kept where they are when they were met", async () => {
    peers = [hidden("a"), hidden("b")];
    const scheduler = create();
    pass(scheduler, 1_000);
    await started.find(({ address }) => address === "broker/b")!.end({ peerNodeId: "b" });
    await started.find(({ address }) => address === "broker/a")!.end({ ok: false });
    peers = [hidden("a", { online: false }), hidden("b", { online: false })];
    pass(scheduler, 500);
    expect(scheduler.distinctPeers().map(({ nodeId }) => nodeId)).toEqual(["b"]);
  });
});

test("peers that left are forgotten, unless they are configured or were met", async () => {
  peers = [presence("a", { root: "other" }), presence("b")];
  const scheduler = create({ peerList: ["c:1"] });
  pass(scheduler, 1_000);
  expect(addresses()).toEqual(["a:7379", "b:7379"]);
  await started[0].end({ peerNodeId: "a" });
  await started[1].end({ ok: false });
  started = [];
  expect(scheduler.peerCount).toBe(3);
  peers = [presence("a", { online: false }), presence("b", { online: false })];
  pass(scheduler, 500);
  expect(scheduler.peerCount).toBe(1);
  // Anybody may have said that a left. It is asked once more, and believed if it does not answer.
  peers = [];
  const asked: string[] = [];
  for (let i = 0; i < 6; i++) {
    pass(scheduler, INTERVAL_MS);
    for (const each of started.splice(0)) {
      asked.push(each.address);
      await each.end({ ok: each.address !== "a:7379" || asked.length < 3 });
    }
  }
  expect(asked.filter((address) => address === "a:7379").length).toBe(2);
  expect(asked.filter((address) => address === "b:7379")).toEqual([]);
});

describe("in a crowd", () => {
  const COUNT = 200;
  const crowd = (facts: Partial<PresenceChange> = {}) =>
    Array.from({ length: COUNT }, (_, i) => presence(`node${i}`, facts));

  /** Has met all of them. */
  async function createInCrowd(seed: number): Promise<Scheduler> {
    peers = [];
    const addresses = Array.from({ length: COUNT }, (_, i) => `node${i}:7379`);
    const scheduler = create({ random: seeded(seed), peerList: addresses });
    for (let i = 0; i < COUNT; i++) scheduler.noteVisit(`node${i}`, scheduler.wants);
    peers = crowd();
    scheduler.tick(nowMs);
    peers = [];
    started = [];
    return scheduler;
  }

  /** So many nodes notice the same; which addresses each of them turns to within a time. */
  async function askedBy(
    nodes: number,
    notice: (scheduler: Scheduler) => void,
    ms: number,
    result: Partial<JobResult> = { hasMoved: false },
  ): Promise<string[][]> {
    const asked: string[][] = [];
    for (let node = 0; node < nodes; node++) {
      connections = 1;
      const scheduler = await createInCrowd(node);
      notice(scheduler);
      const mine: string[] = [];
      for (let passed = 0; passed < ms; passed += 500) {
        pass(scheduler, 500);
        for (const each of started.splice(0)) {
          mine.push(each.address);
          await each.end(result);
        }
      }
      asked.push(mine);
    }
    return asked;
  }

  test("a node that lost its connection asks a few, each another few", async () => {
    const asked = await askedBy(20, () => (connections = 2), 2_500);
    for (const mine of asked) {
      expect(mine.length).toBeGreaterThan(0);
      expect(mine.length).toBeLessThanOrEqual(6);
    }
    expect(new Set(asked.flat()).size).toBeGreaterThan(40);
  });

  test("a gap that all notice sends few to the node that wrote, the rest to others", async () => {
    const asked = await askedBy(COUNT, (scheduler) => scheduler.noteGap("node7"), 4_000);
    const callers = asked.filter((mine) => mine.includes("node7:7379")).length;
    expect(callers).toBeGreaterThan(1);
    expect(callers).toBeLessThan(25);
    for (const mine of asked) expect(mine.length).toBeGreaterThan(0);
  });

  test("a large value is fetched from the node that wrote it by some, by all where none compares", async () => {
    const refer = (scheduler: Scheduler) => scheduler.noteReference("node7", Buffer.from("key"));
    const fetchers = async (): Promise<number> => {
      const asked = await askedBy(COUNT, refer, 1_000);
      return asked.filter((mine) => mine.includes("node7:7379")).length;
    };
    const some = await fetchers();
    expect(some).toBeGreaterThan(32);
    expect(some).toBeLessThan(96);
    isHealing = false;
    expect(await fetchers()).toBe(COUNT);
  });

  test("a node that comes back is asked by a few", async () => {
    const notice = () => (peers = [presence("node7", { connection: 2, root: "other" })]);
    const asked = await askedBy(COUNT, notice, 3_000);
    const callers = asked.filter((mine) => mine.includes("node7:7379")).length;
    expect(callers).toBeGreaterThan(1);
    expect(callers).toBeLessThan(25);
  });

  test("rounds follow one another until enough have brought nothing", async () => {
    const [mine] = await askedBy(1, (scheduler) => scheduler.noteGap("node7"), 50_000);
    expect(mine.length).toBeGreaterThan(8);
    expect(mine.length).toBeLessThan(14);
    expect(new Set(mine).size).toBeGreaterThan(mine.length / 2);
    const learning = { hasMoved: true, hasLearned: true };
    const [busy] = await askedBy(1, (it) => it.noteGap("node7"), 50_000, learning);
    expect(busy.length).toBeGreaterThan(18);
  });

  test("what changes without a broker is news, and what was served as well", async () => {
    let root = "own root";
    connected = false;
    const scheduler = create({ peerList: ["a:1", "b:1"], rootHex: () => root });
    pass(scheduler, 5_000);
    expect(started).toEqual([]);
    root = "another";
    for (let i = 0; i < 20; i++) {
      pass(scheduler, 1_000);
      for (const each of started) await each.end({ hasMoved: false });
    }
    expect(modes()).toEqual(["watermark", "watermark", "watermark", "watermark"]);
    expect(new Set(addresses()).size).toBe(2);
    started = [];
    scheduler.noteServed({ hasLearned: true, hasMoved: true });
    pass(scheduler, 3_000);
    expect(started.length).toBe(1);
  });

  test("without a broker it goes to those that only came by themselves, too", async () => {
    let root = "own root";
    const scheduler = create({ peerList: ["a:1", "b:1"], rootHex: () => root });
    await settle(scheduler);
    peers = [presence("came"), presence("said")];
    pass(scheduler, 1_000);
    scheduler.noteVisit("came", scheduler.wants);
    expect(started).toEqual([]);
    connected = false;
    root = "another";
    for (let i = 0; i < 20; i++) {
      pass(scheduler, 1_000);
      for (const each of started) await each.end({ hasMoved: false });
    }
    expect(addresses().slice(0, 3).sort()).toEqual(["a:1", "b:1", "came:7379"]);
  });

  test("a peer that is busy is left to others, who have it as well", async () => {
    const scheduler = await createInCrowd(3);
    connections = 2;
    pass(scheduler, 2_000);
    const first = addresses();
    for (const each of started.splice(0)) await each.end({ ok: false, isBusy: true });
    pass(scheduler, 4_000);
    expect(started.length).toBeGreaterThan(0);
    expect(addresses().filter((it) => first.includes(it))).toEqual([]);
  });

  test("a start waits for a few", async () => {
    const scheduler = await createInCrowd(4);
    const done = scheduler.syncWithAll();
    expect(started.length).toBe(4);
    for (const each of started) await each.end();
    await done;
  });
});

describe("whoever makes up nodes", () => {
  const forged = (from: number, count: number, facts: Partial<PresenceChange> = {}) =>
    Array.from({ length: count }, (_, i) =>
      presence(`forged${from + i}`, { root: "other", isLive: false, ...facts }),
    );

  /** Knows node "a", which was met, and any number of others that were not. */
  async function createWithForged(
    others: PresenceChange[],
    options: Partial<SchedulerOptions> = {},
  ): Promise<Scheduler> {
    peers = [presence("a", { root: "other" })];
    const scheduler = create(options);
    pass(scheduler, 1_000);
    await started.pop()!.end({ peerNodeId: "a" });
    peers = others;
    scheduler.tick(nowMs);
    peers = [];
    return scheduler;
  }

  test("is heard up to a bound, and what is crowded out is counted", async () => {
    const scheduler = await createWithForged(forged(0, 3_000));
    expect(scheduler.peerCount).toBe(1_025);
    expect(scheduler.crowdedOut).toBe(1_976);
  });

  test("takes no place from those that were met", async () => {
    const places = { known: 1, strangers: 3 };
    const scheduler = await createWithForged(forged(0, 3_000, { isLive: true }), {
      random: seeded(1),
      hasRoom: (isStranger) =>
        started.filter(({ address }) => address.startsWith("forged") === isStranger).length <
        (isStranger ? places.strangers : places.known),
    });
    pass(scheduler, 10_000);
    expect(addresses().filter((it) => it.startsWith("forged")).length).toBe(3);
    scheduler.noteGap("a");
    pass(scheduler, 1_000);
    expect(addresses()).toContain("a:7379");
    for (const each of started.splice(0)) await each.end({ ok: false });
  });

  test("is tried a few at a time, after those that are there and those that came", async () => {
    const scheduler = await createWithForged(
      [
        ...forged(0, 100),
        presence("live", { root: "other" }),
        presence("visitor", { root: "other", isLive: false }),
      ],
      { random: () => 0.05, isAcquainted: (nodeId) => nodeId === "visitor" },
    );
    nowMs += 500;
    scheduler.tick(nowMs);
    expect(addresses().slice(0, 2)).toEqual(["visitor:7379", "live:7379"]);
    expect(started.length).toBe(3);
    nowMs += 500;
    scheduler.tick(nowMs);
    expect(started.length).toBe(6);
  });

  test("costs a bounded number of dials, however often it announces what is not there", async () => {
    const random = seeded(2);
    const scheduler = await createWithForged([], { random, hasRoom: () => true });
    let dials = 0;
    for (let connection = 1; connection <= 60; connection++) {
      peers = forged(0, 1_000, { isLive: true, connection });
      pass(scheduler, 1_000);
      for (const each of started.splice(0)) {
        if (each.address.startsWith("forged")) dials++;
        await each.end({ ok: !each.address.startsWith("forged") });
      }
    }
    expect(dials).toBeGreaterThan(8);
    expect(dials).toBeLessThan(32);
  });

  test("does not make the last words of a node that stops take longer", async () => {
    const scheduler = await createWithForged(forged(0, 50));
    const done = scheduler.syncWithAll(1);
    for (const each of started.splice(0)) {
      if (each.address === "a:7379") await each.end();
    }
    await done;
  });

  test("cannot drive out who was met by saying that it left or moved", async () => {
    const scheduler = await createWithForged([presence("a", { address: "trap:1", connection: 9 })]);
    pass(scheduler, 1_000);
    for (const each of started.splice(0)) await each.end({ ok: false });
    scheduler.noteGap("a");
    expect(addresses()).toEqual(["a:7379"]);
  });

  test("makes gaps of nodes that nobody knows cost one sync with each in half a minute", async () => {
    const scheduler = await createWithForged([]);
    const beganMs = nowMs;
    while (nowMs < beganMs + 60_000) {
      for (let i = 0; i < 20; i++) scheduler.noteGap(`nobody${nowMs}/${i}`);
      pass(scheduler, 500);
      for (const each of started) await each.end({ hasMoved: true });
    }
    expect(modes().filter((mode) => mode === "now").length).toBe(2);
  });

  test("makes gaps of a known node cost fewer and fewer syncs while they bring nothing", async () => {
    const scheduler = await createWithForged([]);
    const beganMs = nowMs;
    while (nowMs < beganMs + 60_000) {
      scheduler.noteGap("a");
      scheduler.noteReference("a", Buffer.from(String(nowMs)));
      pass(scheduler, 500);
      for (const each of started) await each.end({ hasMoved: false });
    }
    expect(started.length).toBeLessThan(14);
    started = [];
    // One that brings something shows that they are worth it.
    pass(scheduler, 70_000);
    for (const each of started) await each.end();
    started = [];
    scheduler.noteGap("a");
    pass(scheduler, 2_000);
    expect(modes()).toContain("now");
  });

  test("cannot have more values waited for than there is room for", async () => {
    const scheduler = await createWithForged([]);
    for (let i = 0; i < 1_000; i++) {
      scheduler.noteReference(`nobody${i}`, Buffer.alloc(1_000, String(i)));
    }
    pass(scheduler, 2_000);
    expect(modes()).toEqual(["now"]);
  });
});

test("what was learned of addresses is learned anew", async () => {
  const scheduler = create({ peerList: ["me:3"], discoveryMs: 2 * INTERVAL_MS });
  pass(scheduler, INTERVAL_MS);
  await started[0].end({ peerNodeId: "self" });
  expect(scheduler.peerCount).toBe(0);
  pass(scheduler, INTERVAL_MS);
  expect(scheduler.peerCount).toBe(1);
});

describe("a sync with everybody", () => {
  /** Once all that can be done now is done. */
  async function isResolved(promise: Promise<void>): Promise<boolean> {
    let isResolved = false;
    void promise.then(() => (isResolved = true));
    await new Promise((resolve) => setImmediate(resolve));
    return isResolved;
  }

  test("begins without delay and is over when each has succeeded or failed", async () => {
    peers = [presence("a", { root: "other" })];
    const scheduler = create({ peerList: ["b:1"] });
    const done = scheduler.syncWithAll();
    expect(addresses().sort()).toEqual(["a:7379", "b:1"]);
    expect(modes()).toEqual(["now", "now"]);
    await started[0].end({ ok: false });
    expect(await isResolved(done)).toBe(false);
    await started[1].end();
    expect(await isResolved(done)).toBe(true);
    // What the first look at presence asked for is thereby done too.
    pass(scheduler, 5_000);
    expect(addresses().slice(2)).toEqual(["b:1"]);
  });

  test("waits a second for strangers, and for as long as it takes for those that were met", async () => {
    peers = Array.from({ length: 1_000 }, (_, i) => presence(`forged${i}`, { root: "other" }));
    const scheduler = create({ hasRoom: () => true, random: seeded(3) });
    peers = [];
    const done = scheduler.syncWithAll();
    pass(scheduler, 500);
    expect(await isResolved(done)).toBe(false);
    expect(started.length).toBeLessThanOrEqual(16);
    pass(scheduler, 1_000);
    expect(await isResolved(done)).toBe(true);
    const known = create({ isAcquainted: (nodeId) => nodeId === "a", hasRoom: () => true });
    peers = [presence("a", { root: "other" })];
    known.tick(nowMs);
    peers = [];
    started = [];
    const another = known.syncWithAll();
    pass(known, 2_000);
    expect(await isResolved(another)).toBe(false);
    for (const each of started) await each.end({ peerNodeId: "a" });
    expect(await isResolved(another)).toBe(true);
  });

  test("is over at once when there is nobody", async () => {
    expect(await isResolved(create().syncWithAll())).toBe(true);
  });

  test("waits for the end of a session under way, and while a peer is busy", async () => {
    const scheduler = create({ peerList: ["a:1"] });
    pass(scheduler, INTERVAL_MS);
    expect(modes()).toEqual(["watermark"]);
    const done = scheduler.syncWithAll();
    await started[0].end();
    expect(await isResolved(done)).toBe(false);
    pass(scheduler, 1_000);
    expect(modes()).toEqual(["watermark", "now"]);
    await started[1].end({ ok: false, isBusy: true });
    expect(await isResolved(done)).toBe(false);
    pass(scheduler, 1_000);
    expect(modes()).toEqual(["watermark", "now", "now"]);
    await started[2].end();
    expect(await isResolved(done)).toBe(true);
  });

  test("takes turns where there is no room for all", async () => {
    let ended = 0;
    const hasRoom = () => started.length === ended;
    const scheduler = create({ peerList: ["a:1", "b:1"], hasRoom });
    const done = scheduler.syncWithAll();
    expect(addresses()).toEqual(["a:1"]);
    ended++;
    await started[0].end();
    expect(await isResolved(done)).toBe(false);
    expect(addresses()).toEqual(["a:1", "b:1"]);
    ended++;
    await started[1].end();
    expect(await isResolved(done)).toBe(true);
  });

  test("also asks who failed a while ago, and one success is enough if that is said", async () => {
    const scheduler = create({ peerList: ["a:1", "b:1", "me:1"] });
    scheduler.noteGap("stranger");
    pass(scheduler, 1_000);
    for (let i = 0; i < 5; i++) {
      for (const each of started.splice(0)) await each.end({ ok: false });
      pass(scheduler, 40_000);
    }
    for (const each of started.splice(0)) await each.end({ ok: false });
    const done = scheduler.syncWithAll(1);
    expect(addresses()).toEqual(["a:1", "b:1", "me:1"]);
    await started[2].end({ peerNodeId: "self" });
    await started[1].end({ ok: false });
    expect(await isResolved(done)).toBe(false);
    await started[0].end();
    expect(await isResolved(done)).toBe(true);
  });

  test("does not wait for what is missed meanwhile", async () => {
    const scheduler = create({ peerList: ["a:1"] });
    const done = scheduler.syncWithAll();
    scheduler.noteGap("stranger");
    await started[0].end();
    expect(await isResolved(done)).toBe(true);
    pass(scheduler, 2_000);
    expect(started.length).toBe(2);
  });

  test("with one success being enough asks who came by himself, too, and no stranger", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    scheduler.noteVisit("a", scheduler.wants);
    let isOver = false;
    void scheduler.syncWithAll(1).then(() => (isOver = true));
    expect(addresses()).toEqual(["a:7379"]);
    await started[0].end();
    pass(scheduler, 500);
    await Promise.resolve();
    expect(isOver).toBe(true);
  });

  test("with one success being enough does not wait for the others", async () => {
    const scheduler = create({ peerList: ["a:1", "b:1"] });
    const done = scheduler.syncWithAll(1);
    await started[1].end();
    expect(await isResolved(done)).toBe(true);
  });

  test("tries the other address of a node when one fails", async () => {
    const scheduler = await createWithTwoAddresses("a:1");
    const done = scheduler.syncWithAll();
    await started[0].end({ ok: false });
    expect(await isResolved(done)).toBe(false);
    expect(addresses()).toEqual(["a:1", "n:7379"]);
    await started[1].end();
    expect(await isResolved(done)).toBe(true);
  });
});

describe("what is dated too far ahead", () => {
  test("is asked for once its time has come, whatever failed before, and not before", async () => {
    peers = [presence("a"), presence("b")];
    const scheduler = create();
    await settle(scheduler);
    // Nothing else makes it sync with a.
    started = [];
    scheduler.notePostponed("a", nowMs + 30_000);
    scheduler.notePostponed("a", nowMs + 20_000);
    pass(scheduler, 20_000);
    expect(started).toEqual([]);
    pass(scheduler, 1_500);
    expect(started.map(({ address, job }) => `${address} ${job.mode}`)).toEqual(["a:7379 now"]);
  });

  test("of a node that writes on and on into the future is asked for every few seconds at the most", async () => {
    peers = [presence("a")];
    const scheduler = create();
    await settle(scheduler);
    started = [];
    for (let i = 0; i < 40; i++) {
      scheduler.notePostponed("a", nowMs - 2_000);
      pass(scheduler, 250);
      for (const { end } of started) await end({ peerNodeId: "a" });
    }
    expect(started.length).toBe(2);
  });

  test("of strangers takes up no more than one place", () => {
    const scheduler = create();
    for (let i = 0; i < 3_000; i++) scheduler.notePostponed(`stranger ${i}`, nowMs + 10_000);
    peers = [presence("a")];
    scheduler.notePostponed("a", nowMs + 10_000);
    pass(scheduler, 12_000);
    expect(started.map(({ address }) => address)).toEqual(["a:7379"]);
  });
});
