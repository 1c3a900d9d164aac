/** Packets that are too long are recognised wherever the bytes are cut. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { PacketGuard, UnfinishedPackets } from "../../../src/replication/packet-guard.ts";

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
        const unfinished = new UnfinishedPackets(1_000);
        const guard = new PacketGuard(300, unfinished);
        const stream = Buffer.concat(lengths.map(packet));
        for (let at = 0, i = 0; at < stream.length; i++) {
          const end = at + cuts[i % cuts.length]!;
          expect(guard.look(stream.subarray(at, end))).toBe("");
          at = end;
        }
        expect(unfinished.bytes).toBe(0);
      },
    ),
  );
});

test("a packet that is too long is known by its first bytes", () => {
  fc.assert(
    fc.property(fc.integer({ min: 301, max: 2_000_000 }), (length) => {
      const guard = new PacketGuard(300, new UnfinishedPackets(1_000));
      expect(guard.look(packet(10))).toBe("");
      expect(guard.look(packet(length).subarray(0, 5))).toContain("a packet of");
    }),
  );
});

test("a length that never ends is refused", () => {
  const guard = new PacketGuard(300_000_000, new UnfinishedPackets(1_000));
  expect(guard.look(new Uint8Array([0x30, 0x80, 0x80, 0x80, 0x80]))).toContain("four bytes");
});

test("what all have half sent is bounded, and ends with them", () => {
  const unfinished = new UnfinishedPackets(1_000);
  const guards = Array.from({ length: 5 }, () => new PacketGuard(500, unfinished));
  const half = packet(400).subarray(0, 303);
  expect(guards.map((guard) => guard.look(half))).toEqual([
    "",
    "",
    "",
    "too many packets are half sent",
    "too many packets are half sent",
  ]);
  for (const guard of guards) guard.end();
  expect(unfinished.bytes).toBe(0);
});
