/** Keys by id for tests of the ordered structures. */
import fc from "fast-check";
import { compareBytes } from "../../src/core/data/entry.ts";
import { prefix32, type KeySlice, type KeySource } from "../../src/core/store/key-order.ts";

/** Keys by id, ids reused as the store does; freed keys are scribbled over. */
export class TestKeys implements KeySource {
  readonly byId: Uint8Array[] = [];
  private readonly free: number[] = [];

  add(key: Uint8Array): number {
    const id = this.free.pop() ?? this.byId.length;
    this.byId[id] = key.slice();
    return id;
  }

  release(id: number): void {
    this.byId[id].fill(0xff);
    this.free.push(id);
  }

  locateKey(id: number, into: KeySlice): void {
    into.bytes = this.byId[id];
    into.offset = 0;
    into.length = into.bytes.length;
  }

  compareToKey(id: number, key: Uint8Array, offset: number, length: number): number {
    const mine = this.byId[id];
    return compareBytes(mine, 0, mine.length, key, offset, length);
  }

  prefix32(id: number, skip: number): number {
    return prefix32(this.byId[id], 0, this.byId[id].length, skip);
  }
}

/** Characters up to U+00FF as bytes. */
export const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
/** Bytes as a string whose order (by UTF-16 unit) is theirs. */
export const nameOf = (key: Uint8Array): string => Buffer.from(key).toString("latin1");

/** Keys that collide in every way: short, zero-padded, high bytes, long shared prefixes. */
export const awkwardKey = fc
  .oneof(
    fc.string({ unit: fc.constantFrom("\0", "a", "b", "\xff"), minLength: 1, maxLength: 6 }),
    fc.nat(400).map((n) => `key:${String(n).padStart(12, "0")}`),
    fc.nat(400).map((n) => `user:${n}`),
    fc
      .tuple(fc.constantFrom(27, 31, 32, 33, 80), fc.nat(200))
      .map(([length, n]) => "p".repeat(length) + n.toString(2)),
    fc
      .tuple(fc.integer({ min: 26, max: 81 }), fc.constantFrom("A", "r"))
      .map(([length, end]) => "p".repeat(length) + end + "p".repeat(60)),
    fc.string({ unit: fc.constantFrom("\0", "q"), minLength: 30, maxLength: 40 }),
  )
  .map(bytes);
