/** What kind of cluster and which troubles a seed stands for. */
import type { FsyncMode } from "../../src/durability/log.ts";
import type { Chance } from "./chance.ts";
import { PLAIN_BROKER, type BrokerFaults } from "./broker.ts";

/** No disk at all, or how it is written to. */
export type DiskKind = "none" | FsyncMode;

/**
 * What a node says of its address: where it can be reached; that it cannot be; where nobody is; or
 * where another node is. Of all but the first, nobody reaches it but through the broker.
 */
export type Advertised = "own" | "none" | "nowhere" | "another";

/** A cluster and its troubles. Probabilities of troubles are for each time one may begin. */
export interface Plan {
  readonly nodes: number;
  readonly disks: DiskKind[];
  /** A process writes to its disk in another way than the one before it, with this probability. */
  readonly modeChange: number;
  /** What a disk does takes up to twice so many ms. */
  readonly maxDiskMs: number;
  /** So small that segments change and snapshots come often. */
  readonly segmentBytes: number;
  readonly keys: number;
  /** Writes, reads and troubles there will be. */
  readonly actions: number;
  readonly pauseMs: number;
  readonly maxLatencyMs: number;
  readonly broker: BrokerFaults;
  readonly cleanSession: boolean;
  readonly maxOutboxEvents: number;
  /** Between sync rounds of a node; Infinity: it syncs only when events were lost. */
  readonly syncEveryMs: number;
  readonly maxConcurrentSyncs: number;
  readonly graceMs: number;
  /** A connection between nodes breaks after few bytes, with this probability. */
  readonly cuts: number;
  readonly troubles: {
    readonly partition: number;
    readonly crash: number;
    /** A snapshot, asked for by a client. */
    readonly snapshot: number;
    readonly fullDisk: number;
    readonly stalledDisk: number;
    readonly failingSync: number;
    readonly brokerOutage: number;
    readonly clockStep: number;
    /** A machine boots with a clock that has lost the time. */
    readonly lostTime: number;
    readonly absence: number;
    /** A time in which few reach each other, up to beyond the grace. */
    readonly isolation: number;
    /** A node that is down is said to be gone for good, and comes back after eight graces or so. */
    readonly departure: number;
    /** A node loses its disk, or gets a backup in its place. */
    readonly loss: number;
    /** A running node seals with the other secret, where there are secrets. */
    readonly secretChange: number;
    readonly flush: number;
  };
  /** Clocks run too fast or slow by up to this part. */
  readonly drift: number;
  readonly expiry: boolean;
  /** By the node's number. */
  readonly advertised: readonly Advertised[];
  /** What each node may send to others through the broker, in bytes a second. */
  readonly brokerBytesASecond: number;
  /** Each look at the time takes up to so many ms, so that slices of work end anywhere. */
  readonly slowness: number;
  /** A node is started as another version of the program, with this probability. */
  readonly versionChange: number;
  /** Whether one node is at the end of a thin line, to the broker and to the others. */
  readonly hasThinLine: boolean;
}

/** How a disk can be written to. */
export const FSYNC_MODES: readonly FsyncMode[] = ["everysec", "always", "never"];
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Draws a plan. */
export function drawPlan(chance: Chance): Plan {
  const plan = drawPlainPlan(chance);
  // Drawn last, so that the rest of a seed is what it was before there were such brokers.
  if (!chance.happens(0.3)) return plan;
  const broker = {
    ...plan.broker,
    maxPacketBytes: chance.happens(0.6) ? chance.magnitude(600, 3_000) : 0,
    mostASecond: 0,
    forgets: chance.happens(0.4),
    muted: chance.happens(0.4) ? chance.between(0, plan.nodes - 1) : -1,
  };
  return { ...plan, broker };
}

/** Over a broker that takes whatever it is sent. */
function drawPlainPlan(chance: Chance): Plan {
  const onlyLoss = chance.happens(0.15);
  const isOn = (probability: number) => !onlyLoss && chance.happens(probability);
  const nodes = chance.between(2, chance.happens(0.3) ? 5 : 3);
  const kinds: DiskKind[] = ["none", ...FSYNC_MODES];
  const engine = chance.pick<DiskKind | "mixed">([...kinds, "mixed"]);
  const disks = Array.from({ length: nodes }, () =>
    engine === "mixed" ? chance.pick(kinds) : engine,
  );
  const isLossy = onlyLoss || chance.happens(0.7);
  const absent = isOn(0.3);
  const hasSteps = isOn(0.3);
  // A clock must not be wrong by more than the grace, or deletions are forgotten at once.
  const shortestMs = hasSteps ? 2 * HOUR_MS : 60_000;
  const graceMs = absent ? chance.magnitude(shortestMs, 6 * shortestMs) : DAY_MS;
  return {
    nodes,
    disks,
    maxDiskMs: chance.pick([0.5, 5, 50]),
    segmentBytes: chance.magnitude(500, 10_000),
    keys: chance.between(2, 10),
    actions: chance.magnitude(20, 250),
    pauseMs: chance.magnitude(20, 1_500),
    maxLatencyMs: chance.pick([2, 50, 500]),
    broker: {
      drop: isLossy ? chance.pick([0.02, 0.1, 0.4]) : 0,
      duplicate: chance.pick([0, 0.05, 0.3]),
      reorder: chance.pick([0, 0.05, 0.3]),
      ...PLAIN_BROKER,
    },
    cleanSession: chance.happens(0.7),
    maxOutboxEvents: chance.happens(0.15) ? chance.between(1, 5) : 1_000,
    syncEveryMs: onlyLoss ? Infinity : chance.magnitude(4_000, 40_000),
    maxConcurrentSyncs: chance.between(1, 3),
    graceMs,
    cuts: isOn(0.4) ? chance.pick([0.05, 0.5]) : 0,
    troubles: {
      partition: isOn(0.5) ? 0.05 : 0,
      crash: isOn(0.5) ? 0.04 : 0,
      snapshot: chance.happens(0.5) ? 0.05 : 0,
      fullDisk: isOn(0.2) ? 0.02 : 0,
      stalledDisk: isOn(0.3) ? 0.04 : 0,
      failingSync: isOn(0.1) ? 0.01 : 0,
      brokerOutage: isOn(0.4) ? 0.02 : 0,
      clockStep: hasSteps ? 0.03 : 0,
      lostTime: isOn(0.15) ? 0.02 : 0,
      absence: absent ? 0.02 : 0,
      isolation: 0,
      departure: 0,
      loss: 0,
      secretChange: 0.02,
      flush: chance.happens(0.3) ? 0.02 : 0,
    },
    drift: isOn(0.3) ? 1e-3 : 0,
    expiry: chance.happens(0.5),
    slowness: chance.happens(0.3) ? 1 : 0,
    versionChange: 0,
    hasThinLine: false,
    modeChange: chance.happens(0.3) ? 0.5 : 0,
    advertised: drawAdvertised(chance, nodes),
    brokerBytesASecond: chance.pick([8_192, 262_144]),
  };
}

/** In most clusters everybody can be reached; in others some cannot be, or nobody. */
function drawAdvertised(chance: Chance, nodes: number): Advertised[] {
  const hidden = chance.happens(0.3) ? chance.pick([0.5, 1]) : 0;
  return Array.from({ length: nodes }, () =>
    chance.happens(hidden) ? chance.pick(["none", "none", "nowhere", "another"]) : "own",
  );
}

/** The plan with clocks that jump often: for seconds or for good, over restarts, by years. */
export function withJumps(plan: Plan): Plan {
  const troubles = { ...plan.troubles, clockStep: 0.06, lostTime: 0.03 };
  return { ...plan, graceMs: Math.max(plan.graceMs, 2 * HOUR_MS), troubles };
}

/** The plan, with nodes of several versions, which change when a node is started. */
export function withVersions(plan: Plan): Plan {
  return { ...plan, versionChange: 0.6, troubles: { ...plan.troubles, crash: 0.06 } };
}

/** The plan, with a broker that takes so many messages of a client in a second. */
export function withMostASecond(plan: Plan, mostASecond: number): Plan {
  return { ...plan, broker: { ...plan.broker, mostASecond } };
}

/** The plan, with one node at the end of a thin line. */
export function withThinLine(plan: Plan): Plan {
  return { ...plan, hasThinLine: true };
}

/**
 * Draws a plan in which deletions are forgotten while nodes reach each other only in part, so that
 * most of what is known goes by way of third nodes, and late.
 */
export function drawForgettingPlan(chance: Chance): Plan {
  const plan = drawPlan(chance);
  const nodes = chance.between(3, 5);
  const hasSteps = chance.happens(0.2);
  const shortestMs = hasSteps ? 2 * HOUR_MS : 60_000;
  const losesData = !hasSteps && chance.happens(0.4);
  return {
    ...plan,
    nodes,
    // The clock of a node that lost its data must not be further back than before.
    disks: Array.from({ length: nodes }, () =>
      losesData ? chance.pick<DiskKind>(["none", "everysec", "always"]) : "always",
    ),
    keys: chance.between(2, 5),
    actions: chance.magnitude(15, 60),
    cleanSession: chance.happens(0.4),
    syncEveryMs: chance.magnitude(4_000, 20_000),
    slowness: 0,
    modeChange: 0,
    graceMs: chance.magnitude(shortestMs, 6 * shortestMs),
    cuts: chance.happens(0.5) ? chance.pick([0.05, 0.5]) : 0,
    troubles: {
      ...plan.troubles,
      clockStep: hasSteps ? 0.05 : 0,
      lostTime: 0,
      absence: 0.02,
      isolation: 0.15,
      departure: losesData ? 0 : 0.03,
      loss: losesData ? 0.04 : 0,
      flush: chance.happens(0.1) ? 0.02 : 0,
    },
    drift: 0,
    advertised: drawAdvertised(chance, nodes),
  };
}
