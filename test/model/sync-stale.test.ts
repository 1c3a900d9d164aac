/** Sync sessions with nodes that were away, that flushed, or that can write nothing down. */
import { describe, expect, test } from "bun:test";
import { KIND_COUNTER } from "../../src/core/data/entry.ts";
import { cluster, deleteAndForget, GRACE_MS, heal, START_MS } from "../support/stale-cluster.ts";
import { del, entriesOf, get, incr, keyOf, rootOf, set } from "../support/sync-data.ts";
import { Pair, runPair, SyncNode } from "../support/sync-pair.ts";

describe("a node that has forgotten deletions and is not sent what was deleted", () => {
  test("because its clock is back in 1970: meeting it is no contact", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    const clock = { ms: time.ms };
    const lost = new SyncNode("lost", { nowMs: () => clock.ms, tombstoneGraceMs: GRACE_MS });
    heal(home, lost);
    deleteAndForget(home, time);
    clock.ms = time.ms;
    runPair(home, lost);
    lost.store.sweep(1000);
    clock.ms = 0;
    runPair(away, lost);
    expect(get(away, "key")).toBe("v");
    // It still has to be told that the key is gone.
    runPair(away, home);
    expect([get(away, "key"), get(home, "key")]).toEqual([null, null]);
  });

  test("because both clocks are behind its purge, and unsure: meeting it is no contact", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    const deletedMs = time.ms + 10_000;
    deleteAndForget(home, time);
    const rightMs = time.ms;
    time.isCertain = false;
    for (const late of [10_000, 20_000]) {
      time.ms = deletedMs + late;
      for (const [a, b] of [nodes, [away, home]]) runPair(a, b);
      expect([get(away, "key"), get(home, "key")]).toEqual(["v", null]);
    }
    time.ms = rightMs + 30_000;
    time.isCertain = true;
    for (const [a, b] of [[away, home], nodes]) runPair(a, b);
    expect([get(away, "key"), get(home, "key")]).toEqual([null, null]);
  });

  test.each(["away", "home"] as const)(
    "because by a clock that is ahead it is dead: meeting it is no contact: %s begins",
    (first) => {
      const { time, nodes } = cluster("home");
      const [home] = nodes;
      let aheadMs = 0;
      const nowMs = (): number => time.ms + aheadMs;
      // It keeps what has expired until its peers say so, too.
      const expiredMs = (): number => time.ms;
      const away = new SyncNode("away", { nowMs, expiredMs, tombstoneGraceMs: GRACE_MS });
      set(home, "key", "v", time.ms + GRACE_MS + 50_000);
      time.ms += 10_000;
      heal(home, away);
      deleteAndForget(home, time);
      aheadMs = 40_000;
      const pair = first === "away" ? [away, home] : [home, away];
      runPair(pair[0], pair[1]);
      time.ms += 10_000;
      runPair(pair[0], pair[1]);
      aheadMs = 0;
      expect(get(away, "key")).toBe("v");
      // It still has to be told that the key is gone.
      heal(away, home);
      heal(home, away);
      expect([get(away, "key"), get(home, "key")]).toEqual([null, null]);
    },
  );

  test("because its memory is full: meeting it is no contact", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    const memoryLimitBytes = 3_000_000;
    const nowMs = (): number => time.ms;
    const full = new SyncNode("full", { nowMs, tombstoneGraceMs: GRACE_MS, memoryLimitBytes });
    heal(home, full);
    deleteAndForget(home, time);
    runPair(home, full);
    for (let i = 0; i < 60; i++) set(home, `large${i}`, "x".repeat(100_000));
    time.ms += 10_000;
    runPair(full, home);
    expect(full.store.isFull).toBe(true);
    const { responder } = runPair(full, away);
    expect(responder.entriesWithheld).toBeGreaterThan(0);
    const { high, low } = full.store.origin;
    expect(away.contacts.of(high, low)).toBe(0);
  });
});

describe("an entry that the peer refuses, while its copy is on the way to the disk", () => {
  /** A pair in which `away` sets aside slowly; `finish` says how that came out. */
  function slowly(first: "away" | "home") {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    deleteAndForget(home, time);
    time.ms += 10_000;
    const waiting: ((isKept: boolean) => void)[] = [];
    away.moreOptions = { onSetAside: (_entry, _reason, done) => void waiting.push(done) };
    const pair = first === "away" ? new Pair(away, home) : new Pair(home, away);
    pair.isPatient = () => waiting.length > 0;
    const run = (): void => {
      for (let steps = 0; steps < 1_000 && pair.result === null; steps++) pair.step();
    };
    run();
    const finish = (isKept: boolean): void => {
      for (const done of waiting.splice(0)) done(isKept);
      run();
    };
    return { home, away, time, pair, finish };
  }

  test.each(["away", "home"] as const)("is still there, and the session not over: %s", (first) => {
    const { home, away, pair, finish } = slowly(first);
    expect(get(away, "key")).toBe("v");
    expect(pair.result).toBeNull();
    finish(true);
    expect([get(away, "key"), get(away, "counter")]).toEqual([null, null]);
    expect(pair.result!.initiator.ok && pair.result!.responder.ok).toBe(true);
    expect(rootOf(home)).toBe(rootOf(away));
  });

  test.each(["away", "home"] as const)("stays when it cannot be written: %s", (first) => {
    const { away, home, pair, finish } = slowly(first);
    finish(false);
    expect(get(away, "key")).toBe("v");
    const { initiator, responder } = pair.result!;
    const own = first === "away" ? initiator : responder;
    expect([own.failure, own.reason]).toEqual(["incomplete", expect.stringContaining("set aside")]);
    const { high, low } = home.store.origin;
    expect(away.contacts.of(high, low)).toBeLessThan(home.store.deletions.purgedUpToMs);
  });

  test.each(["away", "home"] as const)("is told of when the roots are compared: %s", (first) => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    deleteAndForget(home, time);
    time.ms += 10_000;
    const [a, b] = first === "away" ? [away, home] : [home, away];
    const { initiator } = runPair(a, b, { mode: "verify" });
    expect(initiator).toMatchObject({ ok: true, hasSetAside: true });
    time.ms += 10_000;
    expect(runPair(a, b, { mode: "verify" }).initiator.hasSetAside).toBe(false);
  });

  test("stays when it was written anew meanwhile", () => {
    const { away, time, finish } = slowly("away");
    time.ms += 1;
    set(away, "key", "newer");
    finish(true);
    expect(get(away, "key")).toBe("newer");
  });

  test("stays while nothing can be journalled", () => {
    const { away, pair, finish } = slowly("away");
    away.store.setReadOnly(true);
    finish(true);
    expect(get(away, "key")).toBe("v");
    expect(pair.result!.initiator.ok).toBe(false);
  });
});

describe.each([
  ["the node that was away begins", 1],
  ["the node that was away is asked", 0],
])("%s", (_, first) => {
  const meet = (a: SyncNode, b: SyncNode): void => (first === 0 ? heal(a, b) : heal(b, a));

  test("it resurrects nothing: what it alone holds from before is set aside", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    incr(away, "counter", 1);
    deleteAndForget(home, time);
    set(away, "after", "v");
    // An increment of a counter that was deleted is no reason to bring it back.
    incr(away, "counter", 1);
    time.ms += 10_000;
    meet(home, away);
    for (const node of nodes) {
      expect([get(node, "key"), get(node, "counter"), get(node, "after")]).toEqual([
        null,
        null,
        "v",
      ]);
    }
    expect(rootOf(home)).toBe(rootOf(away));
    const aside = away.setAside.map(({ key, reason }) => `${key} ${reason}`).sort();
    expect(aside).toEqual(["counter stale", "key stale"]);
    expect(
      new TextDecoder().decode(away.setAside.find(({ key }) => key === "key")!.entry.valueBytes()),
    ).toBe("v");
    expect(home.setAside).toEqual([]);
    // And from then on it is no stranger any more.
    meet(home, away);
    expect(away.setAside.length).toBe(2);
  });

  test("it is not stale when it was there after the deletion, if only through others", () => {
    const { time, nodes } = cluster("home", "other", "away");
    const [home, other, away] = nodes;
    // Older than the deletion, and home has not seen it.
    set(away, "old", "v");
    time.ms += 10_000;
    del(home, "key");
    time.ms += 10_000;
    heal(home, other);
    time.ms += 10_000;
    heal(other, away);
    time.ms += GRACE_MS;
    home.store.sweep(1000);
    expect(home.store.deletions.purgedUpToMs).toBe(START_MS + 20_000);
    meet(home, away);
    expect([get(home, "old"), get(away, "old"), get(away, "key")]).toEqual(["v", "v", null]);
    expect(away.setAside).toEqual([]);
  });

  test("it brings nothing back by way of a node that took over a forgotten deletion", () => {
    const { time, nodes } = cluster("home", "other", "away");
    const [home, other, away] = nodes;
    deleteAndForget(home, time);
    time.ms += 10_000;
    meet(other, away);
    meet(home, other);
    // Other was in contact with away all the time, but home was not.
    meet(other, away);
    meet(home, other);
    for (const node of nodes) expect(get(node, "key")).toBeNull();
    expect(rootOf(home)).toBe(rootOf(away));
  });

  test("what another session brought during one is asked about in the next", () => {
    const { time, nodes } = cluster("home", "empty", "away");
    const [home, , away] = nodes;
    deleteAndForget(home, time);
    time.ms += 10_000;
    const { nowMs } = away.options;
    const empty = new SyncNode("new", { nowMs: nowMs!, tombstoneGraceMs: GRACE_MS });
    set(home, "other", "v");
    time.ms += 10_000;
    let isFirst = true;
    const betweenSlices = (): void => {
      if (isFirst && get(empty, "other") === "v") {
        isFirst = false;
        heal(away, empty);
      }
    };
    runPair(empty, home, {}, { betweenSlices });
    expect(isFirst).toBe(false);
    expect(get(empty, "key")).toBe("v");
    meet(home, empty);
    expect([get(home, "key"), get(empty, "key")]).toEqual([null, null]);
    expect(empty.setAside.map(({ key }) => key).sort()).toEqual(["counter", "key"]);
  });

  test("increments that come during one, and counters that are begun, are no reason to ask again", () => {
    const { time, nodes } = cluster("home", "away", "busy");
    const [home, away, busy] = nodes;
    set(home, "based", "5");
    for (const key of ["old", "based"]) incr(home, key, 1);
    time.ms += 10_000;
    heal(home, away);
    heal(home, busy);
    deleteAndForget(home, time);
    heal(home, away);
    time.ms += 10_000;
    const betweenSlices = (): void => {
      for (const key of ["old", "based", "new"]) incr(busy, key, 1);
      for (const entry of entriesOf(busy)) if (entry.kind === KIND_COUNTER) away.store.apply(entry);
    };
    const atMs = time.ms;
    runPair(
      ...(first === 0 ? ([home, away] as const) : ([away, home] as const)),
      {},
      { betweenSlices },
    );
    for (const key of ["old", "based"]) expect(get(away, key)).toBe(get(busy, key));
    const { high, low } = home.store.origin;
    expect(away.contacts.of(high, low)).toBe(atMs - 2_001);
  });

  test("it may hold so much that nobody wants that refusals and entries get in each other's way", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    for (let i = 0; i < 3_000; i++) set(away, `mine:${i}`.padStart(1_000), "");
    time.ms += 10;
    deleteAndForget(home, time);
    for (let i = 0; i < 3_000; i++) set(home, `other:${i}`, "v".repeat(i % 300));
    time.ms += 10_000;
    const pipe = { queueBytes: 1, pieceBytes: () => 1_000_000 };
    const [a, b] = first === 0 ? [home, away] : [away, home];
    const { initiator, responder } = runPair(a, b, {}, pipe);
    expect([initiator.reason, responder.reason]).toEqual(["", ""]);
    expect(away.setAside.length).toBe(3_002);
    expect(rootOf(home)).toBe(rootOf(away));
  });

  test("a purge that comes late counts from when it came, though the clock is behind by then", () => {
    const { time, nodes } = cluster("home", "away", "back");
    const [home, away, back] = nodes;
    // As after a restart with a clock that has begun anew: what was vouched for is remembered.
    const vouchedMs = time.ms + 2 * GRACE_MS;
    const { high, low } = back.store.origin;
    back.store.deletions.vouch(vouchedMs);
    away.contacts.meet(high, low, vouchedMs);
    deleteAndForget(home, time);
    heal(back, home);
    expect(get(back, "key")).toBeNull();
    time.ms += 10_000;
    heal(away, back);
    expect([get(away, "key"), get(back, "key")]).toEqual([null, null]);
  });

  test("a deletion that comes late counts from when it came", () => {
    const { time, nodes } = cluster("home", "late", "away");
    const [home, late, away] = nodes;
    heal(late, away);
    del(late, "key");
    time.ms += GRACE_MS - 20_000;
    // Home and away have met after that deletion, and neither knows it.
    meet(home, away);
    time.ms += 10_000;
    meet(home, late);
    expect(get(home, "key")).toBeNull();
    time.ms += 20_000;
    home.store.sweep(1000);
    expect(home.store.tombstoneCount).toBe(1);
    meet(home, away);
    expect([get(home, "key"), get(away, "key")]).toEqual([null, null]);
    expect(away.setAside).toEqual([]);
  });

  test("a deletion that came late is not undone once it is forgotten", () => {
    const { time, nodes } = cluster("home", "late", "away");
    const [home, late, away] = nodes;
    heal(late, away);
    del(late, "key");
    time.ms += GRACE_MS + 10_000;
    meet(home, away);
    time.ms += 10_000;
    meet(home, late);
    time.ms += GRACE_MS + 1;
    home.store.sweep(1000);
    expect(home.store.tombstoneCount).toBe(0);
    meet(home, away);
    expect([get(home, "key"), get(away, "key")]).toEqual([null, null]);
    expect(away.setAside.map(({ key }) => key)).toEqual(["key"]);
  });

  test("an older deletion that comes later does not let in what a forgotten one deleted", () => {
    const { time, nodes } = cluster("home", "late", "away");
    const [home, late, away] = nodes;
    time.ms += 10_000;
    del(late, "key");
    time.ms += 10_000;
    set(away, "key", "w");
    time.ms += 10_000;
    heal(home, away);
    deleteAndForget(home, time);
    meet(home, late);
    expect(home.store.tombstoneCount).toBe(1);
    meet(home, away);
    expect([get(home, "key"), get(away, "key")]).toEqual([null, null]);
    expect(away.setAside.map(({ key }) => key)).toContain("key");
    // What is older than the deletion that is here is decided by it.
    expect(late.setAside.map(({ key }) => key)).toEqual(["counter"]);
  });

  test("nothing is purged while a session compares it", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    time.ms += 10_000;
    del(home, "key");
    time.ms += GRACE_MS + 1;
    const [a, b] = first === 0 ? [home, away] : [away, home];
    const betweenSlices = () =>
      void (home.store.deletions.sessionsUnderWay > 0 && home.store.sweep(1000));
    runPair(a, b, {}, { betweenSlices });
    expect([get(home, "key"), get(away, "key"), away.store.tombstoneCount]).toEqual([
      null,
      null,
      1,
    ]);
    home.store.sweep(1000);
    expect(home.store.tombstoneCount).toBe(0);
  });

  test("what held back purges for too long begins anew, and counts as no contact", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    time.ms += 10_000;
    del(home, "key");
    set(home, "other", "v");
    time.ms += GRACE_MS + 1;
    const [a, b] = first === 0 ? [home, away] : [away, home];
    const { high, low } = home.store.origin;
    const contactMs = away.contacts.of(high, low);
    const betweenSlices = () => {
      if (home.store.deletions.sessionsUnderWay === 0 || home.store.deletions.purges > 0) return;
      home.store.sweep(1000);
      time.ms += GRACE_MS / 8 + 1;
      home.store.sweep(1000);
    };
    const { initiator, responder } = runPair(a, b, {}, { betweenSlices });
    expect([initiator.failure, responder.failure]).toEqual(["busy", "busy"]);
    expect(home.store.deletions.purges).toBe(1);
    expect(away.contacts.of(high, low)).toBe(contactMs);
    meet(home, away);
    expect([get(home, "key"), get(away, "key"), get(away, "other")]).toEqual([null, null, "v"]);
  });

  test("a node that lost its data is as strange to its former self as to anybody", () => {
    const { time, nodes } = cluster("home", "away", "third");
    const [home, away, third] = nodes;
    deleteAndForget(home, time);
    const { nowMs } = home.options;
    const fresh = new SyncNode("fresh", { nowMs: nowMs!, tombstoneGraceMs: GRACE_MS });
    meet(home, fresh);
    const again = new SyncNode("home", { nowMs: nowMs!, tombstoneGraceMs: GRACE_MS });
    time.ms += 10_000;
    heal(again, away);
    expect(get(again, "key")).toBe("v");
    meet(again, fresh);
    expect([get(again, "key"), get(fresh, "key")]).toEqual([null, null]);
    expect(third.setAside).toEqual([]);
    // And then it is no stranger any more.
    time.ms += 10_000;
    set(again, "new", "v");
    time.ms += 10_000;
    meet(again, fresh);
    expect(get(fresh, "new")).toBe("v");
  });

  /** Home has purged a deletion that patient, who learned of it late, still has; met never heard of it. */
  function oneIsPatient(): { time: { ms: number }; nodes: SyncNode[] } {
    const { time, nodes } = cluster("home", "met");
    const [home, met] = nodes;
    const patient = new SyncNode("patient", {
      nowMs: met.options.nowMs!,
      tombstoneGraceMs: GRACE_MS,
    });
    heal(met, patient);
    del(home, "key");
    time.ms += 10_000;
    // It has nothing of the deletion's time left to learn, as it says.
    heal(met, patient);
    for (const _ of "12") {
      time.ms += 10_000;
      meet(home, patient);
    }
    time.ms += GRACE_MS - 25_000;
    for (const node of [home, patient]) node.store.sweep(1000);
    expect([home.store.tombstoneCount, patient.store.tombstoneCount]).toEqual([0, 1]);
    return { time, nodes: [home, met, patient] };
  }

  test("a deletion the peer has purged is dropped, so that both hold the same", () => {
    const [home, met, patient] = oneIsPatient().nodes;
    meet(home, patient);
    expect([home.store.tombstoneCount, patient.store.tombstoneCount]).toEqual([0, 0]);
    expect(rootOf(home)).toBe(rootOf(patient));
    // Met still has the key, and is strange to patient.
    meet(patient, met);
    expect([get(patient, "key"), get(met, "key")]).toEqual([null, null]);
  });

  test("a peer that says it purged a deletion, and lies, helps nobody to be believed", () => {
    const { time, nodes } = oneIsPatient();
    const [home, met, patient] = nodes;
    // Met is told that it knows all of home's deletions, which is not so.
    met.contacts.note(home.store.origin.high, home.store.origin.low, time.ms);
    time.ms += 5_000;
    meet(home, patient);
    time.ms += 10_000;
    meet(patient, met);
    expect([get(patient, "key"), get(met, "key")]).toEqual([null, null]);
  });

  test("who drops a deletion knows from then on that it was purged, even if this was no contact", () => {
    const [home, met, patient] = oneIsPatient().nodes;
    // Something old comes in besides, so the session is no contact.
    const other = new SyncNode("other", { nowMs: () => START_MS });
    set(other, "old", "v");
    const betweenSlices = (): void => {
      if (patient.store.deletions.sessionsUnderWay > 0) patient.store.apply(entriesOf(other)[0]);
    };
    const [a, b] = first === 0 ? [home, patient] : [patient, home];
    const { high, low } = home.store.origin;
    const contactMs = patient.contacts.of(high, low);
    runPair(a, b, {}, { betweenSlices });
    expect(patient.store.tombstoneCount).toBe(0);
    expect(patient.contacts.of(high, low)).toBe(contactMs);
    meet(patient, met);
    expect([get(patient, "key"), get(met, "key")]).toEqual([null, null]);
  });

  test("what was deleted, forgotten and just written anew comes over at once", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    deleteAndForget(home, time);
    set(home, "key", "anew");
    meet(home, away);
    // Away would bring the old value to others, and nobody would take it for a stranger.
    expect([get(home, "key"), get(away, "key")]).toEqual(["anew", "anew"]);
  });

  test("a node that forgot nothing refuses nothing", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    set(away, "mine", "v");
    time.ms += 100 * GRACE_MS;
    meet(home, away);
    expect(get(home, "mine")).toBe("v");
    expect(away.setAside).toEqual([]);
  });

  test("what comes meanwhile leaves it nothing that was deleted, or it had no contact", () => {
    for (let slices = 0; slices < 60; slices++) {
      const { time, nodes } = cluster("home", "away", "other");
      const [home, away, other] = nodes;
      const metMs = time.ms;
      deleteAndForget(home, time);
      set(other, "key", "newer");
      const newer = entriesOf(other).find((entry) => keyOf(entry) === "key")!;
      time.ms += 10_000;
      let left = slices;
      const betweenSlices = (): void => {
        if (left-- === 0) home.store.apply(newer);
      };
      const pair = first === 0 ? ([home, away] as const) : ([away, home] as const);
      runPair(...pair, {}, { betweenSlices });
      const { high, low } = home.store.origin;
      if (get(away, "key") === "v") expect(away.contacts.of(high, low)).toBeLessThan(metMs + 1);
    }
  });

  test("what both know is merged however long it was away", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    set(home, "gone", "v");
    time.ms += 10_000;
    del(home, "gone");
    set(home, "key", "newer");
    time.ms += GRACE_MS + 1;
    home.store.sweep(1000);
    time.ms += 10_000;
    meet(home, away);
    expect(get(away, "key")).toBe("newer");
    expect(away.setAside).toEqual([]);
    expect(rootOf(home)).toBe(rootOf(away));
  });

  test("a deletion purged on one side is not brought back by the other, which purges it later", () => {
    const { time, nodes } = oneIsPatient();
    const [home, , away] = nodes;
    for (const _ of "12") {
      runPair(first === 0 ? home : away, first === 0 ? away : home);
      expect(entriesOf(home).map(keyOf)).toEqual(["counter"]);
    }
    time.ms += 10 * GRACE_MS;
    expect(rootOf(away)).toBe(rootOf(home));
  });

  test("a flush comes over before anything is compared, and clears what was before it", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    set(away, "before", "v");
    time.ms += 10_000;
    home.store.flush();
    time.ms += 10;
    set(home, "after", "v");
    set(away, "later", "v");
    time.ms += 10_000;
    const sent = first === 0 ? runPair(home, away).responder : runPair(away, home).initiator;
    expect(sent).toMatchObject({ ok: true, entriesSent: 1 });
    for (const node of nodes) {
      expect(["key", "before", "after", "later"].map((key) => get(node, key))).toEqual([
        null,
        null,
        "v",
        "v",
      ]);
    }
    expect(rootOf(home)).toBe(rootOf(away));
  });
});

describe("a node that can write nothing down", () => {
  test.each([0, 1])(
    "carries out no flush, takes nothing, and counts as no contact: %i",
    (first) => {
      const { time, nodes } = cluster("home", "full");
      const [home, full] = nodes;
      time.ms += 10_000;
      set(home, "new", "v");
      home.store.flush();
      time.ms += 10_000;
      full.store.setReadOnly(true);
      const before = full.contacts.of(home.store.origin.high, home.store.origin.low);
      const met = first === 0 ? runPair(full, home) : runPair(home, full);
      expect([met.initiator.ok, met.responder.ok]).toEqual([false, false]);
      expect(get(full, "key")).toBe("v");
      expect(full.contacts.of(home.store.origin.high, home.store.origin.low)).toBe(before);
      full.store.setReadOnly(false);
      heal(full, home);
      expect(get(full, "key")).toBeNull();
    },
  );

  test("removes nothing on the way: neither what expired, nor what a flush left", () => {
    const { time, nodes } = cluster("home", "full");
    const [home, full] = nodes;
    time.ms += 10_000;
    const changes: string[] = [];
    // A flush of then, which leaves what came after it: that is carried out in slices.
    const { high, low } = home.store.clock;
    set(full, "after", "v");
    set(full, "expiring", "v", time.ms + 5_000);
    for (const { store } of nodes) store.applyFloor(high, low, 0, 0);
    full.store.setReadOnly(true);
    full.store.observers.push({
      changed: () => void changes.push("changed"),
      removed: () => void changes.push("removed"),
      flushed: () => void changes.push("flushed"),
    });
    time.ms += 10_000;
    runPair(home, full);
    expect(full.store.sweep(1_000)).toBe(false);
    expect(changes).toEqual([]);
    full.store.setReadOnly(false);
    full.store.sweep(1_000);
    heal(home, full);
    expect(rootOf(home)).toBe(rootOf(full));
  });
});
