/** What the oracle makes of processes that lose their last writes. */
import { expect, test } from "bun:test";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { Store } from "../../src/core/store/store.ts";
import type { SafeWaiter } from "../../src/ports.ts";
import { Holding } from "./holding.ts";
import { Oracle } from "./oracle.ts";
import type { DiskKind } from "./plan.ts";

const KEY = new TextEncoder().encode("k");
const OTHER = new TextEncoder().encode("other");

/** A journal in which a change is safe once `sync` is called. */
class SlowJournal {
  position = 0;
  safePosition = 0;
  private waiters: SafeWaiter[] = [];

  whenSafe(waiter: SafeWaiter): void {
    this.waiters.push(waiter);
  }

  note(): void {
    this.position++;
  }

  sync(): void {
    this.safePosition = this.position;
    for (const waiter of this.waiters.splice(0)) waiter.onSafe();
  }
}

function makeStore(): Store {
  return new Store({
    clock: new HybridClock(() => 1_000),
    origin: originOf("n0"),
    hashSeed: { low: 1, high: 2 },
    random: () => 0.5,
    memoryLimitBytes: 0,
    maxClockSkewMs: 60_000,
    tombstoneGraceMs: 60_000,
  });
}

/** Node 0 on its disk, its clock at a standstill, so that it tells its versions apart by counting. */
class Node {
  store = makeStore();
  journal = new SlowJournal();
  readonly oracle: Oracle;
  private readonly safe: Entry[] = [];

  constructor(private readonly disk: DiskKind = "always") {
    this.oracle = new Oracle(
      [disk],
      () => 0,
      () => {},
    );
    this.begin();
  }

  increment(key: Uint8Array, by: number): void {
    this.store.increment(key, 0, key.length, new Int64().set(by < 0 ? -1 : 0, by));
    this.oracle.incremented(0, this.store, new TextDecoder().decode(key), BigInt(by));
  }

  set(key: Uint8Array, value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.store.set(key, 0, key.length, bytes, 0, bytes.length, 0);
    this.oracle.wrote(0, this.store, new TextDecoder().decode(key), value, 0);
  }

  expire(key: Uint8Array, atMs: number): void {
    this.store.expire(key, 0, key.length, atMs);
    this.oracle.expired(0, this.store, new TextDecoder().decode(key), atMs);
  }

  /** The journal calls everything safe. */
  sync(): void {
    this.journal.sync();
    this.safe.length = 0;
    for (let id = 0; id < this.store.idLimit; id++) {
      const entry = new Entry();
      this.store.read(id, entry);
      this.safe.push(copyOf(entry));
    }
  }

  /** The power goes, and comes back: only what was safe is there. */
  cutPower(): void {
    this.comeBack((store) => {
      for (const entry of this.safe) store.apply(entry);
    });
  }

  /** The power goes, and comes back after all the keys have ended, which is forgotten. */
  cutPowerForLong(): void {
    this.comeBack((store) => store.deletions.notePurgedHere(1_000));
  }

  private comeBack(recover: (store: Store) => void): void {
    this.oracle.end(0, { kind: "power", syncedMs: 0 });
    this.store = makeStore();
    this.journal = new SlowJournal();
    recover(this.store);
    this.begin();
  }

  private begin(): void {
    const { journal, store, disk } = this;
    // Without a disk all is safe at once, as in a MemoryJournal.
    const changed = () => disk !== "none" && journal.note();
    store.observers.push({ changed, removed() {}, flushed() {} });
    store.observers.push(this.oracle.begin(0, store, journal));
  }
}

function copyOf(entry: Entry): Entry {
  const copy = new Entry();
  copy.kind = entry.kind;
  copy.expiresAtMs = entry.expiresAtMs;
  copy.setKey(entry.keyBytes().slice()).setValue(entry.valueBytes().slice());
  copy.setVersion(entry.timeHigh, entry.timeLow, entry.originHigh, entry.originLow);
  return copy;
}

test("an increment may take the time of a later one that was lost before anybody was told", () => {
  const node = new Node();
  node.increment(KEY, 6);
  node.sync();
  node.increment(OTHER, 1);
  node.increment(OTHER, 1);
  node.increment(KEY, 100);
  node.cutPower();
  // Its clock knows nothing of the lost ones: this comes between the safe one and the lost one.
  node.increment(KEY, 9);
  expect(node.oracle.expected("k", 0)).toEqual({ value: "15", expiresAtMs: 0 });
  expect(node.oracle.failure).toBeNull();
});

test("an increment may take the very time of one that was lost before anybody was told", () => {
  const node = new Node();
  node.increment(KEY, 6);
  node.sync();
  node.increment(KEY, 100);
  node.cutPower();
  node.increment(KEY, 9);
  expect(node.oracle.expected("k", 0)).toEqual({ value: "15", expiresAtMs: 0 });
  expect(node.oracle.failure).toBeNull();
});

test("a SET may take the very time of one that was lost before anybody was told", () => {
  const node = new Node();
  node.set(KEY, "first");
  node.sync();
  node.set(KEY, "zzz");
  node.cutPower();
  node.set(KEY, "aaa");
  expect(node.oracle.expected("k", 0)).toEqual({ value: "aaa", expiresAtMs: 0 });
  expect(node.oracle.failure).toBeNull();
});

test("a node without a disk may give a version again, of which nobody has heard", () => {
  const node = new Node("none");
  node.set(KEY, "zzz");
  node.cutPower();
  node.set(KEY, "aaa");
  expect(node.oracle.expected("k", 0)).toEqual({ value: "aaa", expiresAtMs: 0 });
  // Unless a copy was on its way, which wins where the two meet.
  const [late, bytes] = [new Entry(), new TextEncoder().encode("zzz")];
  node.store.read(node.store.find(KEY, 0, KEY.length), late);
  const copy = copyOf(late).setValue(bytes, 0, bytes.length);
  node.store.apply(copy);
  expect(node.oracle.expected("k", 0)).toEqual({ value: "zzz", expiresAtMs: 0 });
  expect(node.oracle.failure).toBeNull();
});

test("what is gone, though it must be there, had expired by an expiry that was perhaps lost", () => {
  const node = new Node();
  node.set(KEY, "first");
  node.sync();
  node.expire(KEY, 999);
  node.cutPowerForLong();
  expect(node.oracle.expected("k", 1_000)).toBeNull();
  expect(node.oracle.failure).toBeNull();
});

test("what may never have been there need not have expired", () => {
  const node = new Node();
  node.set(KEY, "first");
  node.expire(KEY, 999);
  node.cutPowerForLong();
  expect(node.oracle.heldBy(0).has("k")).toBe(false);
});

test("a SET that was safe and is gone is found out", () => {
  const node = new Node();
  node.set(KEY, "first");
  node.sync();
  node.set(KEY, "zzz");
  node.journal.sync();
  node.cutPower();
  expect(node.oracle.failure).toContain("came back without what it had of k");
});

test("an increment that was safe and is gone is found out", () => {
  const node = new Node();
  node.increment(KEY, 6);
  node.sync();
  node.increment(KEY, 100);
  node.journal.sync();
  node.cutPower();
  expect(node.oracle.failure).toContain("came back without what it had of k");
});

test("what a flush took leaves no expiry to what was written since", () => {
  const [before, since] = [new Holding(), new Holding()];
  before.joinKey("k", { base: 2n, expiry: 22n, parts: new Map() });
  since.raiseFloor(9n);
  since.joinKey("k", { base: 20n, expiry: 20n, parts: new Map() });
  before.join(since);
  expect(before.keys.get("k")!.expiry).toBe(20n);
  const other = new Holding();
  other.joinKey("k", { base: 2n, expiry: 22n, parts: new Map() });
  since.join(other);
  expect(since.keys.get("k")!.expiry).toBe(20n);
});
