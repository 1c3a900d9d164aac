/** Walking over CBOR that strangers sent: exactly one item, whatever it is, or an error. */
import { expect, test } from "bun:test";
import { Encoder } from "cbor-x/index-no-eval";
import fc from "fast-check";
import { CborError, CborReader } from "../../../src/replication/cbor.ts";

/** Bytes that one item takes, or null when there is none. */
function walk(hex: string): number | null {
  const reader = new CborReader();
  try {
    reader.reset(Buffer.from(hex.replaceAll(" ", ""), "hex"));
    reader.skip();
    return reader.offset;
  } catch (error) {
    if (error instanceof CborError) return null;
    throw error;
  }
}

// In Appendix A of RFC 8949, and what is near them.
test.each<[string, number | null]>([
  ["00", 1],
  ["1bffffffffffffffff", 9],
  ["fb7ff0000000000000", 9],
  ["f97e00", 3],
  ["5f42010243030405ff", 9],
  ["7f657374726561646d696e67ff", 13],
  ["7f657374726561646d696e67ff00", 13],
  ["5fff", 2],
  ["5f40ff", 3],
  ["5f404040ff", 5],
  ["5f4101404102ff", 7],
  ["5f40", null],
  ["5f4001ff", null],
  ["5f6161ff", null],
  ["5f5f4101ffff", null],
  ["9fff", 2],
  ["9f018202039f0405ffff", 10],
  ["bf61610161629f0203ffff", 11],
  ["bf6161ff", null],
  ["a0", 1],
  ["a1", null],
  ["9bffffffffffffffff", null],
  ["5bffffffffffffffff", null],
  ["c100", null],
  ["1c", null],
  ["ff", null],
  ["1f", null],
  ["", null],
  ["81".repeat(100) + "00", null],
  [`990800${"80".repeat(2_048)}`, 2_051],
  [`991388${"80".repeat(5_000)}`, null],
  [`9f${"80".repeat(5_000)}ff`, null],
  [`5f${"40".repeat(5_000)}ff`, null],
])("%s takes %p bytes", (hex, length) => {
  expect(walk(hex)).toBe(length);
});

test("any bytes come to an end", () => {
  const bytes = fc.array(
    fc.oneof(fc.nat(255), fc.constantFrom(0x40, 0x41, 0x5f, 0x60, 0x7f, 0x9f, 0xbf, 0xff, 0)),
    { maxLength: 60, size: "max" },
  );
  fc.assert(
    fc.property(bytes, (each) => {
      const hex = Buffer.from(each).toString("hex");
      const length = walk(hex);
      if (length === null) return;
      expect(length).toBeGreaterThan(0);
      // Exactly so much: a byte less is no item.
      expect(walk(hex.slice(0, length * 2 - 2))).toBeNull();
    }),
    { numRuns: 5_000 },
  );
});

test("whatever a foreign encoder writes is one item", () => {
  const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const bytes = Buffer.from(encoder.encode(value));
      expect(walk(bytes.toString("hex"))).toBe(bytes.length);
    }),
  );
});
