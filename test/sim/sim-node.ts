/**
 * One simulated node: the real store, Merkle tree, replication and sync sessions, on a clock,
 * a broker, a network and a disk that are simulated. It does what `node.ts` and
 * `anti-entropy/` do with timers and sockets.
 */
import { originOf } from "../../src/core/origin.ts";
import { HybridClock, timeHighOf, timeLowOf } from "../../src/core/clock.ts";
import { Contacts } from "../../src/core/contacts.ts";
import { MerkleTree } from "../../src/core/merkle.ts";
import { Store } from "../../src/core/store.ts";
import { Scheduler, type Job, type JobResult } from "../../src/anti-entropy/scheduler.ts";
import { silentLogger } from "../../src/observability/log.ts";
import { Replicator } from "../../src/replication/replicator.ts";
import type { Timing } from "../../src/replication/timing.ts";

import type { BrokerTransport } from "./broker.ts";
import type { Disk } from "./disk.ts";
import { Stream } from "./network.ts";
import type { Holding } from "./oracle.ts";
import { SessionEnd } from "./session-end.ts";
import type { Simulation } from "./simulation.ts";

/** The moment at which every simulation begins, in Unix ms. */
export const EPOCH_MS = 1_700_000_000_000;
const MAX_CLOCK_SKEW_MS = 60_000;
/** How far watermarks lie back, in ms. */
export const LAG_MS = 2_000;
const TREE_EVERY_MS = 1_000;
const SWEEP_EVERY_MS = 700;
const DISK_EVERY_MS = 1_000;
const TICK_MS = 500;
const DISCOVERY_MS = 120_000;
/** A process syncs with everybody within this time of its start. */
const START_MS = 500;
const FIRST_PORT = 7_000;
/** A value above this is not sent as an event but fetched. */
export const MAX_EVENT_BYTES = 256;

/** What a process has; gone when it crashes. */
export interface Process {
  readonly store: Store;
  readonly tree: MerkleTree;
  readonly contacts: Contacts;
  readonly replicator: Replicator;
  readonly scheduler: Scheduler;
  readonly transport: BrokerTransport;
  readonly sessions: SessionEnd[];
  /** Sessions that wait until there is room for them. */
  readonly waiting: (() => void)[];
}

/** What a node once had. */
export interface Backup {
  readonly disk: Disk;
  readonly holding: Holding;
}

/** A node, through all its crashes. */
export class SimNode {
  readonly id: string;
  readonly address: string;
  /** How far the clock is off, in ms. */
  clockOffsetMs = 0;
  /** What the clock gains in a millisecond. */
  drift = 0;
  process: Process | null = null;
  private runs = 0;
  private creepMs = 0;

  constructor(
    private readonly simulation: Simulation,
    readonly place: number,
    private disk: Disk,
  ) {
    this.id = `n${place}`;
    this.address = `${this.id}:${FIRST_PORT + place}`;
  }

  get isUp(): boolean {
    return this.process !== null;
  }

  /** Unix milliseconds by this node's clock. */
  wallMs(): number {
    const { nowMs } = this.simulation.timeline;
    return Math.floor(EPOCH_MS + nowMs * (1 + this.drift) + this.clockOffsetMs);
  }

  /** Starts a process: recovers from disk, joins the broker, syncs with everybody. */
  start(): void {
    const { simulation, place } = this;
    const { chance, plan } = simulation;
    const run = ++this.runs;
    const isAlive = () => this.process !== null && this.runs === run;
    const options = {
      clock: new HybridClock(() => this.wallMs()),
      origin: originOf(this.id),
      counterOrigin: originOf(`${this.id} ${run}`),
      hashSeed: { low: chance.below(2 ** 32), high: chance.below(2 ** 32) },
      random: chance.next,
      memoryLimitBytes: 0,
      // What this node itself had is not refused, however far its clock was set back since.
      maxClockSkewMs: Infinity,
      tombstoneGraceMs: plan.graceMs,
    };
    const store = new Store(options);
    const contacts = new Contacts();
    const tree = new MerkleTree(store);
    store.observers.push(tree);
    this.disk.open(store, contacts);
    store.vouchedMs = store.clockMs();
    options.maxClockSkewMs = MAX_CLOCK_SKEW_MS;
    store.observers.push(simulation.oracle.observe(place, store));
    let transport: BrokerTransport | undefined;
    let rootHex: string | null = null;
    const sessions: SessionEnd[] = [];
    const replicator = new Replicator({
      store,
      settings: simulation.mqttSettings,
      nodeId: this.id,
      address: () => this.address,
      version: "0",
      rootHex: () => rootHex,
      now: () => this.wallMs(),
      random: chance.next,
      logger: silentLogger,
      hooks: {
        onGap: (source) => {
          simulation.counts.gaps++;
          simulation.trace(() => `${this.id} missed something of ${source}`);
          scheduler.noteGap(source);
        },
        onReference: (source, entry) => {
          simulation.counts.references++;
          scheduler.noteReference(source, entry.keyBytes());
        },
        onFuture: () => simulation.counts.refusedFuture++,
      },
      timing: this.timing(isAlive),
      connect: (options) => (transport = simulation.broker.transport(options, place, isAlive)),
    });
    store.observers.push(replicator.observer);
    const scheduler = new Scheduler({
      nodeId: this.id,
      peerList: simulation.nodes.filter((node) => node !== this).map((node) => node.address),
      intervalMs: plan.syncEveryMs,
      discoveryMs: DISCOVERY_MS,
      presence: () => {
        const { connected, connections, counters, peers } = replicator.status();
        const droppedEvents = counters["outbox_dropped_events"]!;
        return { connected, connections, droppedEvents, peers };
      },
      rootHex: () => rootHex,
      isHealing: () => true,
      hasRoom: () => sessions.length < plan.maxConcurrentSyncs,
      run: (peer, job) => this.run(peer.port - FIRST_PORT, job),
      random: chance.next,
    });
    this.process = {
      store,
      tree,
      contacts,
      replicator,
      scheduler,
      transport: transport!,
      sessions,
      waiting: [],
    };
    replicator.start();
    this.repeat(isAlive, TREE_EVERY_MS, () => {
      const watermarkMs = Math.floor((this.wallMs() - LAG_MS) / 1_000) * 1_000;
      const [high, low] = [timeHighOf(watermarkMs), timeLowOf(watermarkMs)];
      while (tree.update(high, low, 2, () => this.monotonicMs()));
      rootHex = tree.rootHex();
    });
    this.repeat(isAlive, SWEEP_EVERY_MS, () => {
      for (let slices = chance.between(1, 3); slices > 0 && store.sweep(5); slices--);
    });
    this.repeat(isAlive, DISK_EVERY_MS, () => this.syncDisk());
    this.repeat(isAlive, TICK_MS, () => scheduler.tick(simulation.timeline.nowMs));
    simulation.timeline.after(chance.next() * START_MS, () => {
      if (!isAlive()) return;
      scheduler.tick(simulation.timeline.nowMs);
      void scheduler.syncWithAll();
    });
  }

  /** The process ends, at once and without a word. */
  crash(): void {
    const { process, simulation } = this;
    if (process === null) return;
    this.disk.crash();
    this.process = null;
    process.transport.vanish();
    for (const end of [...process.sessions]) end.vanish();
    if (simulation.plan.disks[this.place] === "always") simulation.oracle.persist(this.place);
    simulation.oracle.crash(this.place);
  }

  /** A new process, if there is none. */
  restart(): void {
    if (this.isUp) return;
    this.start();
    this.simulation.trace(() => `${this.id} is back with ${this.process!.store.size} keys`);
  }

  /** What the node has now, to be put in the place of its data later. */
  backUp(): Backup {
    return { disk: this.disk.copy(), holding: this.simulation.oracle.holdingOf(this.place) };
  }

  /** Its data is gone, and a backup, if there is one, in its place. For while there is no process. */
  replaceDisk(backup: Backup | null): void {
    const { oracle } = this.simulation;
    this.disk = backup?.disk.copy() ?? this.simulation.makeDisk(this.place);
    oracle.replace(this.place, backup?.holding ?? null);
  }

  /** Makes everything durable now. */
  syncDisk(): void {
    this.disk.sync();
    if (this.simulation.plan.disks[this.place] !== "none") {
      this.simulation.oracle.persist(this.place);
    }
  }

  /** Runs a session with a peer to its end, once there is room for it. */
  private async run(peer: number, job: Job): Promise<JobResult> {
    const { process, simulation } = this;
    const failed = { ok: false, isBusy: false, peerNodeId: "" };
    if (process === null) return failed;
    while (!this.hasRoom()) {
      await new Promise<void>((resolve) => process.waiting.push(resolve));
      if (this.process !== process) return failed;
    }
    const other = simulation.nodes[peer];
    const isThere = other.isUp && simulation.network.connects(this.place, peer);
    if (!isThere) return failed;
    if (!other.hasRoom()) return { ...failed, isBusy: true };
    return new Promise((resolve) => this.converse(other, job, resolve));
  }

  private converse(other: SimNode, job: Job, resolve: (result: JobResult) => void): void {
    const { simulation, process } = this;
    const { chance, network, plan, timeline } = simulation;
    const there = other.process!;
    const begun = there.scheduler.wants;
    const mine = new SessionEnd(simulation, this, process!, 0, ({ ok, failure, peerNodeId }) =>
      resolve({ ok, isBusy: failure === "busy", peerNodeId }),
    );
    const theirs = new SessionEnd(simulation, other, there, 1, ({ isUpToNow, peerNodeId }) => {
      if (isUpToNow) there.scheduler.noteVisit(peerNodeId, begun);
    });
    const isCut = simulation.isTroubled && chance.happens(plan.cuts);
    const cutAfter = isCut ? chance.magnitude(1, 4_000) : Infinity;
    const { maxLatencyMs } = plan;
    const stream = new Stream(network, timeline, chance, maxLatencyMs, mine, theirs, cutAfter);
    theirs.open(stream, {});
    mine.open(stream, job);
  }

  private hasRoom(): boolean {
    return this.process!.sessions.length < this.simulation.plan.maxConcurrentSyncs;
  }

  private repeat(isAlive: () => boolean, everyMs: number, task: () => void): void {
    const { chance, timeline } = this.simulation;
    const next = () => {
      const delayMs = everyMs * (0.9 + 0.2 * chance.next()) * this.simulation.pace;
      timeline.after(delayMs, () => {
        if (!isAlive()) return;
        task();
        next();
      });
    };
    next();
  }

  /** Milliseconds that only go on; every look takes a little time on a slow node. */
  monotonicMs(): number {
    const { chance, plan, timeline } = this.simulation;
    if (plan.slowness > 0) this.creepMs += chance.next() * plan.slowness;
    return timeline.nowMs + this.creepMs;
  }

  private timing(isAlive: () => boolean): Timing {
    const { timeline } = this.simulation;
    const after = (delayMs: number, task: () => void) =>
      timeline.after(delayMs, () => {
        if (isAlive()) task();
      });
    return { now: () => this.monotonicMs(), after, soon: (task) => after(0, task) };
  }
}
