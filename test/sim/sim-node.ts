/**
 * One simulated node: the real store, journal, Merkle tree, replication and sync sessions, on a
 * clock, a broker, a network and a disk that are simulated. It does what `node.ts` and
 * `anti-entropy/` do with timers and sockets.
 */
import { drainMicrotasks } from "bun:jsc";
import { originOf } from "../../src/core/data/origin.ts";
import { HybridClock, unixMsOf } from "../../src/core/data/clock.ts";
import type { Contacts } from "../../src/core/sync/contacts.ts";
import { runOrigin, settledMs } from "../../src/core/data/counter-fold.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { MerkleTree } from "../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../src/core/tree/record-digest.ts";
import { Store } from "../../src/core/store/store.ts";
import { checkDirectory } from "../../src/durability/check.ts";
import { repairDirectory } from "../../src/durability/restore.ts";
import { resumeIncarnation } from "../../src/durability/incarnation.ts";
import { MemoryJournal, type Journal } from "../../src/durability/journal.ts";
import type { FsyncMode } from "../../src/durability/log.ts";
import { openLog } from "../../src/durability/open-log.ts";
import {
  CONTACTS_METADATA,
  contactsMetadata,
  readContacts,
} from "../../src/durability/store-metadata.ts";
import { Scheduler, type Job, type JobResult } from "../../src/anti-entropy/scheduler.ts";
import { TreeKeeper } from "../../src/anti-entropy/tree-keeper.ts";
import type { SyncResult } from "../../src/core/sync/tally.ts";
import { silentLogger } from "../../src/observability/log.ts";
import { Replicator } from "../../src/replication/replicator.ts";
import type { Timing } from "../../src/timing.ts";

import { SimulatedDisk } from "../support/simulated-disk.ts";
import type { BrokerTransport } from "./broker.ts";
import type { Chance } from "./chance.ts";
import { NodeDisk, type Life } from "./disk.ts";
import { FSYNC_MODES, type DiskKind } from "./plan.ts";
import { readState, textOf } from "./holding.ts";
import { Stream, type StreamEnd } from "./network.ts";
import { SessionEnd } from "./session-end.ts";
import type { Simulation } from "./simulation.ts";
import type { End } from "./survival.ts";
import { storeWatch, watchedStore } from "./watched-store.ts";

/** The moment at which every simulation begins, in Unix ms. */
export const EPOCH_MS = 1_700_000_000_000;
/** From how far ahead nodes take what is written, in ms. */
export const MAX_CLOCK_SKEW_MS = 60_000;
const SWEEP_EVERY_MS = 700;
/** The most that a disk does, one thing after the other, from a tick of the journal to the end of its sync. */
const DISK_STEPS_A_SYNC = 40;
const TICK_MS = 500;
const DISCOVERY_MS = 120_000;
/** A process syncs with everybody within this time of its start. */
const START_MS = 500;
/** The first node listens there, the next at the next. */
export const FIRST_PORT = 7_000;
/** A value above this is not sent as an event but fetched. */
export const MAX_EVENT_BYTES = 256;

/** How long whoever looks after a node leaves it alone when it can write no more, in ms. */
const MAX_NEGLECT_MS = 20_000;
const DIRECTORY = "/data";
const EPOCH_METADATA = "epoch";

/** What a process has; gone when it ends. */
export interface Process {
  readonly store: Store;
  readonly journal: Journal;
  readonly tree: MerkleTree;
  readonly contacts: Contacts;
  readonly replicator: Replicator;
  readonly scheduler: Scheduler;
  readonly transport: BrokerTransport;
  readonly sessions: SessionEnd[];
  /** Sessions that wait until there is room for them. */
  readonly waiting: (() => void)[];
}

/** A node, through all its processes. */
export class SimNode {
  readonly id: string;
  readonly address: string;
  readonly disk: NodeDisk;
  private readonly chance: Chance;
  private readonly creepChance: Chance;
  private readonly diskChance: Chance;
  /** How its disk is written to by the process that is there, or was last. */
  private mode: DiskKind;
  /** How far the clock is off, in ms. */
  clockOffsetMs = 0;
  /** What the clock gains in a millisecond. */
  drift = 0;
  /** Null while there is none, or it has not read its disk yet, or it is stopping. */
  process: Process | null = null;
  /** That of the process that is there in any of these states. */
  private life: Life | null = null;
  private runs = 0;
  private creepMs = 0;
  /** When a sync failed, which nothing written since outlasts for certain. */
  private syncFailedMs = Infinity;

  constructor(
    private readonly simulation: Simulation,
    readonly place: number,
  ) {
    this.id = `n${place}`;
    this.address = `${this.id}:${FIRST_PORT + place}`;
    const { timeline, plan } = simulation;
    this.chance = simulation.chanceOf(this.id);
    this.creepChance = simulation.chanceOf(`${this.id} creeps`);
    this.diskChance = simulation.chanceOf(`${this.id} disk`);
    this.mode = plan.disks[place];
    this.disk = new NodeDisk(timeline, this.diskChance, plan.maxDiskMs);
  }

  get isUp(): boolean {
    return this.process !== null;
  }

  /** Unix milliseconds by this node's clock. */
  wallMs(): number {
    const { nowMs } = this.simulation.timeline;
    return Math.floor(EPOCH_MS + nowMs * (1 + this.drift) + this.clockOffsetMs);
  }

  /** Starts a process, if there is none: it recovers from disk, joins the broker, syncs with everybody. */
  start(): void {
    const { simulation, chance } = this;
    const { plan, present } = simulation;
    if (this.life !== null || !present.includes(this)) return;
    const life = (this.life = { isOver: false });
    this.runs++;
    this.syncFailedMs = Infinity;
    const store = new Store({
      clock: new HybridClock(() => this.wallMs()),
      origin: originOf(this.id),
      counterOrigin: runOrigin(originOf(this.id), chance.below(2 ** 32)),
      hashSeed: { low: chance.below(2 ** 32), high: chance.below(2 ** 32) },
      random: simulation.chanceOf(`${this.id} store`).next,
      memoryLimitBytes: 0,
      maxClockSkewMs: MAX_CLOCK_SKEW_MS,
      tombstoneGraceMs: plan.graceMs,
    });
    this.changeMode();
    if (this.mode === "none") return this.serve(life, store, new MemoryJournal());
    this.open(life, store, this.mode).then(
      (journal) => this.serve(life, store, journal),
      (error: Error) => this.failToStart(error),
    );
  }

  /** Whoever looks after the node may have set another `fsync` while it was down. */
  private changeMode(): void {
    const { simulation, diskChance, mode, place } = this;
    if (this.runs === 1 || mode === "none") return;
    if (!diskChance.happens(simulation.plan.modeChange)) return;
    const changed = (this.mode = diskChance.pick(FSYNC_MODES));
    simulation.history.note(() => `${this.id} is started with fsync = ${changed}`);
    simulation.oracle.changeDisk(place, changed);
  }

  private async open(life: Life, store: Store, fsync: FsyncMode): Promise<Journal> {
    const { plan } = this.simulation;
    const { journal, recovered } = await openLog({
      directory: DIRECTORY,
      nodeId: this.id,
      fsync,
      store,
      logger: silentLogger,
      files: this.disk.mount(life),
      timing: this.timing(
        () => !life.isOver,
        () => this.simulation.pace,
      ),
      lock: async () => ({ release() {} }),
      segmentBytes: plan.segmentBytes,
    });
    resumeIncarnation(store.counts, journal, recovered, fsync);
    return journal;
  }

  /** Only a disk that is full or fails may keep it from starting. */
  private failToStart(error: Error): void {
    const { simulation, disk } = this;
    simulation.history.note(() => `${this.id} does not start: ${error.message}`);
    const { failWritesWith, failSyncsWith } = disk.contents;
    if (failWritesWith === null && failSyncsWith === null) {
      return simulation.oracle.fail(`${this.id} does not start: ${error.message}`);
    }
    this.end("kill");
    simulation.timeline.after(MAX_NEGLECT_MS, () => this.start());
  }

  private serve(life: Life, store: Store, journal: Journal): void {
    const { simulation, place, chance } = this;
    const { plan, history, originNames } = simulation;
    const isAlive = () => this.process !== null && !life.isOver;
    store.deletions.vouch(store.clockMs());
    store.observers.push(journal.observer);
    const contacts = readContacts(journal.metadata(CONTACTS_METADATA));
    journal.followMetadata(CONTACTS_METADATA, () => contactsMetadata(contacts));
    const tree = new MerkleTree(store, new RecordDigester(treeKeyOf("sim")));
    for (let id = 0; id < store.idLimit; id++) if (store.isUsed(id)) tree.changed(id);
    store.observers.push(tree);
    store.observers.push(simulation.oracle.begin(place, store, journal));
    if (history.isKept) store.observers.push(storeWatch(store, history, originNames, this.id));
    journal.onFailureChange = () => this.noteFailure(life, store, journal);
    let transport: BrokerTransport | undefined;
    // Timers that come early or late, so that nodes do not do the same at the same moment.
    const keeperTiming = this.timing(isAlive, () => this.jitter());
    const keeper = new TreeKeeper(tree, store, keeperTiming);
    const sessions: SessionEnd[] = [];
    const replicator = new Replicator({
      store: watchedStore(store, history, originNames, this.id, "the broker"),
      settings: simulation.mqttSettings,
      nodeId: this.id,
      address: () => this.address,
      version: "0",
      rootHex: () => keeper.rootHex,
      lastEpoch: Number(textOf(journal.metadata(EPOCH_METADATA) ?? new Uint8Array(0))),
      whenSafe(callback) {
        if (journal.safePosition === journal.position) callback();
        else journal.whenSafe({ onSafe: callback });
      },
      now: () => this.wallMs(),
      random: chance.next,
      logger: silentLogger,
      hooks: {
        onGap: (source) => {
          simulation.counts.gaps++;
          history.noteAside(() => `${this.id} missed something of ${source}`);
          scheduler.noteGap(source);
        },
        onReference: (source, entry) => {
          simulation.counts.references++;
          scheduler.noteReference(source, entry.keyBytes());
        },
        onFuture: (entry, source) => {
          simulation.counts.refusedFuture++;
          if (source === null) return;
          scheduler.notePostponed(source, unixMsOf(entry.timeHigh, entry.timeLow));
        },
      },
      timing: this.timing(isAlive),
      connect: (options) => (transport = simulation.broker.transport(options, place, isAlive)),
    });
    journal.setMetadata(EPOCH_METADATA, new TextEncoder().encode(String(replicator.epoch)));
    store.observers.push(replicator.observer);
    const scheduler = new Scheduler({
      nodeId: this.id,
      peerList: simulation.addresses().filter((address) => address !== this.address),
      intervalMs: plan.syncEveryMs,
      discoveryMs: DISCOVERY_MS,
      presence: () => replicator.presence(),
      isAcquainted: (nodeId) => {
        const { high, low } = originOf(nodeId);
        return contacts.of(high, low) > 0;
      },
      rootHex: () => keeper.rootHex,
      isHealing: () => true,
      acceptsUpToMs: () => store.acceptsUpToMs(),
      hasRoom: () => sessions.length < plan.maxConcurrentSyncs,
      run: (peer, job) => this.run(peer.port - FIRST_PORT, job),
      random: chance.next,
    });
    this.process = {
      store,
      journal,
      tree,
      contacts,
      replicator,
      scheduler,
      transport: transport!,
      sessions,
      waiting: [],
    };
    history.note(() => `${this.id} is there with ${store.size} keys`);
    this.tellWhatItHas(store);
    replicator.start();
    keeper.start();
    this.repeat(isAlive, SWEEP_EVERY_MS, () => {
      if (store.isReadOnly) return;
      const { counts, origin } = store;
      const heardOf = replicator.peers().map(({ nodeId }) => originOf(nodeId));
      const { runStartsMs } = counts;
      counts.settle(settledMs(runStartsMs, this.wallMs(), plan.graceMs, origin, contacts, heardOf));
      for (let slices = chance.between(1, 3); slices > 0 && store.sweep(5); slices--);
    });
    this.repeat(isAlive, TICK_MS, () => scheduler.tick(simulation.timeline.nowMs));
    simulation.timeline.after(chance.next() * START_MS, () => {
      if (!isAlive()) return;
      scheduler.tick(simulation.timeline.nowMs);
      void scheduler.syncWithAll();
    });
  }

  /** For the history: what a process begins with, and as whom it counts. */
  private tellWhatItHas(store: Store): void {
    const { history, originNames } = this.simulation;
    if (!history.isKept) return;
    originNames.add(store.origin, this.id);
    originNames.add(store.counts.origin, `${this.id}#${this.runs}`);
    const { high, low } = store.counts.origin;
    history.note(
      () => `${this.id} counts as ${originNames.of((BigInt(high) << 32n) | BigInt(low))}`,
    );
    const view = new Entry();
    for (let id = 0; id < store.idLimit; id++) {
      if (!store.isUsed(id)) continue;
      store.read(id, view);
      const key = textOf(view.keyBytes());
      const held = originNames.held(readState(view), view);
      history.noteKey(key, () => `${this.id} begins with ${key}: ${held}`);
    }
  }

  /** Writes the data anew, as a client may ask for. */
  compact(): void {
    this.simulation.history.note(() => `${this.id} writes a snapshot`);
    this.process?.journal.compact().catch(() => {});
  }

  /** The process ends, at once and without a word; with "power", all of the machine does. */
  crash(how: "kill" | "power"): void {
    this.leave();
    this.end(how);
  }

  /** The process says no more, and ends once all it has is on disk. */
  stop(): void {
    const { process, life } = this;
    if (process === null) return;
    this.leave();
    const { diskChance } = this;
    const { timeline } = this.simulation;
    void process.journal.close().then(() => {
      if (life !== this.life) return;
      this.end(process.journal.failure === null ? "stop" : "kill");
      timeline.after(diskChance.magnitude(10, MAX_NEGLECT_MS), () => this.start());
    });
  }

  /** Its data is gone, and a copy of its disk, if there is one, restored. For while there is no process. */
  replaceData(backup: SimulatedDisk | null): void {
    const { disk, simulation } = this;
    disk.contents = backup?.copy() ?? new SimulatedDisk(async () => {});
    simulation.oracle.loseData(this.place);
    if (backup === null || backup.paths().length === 0) return;
    restore(disk.contents).catch((error) => simulation.oracle.fail(String(error)));
    drainMicrotasks();
  }

  private leave(): void {
    const { process } = this;
    this.process = null;
    if (process === null) return;
    process.transport.vanish();
    for (const end of [...process.sessions]) end.vanish();
  }

  private end(how: End["kind"]): void {
    if (this.life !== null) this.life.isOver = true;
    this.life = null;
    this.disk.contents.failSyncsWith = null;
    if (how === "power") this.disk.cutPower();
    else this.disk.kill();
    const { oracle, history, originNames } = this.simulation;
    oracle.end(this.place, { kind: how, syncedMs: this.syncedMs() });
    history.note(() => `the process of ${this.id} is gone: ${how}`);
    if (!history.isKept) return;
    for (const [key, held] of oracle.heldBy(this.place)) {
      history.noteKey(key, () => `${this.id} must have kept of ${key}: ${originNames.held(held)}`);
    }
  }

  /** With `everysec`: what was safe by then has been synced since. */
  private syncedMs(): number {
    return Math.min(this.reachedMs(), this.syncFailedMs) - this.syncTakesMs();
  }

  /** What was safe so long before then has been synced, if syncs succeed: less while the disk stalls. */
  private reachedMs(): number {
    const { nowMs } = this.simulation.timeline;
    const { stalledFromMs, stalledUntilMs } = this.disk;
    const isBehind = nowMs < stalledUntilMs + this.syncTakesMs();
    return isBehind ? Math.min(nowMs, stalledFromMs) : nowMs;
  }

  private syncTakesMs(): number {
    const { simulation } = this;
    return 1_000 * simulation.longestPace() + DISK_STEPS_A_SYNC * simulation.plan.maxDiskMs + 1;
  }

  private noteFailure(life: Life, store: Store, journal: Journal): void {
    const { failure } = journal;
    const { simulation } = this;
    simulation.history.note(
      () => `${this.id} ${failure === null ? "writes again" : failure.message}`,
    );
    store.setReadOnly(failure !== null);
    if (failure === null || failure.isPassing) return;
    this.syncFailedMs = this.reachedMs();
    simulation.timeline.after(this.diskChance.magnitude(10, MAX_NEGLECT_MS), () => {
      if (life !== this.life) return;
      this.crash(this.diskChance.pick(["kill", "power"]));
      this.start();
    });
  }

  /** Runs a session with a peer to its end, once there is room for it. */
  private async run(peer: number, job: Job): Promise<JobResult> {
    const { process, simulation } = this;
    const failed = { ok: false, isBusy: false, hasMoved: false, peerNodeId: "" };
    if (process === null) return failed;
    while (!this.hasRoom()) {
      await new Promise<void>((resolve) => process.waiting.push(resolve));
      if (this.process !== process) return failed;
    }
    const { liar } = simulation;
    if (liar !== null && peer === liar.place) return liar.receive(this, job);
    const other = simulation.nodes[peer];
    const isThere = other.isUp && simulation.network.connects(this.place, peer);
    if (!isThere) return failed;
    if (!other.hasRoom()) return { ...failed, isBusy: true };
    return new Promise((resolve) => this.converse(other, job, resolve));
  }

  private converse(other: SimNode, job: Job, resolve: (result: JobResult) => void): void {
    const { simulation, process } = this;
    const { network, plan, timeline } = simulation;
    const chances = [
      simulation.chanceOf(`${this.id} to ${other.id}`),
      simulation.chanceOf(`${other.id} to ${this.id}, asked`),
    ] as const;
    const there = other.process!;
    const begun = there.scheduler.wants;
    const mine = new SessionEnd(simulation, this, process!, 0, other.id, (result) =>
      resolve(jobResultOf(result)),
    );
    const theirs = new SessionEnd(
      simulation,
      other,
      there,
      1,
      this.id,
      ({ isUpToNow, peerNodeId }) => {
        if (isUpToNow) there.scheduler.noteVisit(peerNodeId, begun);
      },
    );
    const isCut = simulation.isTroubled && chances[0].happens(plan.cuts);
    const cutAfter = isCut ? chances[0].magnitude(1, 4_000) : Infinity;
    const { maxLatencyMs } = plan;
    const stream = new Stream(network, timeline, chances, maxLatencyMs, mine, theirs, cutAfter);
    theirs.open(stream, {});
    mine.open(stream, job);
  }

  /** A session with an end that is not a node's, which has the other side. */
  converseWith(
    other: StreamEnd & { open(stream: Stream): void },
    side: 0 | 1,
    name: string,
    job: Partial<Job>,
    done: (result: SyncResult) => void,
  ): void {
    const { simulation } = this;
    const { network, plan, timeline } = simulation;
    const chances = [
      simulation.chanceOf(`${this.id} and ${name}`),
      simulation.chanceOf(`${name} and ${this.id}`),
    ] as const;
    const mine = new SessionEnd(simulation, this, this.process!, side, name, done);
    const [first, second] = side === 0 ? [mine, other] : [other, mine];
    const stream = new Stream(
      network,
      timeline,
      chances,
      plan.maxLatencyMs,
      first,
      second,
      Infinity,
    );
    if (side === 1) mine.open(stream, job);
    other.open(stream);
    if (side === 0) mine.open(stream, job);
  }

  /** Whether another session may begin. */
  hasRoom(): boolean {
    return this.process!.sessions.length < this.simulation.plan.maxConcurrentSyncs;
  }

  private repeat(isAlive: () => boolean, everyMs: number, task: () => void): void {
    const { timeline } = this.simulation;
    const next = () => {
      timeline.after(everyMs * this.jitter(), () => {
        if (!isAlive()) return;
        task();
        next();
      });
    };
    next();
  }

  /** By what to multiply the time to what is done regularly. */
  private jitter(): number {
    return (0.9 + 0.2 * this.chance.next()) * this.simulation.pace;
  }

  /** Milliseconds that only go on; every look takes a little time on a slow node. */
  monotonicMs(): number {
    const { plan, timeline } = this.simulation;
    if (plan.slowness > 0) this.creepMs += this.creepChance.next() * plan.slowness;
    return timeline.nowMs + this.creepMs;
  }

  /** Time for what lives as long as `isAlive`; `pace` is how many times later regular things come. */
  private timing(isAlive: () => boolean, pace = () => 1): Timing {
    const { timeline } = this.simulation;
    const after = (delayMs: number, task: () => void) =>
      timeline.after(delayMs * pace(), () => {
        if (isAlive()) task();
      });
    return { nowMs: () => this.monotonicMs(), after, soon: (task) => after(0, task) };
  }
}

/** What a scheduler is told of a session. */
export function jobResultOf(result: SyncResult): JobResult {
  const { ok, failure, peerNodeId, entriesSent, entriesApplied } = result;
  return { ok, isBusy: failure === "busy", hasMoved: entriesSent + entriesApplied > 0, peerNodeId };
}

/** Makes what a node of another time left into what a node may start from, as `merklekv check --fix` does. */
async function restore(contents: SimulatedDisk): Promise<void> {
  await repairDirectory(contents, await checkDirectory(contents, DIRECTORY), new Date(0));
}
