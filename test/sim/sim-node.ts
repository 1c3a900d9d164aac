/**
 * One simulated node through all its processes: each is the replica that the program runs, in a world
 * whose clock, timers, disk and network are simulated (`sim-world.ts`). It stands in for `node.ts`,
 * and for whoever looks after a node: it says when a process starts, and how it ends.
 */
import { drainMicrotasks } from "bun:jsc";
import { NO_ADDRESS } from "../../src/config/address.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { isDeadBy } from "../../src/core/data/merge.ts";
import { CURRENT, OLDEST, type Capabilities } from "../../src/core/data/capabilities.ts";
import { unixMsOf } from "../../src/core/data/clock.ts";
import type { ChangeObserver } from "../../src/core/store/outcome.ts";
import type { Store } from "../../src/core/store/store.ts";
import { checkDirectory } from "../../src/durability/check.ts";
import type { JournalFailure } from "../../src/durability/journal.ts";
import { repairDirectory } from "../../src/durability/restore.ts";
import type { ClusterSecrets } from "../../src/security/cluster-secrets.ts";
import type { DiskKeys } from "../../src/durability/sealing.ts";
import { Replica, type ReplicaOptions } from "../../src/replica.ts";
import { isoTimeOf } from "../../src/timing.ts";
import { SimulatedDisk } from "../support/simulated-disk.ts";
import type { Chance } from "./chance.ts";
import { NodeDisk } from "./disk.ts";
import { FSYNC_MODES, type DiskKind } from "./plan.ts";
import { readState, textOf } from "./holding.ts";
import { SimKeys } from "./sim-keys.ts";
import { unsealedLine } from "../../src/durability/sealed-lines.ts";
import { SimProcess } from "./sim-process.ts";
import { createWorld, MAX_TIMER_DELAY } from "./sim-world.ts";
import type { Simulation } from "./simulation.ts";
import type { End } from "./survival.ts";
import { storeWatch, watchApply, watchApplyExpiry } from "./watched-store.ts";

/** The moment at which every simulation begins, in Unix ms. */
export const EPOCH_MS = 1_700_000_000_000;
/** From how far ahead nodes take what is written, in ms. */
export const MAX_CLOCK_SKEW_MS = 60_000;
/** The most that a disk does, one thing after the other, from a tick of the journal to the end of its sync. */
const DISK_STEPS_A_SYNC = 40;
const DISCOVERY_S = 120;
/** The first node listens there, the next at the next. */
export const FIRST_PORT = 7_000;
/** A value above this is not sent as an event but fetched. */
export const MAX_EVENT_BYTES = 256;
/** Seldom, as nodes are many and hold little. */
const SWEEP_EVERY_MS = 700;
const MAX_FRAME_BYTES = 1_048_576;
/** A peer that is silent for so long in a session is given up, in ms. */
const SILENCE_MS = 10_000;
/** The same where there is a thin line, as it is by default. */
const THIN_SILENCE_MS = 30_000;

/** How long whoever looks after a node leaves it alone when it can write no more, in ms. */
const MAX_NEGLECT_MS = 20_000;
const DIRECTORY = "/data";
/** What there may be at the same time: the version before, this one, and the next. */
const VERSIONS: readonly Capabilities[] = [
  OLDEST,
  CURRENT,
  { ...CURRENT, highest: CURRENT.highest + 1, features: CURRENT.features | 64 },
];

/** A node, through all its processes. */
export class SimNode {
  readonly id: string;
  readonly address: string;
  readonly disk: NodeDisk;
  private readonly chance: Chance;
  private readonly creepChance: Chance;
  private readonly diskChance: Chance;
  private readonly keys: SimKeys;
  /** What the process speaks that is there, or was last. */
  private capabilities: Capabilities = CURRENT;
  /** How its disk is written to by the process that is there, or was last. */
  private mode: DiskKind;
  /** How far the clock is off, in ms. */
  clockOffsetMs = 0;
  /** What the clock gains in a millisecond. */
  drift = 0;
  /** What serves clients. Null while nothing does: it has not read its disk yet, or is stopping. */
  serving: Replica | null = null;
  /** The process that is there in any of these states. */
  process: SimProcess | null = null;
  private runs = 0;
  private creepMs = 0;
  /** What was safe by then outlasts a sync that failed; nothing later does for certain. */
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
    this.keys = new SimKeys(simulation.chanceOf(`${this.id} disk key`), (keyId) => {
      simulation.counts.keyChanges++;
      simulation.history.note(() => `${this.id} is started with the storage key ${keyId}`);
    });
    this.mode = plan.disks[place];
    this.disk = new NodeDisk(timeline, this.diskChance, plan.maxDiskMs);
  }

  get isUp(): boolean {
    return this.serving !== null;
  }

  /** Whether others reach it where it listens. */
  get isReachable(): boolean {
    return this.simulation.plan.advertised[this.place] === "own";
  }

  private advertisedAddress(): string {
    const { plan, nodes } = this.simulation;
    const advertised = plan.advertised[this.place];
    if (advertised === "own") return this.address;
    if (advertised === "another") return nodes[(this.place + 1) % nodes.length].address;
    return advertised === "none" ? NO_ADDRESS : "nowhere:7379";
  }

  /** Unix milliseconds by this node's clock. */
  wallMs(): number {
    const { nowMs } = this.simulation.timeline;
    return Math.floor(EPOCH_MS + nowMs * (1 + this.drift) + this.clockOffsetMs);
  }

  /** Milliseconds that only go on; every look takes a little time on a slow node. */
  monotonicMs(): number {
    const { plan, timeline } = this.simulation;
    if (plan.slowness > 0) this.creepMs += this.creepChance.next() * plan.slowness;
    return timeline.nowMs + this.creepMs;
  }

  /** Starts a process, if there is none: it recovers from disk, joins the broker, syncs with everybody. */
  start(): void {
    const { simulation } = this;
    if (this.process !== null || !simulation.present.includes(this)) return;
    const process = (this.process = new SimProcess(this.id, this.place));
    this.runs++;
    this.syncFailedMs = Infinity;
    this.changeMode();
    this.changeVersion();
    this.run(process).catch((error: Error) => simulation.oracle.fail(error.stack ?? String(error)));
  }

  private async run(process: SimProcess): Promise<void> {
    let replica: Replica;
    try {
      replica = await Replica.open(this.replicaOptions(process));
    } catch (error) {
      return this.failToStart(error as Error);
    }
    if (process.isOver) return;
    this.prepare(process, replica);
    process.replica = this.serving = replica;
    await replica.start();
  }

  /** Whoever looks after the node may have set another `fsync` while it was down. */
  private changeMode(): void {
    const { simulation, diskChance, mode, place } = this;
    if (this.runs > 1 && mode !== "none") this.keys.mayChange();
    if (this.runs === 1 || mode === "none") return;
    if (!diskChance.happens(simulation.plan.modeChange)) return;
    const changed = (this.mode = diskChance.pick(FSYNC_MODES));
    simulation.history.note(() => `${this.id} is started with fsync = ${changed}`);
    simulation.oracle.changeDisk(place, changed);
  }

  /** Whoever looks after the node may start another version of the program. */
  private changeVersion(): void {
    const { simulation, id } = this;
    const chance = simulation.chanceOf(`${id} is upgraded`);
    if (!chance.happens(simulation.plan.versionChange)) return;
    const { lowest, highest, features } = (this.capabilities = chance.pick(VERSIONS));
    simulation.counts.versionChanges++;
    simulation.history.note(() => `${id} speaks ${lowest} to ${highest}, features ${features}`);
  }

  private replicaOptions(process: SimProcess): ReplicaOptions {
    const { simulation, mode, chance } = this;
    const { plan } = simulation;
    const engine = mode === "none" ? "memory" : "log";
    return {
      world: createWorld(simulation, this, process),
      nodeId: this.id,
      secrets: simulation.drawSecrets(simulation.chanceOf(`${this.id} secrets`)),
      keys: this.keys.now(),
      storage: {
        engine,
        persistence_enabled: true,
        path: DIRECTORY,
        fsync: mode === "none" ? "never" : mode,
        memory_limit_mb: 0,
        max_clock_skew_ms: MAX_CLOCK_SKEW_MS,
        tombstone_grace_seconds: plan.graceMs / 1_000,
      },
      mqtt: simulation.mqttSettings,
      antiEntropy: {
        enabled: true,
        interval_seconds: plan.syncEveryMs / 1_000,
        peer_discovery_interval: DISCOVERY_S,
        max_concurrent_syncs: plan.maxConcurrentSyncs,
        peer_list: simulation.addresses().filter((address) => address !== this.address),
        max_set_aside_mb: 1,
        // Eight graces, that is.
        forget_after_days: 0,
        broker_bytes_per_second: plan.brokerBytesASecond,
      },
      brokerAddress: async () => simulation.mqttSettings.broker_address,
      address: () => this.advertisedAddress(),
      version: "0",
      capabilities: this.capabilities,
      maxFrameBytes: MAX_FRAME_BYTES,
      silenceMs: plan.hasThinLine ? THIN_SILENCE_MS : SILENCE_MS,
      logger: simulation.loggerOf(this),
      bounds: {
        segmentBytes: plan.segmentBytes,
        maxQueuedBytes: chance.magnitude(100, 100_000),
        sweepEveryMs: SWEEP_EVERY_MS,
        sweepRows: chance.magnitude(1, 100),
      },
    };
  }

  /** Only a disk that is full or fails may keep it from starting. */
  private failToStart(error: Error): void {
    const { simulation, disk } = this;
    simulation.history.note(() => `${this.id} does not start: ${error.message}`);
    const { failWritesWith, failSyncsWith } = disk.contents;
    if (failWritesWith === null && failSyncsWith === null) {
      return simulation.oracle.fail(`${this.id} does not start: ${error.stack}`);
    }
    this.end("kill");
    simulation.timeline.after(MAX_NEGLECT_MS, () => this.start());
  }

  /** Has the oracle follow what the replica does, right behind the journal. */
  private prepare(process: SimProcess, replica: Replica): void {
    const { simulation, place } = this;
    const { history, originNames, oracle } = simulation;
    const { store, journal } = replica;
    const watchers = [oracle.begin(place, store, journal), this.asideWatch(replica)];
    if (history.isKept) {
      watchers.push(storeWatch(store, history, originNames, this.id));
      watchApply(store, history, originNames, this.id);
      watchApplyExpiry(store, history, originNames, this.id);
    }
    store.observers.splice(1, 0, ...watchers);
    replica.onFailureChange = (failure) => this.noteFailure(process, failure);
    if (journal.failure !== null) this.noteFailure(process, journal.failure);
    history.note(() => `${this.id} is there with ${store.size} keys`);
    this.tellWhatItHas(store);
  }

  /** What is dropped from the store is in the file of what was set aside, so that no power cut takes it. */
  private asideWatch({ store, setAside }: Replica): ChangeObserver {
    const view = new Entry();
    return {
      changed() {},
      flushed() {},
      removed: (id, flushed) => {
        store.read(id, view);
        if (flushed || isDeadBy(store.clock.nowMs(), view)) return;
        const key = textOf(view.keyBytes());
        this.simulation.noteSetAside(this, key);
        const time = isoTimeOf(unixMsOf(view.timeHigh, view.timeLow));
        const origin = [view.originHigh, view.originLow].map((word) =>
          word.toString(16).padStart(8, "0"),
        );
        const isKept = (line: string): boolean => {
          const found = parsed(line);
          return found?.key === key && found.time === time && found.origin === origin.join("");
        };
        if (this.linesAside(setAside.path).some(isKept)) return;
        this.simulation.oracle.fail(`${this.id} dropped ${key} and its set-aside file lacks it`);
      },
    };
  }

  /** The lines of what was set aside, as they were before they were sealed. */
  private linesAside(path: string): string[] {
    const keys = this.keys.now();
    const lines: string[] = [];
    let position = 0;
    for (const line of textOf(this.disk.contents.durableContents(path)).split("\n")) {
      lines.push(unsealedLine(line, position, path, keys) ?? "");
      position += Buffer.byteLength(line) + 1;
    }
    return lines;
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
    this.serving?.journal.compact().catch(() => {});
  }

  /** The running process seals with others from now on. */
  renewSecrets(secrets: ClusterSecrets | null): void {
    this.simulation.history.note(() => `${this.id} seals with ${secrets?.current.id}`);
    this.serving?.renewSecrets(secrets);
  }

  /** The process ends, at once and without a word; with "power", all of the machine does. */
  crash(how: "kill" | "power"): void {
    this.end(how);
  }

  /** Nobody is served any more; the process passes on what it has, and ends once all is on disk. */
  stop(): void {
    const { process, serving, simulation, diskChance } = this;
    if (process === null || serving === null) return;
    this.serving = null;
    serving.interrupt();
    const ended = serving.stop().then(() => {
      if (process.isOver) return;
      this.end(serving.journal.failure === null ? "stop" : "kill");
      simulation.timeline.after(diskChance.magnitude(10, MAX_NEGLECT_MS), () => this.start());
    });
    ended.catch((error: Error) => simulation.oracle.fail(error.stack ?? String(error)));
  }

  /** Its data is gone, and a copy of its disk, if there is one, restored. For while there is no process. */
  replaceData(backup: SimulatedDisk | null): void {
    const { disk, simulation } = this;
    disk.contents = backup?.copy() ?? new SimulatedDisk(async () => {});
    simulation.oracle.loseData(this.place);
    if (backup === null || !backup.paths().some((path) => /\.(log|snap)$/.test(path))) return;
    restore(disk.contents, this.keys.now()).catch((error) => simulation.oracle.fail(String(error)));
    drainMicrotasks();
  }

  private end(how: End["kind"]): void {
    const { process } = this;
    this.process = this.serving = null;
    if (process !== null) {
      if (process.replica !== null) this.simulation.count(process.replica);
      process.end(how === "power" ? "power" : "kill");
    }
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
    return Math.min(this.reachedMs() - this.syncTakesMs(), this.syncFailedMs);
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
    const tickMs = 1_000 * (1 + MAX_TIMER_DELAY);
    return tickMs * simulation.longestPace() + DISK_STEPS_A_SYNC * simulation.plan.maxDiskMs + 1;
  }

  private noteFailure(process: SimProcess, failure: JournalFailure | null): void {
    const { simulation } = this;
    simulation.history.note(
      () => `${this.id} ${failure === null ? "writes again" : failure.message}`,
    );
    if (failure === null || failure.isPassing) return;
    // As long as syncs took then: by the end of the process its pace may be another.
    this.syncFailedMs = this.reachedMs() - this.syncTakesMs();
    simulation.timeline.after(this.diskChance.magnitude(10, MAX_NEGLECT_MS), () => {
      if (process.isOver) return;
      this.crash(this.diskChance.pick(["kill", "power"]));
      this.start();
    });
  }
}

/** What a line says; null for one that a full disk or a crash has spoilt. */
function parsed(line: string): Record<string, unknown> | null {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return null;
  }
}

/** Makes what a node of another time left into what a node may start from, as `merklekv check --fix` does. */
async function restore(contents: SimulatedDisk, keys: DiskKeys): Promise<void> {
  const report = await checkDirectory(contents, DIRECTORY, keys);
  await repairDirectory(contents, report, new Date(0), keys);
}
