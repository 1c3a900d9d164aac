/** Which keys are looked at before requests are run. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { PREFETCH_KEYS } from "../../../src/core/store/keyed-entries.ts";
import type { Store } from "../../../src/core/store/store.ts";
import { ReadAhead } from "../../../src/server/read-ahead.ts";
import { respRequest } from "../../support/in-process.ts";

/** The keys that one look finds, and where it stops. */
function look(input: Uint8Array, from = 0): { keys: string[]; at: number } {
  const keys: string[] = [];
  const prefetch: Store["prefetch"] = (inputs, starts, lengths, count) => {
    for (let i = 0; i < count; i++) {
      const key = inputs[i].subarray(starts[i], starts[i] + lengths[i]);
      keys.push(Buffer.from(key).toString("latin1"));
    }
    return 0;
  };
  const at = new ReadAhead({ prefetch } as Store).look(input, from, input.length);
  return { keys, at };
}

test("the first argument of most commands, all of MGET, every other one of MSET", () => {
  const input = Buffer.concat([
    respRequest("GET", "a"),
    respRequest("SET", "b", "x".repeat(500), "EX", "10"),
    respRequest("MSET", "c", "1", "d", "2"),
    respRequest("mget", "e", "f"),
    respRequest("INCR", "g"),
  ]);
  expect(look(input)).toEqual({ keys: ["a", "b", "c", "d", "e", "f", "g"], at: input.length });
});

test("of many keys the first ones; it goes on behind the request", () => {
  const names = Array.from({ length: 40 }, (_, i) => `key${i}`);
  const first = respRequest("MGET", ...names);
  const input = Buffer.concat([first, respRequest("GET", "x"), respRequest("GET", "y")]);
  expect(look(input)).toEqual({ keys: names.slice(0, PREFETCH_KEYS), at: first.length });
  expect(look(input, first.length)).toEqual({ keys: ["x", "y"], at: input.length });
});

test("whatever the bytes are, it looks at no more than there is, and gets on", () => {
  const byte = fc.oneof(fc.constantFrom(...Buffer.from("*$\r\n0123459MGSmgs")), fc.nat(255));
  const noise = fc.array(byte, { maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  const words = fc.array(fc.string({ maxLength: 4 }), { minLength: 1, maxLength: 30 });
  const request = words.map((all) => respRequest(...all));
  fc.assert(
    fc.property(fc.array(fc.oneof(noise, request), { maxLength: 8 }), fc.nat(), (pieces, cut) => {
      const whole = Buffer.concat(pieces);
      const input = whole.subarray(0, whole.length - (cut % (whole.length + 1)));
      let at = 0;
      while (at < input.length) {
        const found = look(input, at);
        expect(found.at).toBeGreaterThan(at);
        expect(found.keys.length).toBeLessThanOrEqual(PREFETCH_KEYS);
        at = found.at;
      }
    }),
  );
});
