/** The fingerprint of `HASH` against its definition, built level by level. */
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { DataFingerprint } from "../../src/core/tree/data-fingerprint.ts";
import { Entry } from "../../src/core/data/entry.ts";

const sha256 = (...parts: Uint8Array[]): Buffer =>
  createHash("sha256").update(Buffer.concat(parts)).digest();

function u32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes;
}

function naive(pairs: readonly (readonly [Uint8Array, Uint8Array])[]): string {
  if (pairs.length === 0) return "0".repeat(64);
  let level = pairs.map(([key, value]) => sha256(u32(key.length), key, u32(value.length), value));
  while (level.length > 1) {
    const above: Buffer[] = [];
    for (let i = 0; i + 1 < level.length; i += 2) above.push(sha256(level[i], level[i + 1]));
    if (level.length % 2 === 1) above.push(level.at(-1)!);
    level = above;
  }
  return level[0].toString("hex");
}

function fingerprint(pairs: readonly (readonly [Uint8Array, Uint8Array])[]): string {
  const hash = new DataFingerprint();
  for (const [key, value] of pairs) hash.add(new Entry().setKey(key).setValue(value));
  return hash.root().toHex();
}

test("any list of pairs has the root of its definition", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc.uint8Array({ minLength: 1000, maxLength: 1100, size: "max" }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(bytes, bytes), { maxLength: 40 }), (pairs) => {
      expect(fingerprint(pairs)).toBe(naive(pairs));
    }),
  );
});

test("so has any number of them", () => {
  const pairs = Array.from({ length: 300 }, (_, i) => [u32(i), u32(i * i)] as const);
  for (let count = 0; count <= 300; count++) {
    expect(fingerprint(pairs.slice(0, count))).toBe(naive(pairs.slice(0, count)));
  }
});
