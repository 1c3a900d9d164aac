/** What nodes tell each other of contacts with members, and of members that are gone for good. */
import { describe, expect, test } from "bun:test";
import { MAX_MEMBERS, Contacts, latestMissed } from "../../src/core/sync/contacts.ts";
import { cluster, deleteAndForget, GRACE_MS, heal, START_MS } from "../support/stale-cluster.ts";
import { del, get, set } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

describe("contacts", () => {
  test("never go back, and make room for the most recent", () => {
    const contacts = new Contacts();
    contacts.note(1, 2, 500);
    contacts.note(1, 2, 400);
    contacts.note(2, 1, 600);
    expect([contacts.of(1, 2), contacts.of(2, 1), contacts.of(1, 1)]).toEqual([500, 600, 0]);
    for (let i = 0; i < 2 * MAX_MEMBERS; i++) contacts.note(9, i, 1000 + i);
    contacts.trim();
    expect(contacts.size).toBe(MAX_MEMBERS);
    expect(contacts.of(1, 2)).toBe(0);
    expect(contacts.of(9, 2 * MAX_MEMBERS - 1)).toBe(1000 + 2 * MAX_MEMBERS - 1);
    contacts.note(3, 3, 1);
    contacts.trim();
    expect(contacts.of(3, 3)).toBe(0);
  });

  test("that one who makes room had purged is not forgotten", () => {
    const contacts = new Contacts();
    contacts.note(1, 2, 500, 300);
    for (let i = 0; i < 2 * MAX_MEMBERS; i++) contacts.note(9, i, 1000 + i);
    contacts.trim();
    expect(contacts.size).toBe(MAX_MEMBERS);
    const origin = { high: 3, low: 3 };
    const here = { origin, purgedUpToMs: 0, contacts };
    const there = { origin: { high: 4, low: 4 }, purgedUpToMs: 0, contacts: new Contacts() };
    there.contacts.note(1, 2, 900);
    expect(latestMissed(here, there).upToMs).toBe(300);
  });

  test("are noted as of the watermark after a session that was complete, and pass on others'", () => {
    const { time, nodes } = cluster("home", "away");
    const [home, away] = nodes;
    const of = (node: SyncNode, other: SyncNode): number =>
      node.contacts.of(other.store.origin.high, other.store.origin.low);
    const atMs = START_MS + 8_000;
    expect([of(home, away), of(away, home)]).toEqual([atMs, atMs]);
    home.contacts.note(7, 7, START_MS + 5_500);
    home.contacts.note(8, 8, START_MS + 900_000);
    time.ms += 10_000;
    heal(away, home);
    // Whole seconds, and never later than what was compared.
    expect([away.contacts.of(7, 7), away.contacts.of(8, 8)]).toEqual([
      START_MS + 5_000,
      START_MS + 18_000,
    ]);
    time.ms += 10_000;
    const { initiator } = runPair(away, home, {}, { tamper: () => null });
    expect(initiator.ok).toBe(false);
    expect(of(away, home)).toBe(START_MS + 18_000);
  });
});

describe("a member that is gone for good", () => {
  /** Gone deleted a key and purged that; near and far have met it since, away has not. */
  function afterGone() {
    const { time, nodes } = cluster("gone", "near", "far", "away");
    const [gone, near, far, away] = nodes;
    deleteAndForget(gone, time);
    time.ms += 10_000;
    heal(near, gone);
    heal(far, near);
    const { origin } = gone.store;
    expect(near.contacts.get(origin.high, origin.low)!.purgedUpToMs).toBeGreaterThan(0);
    return { time, gone, near, far, away, origin };
  }

  /** What `Replica` does now and then. */
  function drop(node: SyncNode, spentUpToMs: number): void {
    const { deletions } = node.store;
    const upToMs = node.contacts.dropSpent(spentUpToMs, deletions.latestPurgeMs());
    deletions.claimPurge(upToMs);
  }

  test("is kept until a grace after its purges were learned, then dropped: nothing comes back", () => {
    const { time, near, away, origin } = afterGone();
    const spentMs = time.ms + 1;
    drop(near, spentMs);
    expect(near.contacts.has(origin.high, origin.low)).toBe(true);
    time.ms += GRACE_MS + 10_000;
    drop(near, spentMs);
    expect(near.contacts.has(origin.high, origin.low)).toBe(false);
    heal(away, near);
    expect([get(near, "key"), get(away, "key")]).toEqual([null, null]);
    expect(away.setAside.map(({ key }) => key)).toContain("key");
  });

  test("that was dropped makes nobody stale who knows what it had purged", () => {
    const { time, near, far, origin } = afterGone();
    time.ms += GRACE_MS + 10_000;
    heal(far, near);
    set(far, "old", "v");
    time.ms += GRACE_MS + 10_000;
    heal(near, far);
    drop(near, time.ms - GRACE_MS);
    expect(near.contacts.has(origin.high, origin.low)).toBe(false);
    // Far still names it, and near is not stale for that; nor far for what near says of itself.
    const standing = (node: SyncNode) => ({
      origin: node.store.origin,
      purgedUpToMs: node.store.deletions.purgedUpToMs,
      contacts: node.contacts,
    });
    expect(latestMissed(standing(far), standing(near)).upToMs).toBe(0);
    expect(latestMissed(standing(near), standing(far)).upToMs).toBe(0);
    // Nor is it noted again, as near has known it all.
    near.moreOptions = { forgetAfterMs: GRACE_MS };
    time.ms += 5_000;
    heal(near, far);
    expect(near.contacts.has(origin.high, origin.low)).toBe(false);
    expect(get(near, "old")).toBe("v");
  });

  test("is noted again when a peer has learned more of it than this node knew", () => {
    const { time, gone, near, far, origin } = afterGone();
    time.ms += GRACE_MS + 10_000;
    set(gone, "late", "v");
    heal(gone, far);
    time.ms += 10_000;
    del(gone, "late");
    time.ms += GRACE_MS + 1;
    gone.store.sweep(1000);
    heal(far, gone);
    drop(near, time.ms + 1);
    expect(near.contacts.has(origin.high, origin.low)).toBe(false);
    near.moreOptions = { forgetAfterMs: 1 };
    time.ms += 100_000;
    heal(near, far);
    expect(near.contacts.get(origin.high, origin.low)!.purgedUpToMs).toBeGreaterThan(0);
  });

  test("is said to be gone to all, until it is met again", () => {
    const { time, gone, near, far, away, origin } = afterGone();
    near.contacts.forget(origin.high, origin.low, time.ms);
    // Near itself, far and away.
    expect(near.contacts.living).toBe(3);
    time.ms += 5_000;
    heal(far, near);
    heal(away, far);
    for (const { contacts } of [near, far, away]) {
      expect(contacts.isForgotten(origin.high, origin.low)).toBe(true);
    }
    time.ms += 60_000;
    heal(gone, far);
    time.ms += 5_000;
    heal(far, near);
    expect(far.contacts.isForgotten(origin.high, origin.low)).toBe(false);
    expect(near.contacts.isForgotten(origin.high, origin.low)).toBe(false);
  });

  test("cannot be said to be gone at a time to come", () => {
    const { time, near, far, origin } = afterGone();
    near.contacts.forget(origin.high, origin.low, time.ms + 3_600_000);
    heal(far, near);
    expect(far.contacts.get(origin.high, origin.low)!.forgottenMs).toBeLessThanOrEqual(time.ms);
  });
});
