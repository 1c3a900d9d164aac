/** What came of a stream and is not read yet. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { UnreadBytes } from "../../../src/anti-entropy/unread-bytes.ts";

test("is what came, whatever was read in between", () => {
  const act = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 50 }),
    fc.integer({ min: 1, max: 60 }),
    fc.constant("settle" as const),
  );
  fc.assert(
    fc.property(fc.array(act), (acts) => {
      const unread = new UnreadBytes();
      let model: number[] = [];
      const came: Uint8Array[] = [];
      for (const it of acts) {
        if (it === "settle") {
          unread.settle();
          // Whoever handed it over may do with it as he likes again.
          for (const bytes of came.splice(0)) bytes.fill(0);
        } else if (typeof it === "number") {
          const count = Math.min(it, model.length);
          unread.skip(count);
          model = model.slice(count);
        } else {
          const bytes = Uint8Array.from(it);
          came.push(bytes);
          unread.push(bytes);
          model.push(...bytes);
        }
        expect([...unread.bytes]).toEqual(model);
        expect(unread.length).toBe(model.length);
      }
    }),
  );
});

test("bytes that come one by one are copied a few times, and a little of much keeps little", () => {
  const unread = new UnreadBytes();
  const buffers = new Set<ArrayBufferLike>();
  for (let i = 0; i < 65_000; i++) {
    unread.push(Uint8Array.of(i));
    buffers.add(unread.bytes.buffer);
  }
  expect(unread.length).toBe(65_000);
  expect(buffers.size).toBeLessThan(20);
  unread.skip(65_000);
  unread.push(new Uint8Array(500_000));
  unread.skip(499_990);
  unread.settle();
  expect(unread.bytes.buffer.byteLength).toBeLessThan(100);
});
