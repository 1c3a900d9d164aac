/** The HELLO item: what one side says of itself arrives at the other, and never as more than was said. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Contacts } from "../../src/core/contacts.ts";
import { originOf } from "../../src/core/origin.ts";
import { FrameReader, FrameWriter } from "../../src/core/sync-frames.ts";
import { Hello, readHello, writeHello } from "../../src/core/sync-hello.ts";
import { HELLO, ROOT_BYTES } from "../../src/core/sync-items.ts";

const YEAR_2200_MS = 7_258_118_400_000;
const word = () => fc.nat(0xffff_ffff);
const time = () => fc.oneof(fc.constant(0), fc.nat(10_000), fc.nat(YEAR_2200_MS));

/** As it arrives. */
function sent(hello: Hello): Hello {
  const frames: Uint8Array[] = [];
  const writer = new FrameWriter((frame) => frames.push(frame.slice()));
  writeHello(writer, hello);
  writer.flush();
  const reader = new FrameReader(1_000_000);
  for (const frame of frames) reader.push(frame);
  expect(reader.next()).toBe(true);
  expect(reader.u8()).toBe(HELLO);
  const arrived = readHello(reader);
  expect(arrived).toBeInstanceOf(Hello);
  expect(reader.next()).toBe(false);
  return arrived as Hello;
}

const hellos = fc
  .record({
    mode: fc.nat(255),
    cluster: fc.string({ maxLength: 40 }),
    nodeId: fc.string({ maxLength: 40 }),
    epoch: fc.maxSafeNat(),
    maxFrameBytes: word(),
    clockMs: time(),
    purgedUpToMs: time(),
    floor: fc.record({ timeHigh: word(), timeLow: word(), originHigh: word(), originLow: word() }),
    root: fc.uint8Array({ minLength: ROOT_BYTES, maxLength: ROOT_BYTES }),
  })
  .chain((facts) => {
    const watermark = fc.nat(Math.floor(facts.clockMs / 1000)).map((seconds) => seconds * 1000);
    return watermark.map((watermarkMs) => Object.assign(new Hello(), facts, { watermarkMs }));
  });

test("all that a node says of itself arrives", () => {
  fc.assert(
    fc.property(hellos, (hello) => {
      const { floor } = hello;
      // Nobody flushed: then the rest of the floor says nothing.
      if (floor.timeHigh === 0 && floor.timeLow === 0) floor.originHigh = floor.originLow = 0;
      const { origin, ...rest } = sent(hello);
      expect(origin).toEqual(originOf(hello.nodeId));
      const { origin: _, ...said } = hello;
      expect(rest).toEqual(said);
    }),
  );
});

test("contacts arrive as no later than they were, and purges as no earlier, by less than a second", () => {
  const contact = fc.record({ high: word(), low: word(), ms: time(), purgedUpToMs: time() });
  fc.assert(
    fc.property(hellos, fc.array(contact, { maxLength: 10 }), (hello, contacts) => {
      hello.contacts = new Contacts();
      for (const { high, low, ms, purgedUpToMs } of contacts) {
        hello.contacts.note(high, low, ms, purgedUpToMs);
      }
      const arrived = sent(hello).contacts;
      expect(arrived.size).toBe(hello.contacts.size);
      const purges = new Map<string, number>();
      arrived.forEach((high, low, _, purgedUpToMs) => purges.set(`${high} ${low}`, purgedUpToMs));
      hello.contacts.forEach((high, low, ms, purgedUpToMs) => {
        // Nobody can have been in contact after now.
        const trueMs = Math.min(ms, hello.clockMs);
        expect(arrived.of(high, low)).toBeLessThanOrEqual(trueMs);
        expect(arrived.of(high, low)).toBeGreaterThan(trueMs - 1000);
        const purge = purges.get(`${high} ${low}`)!;
        expect(purge).toBeGreaterThanOrEqual(purgedUpToMs);
        expect(purge).toBeLessThan(purgedUpToMs + 1000);
      });
    }),
  );
});
