/**
 * A member that keeps to the sync protocol and says what is not so, by the most it can, in each field
 * that others act upon; the table in docs/forgetting.md says what each may come to. Whatever it says, no
 * write younger than the grace is given up, here or anywhere that this node's word goes.
 */
import { describe, expect, test } from "bun:test";
import { MAX_MEMBERS } from "../../src/core/sync/contacts.ts";
import { FrameWriter } from "../../src/core/sync/frames.ts";
import { notePurges } from "../../src/core/sync/greeting.ts";
import { Hello, writeHello } from "../../src/core/sync/hello.ts";
import { REFUSED, ROOT_BYTES, TURN } from "../../src/core/sync/items.ts";
import { MODES } from "../../src/core/sync/options.ts";
import type { SyncResult } from "../../src/core/sync/session.ts";
import { del, entriesOf, get, keyOf, rootOf, set } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

const START_MS = 1_700_000_000_000;
const GRACE_MS = 100_000;
const SKEW_MS = 60_000;
const KEYS = 22;

/** Honest nodes on one clock that hold the same: keys written by clients at the first, some long ago. */
function honest(...names: string[]): { time: { ms: number }; nodes: SyncNode[] } {
  const time = { ms: START_MS };
  const options = { nowMs: () => time.ms, tombstoneGraceMs: GRACE_MS, maxClockSkewMs: SKEW_MS };
  const nodes = names.map((name) => new SyncNode(name, options));
  for (let i = 0; i < KEYS; i++) set(nodes[0], `new:${i}`, "v");
  time.ms += 10_000;
  for (const other of nodes.slice(1)) runPair(nodes[0], other);
  return { time, nodes };
}

/** The liar's end of a session that it begins. */
class Liar {
  result: SyncResult | null = null;
  private readonly session;
  private readonly writer: FrameWriter;

  constructor(node: SyncNode, lie: (hello: Hello) => unknown) {
    this.session = node.session(
      "responder",
      () => {},
      (result) => (this.result = result),
    );
    this.writer = new FrameWriter((frame) => this.session.receive(frame.slice()));
    const hello = new Hello();
    Object.assign(hello, { cluster: "merkle-kv", nodeId: "liar", maxFrameBytes: 1_000_000 });
    hello.mode = MODES.indexOf("full");
    hello.clockMs = node.store.clock.nowMs();
    hello.watermarkMs = hello.clockMs - 2_000;
    lie(hello);
    writeHello(this.writer, hello);
    this.say(() => {});
    if (this.result === null) this.say((it) => [TURN, 0].forEach((byte) => it.u8(byte)));
  }

  /** It will not have anything of the node's, and names a purge. */
  refuseAll(node: SyncNode, upToMs: number, purger = { high: 7, low: 7 }): this {
    for (const entry of entriesOf(node)) {
      if (this.result !== null) break;
      this.say((writer) => {
        writer.u8(REFUSED);
        writer.u64(upToMs);
        const { timeHigh, timeLow, originHigh, originLow } = entry;
        const words = [purger.high, purger.low, timeHigh, timeLow, originHigh, originLow];
        for (const word of words) writer.u32(word);
        writer.varint(entry.keyLength);
        writer.copy(entry.key, entry.keyOffset, entry.keyLength);
      });
    }
    return this;
  }

  private say(what: (writer: FrameWriter) => void): void {
    this.writer.reserve(1_000);
    what(this.writer);
    this.writer.flush();
    while (this.session.step());
  }
}

function rootBytesOf(node: SyncNode): Uint8Array {
  return Uint8Array.from(Buffer.from(rootOf(node), "hex").subarray(0, ROOT_BYTES));
}

/** All that clients were told is written is there, on each node, and they are equal. */
function expectWhole(nodes: readonly SyncNode[]): void {
  for (const node of nodes) {
    expect(node.setAside.map(({ key }) => key)).toEqual([]);
    for (let i = 0; i < KEYS; i++) expect([i, get(node, `new:${i}`)]).toEqual([i, "v"]);
    expect(rootOf(node)).toBe(rootOf(nodes[0]));
  }
}

/** The honest meet once more, each with each, and what one wrote meanwhile is everywhere. */
function meetAll(time: { ms: number }, nodes: readonly SyncNode[]): void {
  set(nodes[0], "after", "v");
  for (const mode of ["watermark", "now"] as const) {
    time.ms += 10_000;
    for (const a of nodes) {
      for (const b of nodes) {
        if (a === b) continue;
        const { initiator, responder } = runPair(a, b, { mode });
        expect([initiator.reason, responder.reason]).toEqual(["", ""]);
      }
    }
  }
  for (const node of nodes) expect(get(node, "after")).toBe("v");
}

/** The most that a purge time can lie: further and it is not believed. */
const UNTRUE = [
  ["just within the allowed skew of the clock", SKEW_MS - 2_000],
  ["an hour ahead", 3_600_000],
  ["now", 0],
  ["barely within the grace", -GRACE_MS + SKEW_MS + 5_000],
  ["a life ahead", 2 ** 41],
] as const;

describe.each(UNTRUE)("a purge time %s", (_, offsetMs) => {
  test.each([
    ["of its own", (hello: Hello, ms: number) => (hello.purgedUpToMs = ms)],
    ["of somebody nobody knows", (it: Hello, ms: number) => it.contacts.note(7, 7, 0, ms)],
    [
      "of an honest member",
      (it: Hello, ms: number) => {
        const { origin } = new SyncNode("second").store;
        it.contacts.note(origin.high, origin.low, 0, ms);
      },
    ],
  ])("%s: the session is refused by name, and nothing is believed", (__, lie) => {
    const { time, nodes } = honest("first", "second", "third");
    const [first] = nodes;
    const liar = new Liar(first, (hello) => {
      // Its clock may lie too.
      hello.clockMs = Math.max(hello.clockMs, hello.clockMs + offsetMs + GRACE_MS);
      lie(hello, time.ms + offsetMs);
    });
    expect(liar.result).toMatchObject({ failure: "untrue", peerNodeId: "liar" });
    expect(liar.result!.reason).toContain("it claims to have forgotten deletions of ");
    expect(first.store.deletions.purgedElsewhereMs).toBe(0);
    expect(first.contacts.size).toBe(2);
    meetAll(time, nodes);
    expectWhole(nodes);
  });

  test("in a refusal: the session ends by name, and nothing is given up", () => {
    const { time, nodes } = honest("first", "second", "third");
    const liar = new Liar(nodes[0], () => {}).refuseAll(nodes[0], time.ms + offsetMs);
    expect(liar.result).toMatchObject({ failure: "untrue", peerNodeId: "liar" });
    meetAll(time, nodes);
    expectWhole(nodes);
  });
});

describe("a purge time that can be", () => {
  test("by which it refuses what is younger than the grace: that stays", () => {
    const { time, nodes } = honest("first", "second", "third");
    const [first] = nodes;
    const upToMs = time.ms - GRACE_MS + SKEW_MS;
    // All was written before that, were clocks off as far as they may be.
    expect(START_MS).toBeLessThan(upToMs + 60_000);
    time.ms += 85_000;
    const liar = new Liar(first, (hello) => {
      hello.clockMs += SKEW_MS;
      hello.purgedUpToMs = upToMs + 85_000;
    }).refuseAll(first, upToMs + 85_000);
    expect(liar.result).toBeNull();
    expectWhole(nodes);
    meetAll(time, nodes);
    expectWhole(nodes);
  });

  test("of a member that was met since: nothing is given up, however old", () => {
    const { time, nodes } = honest("first", "second");
    const [first, second] = nodes;
    time.ms += 10 * GRACE_MS;
    runPair(first, second);
    const upToMs = time.ms - GRACE_MS + SKEW_MS;
    new Liar(first, (hello) => {
      hello.clockMs += SKEW_MS;
      const { high, low } = second.store.origin;
      hello.contacts.note(high, low, 0, upToMs);
    }).refuseAll(first, upToMs, second.store.origin);
    expectWhole(nodes);
    meetAll(time, nodes);
    expectWhole(nodes);
  });

  test("by which it refuses a deletion within its grace: that stays, and does its work", () => {
    const { time, nodes } = honest("first", "away");
    const [first, away] = nodes;
    del(first, "new:0");
    time.ms += 60_000;
    const upToMs = time.ms - GRACE_MS + SKEW_MS;
    new Liar(first, (hello) => {
      hello.clockMs += SKEW_MS;
      hello.purgedUpToMs = upToMs;
    }).refuseAll(first, upToMs);
    expect(first.store.tombstoneCount).toBe(1);
    runPair(first, away);
    expect([get(first, "new:0"), get(away, "new:0")]).toEqual([null, null]);
  });

  test("that does not reach up to a deletion, old as it is: that stays", () => {
    const { time, nodes } = honest("first", "away");
    const [first, away] = nodes;
    del(first, "new:0");
    time.ms += GRACE_MS + 10_000;
    new Liar(first, () => {}).refuseAll(first, 0);
    expect(first.store.tombstoneCount).toBe(1);
    runPair(first, away);
    expect([get(first, "new:0"), get(away, "new:0")]).toEqual([null, null]);
  });
});

describe("a purge time that can be, by a clock ahead of this one's", () => {
  test("does not make it turn away what another has that is younger than the grace", () => {
    const { time, nodes } = honest("first", "second");
    const [first, second] = nodes;
    set(second, "mine", "v");
    time.ms += 60_000;
    const claim = new Hello();
    claim.contacts.note(7, 7, 0, time.ms - GRACE_MS + SKEW_MS);
    notePurges(first, claim);
    time.ms += 10_000;
    runPair(second, first);
    expect(get(first, "mine")).toBe("v");
  });
});

describe("of the rest of a HELLO", () => {
  /** A session with the liar that ends as complete: it says that it has nothing, and takes all. */
  function meetLiar(lie: (hello: Hello) => unknown): { time: { ms: number }; first: SyncNode } {
    const { time, nodes } = honest("first", "second");
    const [first] = nodes;
    new Liar(first, (hello) => {
      hello.mode = MODES.indexOf("now");
      hello.root.set(rootBytesOf(first));
      lie(hello);
    });
    return { time, first };
  }

  test.each([
    [59_000, 59_000],
    [60_000, 60_000],
    [60_001, 0],
    [3_600_000, 0],
    [-3_600_000, 0],
    [2 ** 44, 0],
  ])("a clock that is off by %d ms moves this node's by %d ms", (lieMs, movedMs) => {
    const { time, first } = meetLiar((hello) => (hello.clockMs += lieMs));
    expect(first.store.clockMs() - time.ms).toBe(movedMs);
  });

  test("a watermark to come, and contacts to come, count no further than what was compared", () => {
    const { origin } = new SyncNode("liar").store;
    const { time, first } = meetLiar((hello) => {
      hello.clockMs += 3_600_000;
      hello.watermarkMs = hello.clockMs;
      hello.contacts.note(7, 7, hello.clockMs);
    });
    const contacts = [first.contacts.of(origin.high, origin.low), first.contacts.of(7, 7)];
    expect(contacts).toEqual([time.ms - 2_000, time.ms - 2_000]);
  });

  test("a watermark of long ago leaves no contact of later", () => {
    const { origin } = new SyncNode("liar").store;
    const { first } = meetLiar((hello) => (hello.watermarkMs = 1_000));
    expect(first.contacts.of(origin.high, origin.low)).toBe(1_000);
  });

  test("members without number take nobody's place whom this node met of late", () => {
    const { time, nodes } = honest("first", "second");
    const [first, second] = nodes;
    time.ms += 10_000;
    for (let round = 0; round < 3; round++) {
      new Liar(first, (hello) => {
        hello.mode = MODES.indexOf("now");
        hello.root.set(rootBytesOf(first));
        for (let i = 0; i < MAX_MEMBERS; i++) hello.contacts.note(9, round * 1_000 + i, time.ms);
      });
    }
    expect(first.contacts.size).toBe(MAX_MEMBERS);
    const { high, low } = second.store.origin;
    expect(first.contacts.of(high, low)).toBe(time.ms - 12_000);
    const late = new SyncNode("late", first.options);
    runPair(late, first);
    expect(first.contacts.of(late.store.origin.high, late.store.origin.low)).toBeGreaterThan(0);
    meetAll(time, nodes);
    expectWhole(nodes);
  });

  test("a flush from the future flushes nothing, and is no contact", () => {
    const { first } = meetLiar((hello) => {
      hello.floor = { timeHigh: 0xffff_ffff, timeLow: 0, originHigh: 1, originLow: 1 };
    });
    expect([first.store.size, first.contacts.size]).toEqual([KEYS, 1]);
  });
});

describe("an honest node whose clock was wrong", () => {
  test("says no more than can be, and its peers go on with it", () => {
    const { time, nodes } = honest("ahead", "right");
    const [, right] = nodes;
    let aheadMs = 3_600_000;
    const ahead = new SyncNode("ahead", {
      nowMs: () => time.ms + aheadMs,
      tombstoneGraceMs: GRACE_MS,
    });
    for (const entry of entriesOf(right)) ahead.store.apply(entry);
    const [first] = entriesOf(right);
    first.kind = 1;
    first.valueLength = 0;
    first.timeLow += 65_536;
    first.learnedMs = time.ms + 30_000;
    ahead.store.apply(first);
    ahead.store.sweep(1000);
    expect(ahead.store.deletions.purgedUpToMs).toBeGreaterThan(time.ms - GRACE_MS);
    aheadMs = 0;
    // It is from before what `ahead` has purged, which was too early.
    set(right, "mine", "v");
    time.ms += 10_000;
    const { initiator, responder } = runPair(right, ahead, { mode: "now" });
    expect([initiator.reason, responder.reason]).toEqual(["", ""]);
    expect(right.setAside).toEqual([]);
    expect([get(right, keyOf(first)), get(right, "mine")]).toEqual(["v", "v"]);
    expect(get(ahead, "mine")).toBe("v");
  });
});
