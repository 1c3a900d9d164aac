/** Sync sessions over a bucket that somebody filled on purpose: what differs in it costs what differs. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Entry } from "../../src/core/data/entry.ts";
import { LATEST } from "../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { DigestShortener, sessionSalt } from "../../src/core/sync/short-digest.ts";
import { seeded } from "../support/random.ts";
import { del, entriesOf, get, mergeOf, rootOf, set } from "../support/sync-data.ts";
import { runPair, SyncNode } from "../support/sync-pair.ts";

const START_MS = 1_700_000_000_000;

/** Keys made up to lie in one bucket, and some of them to agree in further bits. */
class CrowdingDigester extends RecordDigester {
  constructor(private readonly bits = 16) {
    super(treeKeyOf("merkle-kv"));
  }

  override ofKey(entry: Entry, out: Uint8Array): void {
    super.ofKey(entry, out);
    out.fill(0xab, 0, this.bits / 8);
  }
}

function crowdedNodes(bits = 16): { time: { ms: number }; nodes: SyncNode[] } {
  const time = { ms: START_MS };
  const digester = new CrowdingDigester(bits);
  const options = { nowMs: () => time.ms, digester };
  return { time, nodes: ["left", "right"].map((name) => new SyncNode(name, options)) };
}

function fillAlike([left, right]: SyncNode[], count: number): void {
  for (let i = 0; i < count; i++) set(left, `k${i}`, `v${i}`);
  for (const entry of entriesOf(left)) right.store.apply(entry);
}

describe("one bucket with many entries", () => {
  test.each([16, 32])("of which one differs costs a few KB; keys agree in %d bits", (bits) => {
    const { time, nodes } = crowdedNodes(bits);
    fillAlike(nodes, 20_000);
    time.ms += 5_000;
    set(nodes[0], "k7", "changed");
    set(nodes[1], "new", "v");
    del(nodes[1], "k8");
    time.ms += 5_000;
    const { initiator, responder } = runPair(nodes[0], nodes[1]);
    expect([initiator.reason, responder.reason]).toEqual(["", ""]);
    expect(initiator.bytesSent + initiator.bytesReceived).toBeLessThan(8_000);
    expect([initiator.entriesSent, responder.entriesSent]).toEqual([2, 2]);
    expect(initiator.roundTrips).toBeLessThan(12);
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
    expect([get(nodes[1], "k7"), get(nodes[0], "new"), get(nodes[0], "k8")]).toEqual([
      "changed",
      "v",
      null,
    ]);
  });

  test.each([0, 1])("goes over whole to a node that has none of them, in place %d", (place) => {
    const { time, nodes } = crowdedNodes();
    for (let i = 0; i < 5_000; i++) set(nodes[place], `k${i}`, `v${i}`);
    set(nodes[1 - place], "other", "v");
    time.ms += 5_000;
    const { initiator, responder } = runPair(nodes[0], nodes[1]);
    expect([initiator.reason, responder.reason]).toEqual(["", ""]);
    expect([nodes[0].store.size, nodes[1].store.size]).toEqual([5_001, 5_001]);
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
  });

  test("comes to the merge of both sides whatever they have, in every mode", () => {
    const change = fc.record({
      node: fc.nat(1),
      from: fc.nat(1200),
      count: fc.nat(600),
      do: fc.constantFrom("set", "set", "large", "del", "copy"),
    });
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 8 }),
        fc.constantFrom("watermark", "now", "full", "verify"),
        fc.boolean(),
        fc.constantFrom(16, 24),
        (changes, mode, isSliced, bits) => {
          const { time, nodes } = crowdedNodes(bits);
          fillAlike(nodes, 600);
          for (const { node, from, count, do: what } of changes) {
            time.ms += 10;
            for (let i = from; i < from + count; i++) {
              if (what === "set") set(nodes[node], `k${i}`, `${node}`);
              else if (what === "large") set(nodes[node], `k${i}`, "x".repeat(300 + node));
              else if (what === "del") del(nodes[node], `k${i}`);
            }
            if (what !== "copy") continue;
            for (const entry of entriesOf(nodes[node]).slice(from, from + count)) {
              nodes[1 - node].store.apply(entry);
            }
          }
          time.ms += 5_000;
          const merged = mergeOf(...nodes);
          const random = seeded(changes.length);
          const { initiator, responder } = runPair(
            nodes[0],
            nodes[1],
            { mode },
            isSliced ? { pieceBytes: () => 1 + Math.floor(random() * 5_000), queueBytes: 300 } : {},
          );
          expect([initiator.reason, responder.reason]).toEqual(["", ""]);
          for (const node of nodes) expect(rootOf(node)).toBe(rootOf(merged));
        },
      ),
      { numRuns: 40 },
    );
  });

  test("is purged, and its digests made, in pieces that look at nothing but their own", () => {
    const time = { ms: START_MS };
    let keysRead = 0;
    const digester = new CrowdingDigester();
    const { ofKey } = digester;
    digester.ofKey = (entry, out) => {
      keysRead++;
      ofKey.call(digester, entry, out);
    };
    const options = { nowMs: () => time.ms, tombstoneGraceMs: 1_000, digester };
    const node = new SyncNode("node", options);
    const count = 100_000;
    for (let i = 0; i < count; i++) set(node, `k${i}`, "v");
    let clock = 0;
    let slices = 1;
    while (node.tree.update(LATEST, LATEST, 1, () => clock++)) slices++;
    // As many as it takes to hash so many one by one, and a few for the parts of the bucket.
    expect(slices).toBeLessThan(count / 16 + 1_000);
    for (let i = 0; i < count; i++) del(node, `k${i}`);
    rootOf(node);
    time.ms += 10_000;
    keysRead = 0;
    let swept = 0;
    let most = 0;
    for (let rows = 0; rows < node.store.idLimit + 1_024; rows += 1_024) {
      node.store.sweep(1_024);
      most = Math.max(most, keysRead - swept);
      swept = keysRead;
    }
    expect(entriesOf(node)).toEqual([]);
    expect(most).toBeLessThanOrEqual(1_024);
    expect(keysRead).toBeLessThanOrEqual(count);
    expect(rootOf(node)).toBe("0".repeat(64));
  });
});

describe("entries made to look alike", () => {
  /** As if somebody had found two values whose digests agree in all but the last bits. */
  class CollidingDigester extends RecordDigester {
    override ofEntry(entry: Entry, out: Uint8Array): void {
      super.ofEntry(entry, out);
      out.fill(7, 0, 12);
    }
  }

  test("by the first 96 bits of their digests are told apart, in memory and on the wire", () => {
    const time = { ms: START_MS };
    const digester = new CollidingDigester(treeKeyOf("merkle-kv"));
    const options = { nowMs: () => time.ms, digester };
    const nodes = ["left", "right"].map((name) => new SyncNode(name, options));
    for (const [i, node] of nodes.entries()) {
      for (let key = 0; key < 50; key++) set(node, `k${key}`, `${i}`);
      time.ms += 10;
    }
    expect(rootOf(nodes[0])).not.toBe(rootOf(nodes[1]));
    time.ms += 5_000;
    expect(runPair(nodes[0], nodes[1]).initiator.reason).toBe("");
    expect(get(nodes[0], "k7")).toBe("1");
    expect(rootOf(nodes[0])).toBe(rootOf(nodes[1]));
  });

  test("under one salt look different under another", () => {
    const shortener = new DigestShortener();
    const salt = { high: 3, low: 4 };
    const short = (words: number[]): number => shortener.of(Uint32Array.from(words), 0);
    const word = fc.nat(0xffff_ffff);
    fc.assert(
      fc.property(word, word, word, word, word, fc.nat(3), (a, b, c, d, change, at) => {
        const words = [a, b, c, d];
        shortener.setSalt(salt);
        const under = short(words);
        expect(under).toBeLessThan(2 ** 48);
        expect(under).toBe(short(words));
        if (words.some((it) => it !== 0)) expect(under).toBeGreaterThan(0);
        const others = words.with(at, (words[at] ^ (change || 1)) >>> 0);
        expect(short(others)).not.toBe(under);
        shortener.setSalt({ high: 3, low: 5 });
        if (words.some((it) => it !== 0)) expect(short(words)).not.toBe(under);
        // What both brought goes into the salt, and whose it was.
        const both = [
          sessionSalt(salt, { high: a, low: b }),
          sessionSalt({ high: a, low: b }, salt),
        ];
        if (a !== salt.high || b !== salt.low) expect(both[0]).not.toEqual(both[1]);
      }),
    );
    expect(short([0, 0, 0, 0])).toBe(0);
  });

  test("collide under a salt at times, as many as by chance", () => {
    // Of the short form's 48 bits these take 20: 2,000 draws meet about twice.
    const shortener = new DigestShortener();
    let met = 0;
    for (let low = 0; low < 20; low++) {
      shortener.setSalt({ high: 1, low });
      const seen = new Set<number>();
      for (let i = 0; i < 2_000; i++) {
        seen.add(shortener.of(Uint32Array.of(i, 0, 0, 9), 0) % 2 ** 20);
      }
      met += 2_000 - seen.size;
    }
    expect(met).toBeGreaterThan(15);
    expect(met).toBeLessThan(75);
  });
});
