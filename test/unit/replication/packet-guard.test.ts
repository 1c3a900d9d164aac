/** Packets that are too long are recognised wherever the bytes are cut. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { PacketGuard, UnfinishedPackets } from "../../../src/replication/packet-guard.ts";

/** A guard, and why it ended its connection. */
function guardOf(maxPacketBytes: number, unfinished = new UnfinishedPackets(() => 1_000)) {
  const problems: string[] = [];
  const guard = new PacketGuard(maxPacketBytes, unfinished, (problem) => problems.push(problem));
  return { guard, problems };
}

/** A packet with a payload of that length. */
function packet(length: number): Uint8Array {
  const bytes = [0x30];
  for (let rest = length; ;) {
    const byte = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? byte | 0x80 : byte);
    if (rest === 0) break;
  }
  return new Uint8Array([...bytes, ...new Uint8Array(length).fill(0xff)]);
}

test("good packets pass, however they are cut, and leave nothing behind", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
      (lengths, cuts) => {
        const unfinished = new UnfinishedPackets(() => 1_000);
        const { guard, problems } = guardOf(300, unfinished);
        const stream = Buffer.concat(lengths.map(packet));
        for (let at = 0, i = 0; at < stream.length; i++) {
          const end = at + cuts[i % cuts.length];
          expect(guard.look(stream.subarray(at, end))).toBe(true);
          at = end;
        }
        expect(unfinished.size).toBe(0);
        expect(problems).toEqual([]);
      },
    ),
  );
});

test("a packet that is too long is known by its first bytes", () => {
  fc.assert(
    fc.property(fc.integer({ min: 301, max: 50_000 }), (length) => {
      const { guard, problems } = guardOf(300);
      expect(guard.look(packet(10))).toBe(true);
      expect(guard.look(packet(length).subarray(0, 5))).toBe(false);
      expect(problems).toEqual([expect.stringContaining("a packet of")]);
      // Nothing that comes behind it is looked at any more.
      expect(guard.look(packet(10))).toBe(false);
    }),
  );
});

test("a length that never ends is refused", () => {
  const { guard, problems } = guardOf(300_000_000);
  expect(guard.look(new Uint8Array([0x30, 0x80, 0x80, 0x80, 0x80]))).toBe(false);
  expect(problems).toEqual([expect.stringContaining("four bytes")]);
});

test("of what all have half sent the largest goes, and nobody else", () => {
  const discarded: number[] = [];
  const unfinished = new UnfinishedPackets(
    () => 1_000,
    (bytes) => discarded.push(bytes),
  );
  const all = Array.from({ length: 5 }, () => guardOf(500, unfinished));
  const [small, large, ...others] = all as [(typeof all)[0], (typeof all)[0], ...typeof all];
  expect(small.guard.look(packet(400).subarray(0, 53))).toBe(true);
  expect(large.guard.look(packet(450).subarray(0, 403))).toBe(true);
  for (const { guard } of others) expect(guard.look(packet(400).subarray(0, 303))).toBe(true);
  expect(all.map(({ problems }) => problems.length)).toEqual([0, 1, 0, 0, 0]);
  expect(discarded).toEqual([400]);
  // Who sends whole packets is never in the way.
  expect(guardOf(500, unfinished).guard.look(packet(500))).toBe(true);
  expect(small.guard.look(new Uint8Array(350))).toBe(true);
  for (const { guard } of all) guard.end();
  expect(unfinished.size).toBe(0);
});

test("a chunk is cut where some packets end, wherever it begins", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 1, max: 5 }),
      fc.nat(),
      (lengths, most, offset) => {
        const { guard } = guardOf(300);
        const packets = lengths.map(packet);
        const stream = Buffer.concat(packets);
        const ends = packets.map((_, i) => Buffer.concat(packets.slice(0, i + 1)).length);
        let at = offset % stream.length;
        guard.look(stream.subarray(0, at));
        while (at < stream.length) {
          const length = guard.lengthOf(stream.subarray(at), most);
          expect(length).toBeGreaterThan(0);
          const crossed = ends.filter((end) => end > at && end < at + length).length;
          expect(crossed).toBeLessThanOrEqual(most);
          guard.look(stream.subarray(at, at + length));
          at += length;
        }
      },
    ),
  );
});
