/** Sync sessions over a bucket that somebody filled on purpose: what differs in it costs what differs. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Entry } from "../../src/core/entry.ts";
import { LATEST } from "../../src/core/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/record-digest.ts";
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
