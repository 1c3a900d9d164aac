/** Presence of this node: what the broker remembers of an earlier run, and what a twin gives away. */
import { beforeEach, describe, expect, test } from "bun:test";
import { Membership } from "../../../src/replication/membership.ts";
import { decodePresence, encodePresence } from "../../../src/replication/presence.ts";
import { Timeline } from "../../sim/timeline.ts";

const EPOCH = 7;
const EARLIER = 6;

let timeline: Timeline;
let published: boolean[];
let duplicates: number;
let membership: Membership;

beforeEach(() => {
  timeline = new Timeline();
  published = [];
  duplicates = 0;
  membership = new Membership({
    nodeId: "me",
    epoch: EPOCH,
    address: () => "127.0.0.1:1",
    version: "1",
    rootHex: () => null,
    now: () => timeline.nowMs,
    random: () => 0.5,
    publish: (message) => void published.push(decodePresence(message)!.online),
    onReady: () => {},
    onDuplicateNodeId: () => duplicates++,
    timing: {
      nowMs: () => timeline.nowMs,
      after: (delayMs, task) => timeline.after(delayMs, task),
      soon: (task) => timeline.after(0, task),
    },
  });
});

function connect(): void {
  membership.nextWill();
  membership.up(false);
}

/** What the topic of this node's presence brings. */
function hear(epoch: number, online: boolean, retained: boolean): void {
  const rest = { connection: 1, address: "127.0.0.1:1", version: "1", root: null };
  membership.receive(encodePresence({ nodeId: "me", epoch, online, ...rest }), retained);
}

describe("what an earlier run left is no twin", () => {
  test.each([true, false])(
    "when the broker tells of it after the announcement, online: %p",
    (online) => {
      membership.nextWill();
      membership.nextWill(); // the first attempt failed
      connect();
      expect(published).toEqual([true]);
      hear(EARLIER, online, true);
      expect(duplicates).toBe(0);
    },
  );

  test("nor is its will, over which this node announces itself again", () => {
    connect();
    hear(EARLIER, false, false);
    timeline.runUntil(5_000);
    expect(duplicates).toBe(0);
    expect(published).toEqual([true, true]);
  });

  test("nor is what this node left before its connection broke", () => {
    connect();
    membership.down();
    connect();
    hear(EPOCH, false, true);
    expect(duplicates).toBe(0);
  });
});

describe("a twin gives itself away", () => {
  test("by what it says, and is told once in its turn", () => {
    connect();
    for (let i = 0; i < 3; i++) {
      hear(EARLIER, true, false);
      timeline.runUntil(timeline.nowMs + 5_000);
    }
    expect(duplicates).toBe(3);
    expect(published).toEqual([true, true]);
  });

  test("by what it left in place of this node's announcement", () => {
    connect();
    membership.down();
    connect();
    hear(EARLIER, false, true);
    expect(duplicates).toBe(1);
  });
});
