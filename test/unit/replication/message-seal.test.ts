/** Sealed messages: what opens, what does not and why, and that no nonce is used twice. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MessageSeal, type MessageSealOptions } from "../../../src/replication/message-seal.ts";
import { ReplayGuard } from "../../../src/replication/replay-guard.ts";
import { HEADER_BYTES, nonceOf, SEAL_BYTES } from "../../../src/replication/sealed-message.ts";
import { realWorld } from "../../../src/world.ts";
import { clusterSecrets } from "../../support/secrets.ts";

const UPDATES = "kv/updates";

function sealOf(nodeId: string, options: Partial<MessageSealOptions> = {}): MessageSeal {
  return new MessageSeal({
    secrets: clusterSecrets("one"),
    nodeId,
    start: 1_000,
    randomWords: realWorld.randomWords,
    ...options,
  });
}

const a = sealOf("a");
/** Where a node's presence is, as the broker has it. */
const topicOf = (seal: MessageSeal, nodeId: string): string =>
  `kv/nodes/${seal.namesOf(nodeId)[0]}`;
const NODES = topicOf(a, "a");

describe("what is sealed", () => {
  test("opens for whoever has the secret, and shows nothing of what it holds", () => {
    const message = a.seal("updates", UPDATES, Buffer.from("the key and its value"));
    expect(message.length).toBe("the key and its value".length + SEAL_BYTES);
    expect(message.includes("value")).toBeFalse();
    const opened = sealOf("b").open("updates", UPDATES, message, false);
    expect(opened).toMatchObject({ payload: Buffer.from("the key and its value") });
  });

  test("is for its topic and its purpose only", () => {
    const message = a.seal("updates", UPDATES, Buffer.from("x"));
    const b = sealOf("b");
    expect(b.open("updates", "kv/other", message, false)).toBe("forged");
    expect(b.open("presence", UPDATES, message, false)).toBe("forged");
  });

  test("does not open once a bit of it has changed, and says why", () => {
    const b = sealOf("b");
    const message = a.seal("updates", UPDATES, Buffer.from("some bytes"));
    for (let bit = 0; bit < 8 * message.length; bit++) {
      const changed = Buffer.from(message);
      changed[bit >> 3] ^= 1 << (bit & 7);
      const expected =
        bit < 24 ? "unsealed" : bit < 32 ? "damaged" : bit < 64 ? "other_secret" : "forged";
      expect(b.open("updates", UPDATES, changed, false)).toBe(expected);
    }
    expect(b.open("updates", UPDATES, message, false)).toMatchObject({});
  });

  test("nor when it is cut short, or something else altogether", () => {
    const b = sealOf("b");
    const message = a.seal("updates", UPDATES, Buffer.from("some bytes"));
    const all = fc.oneof(
      fc.nat({ max: message.length - 1 }).map((length) => message.subarray(0, length)),
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc
        .uint8Array({ maxLength: 200 })
        .map((bytes) => Buffer.concat([message, bytes, bytes, Buffer.of(1)])),
    );
    fc.assert(
      fc.property(all, fc.constantFrom("updates", "presence", "sync"), (bytes, purpose) => {
        expect(b.open(purpose, UPDATES, bytes, false)).toBeString();
      }),
    );
    expect(b.open("updates", UPDATES, message, false)).toMatchObject({});
  });

  test("with another secret, or for a cluster of another name, is refused", () => {
    const message = a.seal("updates", UPDATES, Buffer.from("x"));
    const other = sealOf("b", { secrets: clusterSecrets("two") });
    const elsewhere = sealOf("b", { secrets: clusterSecrets("one", [], "another name") });
    expect(other.open("updates", UPDATES, message, false)).toBe("other_secret");
    expect(elsewhere.open("updates", UPDATES, message, false)).toBe("forged");
  });

  test("opens with a previous secret, too, in both directions and at each step", () => {
    const steps: [string, string[]][] = [
      ["old", []],
      ["old", ["new"]],
      ["new", ["old"]],
      ["new", []],
    ];
    const at = (step: number, nodeId: string): MessageSeal =>
      sealOf(nodeId, { secrets: clusterSecrets(...steps[step]) });
    for (const step of [0, 1, 2]) {
      for (const [from, to] of [[step, step + 1] as const, [step + 1, step] as const]) {
        const message = at(from, "a").seal("updates", UPDATES, Buffer.from("x"));
        expect(at(to, "b").open("updates", UPDATES, message, false)).toMatchObject({});
        const [name] = at(from, "a").namesOf("b");
        expect(at(to, "b").namesOf("b")).toContain(name);
      }
    }
  });
});

describe("another secret while it runs", () => {
  test("seals what follows, and is what it was before for who repeats old messages", () => {
    const [a, b] = [sealOf("a"), sealOf("b")];
    const old = a.seal("updates", UPDATES, Buffer.from("old"));
    expect(b.open("updates", UPDATES, old, false)).toMatchObject({ payload: Buffer.from("old") });
    for (const each of [a, b]) {
      each.renew(clusterSecrets("two", ["one"]));
      each.begin();
    }
    const next = a.seal("updates", UPDATES, Buffer.from("new"));
    expect(b.open("updates", UPDATES, next, false)).toMatchObject({ payload: Buffer.from("new") });
    expect(b.open("updates", UPDATES, old, false)).toBe("replayed");
    b.renew(clusterSecrets("two"));
    b.begin();
    expect(b.open("updates", UPDATES, old, false)).toBe("other_secret");
  });

  test("and what a node was called under each before is its own to clear away", () => {
    const seal = sealOf("a");
    const [first] = seal.namesOf("a");
    expect(seal.formerNamesOfOwn()).toEqual([]);
    seal.renew(clusterSecrets("two"));
    const [second] = seal.namesOf("a");
    expect([second !== first, seal.formerNamesOfOwn()]).toEqual([true, [first]]);
    seal.renew(clusterSecrets("three", ["two"]));
    expect(seal.formerNamesOfOwn().sort()).toEqual([first, second].sort());
    // Back at the first: that is no former name.
    seal.renew(clusterSecrets("one"));
    expect(seal.formerNamesOfOwn()).not.toContain(first);
  });
});

describe("nonces", () => {
  /** Epoch, purpose by topic, and nonce: a key's first use of a nonce is its only one. */
  const useOf = (message: Buffer): string => message.subarray(4, HEADER_BYTES).toString("hex");

  test("are never used twice with a key: not over restarts, connections and purposes", () => {
    const uses = new Set<string>();
    let sealed = 0;
    // Restarts at the same time by the clock, as with one that is set back each time.
    for (let run = 0; run < 20; run++) {
      const seal = sealOf("a");
      for (let connection = 0; connection < 5; connection++) {
        for (let i = 0; i < 20; i++, sealed++) {
          uses.add(useOf(seal.seal("updates", UPDATES, Buffer.from(`${i}`))));
        }
        seal.begin();
      }
    }
    expect(uses.size).toBe(sealed);
  });

  test("nor by copies of a data directory that start at the same moment", () => {
    // What tells them apart is the chance in the epoch alone.
    const randomWords = (count: number): Uint32Array =>
      count === 2 ? new Uint32Array(2) : realWorld.randomWords(count);
    const copies = Array.from({ length: 20 }, () => sealOf("a", { randomWords }));
    const uses = copies.map((it) => useOf(it.seal("updates", UPDATES, Buffer.from("x"))));
    expect(new Set(uses).size).toBe(20);
  });

  test("nor by two copies of one machine that go on from the same moment", () => {
    // The copies have the same memory: epoch and counters are equal. Chance is not.
    const randomWords = (count: number): Uint32Array =>
      count === 1 ? Uint32Array.of(7) : realWorld.randomWords(count);
    const [one, other] = [sealOf("a", { randomWords }), sealOf("a", { randomWords })];
    for (let i = 0; i < 100; i++) {
      const [x, y] = [one, other].map((it) => it.seal("updates", UPDATES, Buffer.from(`${i}`)));
      expect(x.subarray(0, HEADER_BYTES - 6)).toEqual(y.subarray(0, HEADER_BYTES - 6));
      expect(nonceOf(x)).not.toEqual(nonceOf(y));
    }
  });
});

describe("what comes again", () => {
  const take = (to: MessageSeal, message: Buffer, isRetained = false, topic = NODES): boolean =>
    typeof to.open("presence", topic, message, isRetained) !== "string";

  test("of updates is taken once, in whatever order, and for earlier connections, too", () => {
    const [from, to] = [sealOf("a"), sealOf("b")];
    const messages: Buffer[] = [];
    for (let connection = 0; connection < 3; connection++, from.begin()) {
      for (let i = 0; i < 40; i++) messages.push(from.seal("updates", UPDATES, Buffer.from("x")));
    }
    const shuffled = messages.map((it, i) => [Math.sin(i), it] as const).sort(([x], [y]) => x - y);
    const open = (message: Buffer) => to.open("updates", UPDATES, message, false);
    for (const [, message] of shuffled) expect(open(message)).toMatchObject({});
    for (const [, message] of shuffled) expect(open(message)).toBe("replayed");
  });

  test("of updates is refused when it is too old to be known", () => {
    const [from, to] = [sealOf("a"), sealOf("b")];
    const first = from.seal("updates", UPDATES, Buffer.from("x"));
    for (let i = 0; i < 1_024; i++) {
      to.open("updates", UPDATES, from.seal("updates", UPDATES, Buffer.from("x")), false);
    }
    expect(to.open("updates", UPDATES, first, false)).toBe("replayed");
  });

  test("of updates is refused that is older than what is known, though it never came", () => {
    const [from, to] = [sealOf("a"), sealOf("b")];
    const messages = Array.from({ length: 1_026 }, () =>
      from.seal("updates", UPDATES, Buffer.from("x")),
    );
    const open = (i: number) => to.open("updates", UPDATES, messages[i], false);
    expect(open(1_025)).toMatchObject({});
    expect([open(0), open(1)]).toEqual(["replayed", "replayed"]);
    expect(open(2)).toMatchObject({});
  });

  test("of long ago does not make room for itself, however many epochs it is of", () => {
    const [from, to] = [sealOf("a"), sealOf("b")];
    const old: Buffer[] = [];
    for (let connection = 0; connection < 10; connection++, from.begin()) {
      old.push(from.seal("updates", UPDATES, Buffer.from("x")));
    }
    const isTaken = (message: Buffer): boolean =>
      typeof to.open("updates", UPDATES, message, false) !== "string";
    expect(old.filter(isTaken)).toHaveLength(10);
    for (let round = 0; round < 3; round++) expect(old.filter(isTaken)).toHaveLength(0);
  });

  test("of sync sessions is refused once its sender has connected anew", () => {
    const [from, to] = [sealOf("a"), sealOf("b")];
    const first = from.seal("sync", "kv/sync/b/open", Buffer.from("x"));
    const second = from.seal("sync", "kv/sync/b/open", Buffer.from("x"));
    from.begin();
    const later = from.seal("presence", NODES, Buffer.from("x"));
    const open = (message: Buffer) => to.open("sync", "kv/sync/b/open", message, false);
    expect(open(first)).toMatchObject({});
    expect(open(first)).toBe("replayed");
    expect(take(to, later)).toBeTrue();
    expect(open(second)).toBe("replayed");
  });

  test("of presence only ever goes forward, over restarts of both", () => {
    const from = sealOf("a");
    let to = sealOf("b");
    const first = from.seal("presence", NODES, Buffer.from("here"));
    const second = from.seal("presence", NODES, Buffer.from("there"));
    expect([take(to, first), take(to, second)]).toEqual([true, true]);
    for (const isRetained of [false, true]) expect(take(to, first, isRetained)).toBeFalse();
    // What the broker retains comes with each connection, and is the same.
    expect([take(to, second, true), take(to, second, true), take(to, second)]).toEqual([
      true,
      true,
      false,
    ]);
    const later = sealOf("a", { start: 2_000 }).seal("presence", NODES, Buffer.from("again"));
    expect([take(to, later), take(to, second, true)]).toEqual([true, false]);
    to = sealOf("b", { start: 3_000, guard: new ReplayGuard(to.guard.memory()) });
    expect([take(to, second), take(to, first, true), take(to, later, true)]).toEqual([
      false,
      false,
      true,
    ]);
  });

  test("of presence does not become new as the secret is changed", () => {
    const both = (current: string, other: string) => ({
      secrets: clusterSecrets(current, [other]),
    });
    const to = sealOf("b", both("two", "one"));
    const old = sealOf("a", both("one", "two")).seal("presence", NODES, Buffer.from("x"));
    expect(take(to, old)).toBeTrue();
    const from = sealOf("a", { ...both("two", "one"), start: 2_000 });
    const topic = topicOf(from, "a");
    expect(take(to, from.seal("presence", topic, Buffer.from("x")), false, topic)).toBeTrue();
    for (const isRetained of [false, true]) expect(take(to, old, isRetained)).toBeFalse();
    const later = sealOf("b", { ...both("two", "one"), guard: new ReplayGuard(to.guard.memory()) });
    expect(take(later, old, true)).toBeFalse();
  });

  test("of presence is its sender's own, on its own topic", () => {
    const to = sealOf("c");
    const elsewhere = topicOf(a, "b");
    expect(
      to.open("presence", elsewhere, a.seal("presence", elsewhere, Buffer.from("x")), false),
    ).toBe("forged");
    const opened = to.open("presence", NODES, a.seal("presence", NODES, Buffer.from("x")), false);
    expect(opened).toEqual({ payload: Buffer.from("x"), nodeId: "a" });
  });

  test("of a will is taken once, however late, and not after the next connection", () => {
    const [from, to] = [sealOf("a"), sealOf("b")];
    from.begin();
    const will = from.sealWill(NODES, Buffer.from("gone"));
    const here = from.seal("presence", NODES, Buffer.from("here"));
    expect([take(to, here), take(to, will), take(to, will, true)]).toEqual([true, true, true]);
    expect([take(to, here), take(to, here, true)]).toEqual([false, false]);
    const still = from.seal("presence", NODES, Buffer.from("still here"));
    expect([take(to, still), take(to, will), take(to, will, true)]).toEqual([true, false, false]);
    from.begin();
    const unused = from.sealWill(NODES, Buffer.from("gone"));
    from.begin();
    expect(take(to, from.seal("presence", NODES, Buffer.from("back")))).toBeTrue();
    expect(take(to, unused)).toBeFalse();
  });

  test("of this node's own former runs says nothing", () => {
    const former = sealOf("a").seal("presence", NODES, Buffer.from("x"));
    expect(take(sealOf("a", { start: 2_000 }), former)).toBeFalse();
  });

  test("a start that is later than this one is passed, or others would not listen", () => {
    const [peer, ahead] = [sealOf("b"), sealOf("a", { start: 9_000 })];
    const retained = ahead.seal("presence", NODES, Buffer.from("x"));
    expect(take(peer, retained)).toBeTrue();
    const now = sealOf("a", { start: 2_000 });
    expect(take(peer, now.seal("presence", NODES, Buffer.from("x")))).toBeFalse();
    expect(take(now, retained, true)).toBeTrue();
    expect(take(peer, now.seal("presence", NODES, Buffer.from("x")))).toBeTrue();
    // And so does one that remembers.
    const later = sealOf("a", { start: 2_000, guard: new ReplayGuard(now.guard.memory()) });
    expect(take(peer, later.seal("presence", NODES, Buffer.from("x")))).toBeTrue();
  });

  test("who is outdated is told, and passes by what others have heard of", () => {
    const [peer, now] = [sealOf("b"), sealOf("a", { start: 2_000 })];
    take(peer, sealOf("a", { start: 9_000 }).seal("presence", NODES, Buffer.from("x")));
    let told = "";
    peer.onOutdated = (name, latest) => {
      expect(now.namesOf("a")).toEqual([name]);
      told = latest;
    };
    expect(take(peer, now.seal("presence", NODES, Buffer.from("x")))).toBeFalse();
    now.passBy(told);
    expect(take(peer, now.seal("presence", NODES, Buffer.from("x")))).toBeTrue();
    const before = now.seal("sync", "t", Buffer.from("x"));
    now.passBy(told);
    const after = now.seal("sync", "t", Buffer.from("x"));
    expect(after.subarray(16, 32)).toEqual(before.subarray(16, 32));
  });

  test("who is outdated by what came of sync sessions alone is told, too", () => {
    const peer = sealOf("b");
    let told = "";
    peer.onOutdated = (name, latest) => {
      expect(peer.namesOf("a")).toEqual([name]);
      told = latest;
    };
    const first = sealOf("a", { start: 9_000 });
    expect(take(peer, first.seal("presence", NODES, Buffer.from("x")))).toBeTrue();
    // Two runs whose clock is behind learn of the first; the presence of the second is lost.
    const [second, third] = [sealOf("a", { start: 2_000 }), sealOf("a", { start: 2_000 })];
    for (const seal of [second, third]) {
      expect(take(peer, seal.seal("presence", NODES, Buffer.from("x")))).toBeFalse();
      seal.passBy(told);
    }
    const call = "kv/sync/b/open";
    const open = (message: Buffer) => typeof peer.open("sync", call, message, false) === "object";
    // It connects once more than the third.
    second.begin();
    expect(open(second.seal("sync", call, Buffer.from("x")))).toBeTrue();
    expect(open(third.seal("sync", call, Buffer.from("x")))).toBeFalse();
    third.passBy(told);
    const message = third.seal("sync", call, Buffer.from("x"));
    expect(open(message)).toBeTrue();
    // What comes a second time says nothing of anybody.
    told = "";
    expect([open(message), told]).toEqual([false, ""]);
  });

  test("takes no more memory than there is for it", () => {
    const to = sealOf("b");
    for (let i = 0; i < 5_000; i++) {
      const from = sealOf(`n${i}`);
      const topic = topicOf(from, `n${i}`);
      expect(take(to, from.seal("presence", topic, Buffer.from("x")), false, topic)).toBeTrue();
    }
    expect(to.guard.memory().length).toBe(4_096 * 24);
    expect(
      sealOf("b", { guard: new ReplayGuard(Buffer.alloc(1_000_003, 1)) }).guard.memory().length,
    ).toBeLessThan(4_097 * 24);
  });
});
