/** What the liar says in a session, drawn anew for each: see `liar.ts`. */
import { LAG_MS } from "../../src/anti-entropy/tree-updater.ts";
import { HybridClock, timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";
import { Contacts } from "../../src/core/sync/contacts.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import type { VersionWords } from "../../src/core/data/entry.ts";
import type { SealedLink } from "../../src/anti-entropy/sealed-link.ts";
import type { Trees } from "../../src/anti-entropy/trees.ts";
import type { MerkleTree } from "../../src/core/tree/merkle.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { UNCHANGED } from "../../src/core/store/outcome.ts";
import { Store } from "../../src/core/store/store.ts";
import { MODES, type SyncSessionOptions } from "../../src/core/sync/options.ts";
import type { ClusterSecrets } from "../../src/security/cluster-secrets.ts";
import type { Chance } from "./chance.ts";
import { LIARS_KEYS } from "./holding.ts";
import { EPOCH_MS, MAX_CLOCK_SKEW_MS, type SimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";
import { lyingStore } from "../support/lying-store.ts";
import { treesOver } from "../support/trees.ts";

/** The liar's own name. */
export const LIAR = "liar";
const HOUR_MS = 3_600_000;
const MAX_KEYS = 5;

/** A store of entries under some name, and when it is there. */
interface Mask {
  readonly store: Store;
  readonly trees: Trees;
  clockMs: number;
}

/** The liar's lies. */
export class Lies {
  private readonly masks: readonly Mask[];

  /** `nodeIds` are the names it goes by. */
  constructor(
    private readonly simulation: Simulation,
    private readonly nodeIds: readonly string[],
    private readonly secrets: ClusterSecrets | null,
  ) {
    this.masks = [LIAR, simulation.nodes[0].id].map((id) => this.createMask(id));
  }

  /**
   * What it says in one session, as a session's options; `peer` is who hears it, and `link` what is
   * sealed, if it is.
   */
  draw(
    chance: Chance,
    peer: SimNode,
    link: Pick<SealedLink, "secretId"> | null,
  ): Omit<SyncSessionOptions, "role" | "send" | "onEnd"> {
    const { simulation } = this;
    const wallMs = (): number => Math.floor(EPOCH_MS + simulation.timeline.nowMs);
    const { store, trees } = this.writeSome(chance, wallMs());
    const contacts = this.drawContacts(chance, wallMs(), peer);
    const purgedUpToMs = this.drawPurge(chance, wallMs());
    const root = chance.happens(0.3)
      ? Uint8Array.from({ length: 32 }, () => chance.below(256))
      : null;
    return {
      mode: chance.pick(MODES.filter((mode) => mode !== "inspect")),
      fetchKeys: [...simulation.keys.values()],
      store: this.lieOf(store, chance, purgedUpToMs, wallMs()),
      treeFor: (features) => withRoot(trees.lend(link?.secretId ?? "", features).tree, root),
      contacts,
      cluster: "sim",
      nodeId: this.drawNodeId(chance, peer),
      epoch: chance.pick([1, chance.below(2 ** 32), Number.MAX_SAFE_INTEGER]),
      salt: { high: chance.below(2 ** 32), low: chance.below(2 ** 32) },
      lagMs: chance.pick([LAG_MS, LAG_MS, 0, -HOUR_MS, 1e15]),
      maxFrameBytes: chance.pick([1_048_576, 1_048_576, 1_048_576, 100]),
      nowMs: wallMs,
      monotonicMs: () => simulation.timeline.nowMs,
      onSetAside: (_entry, _reason, done) => done(true),
    };
  }

  /** A key of its own. */
  key(chance: Chance): string {
    return `${LIARS_KEYS}${chance.below(MAX_KEYS)}`;
  }

  /** By how much its clock is off now, in ms. */
  offsetMs(chance: Chance): number {
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

  /** Who writes under that name, with whatever clock it has at the time. */
  private createMask(nodeId: string): Mask {
    const mask = { clockMs: 0 };
    const store = new Store({
      clock: new HybridClock(() => mask.clockMs),
      origin: originOf(nodeId),
      hashSeed: { low: 1, high: 2 },
      random: this.simulation.chanceOf(`${LIAR} as ${nodeId}`).next,
      memoryLimitBytes: 0,
      maxClockSkewMs: MAX_CLOCK_SKEW_MS,
      tombstoneGraceMs: this.simulation.plan.graceMs,
    });
    const { timeline } = this.simulation;
    const timing = {
      nowMs: () => timeline.nowMs,
      after: (delayMs: number, task: () => void) => timeline.after(delayMs, task),
      soon: (task: () => void) => timeline.after(0, task),
    };
    const trees = treesOver(store, { timing, cluster: "sim", secrets: this.secrets });
    return Object.assign(mask, { store, trees });
  }

  /** Adds a few entries of its own, under anybody's name, dated around every edge. */
  private writeSome(chance: Chance, wallMs: number): Mask {
    const mask = chance.pick(this.masks);
    const { store } = mask;
    for (let i = chance.below(MAX_KEYS); i > 0; i--) {
      const key = new TextEncoder().encode(this.key(chance));
      // Its clock goes to where it likes, back and forth.
      store.clock.high = store.clock.low = 0;
      mask.clockMs = wallMs + this.offsetMs(chance);
      if (chance.happens(0.4)) {
        const by = new Int64().set(chance.below(2 ** 30), chance.below(2 ** 32));
        store.increment(key, 0, key.length, by);
      } else if (chance.happens(0.3)) store.delete(key, 0, key.length);
      else {
        const expiresAtMs = chance.pick([0, 0, wallMs + 10_000, 1, 2 ** 47]);
        store.set(key, 0, key.length, key, 0, key.length, expiresAtMs);
      }
    }
    store.clock.high = store.clock.low = 0;
    mask.clockMs = wallMs + this.offsetMs(chance);
    return mask;
  }

  /**
   * The store as it is told of: it keeps nothing that it is sent, and has forgotten what it says.
   */
  private lieOf(store: Store, chance: Chance, purgedUpToMs: number, wallMs: number): Store {
    const refusesAll = chance.happens(0.6);
    const acceptsUpToMs = chance.pick([store.acceptsUpToMs(), 0, wallMs, 4 * wallMs]);
    const floor = drawFloor(chance, wallMs);
    const purges = { purgedUpToMs, refusedUpToMs: refusesAll ? Infinity : purgedUpToMs };
    return lyingStore(store, purges, {
      apply: () => UNCHANGED,
      applyFloor: () => UNCHANGED,
      isTooFarAhead: () => false,
      acceptsUpToMs: () => acceptsUpToMs,
      floor,
    });
  }
}

/** No flush, or one of a time that nobody takes. */
function drawFloor(chance: Chance, wallMs: number): VersionWords {
  const none = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
  if (chance.happens(0.9)) return none;
  const atMs = wallMs + 100 * HOUR_MS;
  return { ...none, timeHigh: timeHighOf(atMs), timeLow: timeLowOf(atMs) };
}

/** The tree with any root, unless that is null. */
function withRoot(tree: MerkleTree, root: Uint8Array | null): MerkleTree {
  if (root === null) return tree;
  return new Proxy(tree, {
    get(target, name) {
      if (name === "root") return () => root;
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
