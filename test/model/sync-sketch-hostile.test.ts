/** Sync sessions with peers that misuse sketches and cells: bounded work, then a reason or a walk. */
import { describe, expect, test } from "bun:test";
import { BUCKETS } from "../../src/core/tree/digest-tree.ts";
import { FrameReader, FrameWriter } from "../../src/core/sync/frames.ts";
import { Hello, writeHello } from "../../src/core/sync/hello.ts";
import {
  CELLS,
  DIGESTS,
  END,
  ESTIMATE,
  LIST,
  MORE,
  SYMBOLS,
  TURN,
  TURN_DONE,
  WANT,
} from "../../src/core/sync/items.ts";
import { MODES } from "../../src/core/sync/options.ts";
import type { SyncResult, SyncSession } from "../../src/core/sync/session.ts";
import { seeded } from "../support/random.ts";
import { rootOf, set } from "../support/sync-data.ts";
import { SyncNode } from "../support/sync-pair.ts";

const NOW_MS = 1_700_000_000_000;

type Say = (writer: FrameWriter) => void;

/** A stranger, and its end of a session with a node that has some entries. */
class Stranger {
  readonly node = new SyncNode("node", { nowMs: () => NOW_MS });
  result: SyncResult | null = null;
  /** What the node said in its last turn: the first byte of each frame's payload. */
  frames: Uint8Array[] = [];
  sentBytes = 0;
  private readonly session: SyncSession;
  private readonly writer: FrameWriter;

  constructor(role: "initiator" | "responder") {
    for (let i = 0; i < 1_000; i++) set(this.node, `k${i}`, `v${i}`);
    rootOf(this.node);
    this.session = this.node.session(
      role,
      (frame) => {
        this.frames.push(frame.slice());
        this.sentBytes += frame.length;
      },
      (result) => (this.result = result),
      { compresses: false, ...(role === "initiator" && { mode: "now" }) },
    );
    this.writer = new FrameWriter((frame) => this.session.receive(frame.slice()));
    if (role === "initiator") this.session.start();
    this.work();
  }

  /** Says something; what the session failed with, if it did. */
  say(...what: Say[]): string {
    this.frames = [];
    for (const one of what) {
      this.writer.reserve(60_000);
      one(this.writer);
      this.writer.flush();
      this.work();
    }
    return this.result?.reason ?? "";
  }

  /** The first items of what it was answered. */
  get tags(): number[] {
    return this.frames.map((frame) => {
      const reader = new FrameReader(1_000_000);
      reader.push(frame);
      reader.next();
      return reader.u8();
    });
  }

  private work(): void {
    for (let steps = 0; this.session.step(); steps++) {
      if (steps > 100_000) throw new Error("it works on and on");
    }
  }
}

const hello: Say = (writer) => {
  const it = new Hello();
  Object.assign(it, { cluster: "merkle-kv", nodeId: "stranger", maxFrameBytes: 1_000_000 });
  it.mode = MODES.indexOf("now");
  it.clockMs = NOW_MS;
  it.watermarkMs = NOW_MS - 2_000;
  it.root.fill(1);
  writeHello(writer, it);
};
const answer: Say = (writer) => {
  const it = new Hello();
  Object.assign(it, { cluster: "merkle-kv", nodeId: "stranger", maxFrameBytes: 1_000_000 });
  it.clockMs = NOW_MS;
  it.watermarkMs = NOW_MS - 2_000;
  it.root.fill(1);
  writeHello(writer, it, new Hello());
};
const bytes =
  (...values: number[]): Say =>
  (writer) =>
    values.forEach((value) => writer.u8(value));
const turn = bytes(TURN, 0);
const more =
  (count: number): Say =>
  (writer) => {
    writer.u8(MORE);
    writer.varint(count);
  };
const estimate =
  (log: number, fill: number): Say =>
  (writer) => {
    writer.u8(ESTIMATE);
    writer.u8(log);
    for (let i = 0; i < (14 * 2 ** log) / 8; i++) writer.u8(fill);
  };
const symbols =
  (count: number, random: () => number): Say =>
  (writer) => {
    writer.u8(SYMBOLS);
    writer.varint(count);
    for (let i = 0; i < 12 * count; i++) writer.u8(Math.floor(random() * 256));
  };
/** Names buckets, by what is passed over and the number of the action, with cells of noise. */
const cells =
  (...steps: (readonly [passed: number, action: number])[]): Say =>
  (writer) => {
    writer.u8(CELLS);
    writer.varint(steps.length);
    for (const [passed, action] of steps) {
      writer.varint(passed * 4 + action);
      if (action === 1) for (let i = 0; i < 10; i++) writer.u8(i);
    }
  };
const want =
  (bucket: number, depth = 0, count = 1): Say =>
  (writer) => {
    writer.u8(WANT);
    writer.u16(bucket);
    writer.u8(depth);
    if (depth > 0) for (let i = 0; i < 6; i++) writer.u8(0);
    writer.varint(count);
    for (let i = 0; i < 6 * count; i++) writer.u8(i);
  };

const breach = (tag: number): string => `it does not keep to the sync protocol (item ${tag})`;

describe("a peer that begins", () => {
  /** It has got the first symbols. */
  function begun(): Stranger {
    const stranger = new Stranger("responder");
    expect(stranger.say(hello, turn)).toBe("");
    expect(stranger.node.tree.levels.copies).toBe(1);
    return stranger;
  }

  const cases: readonly (readonly [name: string, says: readonly Say[], tag: number])[] = [
    ["more symbols than are made", [more(60_001)], MORE],
    ["twice for more", [more(10), more(12)], MORE],
    ["with two estimates", [estimate(6, 0), estimate(6, 0)], ESTIMATE],
    ["with an estimate of a size that there is not", [estimate(7, 0)], ESTIMATE],
    ["for nothing", [turn], TURN],
    ["with an estimate, and not for more", [estimate(6, 0), turn], TURN],
    ["about buckets that there are not", [cells([65_000, 0], [600, 0])], CELLS],
    ["something that is not to be done", [cells([5, 3])], CELLS],
    ["for more after it has named buckets", [cells([5, 0]), more(10)], MORE],
    ["to walk after it has named buckets", [cells([5, 0]), bytes(DIGESTS, 0, 0)], DIGESTS],
    ["to compare buckets after it has walked", [bytes(DIGESTS, 0, 0), cells([5, 0])], CELLS],
  ];
  test.each(cases)("asks %s: it is told", (_, says, tag) => {
    const stranger = begun();
    expect(stranger.say(...says)).toBe(breach(tag));
    expect(stranger.node.tree.levels.copies).toBe(0);
  });

  test("asks for as many symbols as there may be, again and again: it gets them once", () => {
    const stranger = begun();
    for (let turns = 0; turns < 5; turns++) expect(stranger.say(more(60_000), turn)).toBe("");
    expect(stranger.sentBytes).toBeGreaterThan(700_000);
    expect(stranger.sentBytes).toBeLessThan(800_000);
  });

  test("names all buckets to be listed, twice, and not three times", () => {
    const stranger = begun();
    const all = Array.from({ length: BUCKETS / 64 }, () =>
      cells(...Array.from({ length: 64 }, () => [0, 0] as const)),
    );
    for (let times = 0; times < 2; times++) {
      expect(stranger.say(...all, turn)).toBe("");
      // A LIST for each bucket, in turns of a megabyte, whether it is empty or not.
      while (stranger.frames.at(-1)!.at(-1) !== TURN_DONE) expect(stranger.say(turn)).toBe("");
    }
    expect(stranger.say(...all)).toBe(breach(CELLS));
  });

  test("has an estimate by which all differs: it is led into a walk", () => {
    const stranger = begun();
    expect(stranger.say(estimate(9, 0x55), more(10), turn)).toBe("");
    expect(stranger.tags[0]).toBe(DIGESTS);
    expect(stranger.node.tree.levels.copies).toBe(0);
  });

  test("goes away: what the sketch took is given back", () => {
    const stranger = begun();
    stranger.say(bytes(END));
    expect(stranger.result!.ok).toBe(false);
    expect(stranger.node.tree.levels.copies).toBe(0);
  });
});

describe("a peer that answers", () => {
  const random = seeded(3);
  const noise = (count: number): Say => symbols(count, random);
  const coarse = estimate(3, 0);

  const cases: readonly (readonly [name: string, says: readonly Say[], tag: number])[] = [
    ["no symbols", [coarse, turn], TURN],
    ["too few symbols", [noise(2), coarse, turn], TURN],
    ["no estimate", [noise(3), turn], TURN],
    ["an item of no symbols", [symbols(0, random)], SYMBOLS],
    ["two estimates", [noise(3), coarse, coarse], ESTIMATE],
    ["more symbols than there may be", Array(120).fill(noise(512)), SYMBOLS],
    ["wants before anything was named", [noise(3), want(1)], WANT],
    ["lists before anything was named", [noise(3), bytes(LIST, 0, 1, 0, 0)], LIST],
  ];
  test.each(cases)("%s: it is told", (_, says, tag) => {
    const stranger = new Stranger("initiator");
    expect(stranger.say(answer, ...says)).toBe(breach(tag));
    expect(stranger.node.tree.levels.copies).toBe(0);
  });

  test("noise, whatever it is asked for: it is walked with, soon", () => {
    const stranger = new Stranger("initiator");
    expect(stranger.say(answer, noise(3), coarse, turn)).toBe("");
    let turns = 0;
    for (; stranger.tags[0] !== DIGESTS; turns++) {
      expect([ESTIMATE, MORE]).toContain(stranger.tags[0]);
      expect(stranger.say(noise(40), turn)).toBe("");
    }
    expect(turns).toBeLessThanOrEqual(4);
    expect(stranger.node.tree.levels.copies).toBe(0);
  });

  test("by an estimate that nearly all differs: it is walked with at once", () => {
    const stranger = new Stranger("initiator");
    expect(stranger.say(answer, noise(3), estimate(3, 0x3c), turn)).toBe("");
    expect([MORE, DIGESTS, ESTIMATE]).toContain(stranger.tags[0]);
    expect(stranger.sentBytes).toBeLessThan(4_000);
  });
});
