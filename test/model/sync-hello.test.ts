/** The HELLO item: what one side says of itself arrives at the other, and never as more than was said. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { isClusterName, isNodeId } from "../../src/core/data/name.ts";
import { Contacts, MAX_MEMBERS } from "../../src/core/sync/contacts.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { FrameReader, FrameWriter } from "../../src/core/sync/frames.ts";
import { Hello, readHello, writeHello } from "../../src/core/sync/hello.ts";
import { HELLO, ROOT_BYTES } from "../../src/core/sync/items.ts";
import {
  firstMask,
  GroupMask,
  type DigestKey,
  readGroups,
  readSummary,
  writeGroups,
  writeSummary,
} from "../../src/core/sync/contact-summary.ts";

const YEAR_2200_MS = 7_258_118_400_000;
const word = () => fc.nat(0xffff_ffff);
const time = () => fc.oneof(fc.constant(0), fc.nat(10_000), fc.nat(YEAR_2200_MS));

/** As it arrives, an answer when it answers something. */
function sent(hello: Hello, answered: Hello | null = null, answering: Hello | null = null): Hello {
  const frames: Uint8Array[] = [];
  const writer = new FrameWriter((frame) => frames.push(frame.slice()));
  writeHello(writer, hello, answered);
  writer.flush();
  const reader = new FrameReader(1_000_000);
  for (const frame of frames) reader.push(frame);
  expect(reader.next()).toBe(true);
  expect(reader.u8()).toBe(HELLO);
  const arrived = readHello(reader, answering);
  expect(arrived).toBeInstanceOf(Hello);
  expect(reader.next()).toBe(false);
  return arrived as Hello;
}

const hellos = fc
  .record({
    mode: fc.nat(255),
    cluster: fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" }).filter(isClusterName),
    nodeId: fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" }).filter(isNodeId),
    epoch: fc.maxSafeNat(),
    maxFrameBytes: word(),
    clockMs: time(),
    purgedUpToMs: time(),
    floor: fc.record({ timeHigh: word(), timeLow: word(), originHigh: word(), originLow: word() }),
    root: fc.uint8Array({ minLength: ROOT_BYTES, maxLength: ROOT_BYTES }),
    trace: fc.uint8Array({ maxLength: 600 }),
  })
  .chain((facts) => {
    const seconds = Math.floor(facts.clockMs / 1000);
    const times = fc.record({
      watermarkMs: fc.nat(seconds).map((it) => it * 1000),
      acceptsUpToMs: fc.nat(seconds + 100_000).map((it) => it * 1000),
    });
    return times.map((it) => Object.assign(new Hello(), facts, it));
  });

const NAMES = { cluster: "cluster", nodeId: "n1" };

test("all that a node says of itself arrives", () => {
  fc.assert(
    fc.property(hellos, (hello) => {
      const { floor } = hello;
      // Nobody flushed: then the rest of the floor says nothing.
      if (floor.timeHigh === 0 && floor.timeLow === 0) floor.originHigh = floor.originLow = 0;
      const { origin, summary, ...rest } = sent(hello);
      expect(summary.named.size).toBe(0);
      expect(origin).toEqual(originOf(hello.nodeId));
      const { origin: _, summary: __, ...said } = hello;
      expect(rest).toEqual(said);
    }),
  );
});

test("the latest time that is taken arrives as no later than it is, by less than a second", () => {
  fc.assert(
    fc.property(hellos, time(), (hello, acceptsUpToMs) => {
      hello.acceptsUpToMs = acceptsUpToMs;
      expect(sent(hello).acceptsUpToMs).toBe(Math.floor(acceptsUpToMs / 1000) * 1000);
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
      const peer = sent(hello);
      expect(peer.recognise(new Contacts())).toBe(true); // all are named
      const arrived = peer.contacts;
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

const SECONDS = 1_000;
const CLOCK_MS = 1_700_000_000_000;
/** Few members and few times, so that vectors are often alike in part. */
const vector = fc.array(
  fc.record({
    member: fc.nat(20),
    ms: fc.constantFrom(0, 5, 60, 61, 100_000).map((ago) => CLOCK_MS - ago * SECONDS),
    purgedUpToMs: fc.constantFrom(0, CLOCK_MS - 86_400_123, CLOCK_MS + 500),
  }),
  { maxLength: 20 },
);

function contactsOf(members: { member: number; ms: number; purgedUpToMs: number }[]): Contacts {
  const contacts = new Contacts();
  for (const { member, ms, purgedUpToMs } of members) {
    contacts.note(member * 7, member, ms, purgedUpToMs);
  }
  return contacts;
}

/** A vector as one would tell it in full. */
function inFull(contacts: Contacts): unknown[] {
  const members: unknown[] = [];
  contacts.forEach((high, low, ms, purgedUpToMs) => {
    const [second, purgeSecond] = [Math.floor(ms / SECONDS), Math.ceil(purgedUpToMs / SECONDS)];
    members.push([high, low, second, purgeSecond]);
  });
  return members.sort();
}

/** The groups that are asked for, as they arrive. */
function asked(responders: Contacts, initiators: Contacts, key: DigestKey): GroupMask {
  const frames: Uint8Array[] = [];
  const writer = new FrameWriter((frame) => frames.push(frame.slice()));
  writer.reserve(4_000);
  writeGroups(writer, responders, key);
  writer.flush();
  const reader = new FrameReader(1_000_000);
  reader.push(frames[0]);
  reader.next();
  const mask = readGroups(reader, initiators, key)!;
  expect(reader.next()).toBe(false);
  return mask;
}

test("however many members are named, each learns the other's contacts as if told in full", () => {
  fc.assert(
    fc.property(vector, vector, fc.nat(10), fc.boolean(), (left, right, salt, isAlike) => {
      const [initiators, responders] = [left, isAlike ? left : right].map((it) =>
        contactsOf(it).told(SECONDS),
      );
      const hello = Object.assign(new Hello(), { ...NAMES, clockMs: CLOCK_MS });
      hello.salt = { high: left.length, low: salt };
      hello.contacts = initiators;
      hello.mask = firstMask(initiators);
      let heard = sent(hello);
      const isKnown = heard.recognise(responders);
      if (isAlike || hello.mask.hasAll) expect(isKnown).toBe(true);
      if (!isKnown) {
        hello.mask = asked(responders, initiators, hello);
        heard = sent(hello);
        expect(heard.recognise(responders)).toBe(true);
      }
      expect(inFull(heard.contacts)).toEqual(inFull(initiators));
      const answer = Object.assign(new Hello(), {
        ...NAMES,
        clockMs: CLOCK_MS,
        contacts: responders,
      });
      expect(inFull(sent(answer, heard, hello).contacts)).toEqual(inFull(responders));
    }),
  );
});

test("of a thousand members of whom few differ, few are named when they are asked for", () => {
  const members = Array.from({ length: 1_000 }, (_, i) => originOf(`node-${i}`));
  const [initiators, responders] = [0, 1].map((side) => {
    const contacts = new Contacts();
    for (const { high, low } of members) contacts.note(high, low, CLOCK_MS - 60_000);
    contacts.note(members[5 + side].high, members[5 + side].low, CLOCK_MS - 10_000);
    return contacts.told(SECONDS);
  });
  const hello = Object.assign(new Hello(), { ...NAMES, clockMs: CLOCK_MS, contacts: initiators });
  hello.mask = asked(responders, initiators, hello);
  const heard = sent(hello);
  expect(heard.recognise(responders)).toBe(true);
  expect(heard.summary.named.size).toBeGreaterThan(1);
  expect(heard.summary.named.size).toBeLessThan(50);
  expect(inFull(heard.contacts)).toEqual(inFull(initiators));
  const answer = Object.assign(new Hello(), { ...NAMES, clockMs: CLOCK_MS });
  answer.contacts = responders;
  expect(inFull(sent(answer, heard, hello).contacts)).toEqual(inFull(responders));
});

test("members that are not named do not look alike under another salt or when one differs by a second", () => {
  const contacts = contactsOf([1, 2, 3].map((member) => ({ member, ms: 9_000, purgedUpToMs: 0 })));
  const hello = Object.assign(new Hello(), { ...NAMES, clockMs: CLOCK_MS, contacts });
  hello.mask = new GroupMask(0);
  const heard = sent(hello);
  expect(heard.recognise(contacts)).toBe(true);
  heard.salt = { high: 0, low: 1 };
  expect(heard.recognise(contacts)).toBe(false);
  heard.salt = hello.salt;
  contacts.note(14, 2, 10_000);
  expect(heard.recognise(contacts)).toBe(false);
});

test("of members that were in contact later, purges look alike within a step", () => {
  const [stepMs, graceMs] = [5_400_000, 86_400_000];
  const startMs = Math.floor((CLOCK_MS - graceMs) / stepMs) * stepMs - stepMs;
  const tell = (purgedUpToMs: number, ms = CLOCK_MS - 10_000): Contacts => {
    const contacts = new Contacts();
    for (let i = 0; i < 20; i++) contacts.note(i, i, ms, purgedUpToMs);
    return contacts.told(stepMs);
  };
  /** Up to when either side takes the other to have forgotten deletions. */
  const hear = (initiators: Contacts, responders: Contacts, clockMs = CLOCK_MS) => {
    const hello = Object.assign(new Hello(), { ...NAMES, clockMs, stepMs, graceMs });
    Object.assign(hello, { contacts: initiators, mask: firstMask(initiators) });
    const heard = sent(hello);
    if (!heard.recognise(responders, graceMs)) return "unlike";
    const answer = Object.assign(new Hello(), { ...NAMES, clockMs, contacts: responders });
    return [heard, sent(answer, heard, hello)].map((it) => it.forgottenUpToMs());
  };
  const [early, late] = [tell(startMs + 1_000), tell(startMs + stepMs - 7_000)];
  // No less than it may be, nor more than anybody can have forgotten.
  expect(hear(early, late)).toEqual([startMs + stepMs, startMs + stepMs]);
  const latestMs = startMs + stepMs - 3_000;
  expect(hear(early, late, latestMs + graceMs)).toEqual([latestMs, latestMs]);
  expect(hear(early, tell(startMs))).toBe("unlike");
  expect(hear(early, tell(startMs + stepMs + 1_000))).toBe("unlike");
  expect(hear(tell(0), tell(0))).toEqual([0, 0]);
  expect(hear(early, tell(0))).toBe("unlike");
  // It concerns whoever was not in contact since, and then every second counts.
  const before = [startMs + 1_000, startMs + 2_000].map((ms) => tell(ms, startMs + stepMs - 1));
  expect(hear(before[0], before[1])).toBe("unlike");
  expect(hear(before[0], before[0])).toEqual([startMs + 1_000, startMs + 1_000]);
});

test("that a member is gone arrives, and when its purges were learned if contact is long ago", () => {
  const contacts = new Contacts();
  contacts.note(1, 1, CLOCK_MS - 120_000, CLOCK_MS - 900_000, CLOCK_MS - 600_000);
  contacts.forget(1, 1, CLOCK_MS - 5_000);
  contacts.note(2, 2, CLOCK_MS - 1_000, CLOCK_MS - 900_000, CLOCK_MS - 600_000);
  const hello = Object.assign(new Hello(), { ...NAMES, clockMs: CLOCK_MS, contacts });
  const heard = sent(hello);
  heard.recognise(new Contacts());
  expect(heard.contacts.at(0)).toMatchObject({
    forgottenMs: CLOCK_MS - 5_000,
    learnedMs: CLOCK_MS - 600_000,
  });
  expect(heard.contacts.at(1)).toMatchObject({ forgottenMs: 0, learnedMs: Infinity });
  expect(heard.contacts.isForgotten(1, 1)).toBe(true);
});

test.each([
  ["more than there may be", MAX_MEMBERS + 1, (at: number) => at],
  ["out of order", 3, (at: number) => 3 - at],
  ["named twice", 3, () => 1],
])("members %s are no HELLO", (_, count, high) => {
  const hello = new Hello();
  writeHello(new FrameWriter(() => {}), hello);
  const nothing = { ms: 0, purgedUpToMs: 0, learnedMs: Infinity, forgottenMs: 0 };
  for (let at = 0; at < count; at++) {
    hello.summary.named.append({ originHigh: high(at), originLow: 1, ...nothing });
  }
  const frames: Uint8Array[] = [];
  const writer = new FrameWriter((frame) => frames.push(frame.slice()));
  writer.reserve(200_000);
  writeSummary(writer, 0, hello.summary);
  writer.flush();
  const reader = new FrameReader(1_000_000);
  reader.push(frames[0]);
  reader.next();
  readSummary(reader, 0);
  expect(reader.overrun).toBe(true);
});
