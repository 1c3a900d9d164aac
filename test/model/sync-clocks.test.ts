/** Sessions of nodes whose clocks are off: what they forget, and what they are believed. */
import { describe, expect, test } from "bun:test";
import type { Store } from "../../src/core/store/store.ts";
import { heal, START_MS } from "../support/stale-cluster.ts";
import { get, set } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

describe("clocks that are off", () => {
  test("entries from the future stay where they are, untold and not set aside, until their time", () => {
    const time = { ms: START_MS };
    const right = new SyncNode("right", { nowMs: () => time.ms });
    const ahead = new SyncNode("ahead", { nowMs: () => time.ms + 3_600_000 });
    set(ahead, "k", "v");
    set(right, "r", "v");
    for (const [a, b] of [
      [right, ahead],
      [ahead, right],
    ]) {
      const { initiator, responder } = runPair(a, b, { mode: "now" });
      expect([initiator.reason, responder.reason]).toEqual(["", ""]);
      const results = a === right ? [initiator, responder] : [responder, initiator];
      expect(results.map((it) => it.entriesPostponed)).toEqual([1, 0]);
      expect(results.map((it) => it.postponedMs)).toEqual([START_MS + 3_600_000, 0]);
      // What it is worth telling of is only when to ask again.
      expect([results[0].entriesReceived, right.setAside]).toEqual([0, []]);
      expect([get(right, "k"), get(ahead, "k"), get(ahead, "r")]).toEqual([null, "v", "v"]);
      // What was refused may stand in place of a deletion: this was no contact.
      const { high, low } = ahead.store.origin;
      expect(right.contacts.of(high, low)).toBe(0);
    }
    // In the background they are no difference to be settled.
    time.ms += 10_000;
    heal(right, ahead);
    heal(ahead, right);
    expect(right.setAside).toEqual([]);
    time.ms += 3_600_000;
    heal(right, ahead);
    expect(get(right, "k")).toBe("v");
  });

  test("what comes from the future all the same is asked for when its time has come", () => {
    const right = new SyncNode("right", { nowMs: () => START_MS });
    const ahead = new SyncNode("ahead", { nowMs: () => START_MS + 61_500 });
    set(ahead, "k", "v");
    // By its HELLO it takes everything.
    const more = { mode: "now", store: boasting(right.store) } as const;
    const { initiator } = runPair(right, ahead, more);
    expect(initiator).toMatchObject({ ok: true, entriesReceived: 1, entriesPostponed: 1 });
    expect(initiator.postponedMs).toBe(START_MS + 61_500);
    expect([get(right, "k"), right.setAside]).toEqual([null, []]);
  });

  test("a stamp at the very edge is taken, and one beyond it is to be had a second later", () => {
    const time = { ms: START_MS };
    const right = new SyncNode("right", { nowMs: () => time.ms });
    for (const [key, aheadMs] of [
      ["edge", 60_000],
      ["beyond", 60_001],
    ] as const) {
      const ahead = new SyncNode(key, { nowMs: () => time.ms + aheadMs });
      set(ahead, key, "v");
      const { initiator } = runPair(right, ahead, { mode: "now" });
      const isEdge = key === "edge";
      expect([get(right, key), initiator.entriesPostponed]).toEqual(isEdge ? ["v", 0] : [null, 1]);
      if (isEdge) continue;
      time.ms = initiator.postponedMs - 60_000 + 1_000;
      runPair(right, ahead, { mode: "now" });
      expect(get(right, key)).toBe("v");
    }
  });

  test("a flush from the future ends the session with a word", () => {
    const ahead = new SyncNode("ahead", { nowMs: () => START_MS + 3_600_000 });
    const right = new SyncNode("right", { nowMs: () => START_MS });
    set(right, "k", "v");
    ahead.store.flush();
    const { initiator, responder } = runPair(ahead, right);
    expect(responder.failure).toBe("incompatible");
    expect(responder.reason).toBe(
      "it was flushed at a time that lies 3600 s ahead of this node's clock",
    );
    expect(initiator.reason).toBe(`the peer ended the session, saying "${responder.reason}"`);
    expect(get(right, "k")).toBe("v");
  });
});

/** A store that says it takes what it does not. */
function boasting(store: Store): Store {
  return new Proxy(store, {
    get(target, name) {
      if (name === "acceptsUpToMs") return () => START_MS + 3_600_000;
      const value = Reflect.get(target, name) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
