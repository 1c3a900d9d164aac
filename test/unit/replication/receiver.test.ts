/** What a receiver does to the store, counts and reports. */
import { describe, expect, test } from "bun:test";
import { Encoder } from "cbor-x/index-no-eval";
import fc from "fast-check";
import { HybridClock, timeHighOf, timeLowOf, unixMsOf } from "../../../src/core/data/clock.ts";
import { BASE_BYTES, BASE_NONE, BASE_STRING, PART_BYTES } from "../../../src/core/data/counter.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import { Store } from "../../../src/core/store/store.ts";
import { Receiver } from "../../../src/replication/receiver.ts";
import { eventLoop } from "../../../src/world.ts";
import { encodeContext } from "../../../src/trace-context.ts";
import { activeTrace, noTracer, type Tracer } from "../../../src/tracer.ts";
import { originOf } from "../../../src/core/data/origin.ts";
import { eventually } from "../../support/eventually.ts";
import { readFact } from "../../support/facts.ts";
import { RecordingTracer } from "../../support/recording-tracer.ts";
import { readSeries } from "../../support/series.ts";

const NOW_MS = 1_700_000_000_000;
const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });

function timestamp(unixMs: number): bigint {
  return (BigInt(timeHighOf(unixMs)) << 32n) | BigInt(timeLowOf(unixMs));
}

const set = (key: string, value = "v", unixMs = NOW_MS) => {
  return { op: "set", key: Buffer.from(key), val: Buffer.from(value), ts: timestamp(unixMs) };
};

function setUp(memoryLimitBytes = 0, acceptsForeign = true, tracer: Tracer = noTracer) {
  const store = new Store({
    clock: new HybridClock(() => NOW_MS),
    origin: originOf("me"),
    hashSeed: { high: 1, low: 2 },
    random: Math.random,
    memoryLimitBytes,
    maxClockSkewMs: 1_000,
    tombstoneGraceMs: 1_000,
  });
  const reports: string[] = [];
  const receiver = new Receiver({
    store,
    nodeId: "me",
    epoch: 5,
    maxEventBytes: 1_000,
    maxMessageBytes: 1_000_000,
    acceptsForeign,
    onGap: (source) => reports.push(`gap ${source}`),
    onReference: (source, entry) => reports.push(`ref ${source} ${Buffer.from(entry.keyBytes())}`),
    onFuture: ({ timeHigh, timeLow }, source) => {
      reports.push(`from ${source} in ${unixMsOf(timeHigh, timeLow) - NOW_MS} ms`);
    },
    onDropped: (reason, source) => {
      const trace = activeTrace();
      reports.push(`dropped ${reason} ${source}${trace ? ` in ${trace.traceId}` : ""}`);
    },
    tracer,
    isPossibleEpoch: (epoch) => epoch < 1_000,
    onDuplicateNodeId: () => reports.push("duplicate"),
    timing: eventLoop,
  });
  const receive = (src: string, epoch: number | bigint, seq: number, ...events: unknown[]) =>
    receiver.receiveBatch(encoder.encode({ v: 1, src, epoch, seq, events }), () => {});
  return { store, receiver, receive, reports };
}

test("events are applied, known ones are no change", () => {
  const { store, receiver, receive } = setUp();
  receive("a", 1, 1, set("x"), set("y"), {
    op: "del",
    key: Buffer.from("x"),
    ts: timestamp(NOW_MS + 1),
  });
  expect(store.size).toBe(1);
  receive("a", 1, 1, set("x"), set("y"));
  expect(store.size).toBe(1);
  expect(receiver).toMatchObject({
    appliedEvents: 3,
    knownEvents: 2,
    receivedEvents: 5,
  });
  receive("a", 1, 2, { op: "flush", ts: timestamp(NOW_MS + 2) });
  expect(store.size).toBe(0);
});

describe("a compressed batch", () => {
  const batch = (seq: number, ...events: unknown[]) =>
    encoder.encode({ v: 1, src: "a", epoch: 1, seq, events });
  const many = (seq: number) =>
    batch(seq, ...Array.from({ length: 200 }, (_, i) => set(`key ${seq} ${i}`)));

  test("is applied as if it were not, in its turn", async () => {
    const { store, receiver, reports } = setUp();
    const done: number[] = [];
    for (const seq of [1, 2, 3]) {
      const message = seq === 2 ? many(seq) : Bun.zstdCompressSync(many(seq));
      receiver.receiveBatch(message, () => done.push(seq));
    }
    await eventually("all are applied", () => done.length === 3);
    expect(done).toEqual([1, 2, 3]);
    expect(store.size).toBe(600);
    expect(reports).toEqual([]);
  });

  test.each([
    ["would fill the memory", Bun.zstdCompressSync(Buffer.alloc(64 * 1_048_576)), "oversized"],
    ["is damaged", Bun.zstdCompressSync(many(1)).subarray(0, -5), "malformed"],
    ["is compressed twice", Bun.zstdCompressSync(Bun.zstdCompressSync(many(1))), "malformed"],
  ])("that %s is dropped and counted, and the next one has its turn", async (_, message, why) => {
    const { store, receiver, reports } = setUp();
    const done: string[] = [];
    receiver.receiveBatch(many(1), () => done.push("before"));
    receiver.receiveBatch(message, () => done.push("it"));
    receiver.receiveBatch(many(3), () => done.push("after"));
    await eventually("all are done with", () => done.length === 3);
    expect(done).toEqual(["before", "it", "after"]);
    expect(store.size).toBe(400);
    expect(receiver.dropped[why as "malformed"]).toBe(1);
    // Its number is missing, by which its source is compared with.
    expect(reports).toEqual([`dropped ${why} `, "gap a"]);
  });
});

test("own batches are ignored, those of a namesake are not", () => {
  const { store, receive, reports } = setUp();
  receive("me", 5, 1, set("own"));
  expect(store.size).toBe(0);
  receive("me", 6, 1, set("namesake's"));
  expect(store.size).toBe(1);
  expect(reports).toEqual(["duplicate"]);
});

test("an earlier run of this node is no namesake, nor is who says an epoch that cannot be", () => {
  const { store, receiver, receive, reports } = setUp();
  receive("me", 4, 9, set("from before"));
  expect(store.size).toBe(1);
  expect(reports).toEqual([]);
  receive("me", BigInt(Number.MAX_SAFE_INTEGER), 1, set("forged"));
  expect(store.size).toBe(1);
  expect(reports).toEqual(["dropped invalid me"]);
  expect(receiver.dropped.invalid).toBe(1);
});

describe("a gap is reported", () => {
  const rows: [string, [number, number][], number][] = [
    [
      "never for consecutive numbers",
      [
        [1, 1],
        [1, 2],
        [1, 3],
      ],
      0,
    ],
    [
      "for what came before the first, once",
      [
        [1, 7],
        [1, 8],
      ],
      1,
    ],
    [
      "for a missing number",
      [
        [1, 1],
        [1, 3],
        [1, 4],
      ],
      1,
    ],
    [
      "not for repetitions",
      [
        [1, 1],
        [1, 2],
        [1, 1],
        [1, 2],
        [1, 3],
      ],
      0,
    ],
    [
      "not for a new epoch",
      [
        [1, 1],
        [2, 1],
        [2, 2],
      ],
      0,
    ],
    [
      "for a new epoch whose first is missing",
      [
        [1, 1],
        [2, 2],
      ],
      1,
    ],
    [
      "for a missing number, whatever was forged in between",
      [
        [5, 1],
        [2 ** 31, 1],
        [5, 2],
        [5, 4],
      ],
      1,
    ],
    [
      "for a missing number of a start that a forged one was heard before",
      [
        [2 ** 31, 1],
        [5, 3],
        [5, 5],
      ],
      1,
    ],
    [
      "for a missing number, and for each forged one far ahead",
      [
        [5, 1],
        [5, 2 ** 31],
        [5, 2],
        [5, 3],
        [5, 5],
      ],
      3,
    ],
    [
      "not for late batches of an earlier epoch",
      [
        [2, 1],
        [1, 9],
        [2, 2],
      ],
      0,
    ],
  ];
  test.each(rows)("%s", (_, batches, gaps) => {
    const { receiver, receive, reports } = setUp();
    for (const [epoch, sequence] of batches) {
      receive("b", 1, 1);
      receive("a", epoch, sequence);
    }
    expect(reports).toEqual(Array(gaps).fill("gap a"));
    expect(readFact(Receiver.facts, receiver, "replication_gaps")).toBe(gaps);
  });
});

test("what is dropped is counted by its reason and changes nothing", () => {
  const { store, receiver, receive, reports } = setUp();
  receive("a", 1, 1, set("k", "v", NOW_MS + 1_001));
  receive("a", 1, 2, { op: "flush", ts: timestamp(NOW_MS + 1_001) });
  receive("a", 1, 3, { ...set("k"), op: "swap" });
  receive("a", 1, 4, set("k", "x".repeat(1_001)));
  receive("a", 1, 5, { op: "set" });
  receive("a", 1, 6, { ...set("k"), op: "counter" });
  receiver.receiveBatch(Buffer.from("nonsense"), () => {});
  receiver.receiveBatch(Buffer.alloc(1_000_001), () => {});
  receiver.receiveEvent(Buffer.from("nonsense"));
  expect(store.size).toBe(0);
  expect(receiver.dropped).toEqual({
    future: 2,
    unknown: 1,
    oversized: 2,
    malformed: 3,
    foreign: 0,
    invalid: 1,
    forgotten: 0,
    full: 0,
    read_only: 0,
  });
  expect(reports.filter((it) => it.startsWith("from"))).toEqual(Array(2).fill("from a in 1001 ms"));
  expect(reports).toContain("dropped future a");
});

test("events of other implementations are left out where they are not wanted", () => {
  const { receiver, reports } = setUp(0, false);
  receiver.receiveEvent(Buffer.from("whatever it is"));
  expect(receiver.dropped).toMatchObject({ foreign: 1, malformed: 0 });
  expect(reports).toEqual(["dropped foreign "]);
});

test("a disk that is full is not called a full memory", () => {
  const { store, receive, receiver } = setUp();
  store.setReadOnly(true);
  receive("a", 1, 1, set("k"));
  receive("a", 1, 2, { op: "flush", ts: timestamp(NOW_MS) });
  expect(receiver.dropped).toMatchObject({ read_only: 2, full: 0 });
});

test("what may have been deleted and forgotten here is left to a comparison", () => {
  const { store, receive, reports } = setUp();
  receive("a", 1, 1, set("here", "v", NOW_MS - 9));
  store.deletions.notePurgedHere(NOW_MS - 5);
  receive("a", 1, 2, set("here", "w", NOW_MS - 8), set("gone", "v", NOW_MS - 5));
  expect(reports).toEqual(["dropped forgotten a", "gap a"]);
  expect(store.size).toBe(1);
  receive("a", 1, 3, set("gone", "v", NOW_MS - 4));
  expect(store.size).toBe(2);
  receive("a", 1, 4, { op: "del", key: Buffer.from("late"), ts: timestamp(NOW_MS - 4) });
  store.deletions.notePurgedHere(NOW_MS - 2);
  receive("a", 1, 5, set("late", "v", NOW_MS - 3));
  expect(reports.length).toBe(4);
  expect(store.size).toBe(2);
});

test("a counter is as old as what it was begun from, or when from nothing, as its increments", () => {
  const { store, receive, reports } = setUp();
  store.deletions.notePurgedHere(NOW_MS - 5);
  const counter = (key: string, baseKind: number, baseMs: number) => {
    const val = Buffer.alloc(BASE_BYTES + PART_BYTES);
    val[0] = baseKind;
    if (baseMs > 0) val.writeBigUInt64BE(timestamp(baseMs), 1);
    val.writeBigUInt64BE(1n, BASE_BYTES);
    val.writeBigUInt64BE(timestamp(NOW_MS), BASE_BYTES + 8);
    return { op: "counter", key: Buffer.from(key), val, ts: timestamp(NOW_MS) };
  };
  receive("a", 1, 1, counter("old", BASE_STRING, NOW_MS - 5));
  expect(reports).toEqual(["dropped forgotten a", "gap a"]);
  receive("a", 1, 2, counter("new", BASE_STRING, NOW_MS - 4), counter("begun", BASE_NONE, 0));
  expect(reports.length).toBe(2);
  expect(store.size).toBe(2);
});

test("a full store refuses, and goes on deleting", () => {
  const { store, receiver, receive } = setUp(1);
  receive("a", 1, 1, set("k"), { op: "del", key: Buffer.from("k"), ts: timestamp(NOW_MS) });
  expect(receiver.dropped.full).toBe(1);
  expect(store.tombstoneCount).toBe(1);
});

test("a reference is passed on with its key", () => {
  const { store, receive, reports } = setUp();
  receive("a", 1, 1, { op: "ref", key: Buffer.from("large"), ts: timestamp(NOW_MS) });
  expect(store.size).toBe(0);
  expect(reports).toEqual(["ref a large"]);
});

test("a long batch is applied in slices, and whole before one that overtakes it", async () => {
  const { store, receiver } = setUp();
  // Time passes quickly for this store: every apply takes a good part of a slice.
  const apply = store.apply.bind(store);
  store.apply = (entry: Entry, local?: boolean) => {
    for (const start = performance.now(); performance.now() - start < 0.1;);
    return apply(entry, local);
  };
  const events = Array.from({ length: 200 }, (_, i) => set(`key${i}`));
  const done: string[] = [];
  const message = (seq: number) => encoder.encode({ v: 1, src: "a", epoch: 1, seq, events });
  receiver.receiveBatch(message(1), () => done.push("first"));
  expect(done).toEqual([]);
  expect(store.size).toBeLessThan(200);
  receiver.receiveBatch(message(2), () => done.push("second"));
  expect(done).toEqual([]);
  await eventually("both are done", () => done.length === 2);
  expect(done).toEqual(["first", "second"]);
  expect(receiver).toMatchObject({ appliedEvents: 200, knownEvents: 200 });
});

test("mutated batches throw nothing and never leave the store in disorder", () => {
  const events = [set("one"), set("two"), { op: "flush", ts: timestamp(NOW_MS - 1) }];
  const good = encoder.encode({ v: 1, src: "a", epoch: 1, seq: 1, events });
  const { store, receiver } = setUp();
  const mutation = fc.tuple(fc.nat(good.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
      const bad = Buffer.from(good);
      for (const [at, byte] of mutations) bad[at] = byte;
      let answered = 0;
      receiver.receiveBatch(bad, () => answered++);
      receiver.receiveEvent(bad);
      expect(answered).toBe(1);
    }),
    { numRuns: 3_000 },
  );
  const { receivedEvents: received, appliedEvents: applied } = receiver;
  expect(received).toBeGreaterThan(applied);
  expect(receiver.dropped.malformed).toBeGreaterThan(0);
  expect(store.size).toBeLessThanOrEqual(applied);
});

test("metrics tell of each source how old the newest write is, and how long batches took", () => {
  const { receiver, receive } = setUp();
  const series = (name: string) => readSeries(Receiver.series, receiver, name);
  expect(series("replication_lag_seconds")).toEqual({});
  receive("a", 1, 1, set("x", "v", NOW_MS - 9_000), set("y", "v", NOW_MS - 4_000));
  receive("a", 1, 2, set("z", "v", NOW_MS - 7_000));
  receive("b", 1, 1, set("q", "v", NOW_MS + 500));
  // Its own comes back.
  receive("me", 5, 1, set("own"));
  expect(series("replication_lag_seconds")).toEqual({ a: 4, b: 0 });
  expect(series("replication_delay_ms")).toEqual({ "": 3 });
});

describe("a batch that belongs to traces", () => {
  const context = (trace: string, isSampled = true) => {
    const traceId = trace.repeat(32);
    return { traceId, spanId: "b".repeat(16), isSampled, state: "vendor=1" };
  };
  const batch = (src: string, traces: unknown, ...events: unknown[]) =>
    encoder.encode({ v: 1, src, epoch: 5, seq: 1, events, traces });
  const told = [context("1"), context("2", false), context("3")];

  test("has a span in each that is recorded, until all of it is applied", async () => {
    const tracer = new RecordingTracer();
    const { receiver, reports, store } = setUp(0, true, tracer);
    const events = Array.from({ length: 10_000 }, (_, i) => set(`key ${i}`));
    const late = set("late", "v", NOW_MS + 60_000);
    const isDone = new Promise<void>((done) =>
      receiver.receiveBatch(batch("a", told.map(encodeContext), ...events, late), done),
    );
    await eventually("it is begun", () => tracer.spans.length > 0);
    expect(tracer.spans.map(({ name, kind, parent }) => [name, kind, parent])).toEqual([
      ["apply", "consumer", told[0]],
      ["apply", "consumer", told[2]],
    ]);
    await isDone;
    expect(tracer.spans.map(({ isEnded }) => isEnded)).toEqual([true, true]);
    expect(store.size).toBe(events.length);
    expect(reports).toContain(`dropped future a in ${told[0].traceId}`);
    expect(activeTrace()).toBeNull();
  });

  test("has none of its own sender's, nor where nothing is traced, nor of what is no trace", () => {
    const tracer = new RecordingTracer();
    const { receiver, store } = setUp(0, true, tracer);
    receiver.receiveBatch(batch("me", told.map(encodeContext), set("own")), () => {});
    receiver.receiveBatch(batch("a", [Buffer.from("short"), 7], set("a")), () => {});
    receiver.receiveBatch(batch("b", "nothing", set("b")), () => {});
    tracer.isOn = false;
    receiver.receiveBatch(batch("c", told.map(encodeContext), set("c")), () => {});
    expect(tracer.spans).toEqual([]);
    expect(store.size).toBe(3);
  });
});
