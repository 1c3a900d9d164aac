/** Input that waits: what of it is kept, and what is given back. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { InputBuffer } from "../../../src/server/input-buffer.ts";

test("holds what came and was not consumed, however it came, be it in Buffers or arrays", () => {
  const step = fc.oneof(
    fc.record({ add: fc.uint8Array({ maxLength: 3_000 }), isBuffer: fc.boolean() }),
    fc.record({ consume: fc.nat(4_000) }),
    fc.record({ expect: fc.nat(20_000) }),
    fc.constantFrom("compact" as const, "lend" as const),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const inbox = new InputBuffer();
      let expected = Buffer.alloc(0);
      for (const each of steps) {
        if (each === "compact") inbox.compact();
        else if (each === "lend") inbox.lend();
        else if ("expect" in each) inbox.expectedBytes = each.expect;
        else if ("add" in each) {
          if (each.add.length === 0) continue;
          expected = Buffer.concat([expected, each.add]);
          inbox.add(each.isBuffer ? Buffer.from(each.add) : each.add);
        } else {
          const count = Math.min(each.consume, inbox.length);
          inbox.start += count;
          expected = expected.subarray(count);
        }
        expect(Buffer.from(inbox.bytes.subarray(inbox.start, inbox.end)).equals(expected)).toBe(
          true,
        );
      }
    }),
  );
});

test.each([
  ["a Buffer", Buffer.alloc(500_000)],
  ["an array", new Uint8Array(500_000)],
])("the little that is left of %s does not keep all of it, which is given back", (_, chunk) => {
  const inbox = new InputBuffer();
  inbox.add(chunk);
  inbox.start = 499_990;
  inbox.compact();
  expect(inbox.length).toBe(10);
  expect(inbox.bytes.buffer.byteLength).toBeLessThan(100);
  expect(chunk.length).toBe(0);
});

test("what was lent is left alone", () => {
  const inbox = new InputBuffer();
  const chunk = new Uint8Array(500_000).fill(7);
  inbox.add(chunk);
  inbox.start = 400_000;
  inbox.lend();
  inbox.add(new Uint8Array(200_000));
  inbox.start = inbox.end;
  inbox.compact();
  expect(chunk[399_999]).toBe(7);
});

test("a long request whose length is known is hardly copied while it grows, and makes room late", () => {
  const inbox = new InputBuffer();
  inbox.expectedBytes = 8_000_000;
  const buffers = new Set<ArrayBufferLike>();
  while (inbox.length < inbox.expectedBytes) {
    inbox.add(new Uint8Array(100_000));
    inbox.compact();
    buffers.add(inbox.bytes.buffer);
    expect(inbox.bytes.length).toBeLessThanOrEqual(8 * inbox.length);
  }
  expect(buffers.size).toBeLessThanOrEqual(4);
  expect(inbox.bytes.length).toBe(8_000_000);
});
