/** Streams over datagrams that are lost, repeated, delayed and reordered, against what was written. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DatagramStream, MIN_DATAGRAM_BYTES } from "../../src/core/link/datagram-stream.ts";
import { encodeDatagram, MAX_RANGES } from "../../src/core/link/datagram.ts";
import { seeded } from "../support/random.ts";

const WINDOW_BYTES = 65_536;
/** Beyond it a run is taken for one that goes on for ever. */
const MAX_MS = 3_600_000;

/** How a way treats datagrams; probabilities for each. */
interface Way {
  readonly drop: number;
  readonly duplicate: number;
  readonly reorder: number;
  readonly latencyMs: number;
  /** Longer datagrams never arrive. */
  readonly maxBytes: number;
  /** Bytes a second; what does not fit waits in a queue, first come, first served. */
  readonly bytesASecond: number;
}

const PERFECT: Way = {
  drop: 0,
  duplicate: 0,
  reorder: 0,
  latencyMs: 20,
  maxBytes: Infinity,
  bytesASecond: Infinity,
};

const way = fc.record({
  drop: fc.constantFrom(0, 0.02, 0.1, 0.4),
  duplicate: fc.constantFrom(0, 0.05, 0.3),
  reorder: fc.constantFrom(0, 0.05, 0.3),
  latencyMs: fc.constantFrom(1, 50, 2_000),
  maxBytes: fc.constantFrom(Infinity, 2_000),
  bytesASecond: fc.constantFrom(Infinity, 50_000, 4_000),
});

/** Two streams and the ways between them, on simulated time. */
class Pair {
  nowMs = 0;
  /** Datagrams that were sent, and their bytes. */
  datagrams = 0;
  sentBytes = 0;
  /** The longest that a datagram waited in a queue, in ms. */
  longestQueueMs = 0;
  readonly received: [Uint8Array[], Uint8Array[]] = [[], []];
  readonly streams: readonly [DatagramStream, DatagramStream];
  onBytes: (side: 0 | 1) => void = () => {};
  private readonly underWay: { atMs: number; to: 0 | 1; bytes: Uint8Array }[] = [];
  /** When a side reads again. */
  private readonly readsAgainMs = [Infinity, Infinity];
  private readonly freeAtMs = [0, 0];
  private readonly random: () => number;

  constructor(
    readonly way: Way,
    seed: number,
    maxDatagramBytes = 4_096,
  ) {
    this.random = seeded(seed);
    const create = (side: 0 | 1) =>
      new DatagramStream({
        maxDatagramBytes: () => maxDatagramBytes,
        windowBytes: WINDOW_BYTES,
        onBytes: (bytes) => {
          this.received[side].push(bytes);
          this.onBytes(side);
        },
      });
    this.streams = [create(0), create(1)];
  }

  /** Goes on until that is so, or fails. */
  runUntil(isDone: () => boolean): void {
    while (!isDone()) {
      for (const side of [0, 1] as const) this.send(side);
      if (isDone()) return;
      const dueMs = Math.min(
        ...this.underWay.map(({ atMs }) => atMs),
        ...this.streams.map((stream) => stream.dueMs),
        ...this.readsAgainMs,
      );
      if (!(dueMs < MAX_MS)) throw new Error(`stands still at ${this.nowMs} ms`);
      this.nowMs = Math.max(this.nowMs, dueMs);
      for (const side of [0, 1]) if (this.readsAgainMs[side] <= this.nowMs) this.readAgain(side);
      const arrived = this.underWay.filter(({ atMs }) => atMs <= this.nowMs);
      for (const each of arrived) this.underWay.splice(this.underWay.indexOf(each), 1);
      arrived.sort((a, b) => a.atMs - b.atMs);
      for (const { to, bytes } of arrived) {
        expect(this.streams[to].receive(bytes, this.nowMs)).toBeTrue();
      }
    }
  }

  /** A side reads nothing for a while. */
  pauseFor(side: 0 | 1, ms: number): void {
    this.streams[side].pause();
    this.readsAgainMs[side] = this.nowMs + ms;
  }

  text(side: 0 | 1): string {
    return Buffer.concat(this.received[side]).toString("latin1");
  }

  private readAgain(side: number): void {
    this.readsAgainMs[side] = Infinity;
    this.streams[side].resume(this.nowMs);
  }

  private send(from: 0 | 1): void {
    for (let bytes; (bytes = this.streams[from].next(this.nowMs)) !== null;) {
      this.datagrams++;
      this.sentBytes += bytes.length;
      this.carry(from === 0 ? 1 : 0, bytes);
    }
  }

  private carry(to: 0 | 1, bytes: Uint8Array): void {
    const { drop, duplicate, reorder, latencyMs, maxBytes, bytesASecond } = this.way;
    const startMs = Math.max(this.nowMs, this.freeAtMs[to]);
    this.longestQueueMs = Math.max(this.longestQueueMs, startMs - this.nowMs);
    const passedMs = (this.freeAtMs[to] = startMs + (bytes.length / bytesASecond) * 1_000);
    if (bytes.length > maxBytes || this.random() < drop) return;
    const lateMs = this.random() < reorder ? this.random() * 3_000 : 0;
    this.underWay.push({ atMs: passedMs + latencyMs + lateMs, to, bytes });
    if (this.random() < duplicate) {
      this.underWay.push({ atMs: passedMs + latencyMs + this.random() * 3_000, to, bytes });
    }
  }
}

function randomText(random: () => number, length: number): string {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = Math.floor(random() * 256);
  return bytes.toString("latin1");
}

describe("what is written arrives in order and once", () => {
  test("whatever happens on the way, in both directions, to the end", () => {
    const lengths = fc.array(fc.oneof(fc.nat(10), fc.nat(30_000)), { maxLength: 6 });
    const check = fc.property(
      fc.record({ way, seed: fc.nat(), lengths, pauses: fc.boolean() }),
      ({ way, seed, lengths, pauses }) => {
        const pair = new Pair(way, seed);
        const random = seeded(seed + 1);
        const written = ["", ""];
        for (const [i, length] of lengths.entries()) {
          const side = (i % 2) as 0 | 1;
          const text = randomText(random, length);
          written[side] += text;
          pair.streams[side].write(Buffer.from(text, "latin1"));
        }
        if (pauses) pair.onBytes = (side) => pair.pauseFor(side, 1_000 * random());
        const hasAll = (side: 0 | 1) => pair.text(side).length === written[1 - side].length;
        pair.runUntil(() => hasAll(0) && hasAll(1));
        expect([pair.text(1), pair.text(0)]).toEqual(written);
        for (const stream of pair.streams) stream.finish();
        pair.runUntil(() => pair.streams.every((it) => it.isFinished && it.isPeerFinished));
        expect([pair.text(1), pair.text(0)]).toEqual(written);
      },
    );
    fc.assert(check, { numRuns: 150 });
  });

  test("a reader that pauses holds the writer back, and hears all of it later", () => {
    const pair = new Pair({ ...PERFECT, drop: 0.3 }, 7);
    const [writer, reader] = pair.streams;
    const text = randomText(seeded(3), 300_000);
    reader.pause();
    writer.write(Buffer.from(text, "latin1"));
    pair.runUntil(() => writer.unsentBytes <= 300_000 - WINDOW_BYTES);
    // The writer asks for room now and then; it gets none.
    const before = pair.nowMs;
    const { datagrams } = pair;
    pair.runUntil(() => pair.nowMs > before + 60_000);
    expect(pair.text(1)).toBe("");
    expect(writer.unsentBytes).toBe(300_000 - WINDOW_BYTES);
    expect(pair.datagrams - datagrams).toBeLessThan(100);
    reader.resume(pair.nowMs);
    pair.runUntil(() => pair.text(1).length === text.length);
    expect(pair.text(1)).toBe(text);
  });

  test("datagrams that are too long for the way are cut until they fit", () => {
    const pair = new Pair({ ...PERFECT, maxBytes: 1_100 }, 1);
    const text = randomText(seeded(5), 50_000);
    pair.streams[0].write(Buffer.from(text, "latin1"));
    pair.runUntil(() => pair.text(1).length === text.length);
    expect(pair.text(1)).toBe(text);
    expect(pair.streams[0].resends).toBeLessThan(60);
  });

  test("an interruption costs what was under way", () => {
    const pair = new Pair(PERFECT, 1);
    const text = randomText(seeded(6), 200_000);
    const [writer] = pair.streams;
    writer.write(Buffer.from(text, "latin1"));
    pair.runUntil(() => pair.text(1).length > 50_000);
    writer.interrupt();
    pair.runUntil(() => pair.text(1).length === text.length);
    expect(pair.text(1)).toBe(text);
    expect(pair.sentBytes).toBeLessThan(text.length + 2 * WINDOW_BYTES);
  });
});

describe("what it costs", () => {
  test("on a good way hardly more than the bytes", () => {
    const pair = new Pair(PERFECT, 1);
    const text = randomText(seeded(9), 2_000_000);
    pair.streams[0].write(Buffer.from(text, "latin1"));
    pair.runUntil(() => pair.text(1).length === text.length);
    expect(pair.streams[0].resends).toBe(0);
    expect(pair.sentBytes / text.length).toBeLessThan(1.03);
  });

  test("on a slow way there is no long queue", () => {
    const slow = { ...PERFECT, bytesASecond: 20_000, latencyMs: 100 };
    const pair = new Pair(slow, 1);
    const text = randomText(seeded(9), 500_000);
    pair.streams[0].write(Buffer.from(text, "latin1"));
    pair.runUntil(() => pair.text(1).length === text.length);
    // A window full of bytes would queue for more than three seconds.
    expect(pair.longestQueueMs).toBeLessThan(1_000);
    expect(pair.nowMs).toBeLessThan(1.2 * (500_000 / 20_000) * 1_000);
  });
});

test("a line of 32 kbit/s with 2 s of delay and 5 % loss carries nearly what it can", () => {
  const pair = new Pair({ ...PERFECT, bytesASecond: 4_000, latencyMs: 2_000, drop: 0.05 }, 1);
  const text = randomText(seeded(9), 200_000);
  pair.streams[0].write(Buffer.from(text, "latin1"));
  pair.runUntil(() => pair.text(1).length === text.length);
  expect(pair.text(1)).toBe(text);
  // 50 s of bytes. Whatever else is sent on the line waits no longer than this for its turn.
  expect(pair.nowMs).toBeLessThan(120_000);
  expect(pair.longestQueueMs).toBeLessThan(3_000);
});

describe("what nobody can have sent", () => {
  const empty = { ranges: [], credit: 0, isFinal: false, isProbe: false, sentMs: 1, echoMs: 0 };
  const nothing = new Uint8Array(0);

  test.each([
    [
      "bytes beyond the window",
      { receivedUpTo: 0, offset: WINDOW_BYTES, payload: Buffer.from("x") },
    ],
    ["a receipt of what was not sent", { receivedUpTo: 10, offset: 0, payload: nothing }],
    [
      "a range of what was not sent",
      { receivedUpTo: 0, ranges: [{ start: 3, end: 9 }], offset: 0, payload: nothing },
    ],
  ])("%s is refused", (_, parts) => {
    const [stream] = new Pair(PERFECT, 1).streams;
    expect(stream.receive(encodeDatagram({ ...empty, ...parts }), 0)).toBeFalse();
  });

  test("a second end, or bytes behind the end, are refused", () => {
    const pair = new Pair(PERFECT, 1);
    const [stream] = pair.streams;
    const base = { ...empty, receivedUpTo: 0 };
    const send = (offset: number, text: string, isFinal: boolean) =>
      stream.receive(encodeDatagram({ ...base, offset, payload: Buffer.from(text), isFinal }), 0);
    expect(send(0, "abc", false)).toBeTrue();
    expect(send(5, "", true)).toBeTrue();
    expect(send(4, "", true)).toBeFalse();
    expect(send(5, "f", false)).toBeFalse();
    expect(stream.isPeerFinished).toBeFalse();
    expect(send(3, "de", false)).toBeTrue();
    expect(stream.isPeerFinished).toBeTrue();
    expect(pair.text(0)).toBe("abcde");
  });

  test("an absurd credit does not put more under way than the window", () => {
    const pair = new Pair(PERFECT, 1);
    const [stream] = pair.streams;
    stream.write(Buffer.alloc(1_000_000));
    const credit = 0xffff_ffff;
    stream.receive(
      encodeDatagram({ ...empty, credit, receivedUpTo: 0, offset: 0, payload: nothing }),
      0,
    );
    while (stream.next(0) !== null);
    expect(1_000_000 - stream.unsentBytes).toBeLessThanOrEqual(WINDOW_BYTES);
  });

  test("many short pieces out of order are not kept without end", () => {
    const pair = new Pair(PERFECT, 1);
    const [stream] = pair.streams;
    for (let offset = WINDOW_BYTES - 1; offset > 0; offset -= 2) {
      const payload = Buffer.from("x");
      stream.receive(encodeDatagram({ ...empty, receivedUpTo: 0, offset, payload }), 0);
    }
    const told = stream.next(0)!;
    expect(told[21]).toBeLessThanOrEqual(MAX_RANGES);
    stream.receive(
      encodeDatagram({ ...empty, receivedUpTo: 0, offset: 0, payload: Buffer.alloc(1) }),
      0,
    );
    const kept = pair.text(0).length;
    expect(kept).toBeLessThanOrEqual(2 * 256);
  });

  test("whatever comes, it throws nothing and passes on bytes of its window only", () => {
    const datagram = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .record({
          receivedUpTo: fc.nat(100),
          credit: fc.nat(),
          sentMs: fc.nat(),
          echoMs: fc.nat(100),
          offset: fc.nat(100_000),
          payload: fc.uint8Array({ maxLength: 50 }),
          isFinal: fc.boolean(),
          isProbe: fc.boolean(),
          ranges: fc.array(
            fc.record({ start: fc.nat(100), length: fc.nat(100) }).map(({ start, length }) => ({
              start: 100 + start,
              end: 100 + start + length,
            })),
            { maxLength: MAX_RANGES },
          ),
        })
        .map(encodeDatagram),
    );
    const check = fc.property(fc.array(datagram, { maxLength: 100 }), (datagrams) => {
      const pair = new Pair(PERFECT, 1);
      const [stream] = pair.streams;
      stream.write(Buffer.alloc(200));
      let sent = 0;
      for (const [i, bytes] of datagrams.entries()) {
        stream.receive(bytes, i);
        while (stream.next(i) !== null) sent++;
      }
      expect(pair.text(0).length).toBeLessThanOrEqual(100_050);
      expect(sent).toBeLessThanOrEqual(2 * datagrams.length + 20);
    });
    fc.assert(check, { numRuns: 300 });
  });

  test("the shortest datagram allowed still carries something", () => {
    const pair = new Pair(PERFECT, 1, MIN_DATAGRAM_BYTES);
    pair.streams[0].write(Buffer.alloc(5_000));
    pair.runUntil(() => pair.text(1).length === 5_000);
  });
});
