/**
 * A node that counts, on a simulated disk, and a peer that forgets nothing; for tests of what crashes
 * do to counters. Each increment adds a power of two of its own, so a counter's number tells which
 * increments it counts, each once.
 */
import { expect } from "bun:test";
import { HybridClock } from "../../src/core/data/clock.ts";
import { Contacts } from "../../src/core/sync/contacts.ts";
import { runOrigin, stableStartMs } from "../../src/core/data/counter-fold.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { APPLIED, UNCHANGED } from "../../src/core/store/outcome.ts";
import { Store } from "../../src/core/store/store.ts";
import { checkDirectory } from "../../src/durability/check.ts";
import type { FileSystem } from "../../src/durability/file-system.ts";
import { resumeIncarnation } from "../../src/durability/incarnation.ts";
import type { FsyncMode, LogJournal } from "../../src/durability/log.ts";
import { openLog } from "../../src/durability/open-log.ts";
import { repairDirectory } from "../../src/durability/restore.ts";
import {
  CONTACTS_METADATA,
  contactsMetadata,
  readContacts,
} from "../../src/durability/store-metadata.ts";
import { silentLogger } from "../../src/observability/log.ts";
import type { Timing } from "../../src/timing.ts";
import { DIRECTORY, untilSafe } from "./journalled-store.ts";
import { SimulatedDisk } from "./simulated-disk.ts";

const KEY = new TextEncoder().encode("counter");
const GRACE_MS = 1_000;
/** Turns in which a disk that never waits has done all it was asked to. */
const TURNS = 6;
/** When it all begins, in Unix ms. */
export const BEGIN_MS = 1_700_000_000_000;
/** The log syncs when this has passed. */
const TICK_MS = 1_000;

/** Time that stands still but for what is due at once; the tick of the log comes when it is told to. */
class Time implements Timing {
  /** Set when the process is gone: nothing of it goes on. */
  isOver = false;
  private ticks: (() => void)[] = [];

  nowMs(): number {
    return 0;
  }

  after(delayMs: number, task: () => void): () => void {
    if (delayMs >= TICK_MS) this.ticks.push(task);
    else this.soon(task);
    return () => (this.ticks = this.ticks.filter((it) => it !== task));
  }

  soon(task: () => void): () => void {
    setImmediate(() => {
      if (!this.isOver) task();
    });
    return () => {};
  }

  tick(): void {
    for (const task of this.ticks.splice(0)) task();
  }
}

/** A disk as a process has it: once the process is gone, it changes nothing there. */
function mounted(disk: SimulatedDisk, time: Time): FileSystem {
  const late = <T>(act: () => Promise<T>): Promise<T> =>
    time.isOver ? new Promise<T>(() => {}) : act();
  return {
    makeDirectory: () => disk.makeDirectory(),
    list: (path) => disk.list(path),
    sizeOf: (path) => disk.sizeOf(path),
    open: (path, mode, synced) => late(() => disk.open(path, mode, synced)),
    rename: (from, to) => late(() => disk.rename(from, to)),
    remove: (path) => late(() => disk.remove(path)),
    freeBytes: () => disk.freeBytes(),
    syncDirectory: (path) => late(() => disk.syncDirectory(path)),
  };
}

/** The counter of a store, as bits. */
function numberIn(store: Store): bigint {
  const view = new Entry();
  const id = store.find(KEY, 0, KEY.length);
  if (id < 0) return 0n;
  store.readValue(id, view);
  return BigInt(new TextDecoder().decode(view.valueBytes()));
}

/** One store tells another of the counter. */
function tell(from: Store, to: Store): void {
  const view = new Entry();
  const id = from.locate(KEY, 0, KEY.length);
  if (id < 0) return;
  from.read(id, view);
  expect([APPLIED, UNCHANGED]).toContain(to.apply(view));
}

function createStore(nowMs: () => number, originLow: number, run: number): Store {
  return new Store({
    clock: new HybridClock(nowMs),
    origin: { high: 1, low: originLow << 28 },
    counterOrigin: runOrigin({ high: 1, low: originLow << 28 }, run),
    hashSeed: { high: 1, low: 2 },
    random: () => 0.5,
    memoryLimitBytes: 0,
    maxClockSkewMs: 60_000,
    tombstoneGraceMs: GRACE_MS,
  });
}

/** A node on its disk, a peer that forgets nothing, and the increments that either holds, as bits. */
export class Pair {
  /** What the node holds: by its memory, by what it may not lose, and by what a power cut may not take. */
  held = 0n;
  safe = 0n;
  synced = 0n;
  /** What the peer was told. */
  known = 0n;
  /** What the node's clock says, in Unix ms. The peer's stands still. */
  clockMs = BEGIN_MS;
  store!: Store;
  readonly peer = createStore(() => BEGIN_MS, 2, 2);
  private contacts = new Contacts();
  private disk = new SimulatedDisk(async () => {});
  private backup: { disk: SimulatedDisk; held: bigint } | null = null;
  private time = new Time();
  private journal!: LogJournal;
  private starts = 0;
  private increments = 0n;

  constructor(public fsync: FsyncMode) {}

  /** A process begins, and has what it must have. */
  async start(): Promise<void> {
    const { fsync } = this;
    this.time = new Time();
    this.store = createStore(() => this.clockMs, 1, ++this.starts * 1_000);
    const { journal, recovered } = await openLog({
      directory: DIRECTORY,
      nodeId: "n1",
      fsync,
      store: this.store,
      logger: silentLogger,
      files: mounted(this.disk, this.time),
      timing: this.time,
      lock: async () => ({ release() {} }),
      segmentBytes: 2_000,
    });
    this.journal = journal;
    resumeIncarnation(this.store.counts, journal, recovered, fsync);
    this.store.observers.push(journal.observer);
    this.contacts = readContacts(journal.metadata(CONTACTS_METADATA));
    journal.followMetadata(CONTACTS_METADATA, () => contactsMetadata(this.contacts));
    this.takeStock();
  }

  /** A client of the node counts. */
  increment(): void {
    const bit = 1n << this.increments++;
    const by = new Int64().set(Number(bit >> 32n), Number(BigInt.asUintN(32, bit)));
    expect(this.store.increment(KEY, 0, KEY.length, by)).toBe(APPLIED);
    this.held |= bit;
  }

  /** The journal calls all of it safe. */
  async settle(): Promise<void> {
    await untilSafe({ journal: this.journal });
    this.safe = this.held;
    if (this.fsync === "always") this.synced = this.held;
  }

  /** A second passes. */
  async tick(): Promise<void> {
    await this.settle();
    this.time.tick();
    await turns();
    if (this.fsync !== "never") this.synced = this.held;
  }

  /** The peer is told, as by a session or an event: of what is safe. */
  async tell(): Promise<void> {
    await this.settle();
    tell(this.store, this.peer);
    this.known |= this.held;
  }

  /** The node hears what the peer has. */
  hear(): void {
    tell(this.peer, this.store);
    this.held |= this.known;
  }

  /** Both have what either has, and the node knows that it has met the peer. */
  async meet(): Promise<void> {
    const watermarkMs = this.store.clockMs();
    await this.tell();
    this.hear();
    this.contacts.note(this.peer.origin.high, this.peer.origin.low, watermarkMs, 0);
  }

  /** Counters may be folded, if what earlier runs counted is known by now. */
  allowFolding(): void {
    const { store, clockMs, contacts } = this;
    const heardOf = [this.peer.origin];
    const { counts, origin } = store;
    const { runStartsMs } = counts;
    counts.noteStable(stableStartMs(runStartsMs, clockMs, GRACE_MS, origin, contacts, heardOf));
  }

  /** The node writes a snapshot. */
  async compact(): Promise<void> {
    await this.settle();
    await this.journal.compact();
  }

  /** The process ends; with "power", so does the machine. */
  async end(how: "stop" | "kill" | "power", random: () => number): Promise<void> {
    if (how === "stop") {
      await this.journal.close();
      this.safe = this.synced = this.held;
    }
    this.time.isOver = true;
    if (how === "kill") this.disk.kill();
    else if (how === "power") this.disk.crash(random() < 0.5 ? "none" : "some", random);
    await turns();
    if (how === "power") this.safe = this.synced;
  }

  /** A copy of its disk is made. */
  async copy(): Promise<void> {
    await this.settle();
    this.backup = { disk: this.disk.copy(), held: this.held };
  }

  /** It gets the copy in place of what it has, repaired as one that a process left. */
  async restore(): Promise<void> {
    if (this.backup === null) return;
    this.disk = this.backup.disk.copy();
    await repairDirectory(this.disk, await checkDirectory(this.disk, DIRECTORY), new Date(0));
    this.held = this.safe = this.synced = this.backup.held;
  }

  /** The number on both sides is what they hold. */
  check(): void {
    expect([numberIn(this.store), numberIn(this.peer)]).toEqual([this.held, this.known]);
  }

  /** After a start: it has what it must have, nothing that it never had, and that is durable. */
  private takeStock(): void {
    const found = numberIn(this.store);
    expect([found & this.safe, found | this.held]).toEqual([this.safe, this.held]);
    this.held = this.safe = this.synced = found;
  }
}

async function turns(): Promise<void> {
  for (let i = 0; i < TURNS; i++) await new Promise((resolve) => setImmediate(resolve));
}
