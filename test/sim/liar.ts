/**
 * A member of the cluster that keeps to the protocol and lies: of itself, of others, and of time, to
 * whoever asks it for a session, and in sessions and messages of its own. What it says changes from
 * one to the next.
 *
 * It lies in every field of a HELLO (node id, epoch, clock, watermark, purge times of its own and of
 * third members, contacts, the latest time it takes, floor, root, "roots are equal", longest frame),
 * refuses what it is sent, values and deletions, naming whom it likes as their purger, and passes off
 * its own entries under anybody's origin, dated around the edge of the allowed skew. Through
 * the broker it publishes batches with any source, epoch and number, and presences of anybody.
 *
 * What a client of any node may do, and so a member that nobody tells from an honest one, is no lie, and
 * nothing protects from it: it writes and counts, deletes and flushes what it likes. So it leaves the
 * keys of the oracle alone, and its flushes are all of times that nobody takes.
 * Where deletions are forgotten, it does not say of others that it has their deletions, nor that it is
 * another member: who believes that, and was away for longer than the grace, may bring back what was
 * deleted. It comes to the same as writing the old value again.
 * Nor does anything help who syncs only when messages are lost, for messages can be forged: in
 * plans without rounds there is no liar.
 */
import { Encoder } from "cbor-x/index-no-eval";
import { LAG_MS } from "../../src/anti-entropy/tree-keeper.ts";
import type { Job, JobResult } from "../../src/anti-entropy/scheduler.ts";
import { HybridClock, timeHighOf, timeLowOf } from "../../src/core/clock.ts";
import { Contacts } from "../../src/core/contacts.ts";
import { Int64 } from "../../src/core/counter.ts";
import type { VersionWords } from "../../src/core/entry.ts";
import { MerkleTree } from "../../src/core/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/record-digest.ts";
import { originOf } from "../../src/core/origin.ts";
import { Store, UNCHANGED } from "../../src/core/store.ts";
import { MODES, type SyncSessionOptions } from "../../src/core/sync-options.ts";
import { encodePresence } from "../../src/replication/presence.ts";
import type { Chance } from "./chance.ts";
import { LIARS_KEYS } from "./holding.ts";
import { LiarEnd } from "./liar-end.ts";
import type { SimNode } from "./sim-node.ts";
import { EPOCH_MS, jobResultOf, MAX_CLOCK_SKEW_MS } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";

/** The liar's own name. */
export const LIAR = "liar";
const HOUR_MS = 3_600_000;
const LIE_EVERY_MS = 2_000;
const MAX_KEYS = 5;
const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });

/** One liar for all. */
export class Liar {
  readonly address: string;
  private readonly nodeIds: readonly string[];
  private lies = 0;

  /** `place` is its number in the network. */
  constructor(
    private readonly simulation: Simulation,
    readonly place: number,
    port: number,
  ) {
    this.address = `${LIAR}:${port}`;
    const honest = simulation.nodes.map(({ id }) => id);
    this.nodeIds = [LIAR, "nobody", ...honest];
  }

  /** Begins to lie by itself; goes on until everything is mended. */
  start(): void {
    const { simulation } = this;
    const chance = simulation.chanceOf(`${LIAR} acts`);
    const next = (): void => {
      simulation.timeline.after(2 * chance.next() * LIE_EVERY_MS * simulation.pace, () => {
        if (!simulation.isTroubled) return;
        this.act(`${LIAR}.${this.lies++}`);
        next();
      });
    };
    next();
  }

  /** What it says in one session, as a session's options; `peer` is who hears it. */
  draw(chance: Chance, peer: SimNode): Omit<SyncSessionOptions, "role" | "send" | "onEnd"> {
    const { simulation } = this;
    const wallMs = (): number => Math.floor(EPOCH_MS + simulation.timeline.nowMs);
    const clockMs = wallMs() + this.drawOffset(chance);
    const store = this.createStore(chance, () => clockMs, wallMs());
    const contacts = this.drawContacts(chance, wallMs(), peer);
    const tree = new MerkleTree(store, new RecordDigester(treeKeyOf("sim")));
    for (let id = 0; id < store.idLimit; id++) if (store.isUsed(id)) tree.changed(id);
    store.observers.push(tree);
    const purgedUpToMs = this.drawPurge(chance, wallMs());
    return {
      mode: chance.pick(MODES.filter((mode) => mode !== "inspect")),
      fetchKeys: [...simulation.keys.values()],
      store: this.lieOf(store, chance, purgedUpToMs, wallMs()),
      tree: chance.happens(0.3) ? withRoot(tree, chance) : tree,
      contacts,
      cluster: "sim",
      nodeId: this.drawNodeId(chance, peer),
      epoch: chance.pick([1, chance.below(2 ** 32), Number.MAX_SAFE_INTEGER]),
      salt: { high: chance.below(2 ** 32), low: chance.below(2 ** 32) },
      lagMs: chance.pick([LAG_MS, LAG_MS, 0, -HOUR_MS, 1e15]),
      maxFrameBytes: chance.pick([1_048_576, 1_048_576, 1_048_576, 100]),
      nowMs: wallMs,
      monotonicMs: () => simulation.timeline.nowMs,
      onSetAside: (_entry, _reason, settled) => settled(true),
    };
  }

  /** A node begins a session with it. */
  receive(node: SimNode, job: Job): Promise<JobResult> {
    const { promise, resolve } = Promise.withResolvers<JobResult>();
    const chance = this.simulation.chanceOf(`${LIAR} answers ${node.id}`);
    const theirs = new LiarEnd(this.place, 1, { ...this.draw(chance, node), role: "responder" });
    theirs.saysEqual = chance.happens(0.1);
    node.converseWith(theirs, 0, LIAR, job, (result) => resolve(jobResultOf(result)));
    return promise;
  }

  private act(name: string): void {
    const { simulation } = this;
    const chance = simulation.chanceOfAct(name);
    const node = chance.pick(simulation.present);
    const what = chance.pick(["session", "session", "batch", "presence"] as const);
    if (!simulation.admits(name, `${LIAR} ${what} ${node.id}`)) return;
    if (what === "batch") return this.publishBatch(chance);
    if (what === "presence") return this.publishPresence(chance);
    if (!node.isUp || !node.hasRoom()) return;
    const mine = new LiarEnd(this.place, 0, { ...this.draw(chance, node), role: "initiator" });
    node.converseWith(mine, 1, LIAR, {}, ({ isUpToNow, peerNodeId }) => {
      if (isUpToNow) node.process?.scheduler.noteVisit(peerNodeId, 0);
    });
  }

  /** By how much its clock is off now. */
  private drawOffset(chance: Chance): number {
    const edgeMs = MAX_CLOCK_SKEW_MS + chance.between(-50, 50);
    return chance.pick([
      0,
      0,
      -HOUR_MS,
      HOUR_MS,
      edgeMs,
      MAX_CLOCK_SKEW_MS - 1,
      -1_600_000_000_000,
    ]);
  }

  /** Up to when deletions are said to be forgotten: at and beyond all edges. */
  private drawPurge(chance: Chance, wallMs: number): number {
    const { graceMs } = this.simulation.plan;
    const skewMs = MAX_CLOCK_SKEW_MS;
    return chance.pick([
      0,
      1,
      wallMs - graceMs - 1,
      wallMs - graceMs + chance.between(-skewMs, skewMs),
      wallMs - graceMs + skewMs,
      wallMs - chance.below(graceMs),
      wallMs - 1,
      wallMs + skewMs - 2_000,
      wallMs + HOUR_MS,
      2 * wallMs,
    ]);
  }

  /** Whether deletions are forgotten, and nodes away for so long. */
  private get areForgotten(): boolean {
    return this.simulation.plan.troubles.absence > 0;
  }

  private drawContacts(chance: Chance, wallMs: number, peer: SimNode): Contacts {
    const contacts = new Contacts();
    for (const id of [...this.nodeIds, `made up ${chance.below(100)}`]) {
      if (chance.happens(0.4)) continue;
      const { high, low } = id === "nobody" ? { high: 0, low: 0 } : originOf(id);
      const isLoss = this.simulation.plan.troubles.loss > 0;
      const mayBoast = !this.areForgotten || (id === peer.id && !isLoss);
      const ms = mayBoast ? chance.pick([0, 1, wallMs - 10_000, wallMs, wallMs + HOUR_MS]) : 0;
      contacts.note(high, low, ms, chance.happens(0.5) ? 0 : this.drawPurge(chance, wallMs));
    }
    return contacts;
  }

  /** A process with the node's own id is another matter: it refuses to talk to itself. */
  private drawNodeId(chance: Chance, peer: SimNode): string {
    if (chance.happens(0.7) || this.areForgotten) return LIAR;
    return chance.pick(this.nodeIds.filter((id) => id !== peer.id));
  }

  /** A few entries of its own, under anybody's name, dated around every edge. */
  private createStore(chance: Chance, clockMs: () => number, wallMs: number): Store {
    const clock = new HybridClock(clockMs);
    const store = new Store({
      clock,
      origin: originOf(chance.pick(this.nodeIds)),
      hashSeed: { low: 1, high: 2 },
      random: chance.next,
      memoryLimitBytes: 0,
      maxClockSkewMs: MAX_CLOCK_SKEW_MS,
      tombstoneGraceMs: this.simulation.plan.graceMs,
    });
    for (let i = chance.below(MAX_KEYS); i > 0; i--) {
      const key = new TextEncoder().encode(`${LIARS_KEYS}${chance.below(MAX_KEYS)}`);
      const atMs = wallMs + this.drawOffset(chance);
      clock.observe(timeHighOf(atMs), timeLowOf(atMs));
      if (chance.happens(0.4)) {
        const by = new Int64().set(chance.below(2 ** 30), chance.below(2 ** 32));
        store.increment(key, 0, key.length, by);
      } else if (chance.happens(0.3)) store.delete(key, 0, key.length);
      else {
        const expiresAtMs = chance.pick([0, 0, wallMs + 10_000, 1, 2 ** 47]);
        store.set(key, 0, key.length, key, 0, key.length, expiresAtMs);
      }
    }
    return store;
  }

  /** The store as it is told of: it keeps nothing that it is sent, and has forgotten what it says. */
  private lieOf(store: Store, chance: Chance, purgedUpToMs: number, wallMs: number): Store {
    const refusesAll = chance.happens(0.6);
    const acceptsUpToMs = chance.pick([store.acceptsUpToMs(), 0, wallMs, 4 * wallMs]);
    const floor = drawFloor(chance, wallMs);
    const told: Partial<Record<keyof Store, unknown>> = {
      apply: () => UNCHANGED,
      applyFloor: () => UNCHANGED,
      latestPurgeMs: () => Infinity,
      isTooFarAhead: () => false,
      acceptsUpToMs: () => acceptsUpToMs,
      purgedUpToMs,
      purgedElsewhereMs: refusesAll ? Infinity : purgedUpToMs,
      floor,
    };
    return new Proxy(store, {
      get(target, name) {
        if (Object.hasOwn(told, name)) return told[name as keyof Store];
        const value = Reflect.get(target, name, target) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
      set: (target, name, value) => Reflect.set(target, name, value, target),
    });
  }

  private publishBatch(chance: Chance): void {
    const { broker, timeline } = this.simulation;
    const wallMs = Math.floor(EPOCH_MS + timeline.nowMs);
    const events = Array.from({ length: chance.between(0, 4) }, () =>
      this.drawEvent(chance, wallMs),
    );
    const epoch = chance.pick([1, wallMs * 1_024, Number.MAX_SAFE_INTEGER]);
    const seq = chance.pick([1, chance.between(1, 1_000), Number.MAX_SAFE_INTEGER]);
    const src = chance.pick(this.nodeIds);
    // Large numbers would be written as floats.
    const numbers = { epoch: BigInt(epoch), seq: BigInt(seq) };
    const payload = encoder.encode({ v: 1, src, ...numbers, events });
    if (broker.isUp) broker.publish(null, "sim/updates", Buffer.from(payload), false);
  }

  private drawEvent(chance: Chance, wallMs: number): Record<string, unknown> {
    const op = chance.pick(["set", "set", "del", "ref", "flush"] as const);
    const isHere = op !== "flush";
    const offsetMs = isHere ? this.drawOffset(chance) : chance.pick([61_000, HOUR_MS]) * 100;
    const atMs = wallMs + offsetMs;
    const ts = (BigInt(timeHighOf(atMs)) << 32n) | BigInt(timeLowOf(atMs));
    const { names } = this.simulation;
    const own = `${LIARS_KEYS}${chance.below(MAX_KEYS)}`;
    const key = Buffer.from(op === "ref" && chance.happens(0.5) ? chance.pick(names) : own);
    if (op === "set") return { op, key, val: Buffer.from("lie"), ts };
    return op === "flush" ? { op, ts } : { op, key, ts };
  }

  private publishPresence(chance: Chance): void {
    const { broker, nodes } = this.simulation;
    const nodeId = chance.pick(this.nodeIds);
    const presence = {
      nodeId,
      epoch: chance.pick([1, chance.between(1, 2 ** 50), Number.MAX_SAFE_INTEGER]),
      connection: chance.between(1, 100),
      address: chance.pick([this.address, ...nodes.map(({ address }) => address), "nowhere"]),
      version: "0",
      root: chance.pick([null, "", "00"]),
      online: chance.happens(0.7),
    };
    const topic = `sim/nodes/${encodeURIComponent(nodeId)}`;
    if (broker.isUp) broker.publish(null, topic, encodePresence(presence), chance.happens(0.5));
  }
}

/** No flush, or one of a time that nobody takes. */
function drawFloor(chance: Chance, wallMs: number): VersionWords {
  const none = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  if (chance.happens(0.9)) return none;
  const atMs = wallMs + 100 * HOUR_MS;
  return { ...none, timeHigh: timeHighOf(atMs), timeLow: timeLowOf(atMs) };
}

/** The tree with any root. */
function withRoot(tree: MerkleTree, chance: Chance): MerkleTree {
  const root = Uint8Array.from({ length: 32 }, () => chance.below(256));
  return new Proxy(tree, {
    get(target, name) {
      if (name === "root") return () => root;
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
