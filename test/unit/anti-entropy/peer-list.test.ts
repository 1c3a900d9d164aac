/** Who makes room for whom among strangers. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { PeerList } from "../../../src/anti-entropy/peer-list.ts";
import type { Peer } from "../../../src/anti-entropy/peer.ts";

const MOST = 1_024;

function fill(list: PeerList): Peer[] {
  return Array.from({ length: MOST }, (_, i) => list.findOrAdd(`n${i}:1`, false, 0, 0)!);
}

/** As presence or a visit does. */
function raise(peer: Peer, credit: number): void {
  peer.isLive ||= credit === 1;
  peer.isAcquainted ||= credit === 2;
}

test("the one with least to say for himself makes room, and nobody for one with less", () => {
  const act = fc.record({
    do: fc.constantFrom("add", "add", "raise", "run", "stop"),
    at: fc.nat(MOST - 1),
    credit: fc.nat(2),
  });
  const property = fc.property(fc.array(act, { maxLength: 300 }), fc.nat(2), (acts, spread) => {
    const list = new PeerList("self");
    for (const [i, peer] of fill(list).entries()) raise(peer, i % (spread + 1));
    for (const [i, { do: what, at, credit }] of acts.entries()) {
      const before = list.strangersInTurn();
      const peer = before[at % before.length];
      if (what === "raise") raise(peer, credit);
      else if (what !== "add") peer.isRunning = what === "run";
      else {
        const least = Math.min(...before.filter((it) => !it.isRunning).map((it) => it.credit));
        const added = list.findOrAdd(`m${i}:1`, false, credit, i);
        expect(added !== undefined).toBe(least <= credit);
        const after = new Set(list.strangersInTurn());
        const gone = before.filter((it) => !after.has(it));
        expect(gone.map((it) => it.credit)).toEqual(added === undefined ? [] : [least]);
        expect(gone.some((it) => it.isRunning)).toBe(false);
        if (added !== undefined) raise(added, credit);
      }
    }
  });
  fc.assert(property, { numRuns: 10 });
});

test("of equals one that failed makes room sooner, else the one that came first", () => {
  const list = new PeerList("self");
  const peers = fill(list);
  peers[5].failures = 2;
  peers[3].failures = 1;
  for (const address of ["a:1", "b:1", "c:1"]) list.findOrAdd(address, false, 0, 0);
  const left = new Set(list.strangersInTurn());
  expect(peers.filter((peer) => !left.has(peer))).toEqual([peers[0], peers[3], peers[5]]);
  expect(list.crowdedOut).toBe(3);
});
