/** Sync sessions against plain merging: whatever two stores hold, afterwards both hold all of it. */
import { describe, expect, spyOn, test } from "bun:test";
import fc from "fast-check";
import type { Entry } from "../../src/core/data/entry.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { mergeRule } from "../../src/core/data/merge.ts";
import { Greeting } from "../../src/core/sync/greeting.ts";
import { SyncInspector } from "../../src/core/sync/inspector.ts";
import type { SyncMode, SyncSession } from "../../src/core/sync/session.ts";
import { seeded } from "../support/random.ts";
import {
  del,
  entriesOf,
  expire,
  get,
  incr,
  keyOf,
  mergeOf,
  rootOf,
  set,
  setValue,
} from "../support/sync-data.ts";
import { Pair, runPair, SyncNode, type SyncNodeOptions } from "../support/sync-pair.ts";

const START_MS = 1_700_000_000_000;

/** Two nodes on one clock that a test moves. */
function twoNodes(options: SyncNodeOptions = {}): { time: { ms: number }; nodes: SyncNode[] } {
  const time = { ms: START_MS };
  const nowMs = (): number => time.ms;
  const nodes = ["left", "right"].map((name) => new SyncNode(name, { nowMs, ...options }));
  return { time, nodes };
}

const operation = fc.record({
  node: fc.nat(1),
  key: fc.nat(40).map((n) => `key:${n}`),
  do: fc.constantFrom(
    "set",
    "set",
    "set",
    "large",
    "expiring",
    "expire",
    "persist",
    "value",
    "del",
    "incr",
    "incr",
    "copy",
    "flush",
  ),
  number: fc.nat(1000),
});

function perform(
  nodes: SyncNode[],
  time: { ms: number },
  op: typeof operation extends fc.Arbitrary<infer T> ? T : never,
): void {
  const node = nodes[op.node];
  time.ms += op.number;
  switch (op.do) {
    case "set":
      return set(node, op.key, `${op.number}`);
    case "large":
      return set(node, op.key, "x".repeat(op.number * 5));
    case "expiring":
      return set(node, op.key, `${op.number}`, time.ms + op.number * 20);
    case "expire":
      return expire(node, op.key, time.ms + op.number * 20);
    case "persist":
      return expire(node, op.key, 0);
    case "value":
      return setValue(node, op.key, "y".repeat(op.number));
    case "del":
      return del(node, op.key);
    case "incr":
      return incr(node, op.key, op.number - 500);
    case "copy":
      for (const entry of entriesOf(node)) {
        if (keyOf(entry) === op.key) nodes[1 - op.node].store.apply(entry);
      }
      return;
    case "flush":
      if (op.number < 50) node.store.flush();
      else node.store.sweep(10);
  }
}

/**
 * What expires counts as written when its node notices. It notices here, so that a session of an
 * earlier moment compares it, and a verification does not say that somebody wrote meanwhile.
 */
function expireAll(nodes: readonly SyncNode[]): void {
  for (const { store } of nodes) for (let pass = 0; pass < 2; pass++) store.sweep(1_000_000);
}

const pipe = fc.record({
  pieceBytes: fc.integer({ min: 1, max: 3000 }),
  queueBytes: fc.constantFrom(1, 300, 262_144),
});

describe("a session", () => {
  test("leaves both with the merge of what they had, in every mode, however bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 120, size: "max" }),
        fc.constantFrom<SyncMode>("watermark", "now", "full", "verify"),
        pipe,
        fc.boolean(),
        (operations, mode, { pieceBytes, queueBytes }, sliced) => {
          let counted = 0;
          const { time, nodes } = twoNodes(sliced ? { monotonicMs: () => counted++ } : {});
          for (const op of operations) perform(nodes, time, op);
          time.ms += 5_000;
          expireAll(nodes);
          const merged = rootOf(mergeOf(...nodes));
          const random = seeded(pieceBytes);
          const { initiator, responder } = runPair(
            nodes[0],
            nodes[1],
            { mode },
            {
              pieceBytes: () => 1 + Math.floor(random() * pieceBytes),
              queueBytes,
            },
          );
          expect([initiator.reason, responder.reason]).toEqual(["", ""]);
          expect(rootOf(nodes[0])).toBe(merged);
          expect(rootOf(nodes[1])).toBe(merged);
          expect(initiator.bytesSent).toBe(responder.bytesReceived);
          expect(initiator.bytesReceived).toBe(responder.bytesSent);
          expect(initiator.entriesReceived).toBe(responder.entriesSent);
          if (mode === "verify") expect(initiator.rootsEqual).toBe(true);
          else if (mode !== "now") expect(initiator.rootsEqual).toBeNull();
          expect(initiator.roundTrips).toBeLessThanOrEqual(7);
        },
      ),
      { numRuns: 100 },
    );
  });

  test("of equal nodes takes one round trip and 300 bytes, in a cluster of five too", () => {
    const { time, nodes } = twoNodes();
    for (let i = 0; i < 3000; i++) set(nodes[0], `k${i}`, `v${i}`);
    time.ms += 5_000;
    for (const entry of entriesOf(nodes[0])) nodes[1].store.apply(entry);
    for (let round = 0; round < 2; round++) {
      const { initiator } = runPair(nodes[0], nodes[1]);
      expect(initiator).toMatchObject({
        ok: true,
        roundTrips: 1,
        entriesSent: 0,
        keysCompared: 0,
        peerNodeId: "right",
      });
      expect(initiator.bytesSent + initiator.bytesReceived).toBeLessThanOrEqual(300);
      for (let member = 1; member <= 5; member++) {
        for (const { contacts } of nodes) {
          contacts.note(member, member, time.ms - member * 30_000, time.ms - 86_400_000);
        }
      }
    }
  });

  test.each([1_000, 4_094])(
    "of equal nodes of a settled cluster of %i takes one round trip and 400 bytes",
    (count) => {
      const { time, nodes } = twoNodes();
      time.ms += 100_000_000;
      // Each was met at another time, and both know that to a minute or so.
      for (let member = 1; member <= count; member++) {
        const origin = originOf(`node-${member}`);
        nodes.forEach(({ contacts }, i) => {
          const ms = time.ms - 3_600_000 - member * 10 - i * 60_000;
          contacts.note(origin.high, origin.low, ms, member % 3 ? 0 : time.ms - 86_400_000);
        });
      }
      const sizes: number[] = [];
      for (let round = 0; round < 4; round++) {
        time.ms += 60_000;
        const { initiator } = runPair(nodes[round % 2], nodes[1 - (round % 2)]);
        expect(initiator.reason).toBe("");
        sizes.push(initiator.bytesSent + initiator.bytesReceived);
        // Each has come to know the other, which the other does not have: then that is told once.
        expect(initiator.roundTrips).toBe(round === 1 ? 2 : 1);
      }
      expect(Math.max(sizes[0], sizes[2], sizes[3])).toBeLessThanOrEqual(400);
      // Of all there are, few are told.
      expect(sizes[1]).toBeLessThanOrEqual(4_000);
      const [left, right] = nodes.map(({ contacts }) => contacts);
      expect([left.size, right.size]).toEqual([count + 2, count + 2]);
    },
  );

  test("of equal nodes that know thousands of members does in pieces what it concludes", () => {
    let looks = 0;
    // Whatever is done at a stretch is a slice.
    const { nodes } = twoNodes({ monotonicMs: () => looks++ });
    for (let member = 1; member <= 4_094; member++) {
      const { high, low } = originOf(`node-${member}`);
      for (const { contacts } of nodes) contacts.note(high, low, START_MS - 3_600_000);
    }
    // Each of these goes over all members.
    const parts = ["tell", "hello", "meet", "hasMissed", "noteContact"] as const;
    const spies = parts.map((part) => spyOn(Greeting.prototype, part));
    const done = (): number => spies.reduce((sum, { mock }) => sum + mock.calls.length, 0);
    let before = 0;
    const doneInASlice: number[] = [];
    const onSlice = (): void => {
      doneInASlice.push(done() - before);
      before = done();
    };
    const { initiator } = runPair(nodes[0], nodes[1], {}, { onSlice });
    for (const spy of spies) spy.mockRestore();
    expect(initiator.ok).toBe(true);
    expect(before).toBe(2 * parts.length);
    expect(Math.max(...doneInASlice)).toBe(1);
  });

  test.each([1_000, 4_094])(
    "of equal nodes that know %i members stays so small while deletions are purged all the time",
    (count) => {
      const { time, nodes } = twoNodes();
      const origins = Array.from({ length: count }, (_, i) => originOf(`node-${i}`));
      // From the middle of a step on, which is a sixteenth of the grace, a deletion every minute,
      // which both nodes get to know.
      time.ms += 2_700_000 - (time.ms % 5_400_000);
      const firstMs = time.ms;
      for (let i = 0; i < 10; i++) {
        time.ms += 60_000;
        set(nodes[i % 2], `key ${i}`, "value");
        del(nodes[i % 2], `key ${i}`);
        for (const entry of entriesOf(nodes[i % 2])) nodes[1 - (i % 2)].store.apply(entry);
      }
      time.ms = firstMs + 86_400_000;
      const sizes: number[] = [];
      const purged: number[] = [];
      for (let round = 0; round < 8; round++) {
        time.ms += 60_000;
        for (const [member, { high, low }] of origins.entries()) {
          nodes.forEach(({ contacts }, i) => {
            // What it heard of it last is some minutes ago, for each another time.
            const ms = time.ms - ((member * 7 + i * 13) % 900) * 1_000;
            contacts.note(high, low, ms, ms - 86_400_000, ms);
          });
        }
        for (const { store } of nodes) {
          for (let pass = 0; pass < 2; pass++) store.sweep(1_000_000);
        }
        purged.push(nodes[0].store.deletions.purgedUpToMs);
        const { initiator } = runPair(nodes[round % 2], nodes[1 - (round % 2)]);
        expect(initiator.reason).toBe("");
        sizes.push(initiator.bytesSent + initiator.bytesReceived);
        if (round >= 3) expect(initiator.roundTrips).toBe(1);
      }
      expect(new Set(purged).size).toBeGreaterThan(4);
      // In the first they come to know each other, and that the other purges.
      expect(Math.max(...sizes.slice(3))).toBeLessThanOrEqual(400);
    },
  );

  test("of nodes that know different members leaves both with all that either knew", () => {
    const { time, nodes } = twoNodes();
    time.ms += 100_000_000;
    for (let member = 0; member < 2_000; member++) {
      const { high, low } = originOf(`node-${member}`);
      nodes.forEach(({ contacts }, i) => {
        if (member % 10 !== i) contacts.note(high, low, time.ms - 60_000, (member % 7) * 1_000);
      });
    }
    runPair(nodes[0], nodes[1]);
    const [left, right] = nodes.map(({ contacts }) => contacts);
    for (let member = 0; member < 2_000; member++) {
      const { high, low } = originOf(`node-${member}`);
      for (const contacts of [left, right]) {
        expect(contacts.get(high, low)!.purgedUpToMs).toBe((member % 7) * 1_000);
        expect(contacts.of(high, low)).toBeGreaterThan(time.ms - 2 * 5_400_000);
      }
    }
  });

  test("sends no value that the other has a newer one for, when it is large", () => {
    const { time, nodes } = twoNodes();
    const large = "x".repeat(5_000);
    for (let i = 0; i < 50; i++) {
      time.ms += 10;
      set(nodes[i % 2], `k${i}`, large);
      time.ms += 10;
      set(nodes[1 - (i % 2)], `k${i}`, `${large}!`);
    }
    time.ms += 5_000;
    const { initiator, responder } = runPair(nodes[0], nodes[1]);
    expect([initiator.entriesSent, responder.entriesSent]).toEqual([25, 25]);
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
  });

  test("does not send back what it just got", () => {
    const { time, nodes } = twoNodes();
    for (const node of nodes) {
      time.ms += 10;
      for (let i = 0; i < 50; i++) set(node, `k${i}`, node.nodeId);
    }
    incr(nodes[1], "counter", 2);
    incr(nodes[0], "counter", 3);
    time.ms += 5_000;
    // The right one wrote last: all that it is sent is in vain, but small.
    const { initiator, responder } = runPair(nodes[0], nodes[1]);
    expect([initiator.entriesSent, responder.entriesSent]).toEqual([1, 51]);
    expect(get(nodes[0], "counter")).toBe("5");
    expect(get(nodes[1], "counter")).toBe("5");
  });

  test("merges counters that are large, by which both sides learn", () => {
    const { time, nodes } = twoNodes();
    for (let i = 0; i < 12; i++) {
      const writer = new SyncNode(`writer ${i}`, { nowMs: () => time.ms });
      incr(writer, "counter", i);
      for (const entry of entriesOf(writer)) nodes[i % 2].store.apply(entry);
      if (i < 9) for (const entry of entriesOf(writer)) nodes[1 - (i % 2)].store.apply(entry);
    }
    time.ms += 5_000;
    expect(runPair(nodes[0], nodes[1]).initiator.reason).toBe("");
    expect(nodes.map((node) => get(node, "counter"))).toEqual(["66", "66"]);
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
  });

  test("takes over a node into an empty one, in either direction, with a bounded pipe", () => {
    for (const from of [0, 1]) {
      const { time, nodes } = twoNodes();
      for (let i = 0; i < 30_000; i++) set(nodes[from], `k${i}`, `value ${i}`);
      time.ms += 5_000;
      const { initiator, responder, mostQueuedBytes } = runPair(
        nodes[0],
        nodes[1],
        {},
        { queueBytes: 100_000 },
      );
      expect([initiator.ok, responder.ok]).toEqual([true, true]);
      expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
      expect(nodes[1 - from].store.size).toBe(30_000);
      expect(mostQueuedBytes).toBeLessThanOrEqual(100_000 + 2 * 65_536);
    }
  });

  test("lists in several turns when there is much to list, and still heals in one session", () => {
    const { time, nodes } = twoNodes();
    for (let i = 0; i < 110_000; i++) {
      time.ms = START_MS + i;
      set(nodes[0], `k${i}`, "v");
    }
    for (const entry of entriesOf(nodes[0])) nodes[1].store.apply(entry);
    for (let i = 0; i < 110_000; i += 2) set(nodes[i % 4 === 0 ? 0 : 1], `k${i}`, "w");
    time.ms += 5_000;
    const { initiator } = runPair(nodes[0], nodes[1], { mode: "full" });
    expect(initiator.ok).toBe(true);
    expect(initiator.roundTrips).toBeGreaterThan(2);
    expect(initiator.keysCompared).toBe(110_000);
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
  });

  test("makes several turns of many offers", () => {
    const { time, nodes } = twoNodes();
    const large = "x".repeat(256);
    for (let i = 0; i < 140_000; i++) set(nodes[0], `k${i}`, large);
    // One of these in most buckets makes the others there worth an offer.
    for (let i = 0; i < 70_000; i++) set(nodes[1], `other${i}`, "v");
    time.ms += 5_000;
    const { initiator, responder } = runPair(nodes[0], nodes[1]);
    expect([initiator.reason, initiator.entriesSent, responder.entriesSent]).toEqual([
      "",
      140_000,
      70_000,
    ]);
    expect(initiator.roundTrips).toBe(5);
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
  });

  test("lists no more while what was listed is still worked on", () => {
    const { time, nodes } = twoNodes();
    const count = 250_000;
    for (const [side, node] of nodes.entries()) {
      time.ms += 1_000;
      const value = `${side}`.repeat(256);
      for (let i = 0; i < count; i++) set(node, `k${i}`, value);
    }
    time.ms += 5_000;
    const { initiator, responder } = runPair(nodes[0], nodes[1]);
    expect([initiator.reason, responder.reason]).toEqual(["", ""]);
    expect([initiator.entriesSent, responder.entriesSent]).toEqual([0, count]);
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
  });

  test("fetches each key once, however often it is asked for", () => {
    const { time, nodes } = twoNodes();
    set(nodes[1], "large", "x".repeat(10_000));
    time.ms += 5_000;
    const key = new TextEncoder().encode("large");
    const none = new TextEncoder().encode("none");
    const fetchKeys = [...Array(100).fill(key), none, none];
    const { initiator, responder } = runPair(nodes[0], nodes[1], { mode: "fetch", fetchKeys });
    expect([initiator.reason, responder.entriesSent]).toEqual(["", 1]);
    expect(get(nodes[0], "large")).toBe("x".repeat(10_000));
  });

  test("finds in full mode what the tree does not show", () => {
    const { time, nodes } = twoNodes();
    for (let i = 0; i < 100; i++) set(nodes[0], `k${i}`, "v");
    for (const entry of entriesOf(nodes[0])) nodes[1].store.apply(entry);
    rootOf(nodes[0]);
    // A tree that was not told.
    nodes[0].store.observers.length = 0;
    set(nodes[0], "k7", "w");
    time.ms += 5_000;
    expect(runPair(nodes[0], nodes[1]).initiator.roundTrips).toBe(1);
    expect(get(nodes[1], "k7")).toBe("v");
    expect(runPair(nodes[0], nodes[1], { mode: "full" }).initiator.ok).toBe(true);
    expect(get(nodes[1], "k7")).toBe("w");
  });

  test("fetches just the keys it is asked for", () => {
    const { nodes } = twoNodes();
    for (let i = 0; i < 100; i++) set(nodes[1], `k${i}`, `v${i}`);
    const fetchKeys = ["k3", "k55", "missing"].map((key) => new TextEncoder().encode(key));
    const { initiator } = runPair(nodes[0], nodes[1], { mode: "fetch", fetchKeys });
    expect(initiator).toMatchObject({ ok: true, entriesReceived: 2, roundTrips: 1 });
    expect([get(nodes[0], "k3"), get(nodes[0], "k55"), nodes[0].store.size]).toEqual([
      "v3",
      "v55",
      2,
    ]);
  });
});

describe("while others write", () => {
  test("no increment is lost or counted twice, and a later session ends equal", () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.constantFrom<SyncMode>("watermark", "now", "verify"),
        (seed, mode) => {
          const random = seeded(seed);
          let counted = 0;
          const { time, nodes } = twoNodes({ monotonicMs: () => counted++ });
          const totals = new Map<string, number>();
          const write = (): void => {
            time.ms += Math.floor(random() * 50);
            const node = nodes[Math.floor(random() * 2)];
            const key = `counter:${Math.floor(random() * 30)}`;
            totals.set(key, (totals.get(key) ?? 0) + 1);
            incr(node, key, 1);
            set(node, `string:${Math.floor(random() * 30)}`, `${time.ms}`);
            if (random() < 0.2) del(node, `string:${Math.floor(random() * 30)}`);
          };
          for (let i = 0; i < 100; i++) write();
          time.ms += 3_000;
          const during = runPair(
            nodes[0],
            nodes[1],
            { mode },
            {
              betweenSlices: () => {
                if (random() < 0.3) write();
                if (random() < 0.1) nodes[0].tree.update(0xffff_ffff, 0, 1000, () => 0);
              },
            },
          );
          expect(during.initiator.reason).toBe("");
          expect(during.initiator.rootsEqual).not.toBe(false);
          time.ms += 5_000;
          expect(runPair(nodes[1], nodes[0]).initiator.reason).toBe("");
          expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
          for (const node of nodes)
            for (const [key, total] of totals) expect(get(node, key)).toBe(`${total}`);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("entries above the watermark are left alone, those below are healed", () => {
    const { time, nodes } = twoNodes();
    for (const node of nodes) set(node, "both", "v");
    set(nodes[0], "old", "v");
    del(nodes[1], "both");
    time.ms += 10_000;
    set(nodes[0], "new", "v");
    set(nodes[1], "newer", "v");
    const { initiator } = runPair(nodes[0], nodes[1]);
    expect(initiator.ok).toBe(true);
    expect([get(nodes[1], "old"), get(nodes[0], "both")]).toEqual(["v", null]);
    expect([get(nodes[1], "new"), get(nodes[0], "newer")]).toEqual([null, null]);
    // Nothing is left to find as of that moment.
    expect(runPair(nodes[1], nodes[0]).initiator.roundTrips).toBe(1);
    expect(runPair(nodes[1], nodes[0], { mode: "now" }).initiator.ok).toBe(true);
    expect([get(nodes[1], "new"), get(nodes[0], "newer")]).toEqual(["v", "v"]);
  });

  test("two sessions at once, one begun by each side, heal as one does", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 80, size: "max" }), (operations) => {
        let counted = 0;
        const { time, nodes } = twoNodes({ monotonicMs: () => counted++ });
        for (const op of operations) perform(nodes, time, op);
        time.ms += 5_000;
        expireAll(nodes);
        const merged = rootOf(mergeOf(...nodes));
        const pairs = [new Pair(nodes[0], nodes[1]), new Pair(nodes[1], nodes[0])];
        while (pairs.some((pair) => pair.result === null)) for (const pair of pairs) pair.step();
        for (const pair of pairs) expect(pair.result!.initiator.reason).toBe("");
        expect([rootOf(nodes[0]), rootOf(nodes[1])]).toEqual([merged, merged]);
      }),
      { numRuns: 40 },
    );
  });

  test("a node whose clock is behind heals up to now with its second session", () => {
    const time = { ms: START_MS };
    const slow = new SyncNode("slow", { nowMs: () => time.ms - 50_000 });
    const right = new SyncNode("right", { nowMs: () => time.ms });
    set(right, "k", "v");
    time.ms += 10_000;
    const found = ["first", "second"].map(() => {
      expect(runPair(slow, right).initiator.reason).toBe("");
      return get(slow, "k");
    });
    expect(found).toEqual([null, "v"]);
  });
});

describe("an inspector", () => {
  /** What a node tells of all it holds, by key. */
  function inspect(node: SyncNode): Map<string, { entry: Entry; valueBytes: number }> {
    const found = new Map<string, { entry: Entry; valueBytes: number }>();
    let hasAnswered = false;
    let failure = "";
    const inspector = new SyncInspector({
      salt: { high: 1, low: 2 },
      maxFrameBytes: 1_048_576,
      send: (frame) => session.receive(frame.slice()),
      onEntry: (_, entry, valueBytes) =>
        found.set(keyOf(entry), { entry: entry.clone(), valueBytes }),
      onAnswered: () => (hasAnswered = true),
      onFailure: (reason) => (failure = reason),
    });
    const session: SyncSession = node.session(
      "responder",
      (frame) => inspector.receive(frame.slice()),
      () => {},
    );
    const answer = (): void => {
      while (session.step());
      expect([hasAnswered, failure]).toEqual([true, ""]);
      hasAnswered = false;
    };
    inspector.start();
    answer();
    inspector.ask([...inspector.digests.keys()].filter((at) => inspector.digests[at] !== 0));
    answer();
    inspector.close();
    return found;
  }

  test("learns enough to judge by the merge rule as a sync would", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 120, size: "max" }), (operations) => {
        const { time, nodes } = twoNodes();
        // Few keys, so that much of each happens.
        for (const op of operations) perform(nodes, time, { ...op, key: op.key.slice(0, 5) });
        for (const node of nodes) rootOf(node);
        const told = nodes.map(inspect);
        const held = nodes.map((node) => new Map(entriesOf(node).map((it) => [keyOf(it), it])));
        for (const side of [0, 1]) {
          expect([...told[side].keys()].sort()).toEqual([...held[side].keys()].sort());
          for (const [key, { entry, valueBytes }] of told[side]) {
            const own = held[side].get(key)!;
            expect(valueBytes).toBe(own.valueLength);
            const [other, otherTold] = [held[1 - side].get(key), told[1 - side].get(key)];
            if (other === undefined) continue;
            expect(mergeRule(otherTold!.entry, entry)).toBe(mergeRule(other, own));
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});
