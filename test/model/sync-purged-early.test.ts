/** Sync sessions with a node that has forgotten deletions too early, by a clock that was ahead. */
import { describe, expect, test } from "bun:test";
import { del, entriesOf, get, keyOf, rootOf, set } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

const START_MS = 1_700_000_000_000;
const GRACE_MS = 100_000;

function heal(a: SyncNode, b: SyncNode): void {
  const { initiator, responder } = runPair(a, b);
  expect([initiator.reason, responder.reason]).toEqual(["", ""]);
}

describe("a node whose clock was ahead when it forgot deletions", () => {
  /**
   * Two nodes that have met; `home` has purged since by a clock that was years ahead: a key that
   * was to expire in a while, or a deletion of just now.
   */
  function purgedEarly(what: "an expiry to come" | "a deletion of now") {
    const time = { ms: START_MS };
    const off = { home: 0, away: 0 };
    const isSure = { home: true };
    const node = (name: "home" | "away"): SyncNode =>
      new SyncNode(name, {
        nowMs: () => time.ms + off[name],
        tombstoneGraceMs: GRACE_MS,
        mayForget: () => name === "away" || isSure.home,
      });
    const [home, away] = [node("home"), node("away")];
    set(home, "common", "v");
    time.ms += 10_000;
    heal(home, away);
    set(home, "key", "v", what === "an expiry to come" ? time.ms + 20 * GRACE_MS : 0);
    time.ms += 10_000;
    if (what === "a deletion of now") del(home, "key");
    off.home = 1_000 * GRACE_MS;
    // The first pass finds that it has expired.
    for (let passes = 0; passes < 2; passes++) home.store.sweep(1000);
    expect(home.store.deletions.purgedUpToMs).toBeGreaterThan(time.ms - GRACE_MS);
    off.home = 0;
    return { time, off, isSure, home, away };
  }

  const cases = [
    ["an expiry to come", "home"],
    ["an expiry to come", "away"],
    ["a deletion of now", "home"],
    ["a deletion of now", "away"],
  ] as const;

  test.each(cases)(
    "takes what others write, and has contact again: %s, %s begins",
    (what, first) => {
      const { time, home, away } = purgedEarly(what);
      time.ms -= 5_000;
      set(away, "new", "w");
      time.ms += 10_000;
      const pair = first === "home" ? ([home, away] as const) : ([away, home] as const);
      heal(...pair);
      expect([get(home, "new"), get(away, "new")]).toEqual(["w", "w"]);
      expect(rootOf(home)).toBe(rootOf(away));
      time.ms += 10_000;
      heal(...pair);
      const { high, low } = home.store.origin;
      expect(away.contacts.of(high, low)).toBeGreaterThan(time.ms - 10_000);
      // Sessions compare as of their watermark: neither takes the other to be stale.
      set(home, "fresh", "w");
      heal(...pair);
      expect(get(away, "fresh")).toBeNull();
      // What is written once the grace is over is nothing to be set aside either.
      time.ms += 2 * GRACE_MS;
      set(away, "later", "w");
      time.ms += 10_000;
      heal(...pair);
      expect([get(home, "later"), get(away, "new")]).toEqual(["w", "w"]);
      expect(away.setAside).toEqual([]);
    },
  );

  test.each(["home", "away"] as const)(
    "takes deletions again that it forgot: %s begins",
    (first) => {
      const { time, off, home, away } = purgedEarly("a deletion of now");
      const pair = first === "home" ? ([home, away] as const) : ([away, home] as const);
      del(away, "common");
      set(away, "short", "v", time.ms + 1_000);
      time.ms += 10_000;
      heal(home, away);
      time.ms += 10_000;
      heal(home, away);
      off.home = 1_000 * GRACE_MS;
      for (let passes = 0; passes < 2; passes++) home.store.sweep(1000);
      expect(entriesOf(home)).toEqual([]);
      off.home = 0;
      time.ms += 10_000;
      heal(...pair);
      expect(rootOf(home)).toBe(rootOf(away));
      expect(entriesOf(home).map(keyOf).sort()).toEqual(["common", "short"]);
    },
  );

  test("takes what is older than the grace from whom it met within the grace", () => {
    const { time, off, home, away } = purgedEarly("an expiry to come");
    set(away, "old", "v", time.ms + 20 * GRACE_MS);
    for (const passed of [10_000, 1.5 * GRACE_MS]) {
      time.ms += passed;
      heal(home, away);
    }
    off.home = 1_000 * GRACE_MS;
    for (let passes = 0; passes < 2; passes++) home.store.sweep(1000);
    off.home = 0;
    expect(get(home, "old")).toBeNull();
    time.ms += GRACE_MS / 2;
    heal(home, away);
    expect([get(home, "old"), get(away, "old")]).toEqual(["v", "v"]);
  });

  test("takes it by way of whom it told what it had forgotten, though both clocks were ahead", () => {
    const { time, off, home, away } = purgedEarly("an expiry to come");
    off.home = off.away = 1_000 * GRACE_MS;
    heal(home, away);
    off.home = off.away = 0;
    const other = new SyncNode("other", { nowMs: () => time.ms, tombstoneGraceMs: GRACE_MS });
    set(other, "new", "w");
    time.ms += 10_000;
    heal(other, away);
    expect([get(away, "new"), get(other, "new")]).toEqual(["w", "w"]);
    expect(other.setAside).toEqual([]);
  });

  test.each(["the time", "how late the peer has it"])("refuses it until it knows %s", (unknown) => {
    const { time, off, isSure, home, away } = purgedEarly("a deletion of now");
    time.ms -= 15_000;
    set(away, "new", "w");
    time.ms += 2 * GRACE_MS;
    // Either it is not sure what time it is, or its clock is behind the peer's.
    if (unknown === "the time") isSure.home = false;
    else home.store.deletions.notePurgedHere(time.ms - GRACE_MS - 1);
    off.home = -1.5 * GRACE_MS;
    off.away = unknown === "the time" ? off.home : 0;
    runPair(away, home);
    expect([get(home, "new"), get(away, "new")]).toEqual([null, "w"]);
  });
});

test("a node that is not certain of the time does not vouch for what it cannot say it forgot", () => {
  const time = { ms: START_MS };
  const options = { nowMs: () => time.ms, tombstoneGraceMs: GRACE_MS };
  const [before, away, other] = ["home", "away", "other"].map((id) => new SyncNode(id, options));
  set(before, "key", "v");
  time.ms += 10_000;
  heal(before, other);
  time.ms += 10_000;
  del(before, "key");
  const deletedMs = time.ms;
  time.ms += 2 * GRACE_MS;
  before.store.sweep(1000);
  expect(entriesOf(before)).toEqual([]);
  // It starts anew, and takes it to be shortly after its last write, until it is certain.
  const start = { behindMs: 2 * GRACE_MS - 20_000, isSure: false };
  const home = new SyncNode("home", {
    ...options,
    nowMs: () => time.ms - start.behindMs,
    mayForget: () => start.isSure,
  });
  home.store.deletions.notePurgedHere(deletedMs);
  heal(home, away);
  start.isSure = true;
  start.behindMs = 0;
  // From whom nobody has told of the deletion.
  heal(other, away);
  time.ms += 10_000;
  heal(away, home);
  expect(get(home, "key")).toBeNull();
  expect(away.setAside.map(({ key }) => key)).toEqual(["key"]);
});
