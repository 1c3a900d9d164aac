/** What leaves the publisher, and what it does when acknowledgements fail to come. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Decoder } from "cbor-x/index-no-eval";
import { READS_COMPRESSED } from "../../../src/core/data/capabilities.ts";
import { decompress, isCompressed } from "../../../src/core/data/compression.ts";
import { HybridClock } from "../../../src/core/data/clock.ts";
import { Int64 } from "../../../src/core/data/int64.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import { Store } from "../../../src/core/store/store.ts";
import { Publisher } from "../../../src/replication/publisher.ts";
import type { MessageSink, PublisherOptions } from "../../../src/replication/publisher-options.ts";
import { eventLoop } from "../../../src/world.ts";
import { originOf } from "../../../src/core/data/origin.ts";
import { eventually } from "../../support/eventually.ts";
import { RecordingTracer } from "../../support/recording-tracer.ts";

const decoder = new Decoder({ useRecords: false, mapsAsObjects: true });

interface Sent {
  seq: number;
  /** `op key` of every event. */
  events: string[];
  acknowledge: (error?: Error) => void;
}

let store: Store;
let publisher: Publisher;
let sent: Sent[];
let sink: MessageSink;

beforeEach(() => {
  store = new Store({
    clock: new HybridClock(Date.now),
    origin: originOf("me"),
    hashSeed: { high: 1, low: 2 },
    random: Math.random,
    memoryLimitBytes: 0,
    maxClockSkewMs: 1_000,
    tombstoneGraceMs: 1_000,
  });
  publisher = createPublisher();
  sent = [];
  sink = {
    receiveMaximum: 65_535,
    isEchoing: false,
    agreement: { version: 5, features: 0 },
    maxMessageBytes: 1_000_000,
    isPaced: false,
    pauseMs: () => 0,
    notePassed() {},
    noteTooLong: () => false,
    send(message, acknowledge) {
      const { seq, events } = decoder.decode(message);
      const names = events.map(
        (event: { op: string; key?: Buffer }) => `${event.op} ${event.key ?? ""}`,
      );
      sent.push({ seq: Number(seq), events: names, acknowledge });
    },
  };
});

const LIMITS = { batchMs: 1, batchBytes: 500, maxEventBytes: 100, maxOutboxEvents: 1_000 };

function createPublisher(more: Partial<PublisherOptions> = {}): Publisher {
  const created = new Publisher({
    store,
    nodeId: "me",
    epoch: 1,
    limits: LIMITS,
    timing: eventLoop,
    whenSafe: (callback) => callback(),
    ...more,
  });
  store.observers.push(created.outbox);
  made.push(created);
  return created;
}

/** Those of the test that runs: a beat of one that is left would count in a later test. */
const made: Publisher[] = [];
afterEach(() => {
  for (const each of made.splice(0)) each.stop();
});

const bytes = (text: string) => Buffer.from(text);
const set = (key: string, value = "v") =>
  store.set(bytes(key), 0, key.length, bytes(value), 0, value.length, 0);
const allEvents = () => sent.flatMap(({ events }) => events);

/** Publishes all that waits over a broker that acknowledges, and returns the events. */
async function published(): Promise<string[]> {
  publisher.start({
    ...sink,
    send(message, acknowledge) {
      sink.send(message, acknowledge);
      queueMicrotask(() => acknowledge());
    },
  });
  await publisher.drain();
  return allEvents();
}

function foreign(key: string, kind: 0 | 1): Entry {
  const entry = new Entry().setKey(bytes(key));
  entry.kind = kind;
  store.clock.next();
  return entry.setVersion(store.clock.high, store.clock.low, 1, 1);
}

describe("a batch", () => {
  /** The batches as they are sent, of which each is acknowledged. */
  async function sentAs(isCompressing: boolean): Promise<Buffer[]> {
    const messages: Buffer[] = [];
    publisher.start({
      ...sink,
      agreement: { version: 7, features: isCompressing ? READS_COMPRESSED : 0 },
      send(message, acknowledge) {
        messages.push(message);
        queueMicrotask(() => acknowledge());
      },
    });
    await publisher.drain();
    return messages;
  }

  const LENGTH = 5_000;
  beforeEach(() => {
    publisher = createPublisher({ limits: { ...LIMITS, batchBytes: LENGTH } });
    for (let i = 0; i < 300; i++) set(`key ${i}`, `value ${i}`);
  });

  test("is compressed when all read that", async () => {
    const messages = await sentAs(true);
    const batches = messages.map((it) => (isCompressed(it) ? decompress(it, 2 * LENGTH) : it));
    for (const it of batches) expect(decoder.decode(it as Uint8Array).v).toBe(7);
    const events = batches.flatMap((it) => decoder.decode(it as Uint8Array).events as unknown[]);
    expect(events).toHaveLength(300);
    const [first] = messages;
    expect(isCompressed(first)).toBe(true);
    expect(first.length).toBeLessThan(LENGTH / 2);
    // What is counted is what was sent.
    const bytes = messages.reduce((sum, it) => sum + it.length, 0);
    expect(publisher.publishedBytes).toBe(bytes);
  });

  test("is not compressed when somebody does not", async () => {
    for (const message of await sentAs(false)) expect(isCompressed(message)).toBe(false);
  });
});

describe("what travels", () => {
  test("is a key's last state only", async () => {
    set("a");
    set("b");
    set("a", "again");
    store.delete(bytes("b"), 0, 1);
    expect(await published()).toEqual(["set a", "del b"]);
  });

  test("is not what a newer foreign write replaced", async () => {
    set("a");
    set("b");
    store.apply(foreign("a", 0));
    expect(await published()).toEqual(["set b"]);
  });

  test("is a counter, whoever counted last", async () => {
    const one = new Int64().set(0, 1);
    store.increment(bytes("n"), 0, 1, one);
    const entry = new Entry();
    store.read(store.find(bytes("n"), 0, 1), entry);
    const theirs = entry.clone();
    // The same part under another origin, a little later.
    theirs.value[25] = theirs.value[25] ^ 0xff;
    theirs.value[40]++;
    expect(store.apply(theirs)).toBe(1);
    store.read(store.find(bytes("n"), 0, 1), entry);
    expect(entry.originHigh).not.toBe(store.origin.high);
    expect(await published()).toEqual(["counter n"]);
  });

  test("is only a version for a large value", async () => {
    set("a", "x".repeat(100));
    set("b", "x".repeat(101));
    expect(await published()).toEqual(["set a", "ref b"]);
    expect(publisher.publishedReferences).toBe(1);
  });

  test("is a flush before what follows it, and not a foreign one", async () => {
    set("a");
    store.flush();
    set("b");
    expect(await published()).toEqual(["flush ", "set b"]);
    set("c");
    store.clock.next();
    store.applyFloor(store.clock.high, store.clock.low + 1, 1, 1);
    expect(await published()).toEqual(["flush ", "set b"]);
  });
});

test("a write after a quiet while leaves at once, and the next ones wait for company", () => {
  let nowMs = 1_000;
  const soon: (() => void)[] = [];
  const timers: { delayMs: number; task: () => void }[] = [];
  publisher = createPublisher({
    limits: { ...LIMITS, batchMs: 5 },
    timing: {
      nowMs: () => nowMs,
      after(delayMs, task) {
        timers.push({ delayMs, task });
        return () => {};
      },
      soon(task) {
        soon.push(task);
        return () => {};
      },
    },
  });
  publisher.start(sink);
  set("a");
  set("b");
  soon.shift()!();
  expect(allEvents()).toEqual(["set a", "set b"]);
  // Its acknowledgement is under way, so what comes meanwhile waits.
  nowMs += 10;
  set("c");
  sent[0].acknowledge();
  const batches = timers.filter(({ delayMs }) => delayMs === 5);
  expect(batches).toHaveLength(1);
  batches[0].task();
  expect(allEvents()).toEqual(["set a", "set b", "set c"]);
  sent[1].acknowledge();
  // Sent a moment ago: this one waits too.
  nowMs += 4;
  set("d");
  expect(soon).toEqual([]);
  expect(timers.filter(({ delayMs }) => delayMs === 5)).toHaveLength(2);
});

test("batches are numbered from 1 and closed at their size", async () => {
  for (let i = 0; i < 100; i++) set(`key${i}`);
  await published();
  expect(sent.length).toBeGreaterThan(5);
  expect(sent.map(({ seq }) => seq)).toEqual(sent.map((_, i) => i + 1));
  expect(new Set(allEvents()).size).toBe(100);
});

test("after a loss a number is skipped", async () => {
  set("a");
  await published();
  for (let i = 0; i < 1_001; i++) set(`key${i}`);
  await published();
  expect(sent[0].seq).toBe(1);
  expect(sent[1].seq).toBe(3);
  expect(sent.at(-1)!.seq).toBe(sent.length + 1);
});

test("no more is sent unacknowledged than the broker takes", async () => {
  sink = { ...sink, receiveMaximum: 3 };
  for (let i = 0; i < 100; i++) set(`key${i}`);
  publisher.start(sink);
  await eventually("the window is full", () => sent.length === 3);
  expect(publisher.unacknowledged).toBe(3);
  sent[1].acknowledge();
  await eventually("one more is sent", () => sent.length === 4);
  expect(publisher.unacknowledged).toBe(3);
});

test("where only so many messages may be sent, one waits for its time and takes all that waits", async () => {
  let pauseMs = 20;
  sink = { ...sink, isPaced: true, maxMessageBytes: 20_000, pauseMs: () => pauseMs };
  publisher.start(sink);
  for (let i = 0; i < 100; i++) set(`key${i}`);
  const waited = Promise.withResolvers<void>();
  setTimeout(waited.resolve, 3 * pauseMs);
  await waited.promise;
  expect(sent).toEqual([]);
  pauseMs = 0;
  await eventually("it is sent", () => sent.length > 0);
  // Longer than batches are otherwise.
  expect(sent.map(({ events }) => events.length)).toEqual([100]);
});

test("a pause that is over by the time the next look is planned stops nothing", async () => {
  let pauses = 1;
  sink = { ...sink, pauseMs: () => (pauses-- > 0 ? 1 : 0) };
  set("key");
  publisher.start(sink);
  await eventually("it is sent", () => sent.length === 1);
});

test("what was in flight or just acknowledged when the connection broke is sent again", async () => {
  for (let i = 0; i < 30; i++) set(`key${i}`);
  sink = { ...sink, receiveMaximum: 2 };
  publisher.start(sink);
  await eventually("the window is full", () => sent.length === 2);
  sent[0].acknowledge();
  const before = sent.splice(0).flatMap(({ events }) => events);
  publisher.stop();
  // A late answer over the old connection counts for nothing.
  expect(publisher.unacknowledged).toBe(0);
  const after = await published();
  expect(after).toEqual(expect.arrayContaining(before));
  expect(new Set(after).size).toBe(30);
  expect(publisher.unacknowledged).toBe(0);
});

test("a refused message is counted, and the next one goes on", async () => {
  set("a");
  publisher.start(sink);
  await eventually("it is sent", () => sent.length === 1);
  sent[0].acknowledge(new Error("no"));
  expect(publisher.failures).toBe(1);
  set("b");
  await eventually("the next is sent", () => sent.length === 2);
});

test("drain ends at once while nothing can be published", async () => {
  set("a");
  await publisher.drain();
  expect(publisher.outbox.size).toBe(1);
});

test("one acknowledgement that never comes holds back nothing, and nothing gathers behind it", async () => {
  // No time passes, so that all are remembered that may be.
  const timing = { ...eventLoop, nowMs: () => 0 };
  publisher = createPublisher({ timing, limits: { ...LIMITS, maxOutboxEvents: 10_000 } });
  let isFirst = true;
  publisher.start({
    ...sink,
    send(message, acknowledge) {
      sink.send(message, acknowledge);
      if (!isFirst) queueMicrotask(() => acknowledge());
      isFirst = false;
    },
  });
  set("first");
  await eventually("it is sent", () => sent.length === 1);
  for (let i = 0; i < 2_000; i++) {
    set(`key ${i}`, "x".repeat(90));
    if (i % 50 === 0) await new Promise(setImmediate);
  }
  await eventually("all is sent", () => allEvents().length === 2_001);
  await eventually("all others are acknowledged", () => publisher.unacknowledged === 1);
  const before = sent.length;
  publisher.stop();
  const restored = publisher.outbox.size;
  publisher.start(sink);
  await eventually("the first is sent again", () =>
    sent.slice(before).some(({ events }) => events.includes("set first")),
  );
  // What was acknowledged is remembered in bounds, with the first as without it.
  expect(restored).toBeLessThanOrEqual(1 + 256 * 5);
});

describe("a traced write", () => {
  const TRACE = { traceId: "a".repeat(32), spanId: "b".repeat(16), isSampled: true, state: "" };
  let tracer: RecordingTracer;
  let messages: { traces: number; traceparent: string | undefined; acknowledge: Acknowledge }[];
  type Acknowledge = Parameters<MessageSink["send"]>[1];

  beforeEach(() => {
    tracer = new RecordingTracer();
    messages = [];
    store.observers.length = 0;
    publisher = createPublisher({ tracer });
  });

  const start = (more: Partial<MessageSink> = {}): void =>
    publisher.start({
      ...sink,
      send(message, acknowledge, traceparent) {
        const { traces = [] } = decoder.decode(message);
        messages.push({ traces: traces.length, traceparent, acknowledge });
      },
      ...more,
    });

  /** As commands do that are traced. */
  function traced(write: () => unknown, context = TRACE): void {
    const { traces } = publisher;
    traces.context = context;
    store.observers.push(traces);
    write();
    store.observers.pop();
  }

  test("is told of by the batch that takes it, and by no other", async () => {
    start();
    set("before");
    await eventually("it has left", () => messages.length === 1);
    traced(() => set("a") + set("b"));
    await eventually("it has left", () => messages.length === 2);
    expect(messages.map((it) => it.traces)).toEqual([0, 1]);
    expect(messages[1].traceparent).toStartWith(`00-${TRACE.traceId}-`);
    expect(tracer.shape).toEqual(["publish < ", "broker < publish"]);
    expect(tracer.spans.map(({ isEnded }) => isEnded)).toEqual([false, false]);
    for (const { acknowledge } of messages) acknowledge();
    expect(tracer.spans.map(({ failure }) => failure)).toEqual([undefined, undefined]);
    set("a", "later");
    await eventually("it has left", () => messages.length === 3);
    expect(messages[2].traces).toBe(0);
  });

  test("is told of again when the batch did not arrive", async () => {
    start();
    traced(() => set("a"));
    await eventually("it has left", () => messages.length === 1);
    publisher.stop();
    expect(tracer.spans.every(({ failure }) => failure?.includes("connection"))).toBe(true);
    start();
    await eventually("it has left again", () => messages.length === 2);
    expect(messages[1].traces).toBe(1);
    messages[1].acknowledge();
    publisher.stop();
    // What a broker that dies has acknowledged goes again, but is no news for the trace.
    start();
    await eventually("and once more", () => messages.length === 3);
    expect(messages[2].traces).toBe(0);
  });

  test("of which a batch has many is told of as far as there is room", async () => {
    const context = (i: number) => ({ ...TRACE, spanId: i.toString(16).padStart(16, "0") });
    for (let i = 1; i <= 100; i++) traced(() => set(`k${i}`, ""), context(i));
    start({ maxMessageBytes: 100_000 });
    await eventually("all have left", () => publisher.waiting === 0);
    const told = messages.reduce((sum, { traces }) => sum + traces, 0);
    expect(told).toBe(tracer.spans.filter(({ name }) => name === "publish").length);
    expect(messages.every(({ traces }) => traces > 0 && traces <= 64)).toBe(true);
  });

  test("that the broker takes nothing for leaves without being told of", async () => {
    start({ maxMessageBytes: 110 });
    traced(() => set("a", "b"));
    await eventually("it has left", () => messages.length === 1);
    expect(messages[0].traces).toBe(0);
  });
});
