/** Requests made of words: what they hold, and where. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { unfilled } from "../../../src/core/bytes.ts";
import { WordRequest, type Word } from "../../../src/server/word-request.ts";

function wordsOf({ request }: WordRequest): string[] {
  return Array.from({ length: request.parts }, (_, i) => {
    const start = request.start(i - 1);
    return Buffer.from(request.bytes.subarray(start, start + request.length(i - 1))).toString();
  });
}

/** The same bytes, with room behind them. */
function roomy(bytes: Uint8Array, before: number, behind: number): Uint8Array {
  const buffer = unfilled(before + bytes.length + behind);
  buffer.set(bytes, before);
  return buffer.subarray(before, before + bytes.length);
}

test("it holds the words, whatever it held before", () => {
  const text = fc.oneof(fc.constantFrom("SET", "", "PX"), fc.nat().map(String));
  const bytes = fc
    .tuple(fc.constantFrom(0, 3, 70_000), fc.nat(20), fc.nat(40))
    .map(([length, before, behind]) => roomy(Buffer.alloc(length, "v"), before, behind));
  const words = fc.array(fc.oneof(text, bytes), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(fc.array(words, { maxLength: 4 }), (all) => {
      const request = new WordRequest();
      for (const each of all) {
        const expected = each.map((word: Word) => Buffer.from(word as string).toString());
        request.write(each);
        expect(wordsOf(request)).toEqual(expected);
        request.forget();
      }
    }),
  );
});

test("a long word stays where it lies if there is room behind it", () => {
  const value = roomy(Buffer.alloc(100_000, "v"), 10, 20);
  const request = new WordRequest();
  request.write(["SET", Buffer.from("key"), value]);
  expect(request.request.bytes.buffer).toBe(value.buffer);
  request.forget();
  expect(value.length).toBe(100_000);
});

test("memory of its own is given back when it was run", () => {
  const request = new WordRequest();
  request.write(["SET", "key", new Uint8Array(100_000)]);
  const { buffer } = request.request.bytes;
  request.forget();
  expect(buffer.byteLength).toBe(0);
});
