import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  Compressor,
  decompress,
  isCompressed,
  MAX_UNPACKED_BYTES,
  MIN_COMPRESSED_BYTES,
} from "../../../src/core/data/compression.ts";
import { seeded } from "../../support/random.ts";

const MIB = 1_048_576;

function noise(length: number): Uint8Array {
  const chance = seeded(length);
  return Uint8Array.from({ length }, () => chance() * 256);
}

describe("a compressor", () => {
  test("gives back, unpacked, what went in, and only what got shorter", () => {
    const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 40 }), (some, times) => {
        const bytes = Buffer.concat(Array.from({ length: times }, () => Buffer.concat(some)));
        const packed = new Compressor().compress(bytes);
        if (packed === null) return;
        expect(bytes.length).toBeGreaterThanOrEqual(MIN_COMPRESSED_BYTES);
        expect(packed.length).toBeLessThan(bytes.length);
        expect(isCompressed(packed)).toBe(true);
        expect(Buffer.compare(decompress(packed, bytes.length) as Uint8Array, bytes)).toBe(0);
      }),
    );
  });

  test("leaves alone what is short, and what would hold up everybody else", () => {
    const compressor = new Compressor();
    expect(compressor.compress(new Uint8Array(MIN_COMPRESSED_BYTES - 1))).toBeNull();
    expect(compressor.compress(new Uint8Array(MIN_COMPRESSED_BYTES))).not.toBeNull();
    expect(compressor.compress(new Uint8Array(MAX_UNPACKED_BYTES))).not.toBeNull();
    expect(compressor.compress(new Uint8Array(MAX_UNPACKED_BYTES + 1))).toBeNull();
  });

  test("gives up on what does not get shorter, for a while", () => {
    const compressor = new Compressor();
    const [random, plain] = [noise(5_000), new Uint8Array(5_000)];
    for (let i = 0; i < 50; i++) expect(compressor.compress(random)).toBeNull();
    const tried = Array.from({ length: 100 }, () => compressor.compress(plain) !== null);
    expect(tried[0]).toBe(false);
    expect(tried.indexOf(true)).toBeLessThanOrEqual(32);
    // From then on it is worth the while.
    expect(tried.slice(tried.indexOf(true))).not.toContain(false);
    expect(compressor.savedBytes).toBeGreaterThan(0);
  });
});

describe("what is made to fill the memory", () => {
  const bomb = Bun.zstdCompressSync(new Uint8Array(64 * MIB));

  test("is not unpacked", () => {
    expect(bomb.length).toBeLessThan(10_000);
    const before = process.memoryUsage.rss();
    expect(decompress(bomb, MIB)).toBe("oversized");
    expect(process.memoryUsage.rss() - before).toBeLessThan(32 * MIB);
  });

  test("is not unpacked in parts either", () => {
    const part = Bun.zstdCompressSync(new Uint8Array(MIB - 1));
    expect(decompress(Buffer.concat([part, part]), MIB)).toBe("oversized");
  });

  test("does not lie about its length", () => {
    const lying = Uint8Array.from(bomb);
    // Where the length stands: 4 bytes, the lowest first.
    const at = lying.findIndex((_, i) => Buffer.from(lying).readUInt32LE(i) === 64 * MIB);
    Buffer.from(lying.buffer).writeUInt32LE(1_000, at);
    expect(decompress(lying, MIB)).toBeOneOf(["oversized", "malformed"]);
  });
});

test("what is damaged is malformed, and nothing else happens", () => {
  const packed = Bun.zstdCompressSync(Buffer.from("some text ".repeat(500)));
  fc.assert(
    fc.property(fc.nat(packed.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const damaged = Uint8Array.from(packed);
      damaged[at] ^= change;
      const unpacked = decompress(damaged, 10_000);
      if (typeof unpacked === "string") expect(unpacked).toBeOneOf(["oversized", "malformed"]);
      else expect(unpacked.length).toBeLessThanOrEqual(10_000);
      expect(decompress(packed.subarray(0, at), 10_000)).toBe("malformed");
    }),
  );
});
