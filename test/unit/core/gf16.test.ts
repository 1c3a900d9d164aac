/** GF(2^16) against the school method: multiplication of polynomials bit by bit. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Field } from "../../../src/core/sync/gf16.ts";

function slowProduct(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 16; bit++) if ((b & (1 << bit)) !== 0) product ^= a << bit;
  for (let bit = 30; bit >= 16; bit--) {
    if ((product & (1 << bit)) !== 0) product ^= 0x1_100b << (bit - 16);
  }
  return product;
}

const element = fc.nat(0xffff);

test("products and quotients are those of the field", () => {
  const field = Field.get();
  fc.assert(
    fc.property(element, element, element, (a, b, c) => {
      expect(field.multiply(a, b)).toBe(slowProduct(a, b));
      expect(field.multiply(a, b ^ c)).toBe(field.multiply(a, b) ^ field.multiply(a, c));
      if (b !== 0) expect(field.divide(field.multiply(a, b), b)).toBe(a);
    }),
  );
});

test("every element but 0 is a power of x: the polynomial is primitive", () => {
  const field = Field.get();
  for (let a = 1; a < 65_536; a++) {
    if (field.multiply(a, field.divide(1, a)) !== 1) throw new Error(`${a} has no inverse`);
  }
});
