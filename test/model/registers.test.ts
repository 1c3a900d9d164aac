/**
 * What comes of writes on several nodes is what comes of making them one after the other, in the
 * order of their versions, whoever hears of what and when: value and expiry are registers. The
 * clocks of some nodes are wrong.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry, KIND_COUNTER, KIND_STRING, newVersion } from "../../src/core/data/entry.ts";
import { baseVersionOf, expiryVersionOf } from "../../src/core/data/merge.ts";
import { APPLIED } from "../../src/core/store/outcome.ts";
import { KEEP_EXPIRY } from "../../src/core/store/own-writes.ts";
import { Store } from "../../src/core/store/store.ts";
import { LATEST, MerkleTree } from "../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { seeded } from "../support/random.ts";

const START_MS = 1_700_000_000_000;
const KEY = Buffer.from("k");
const NODES = 3;
/** Behind a write of that version, and before the next. */
const BEHIND = 1n;

type Write =
  | { do: "set"; at: bigint; text: string; expiresAtMs: number }
  | { do: "value"; at: bigint; text: string }
  | { do: "delete"; at: bigint }
  | { do: "expire"; at: bigint; expiresAtMs: number }
  | { do: "count"; at: bigint; delta: number; base: bigint };

/** One node, and what its clients were told is done. */
class Node {
  readonly store: Store;
  readonly tree: MerkleTree;
  private readonly view = new Entry();

  constructor(
    readonly place: number,
    private readonly time: { ms: number },
    public offsetMs: number,
    private readonly writes: Write[],
  ) {
    this.store = new Store({
      clock: new HybridClock(() => this.time.ms + this.offsetMs),
      origin: { high: place + 1, low: 0 },
      hashSeed: { high: 1, low: place },
      random: seeded(place),
      memoryLimitBytes: 0,
      maxClockSkewMs: 2 ** 40,
      tombstoneGraceMs: 2 ** 40,
    });
    this.tree = new MerkleTree(this.store, new RecordDigester(treeKeyOf("registers")));
    this.store.observers.push(this.tree);
  }

  get nowMs(): number {
    return this.time.ms + this.offsetMs;
  }

  set(text: string, livesMs: number): void {
    const expiresAtMs = livesMs === 0 ? 0 : this.nowMs + livesMs;
    this.put(text, expiresAtMs);
    this.writes.push({ do: "set", at: this.written(), text, expiresAtMs });
  }

  setValue(text: string): void {
    const isThere = this.find() >= 0;
    this.put(text, KEEP_EXPIRY);
    const at = this.written();
    if (isThere) this.writes.push({ do: "value", at, text });
    else this.writes.push({ do: "set", at, text, expiresAtMs: 0 });
  }

  delete(): void {
    if (this.store.delete(KEY, 0, 1)) this.writes.push({ do: "delete", at: this.written() });
  }

  expire(livesMs: number): void {
    const expiresAtMs = livesMs === 0 ? 0 : this.nowMs + livesMs;
    if (this.store.expire(KEY, 0, 1, expiresAtMs) !== APPLIED) return;
    this.writes.push({ do: "expire", at: this.written(), expiresAtMs });
  }

  count(delta: number): void {
    if (this.store.increment(KEY, 0, 1, new Int64().set(0, delta)) !== APPLIED) return;
    const at = this.written();
    this.writes.push({ do: "count", at, delta, base: this.base() });
  }

  /** Tells another node all that is known here; or, should it be that, the expiry alone. */
  tell(other: Node, isExpiryOnly: boolean): void {
    const id = this.store.locate(KEY, 0, 1);
    if (id < 0) return;
    this.store.read(id, this.view);
    const told = this.view.clone();
    if (isExpiryOnly) {
      const version = newVersion();
      expiryVersionOf(told, version);
      told.setVersion(version.timeHigh, version.timeLow, version.originHigh, version.originLow);
      // A key that is not there is asked for instead.
      if (version.timeHigh > 0 && other.store.applyExpiry(told) >= 0) return;
      this.store.read(id, this.view);
      other.store.apply(this.view.clone());
    } else other.store.apply(told);
  }

  shown(): { text: string; expiresAtMs: number } | null {
    const id = this.find();
    if (id < 0) return null;
    this.store.readValue(id, this.view);
    const { expiresAtMs } = this.view;
    return { text: Buffer.from(this.view.valueBytes()).toString(), expiresAtMs };
  }

  root(): string | null {
    while (this.tree.update(LATEST, LATEST, 1_000, () => 0));
    return this.tree.rootHex();
  }

  /** The base of a counter: twice its version, and one more when nothing was there. */
  private base(): bigint {
    const id = this.store.locate(KEY, 0, 1);
    this.store.read(id, this.view);
    const version = newVersion();
    baseVersionOf(this.view, version);
    const isNone = this.view.kind === KIND_COUNTER && this.view.value[this.view.valueOffset] === 1;
    return versionOf(version) * 2n + (isNone ? BEHIND : 0n);
  }

  private put(text: string, expiresAtMs: number): void {
    const bytes = Buffer.from(text);
    expect(this.store.set(KEY, 0, 1, bytes, 0, bytes.length, expiresAtMs)).toBe(APPLIED);
  }

  private find(): number {
    return this.store.find(KEY, 0, 1);
  }

  private written(): bigint {
    const { clock, origin } = this.store;
    const version = { timeHigh: clock.high, timeLow: clock.low };
    return versionOf({ ...version, originHigh: origin.high, originLow: origin.low }) * 2n;
  }
}

function versionOf(version: ReturnType<typeof newVersion>): bigint {
  const { timeHigh, timeLow, originHigh, originLow } = version;
  const words = [timeHigh, timeLow, originHigh, originLow];
  return words.reduce((sum, word) => (sum << 32n) | BigInt(word), 0n);
}

/** The two registers after all writes, in the order of their versions. */
function inOrder(writes: readonly Write[]): { text: string | null; expiresAtMs: number } {
  // A counter that is begun anew is begun behind the latest write that was known of a dead key.
  const begun = writes.flatMap((write): Write[] =>
    write.do === "count" && write.base % 2n === BEHIND ? [{ do: "delete", at: write.base }] : [],
  );
  let base = BEHIND;
  let text: string | null = null;
  let expiresAtMs = 0;
  const earliestFirst = (a: Write, b: Write): number => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0);
  for (const write of [...writes, ...begun].sort(earliestFirst)) {
    if (write.do === "count") {
      // Of what was added to another value than there is now nothing is left.
      if (write.base === base) text = String(Number(text ?? "0") + write.delta);
      continue;
    }
    if (write.do !== "expire") {
      base = write.at % 2n === BEHIND || write.do !== "delete" ? write.at : write.at + BEHIND;
      text = write.do === "delete" ? null : write.text;
    }
    if (write.do === "set" || write.do === "expire") expiresAtMs = write.expiresAtMs;
    else if (write.do === "delete") expiresAtMs = 0;
  }
  return { text, expiresAtMs };
}

const place = fc.nat(NODES - 1);
const lives = fc.constantFrom(0, 0, 5, 50, 500, 5_000);
const number = fc.nat(99).map(String);
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant("set" as const), place, number, lives }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("value" as const), place, number }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("delete" as const), place }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("expire" as const), place, lives }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("count" as const), place, delta: fc.nat(9) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("tell" as const),
      place,
      to: place,
      isExpiry: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(60) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("sweep" as const), place }) },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

class Cluster {
  readonly time = { ms: START_MS };
  readonly writes: Write[] = [];
  readonly nodes: Node[];

  constructor(offsets: readonly number[]) {
    this.nodes = offsets.map((ms, i) => new Node(i, this.time, ms, this.writes));
  }

  do(step: Step): void {
    const { nodes, time } = this;
    if (step.do === "wait") time.ms += step.ms;
    else if (step.do === "set") nodes[step.place].set(step.number, step.lives);
    else if (step.do === "value") nodes[step.place].setValue(step.number);
    else if (step.do === "delete") nodes[step.place].delete();
    else if (step.do === "expire") nodes[step.place].expire(step.lives);
    else if (step.do === "count") nodes[step.place].count(step.delta);
    else if (step.do === "tell") nodes[step.place].tell(nodes[step.to], step.isExpiry);
    // The first node lets go of nothing: it is the one that has what others let go of too early.
    else if (step.place > 0) nodes[step.place].store.sweep(1_000);
    if (step.do !== "wait" && step.do !== "tell" && step.place > 0) {
      nodes[step.place].tell(nodes[0], false);
    }
  }

  /** All are told everything, by clocks that are right. */
  settle(): void {
    const { nodes } = this;
    for (const node of nodes) node.offsetMs = 0;
    for (let round = 0; round < 2; round++) {
      for (const node of nodes)
        for (const other of nodes) if (node !== other) node.tell(other, false);
      for (const { store } of nodes.slice(1)) store.sweep(1_000);
    }
  }

  check(): void {
    const { text, expiresAtMs } = inOrder(this.writes);
    for (const node of this.nodes) {
      const isOver = expiresAtMs !== 0 && expiresAtMs <= node.nowMs;
      expect(node.shown()).toEqual(text === null || isOver ? null : { text, expiresAtMs });
      node.store.verify();
    }
    expect(new Set(this.nodes.map((node) => node.root())).size).toBe(1);
  }
}

describe("value and expiry", () => {
  const offsets = fc.constantFrom([0, 0, 0], [0, 40, -40], [0, 10_000, 0], [0, -10_000, 400]);

  test("come out as all writes in the order of their versions", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: "max" }), offsets, (steps, clocks) => {
        const cluster = new Cluster(clocks);
        for (const each of steps) cluster.do(each);
        cluster.settle();
        cluster.check();
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("an expiry that did not know", () => {
  test("of a newer value leaves it, and one of a deletion leaves that", () => {
    const { nodes, time } = new Cluster([0, 0, 0]);
    const [a, b] = nodes;
    a.set("1", 500);
    a.tell(b, false);
    time.ms += 1;
    a.set("2", 500);
    time.ms += 1;
    b.expire(5_000);
    b.tell(a, true);
    a.tell(b, false);
    for (const node of [a, b])
      expect(node.shown()).toEqual({ text: "2", expiresAtMs: b.nowMs + 5_000 });
    a.delete();
    time.ms += 1;
    b.expire(9_000);
    b.tell(a, true);
    a.tell(b, false);
    for (const node of [a, b]) expect(node.shown()).toBeNull();
    expect(a.root()).toBe(b.root());
  });
});

describe("the limiter of a rate, INCR and then EXPIRE on any node", () => {
  test("loses nothing, through window after window", () => {
    const { nodes, time } = new Cluster([0, 0, 0]);
    const tellAll = (): void => {
      for (const node of nodes)
        for (const other of nodes) if (node !== other) node.tell(other, false);
    };
    for (let window = 0; window < 3; window++) {
      // All begin the window at once, before they hear of each other.
      for (const node of nodes) {
        node.count(1);
        node.expire(1_000);
      }
      for (let round = 0; round < 5; round++) {
        time.ms += 10;
        if (round % 2 === 0) tellAll();
        for (const node of nodes) node.count(1);
      }
      tellAll();
      tellAll();
      for (const node of nodes) expect(node.shown()?.text).toBe("18");
      time.ms += 2_000;
      for (const { store } of nodes) store.sweep(1_000);
      for (const node of nodes) expect(node.shown()).toBeNull();
    }
  });
});

describe("a value that was let go by a clock that was wrong", () => {
  test("is seen as a difference, and comes back from who has it", () => {
    const { nodes, time } = new Cluster([0, 3_600_000, 0]);
    const [right, ahead] = nodes;
    right.set("v", 600_000);
    right.tell(ahead, false);
    expect(ahead.shown()).toBeNull();
    ahead.store.sweep(1_000);
    time.ms += 100;
    ahead.offsetMs = 0;
    ahead.store.sweep(1_000);
    expect(ahead.shown()).toBeNull();
    expect(ahead.root()).not.toBe(right.root());
    // What is missing here takes nothing there.
    ahead.tell(right, false);
    expect(right.shown()?.text).toBe("v");
    right.tell(ahead, false);
    expect(ahead.shown()).toEqual(right.shown());
    expect(ahead.root()).toBe(right.root());
    time.ms += 600_000;
    for (const { store } of nodes) store.sweep(1_000);
    expect(ahead.root()).toBe(right.root());
  });

  test("was a string; a counter keeps its parts", () => {
    const { nodes } = new Cluster([0, 3_600_000, 0]);
    const [right, ahead] = nodes;
    ahead.count(5);
    ahead.tell(right, false);
    right.expire(600_000);
    right.tell(ahead, false);
    ahead.store.sweep(1_000);
    expect([ahead.store.size, ahead.shown()]).toEqual([0, null]);
    ahead.offsetMs = 0;
    ahead.store.sweep(1_000);
    expect([ahead.store.size, ahead.shown()?.text]).toEqual([1, "5"]);
    expect(ahead.root()).toBe(right.root());
  });
});

test("only what has another expiry than its value takes more memory", () => {
  const { nodes } = new Cluster([0, 0, 0]);
  const view = new Entry();
  const [a] = nodes;
  a.set("v", 0);
  const id = a.store.locate(KEY, 0, 1);
  a.store.read(id, view);
  expect(view.expiryVersion).toEqual(newVersion());
  a.delete();
  a.count(5);
  a.store.read(id, view);
  expect([view.kind, view.expiryVersion]).toEqual([KIND_COUNTER, newVersion()]);
  a.set("v", 100);
  a.store.read(id, view);
  expect([view.kind, view.expiryVersion]).toEqual([KIND_STRING, newVersion()]);
});
