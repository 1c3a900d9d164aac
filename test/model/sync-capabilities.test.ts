/** Sessions between nodes of different versions of the protocol, and what they compress. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { agree, CURRENT, OLDEST, READS_COMPRESSED } from "../../src/core/data/capabilities.ts";
import { Compressor, MAX_UNPACKED_BYTES } from "../../src/core/data/compression.ts";
import { FRAME_HEADER_BYTES, FrameReader, FrameWriter } from "../../src/core/sync/frames.ts";
import { entriesOf, get, rootOf, set } from "../support/sync-data.ts";
import { runPair, SyncNode, type PairResult } from "../support/sync-pair.ts";

const NOW_MS = 1_700_000_000_000;
const KEYS = 300;

/** Two nodes with something that the other lacks, which speak that. */
function pairOf(...capabilities: (typeof CURRENT)[]): [SyncNode, SyncNode] {
  const nodes = capabilities.map((speaks, i) => {
    const node = new SyncNode(`n${i}`, { nowMs: () => NOW_MS });
    node.moreOptions = { capabilities: speaks };
    for (let key = 0; key < KEYS; key++) set(node, `sensor:${i}:${key}`, `value of ${key}`);
    return node;
  });
  return [nodes[0], nodes[1]];
}

/** One session up to now; `compressed` counts the frames that were, from the initiator and to it. */
function heal(a: SyncNode, b: SyncNode): PairResult & { compressed: [number, number] } {
  const compressed: [number, number] = [0, 0];
  const tamper = (fromInitiator: boolean, frame: Uint8Array): Uint8Array => {
    if (frame[0] >= 0x80) compressed[fromInitiator ? 0 : 1]++;
    return frame;
  };
  return { ...runPair(a, b, { mode: "now" }, { tamper }), compressed };
}

function expectEqual(a: SyncNode, b: SyncNode): void {
  expect(entriesOf(a)).toHaveLength(2 * KEYS);
  expect(get(a, "sensor:1:7")).toBe("value of 7");
  expect(rootOf(b)).toBe(rootOf(a));
}

describe("two nodes", () => {
  const { lowest, highest, features } = CURRENT;

  test.each([
    ["of this version", CURRENT, CURRENT],
    ["of which one is newer", CURRENT, { lowest, highest: highest + 3, features: features | 64 }],
    ["of which one is older", CURRENT, OLDEST],
    ["that both are older", OLDEST, OLDEST],
  ])("%s heal, whoever begins", (_, ours, theirs) => {
    for (const [one, other] of [
      [ours, theirs],
      [theirs, ours],
    ] as const) {
      const [a, b] = pairOf(one, other);
      const { initiator, responder, compressed } = heal(a, b);
      expect([initiator.ok, responder.ok]).toEqual([true, true]);
      expectEqual(a, b);
      // Compressed is only what the other reads, and then it is.
      const both = (agree(one, other)!.features & READS_COMPRESSED) !== 0;
      expect(compressed.map((frames) => frames > 0)).toEqual([both, both]);
    }
  });

  test("without a version in common refuse each other, and both say why", () => {
    const newer = { lowest: highest + 1, highest: highest + 2, features };
    const [a, b] = pairOf(CURRENT, newer);
    const { initiator, responder } = heal(a, b);
    expect([initiator.failure, responder.failure]).toEqual(["incompatible", "incompatible"]);
    const ranges = [`versions ${highest + 1} to ${highest + 2}`, `version ${highest}`];
    for (const { reason } of [initiator, responder]) {
      for (const range of ranges) expect(reason).toContain(range);
      expect(reason).toContain("; upgrade ");
    }
    expect(responder.reason).toContain("upgrade it");
    const backwards = heal(b, a);
    expect(backwards.responder.reason).toContain("upgrade this node");
  });

  test("do not compress when they are told not to", () => {
    const [a, b] = pairOf(CURRENT, CURRENT);
    for (const node of [a, b]) node.moreOptions = { compresses: false };
    expect(heal(a, b).compressed).toEqual([0, 0]);
    expectEqual(a, b);
  });
});

describe("compressed frames", () => {
  const items = fc.array(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), { maxLength: 30 });

  test("hold what was written, however they are cut", () => {
    fc.assert(
      fc.property(items, fc.infiniteStream(fc.integer({ min: 1, max: 5_000 })), (some, lengths) => {
        const frames: Uint8Array[] = [];
        const writer = new FrameWriter((frame) => frames.push(frame.slice()));
        writer.compressor = new Compressor();
        for (const [i, item] of some.entries()) {
          writer.reserve(5 + item.length);
          writer.varint(item.length);
          writer.copy(item, 0, item.length);
          if (i % 7 === 6) writer.flush();
        }
        writer.flush();
        const stream = Buffer.concat(frames);
        expect(writer.bytesSent).toBe(stream.length);
        const reader = new FrameReader(1_000_000);
        const read: Uint8Array[] = [];
        for (let at = 0; at < stream.length;) {
          const length = lengths.next().value as number;
          reader.push(stream.subarray(at, at + length));
          at += length;
          while (reader.next()) {
            const bytes = reader.varint();
            const start = reader.skip(bytes);
            read.push(reader.bytes.slice(start, start + bytes));
          }
        }
        expect([reader.failure, reader.overrun]).toEqual(["", false]);
        expect(read).toEqual(some);
      }),
      { numRuns: 200 },
    );
  });

  function frameOf(payload: Uint8Array): Uint8Array {
    const frame = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
    frame.writeUInt32BE(payload.length + 0x8000_0000);
    frame.writeUInt32BE(Bun.hash.crc32(payload), 4);
    frame.set(payload, FRAME_HEADER_BYTES);
    return frame;
  }

  test.each([
    ["would fill the memory", Bun.zstdCompressSync(new Uint8Array(64 * 1_048_576)), /more than/],
    ["are not", new Uint8Array(2_000), /not compressed as it says/],
    ["hold nothing", new Uint8Array(0), /not compressed as it says/],
  ])("that %s end the session", (_, payload, reason) => {
    const [a] = pairOf(CURRENT);
    let failure = "";
    const session = a.session(
      "responder",
      () => {},
      (result) => (failure = result.reason),
    );
    session.receive(frameOf(payload));
    while (session.step());
    expect(failure).toMatch(reason);
    expect(failure.length).toBeLessThan(120);
  });

  test("may hold no more than a frame that is not compressed", () => {
    const payload = Bun.zstdCompressSync(new Uint8Array(MAX_UNPACKED_BYTES));
    for (const [maxFrameBytes, isRead] of [
      [MAX_UNPACKED_BYTES, true],
      [MAX_UNPACKED_BYTES - 1, false],
    ] as const) {
      const reader = new FrameReader(maxFrameBytes);
      reader.push(frameOf(payload));
      expect(reader.next()).toBe(isRead);
    }
  });

  test("are absurd to whoever has not said that it reads them", () => {
    const reader = new FrameReader(1_000_000, false);
    reader.push(frameOf(Bun.zstdCompressSync(new Uint8Array(2_000))));
    expect(reader.next()).toBe(false);
    expect(reader.failure).toContain("bytes, more than");
  });
});
