/**
 * The disk of a simulated node: the one of `support/simulated-disk.ts`, slowed down to the
 * timeline, so that a crash comes at any point of what is done to it.
 */
import { drainMicrotasks } from "bun:jsc";
import type { FileSystem, OpenFile, OpenMode } from "../../src/durability/file-system.ts";
import { SimulatedDisk } from "../support/simulated-disk.ts";
import type { Chance } from "./chance.ts";
import type { Timeline } from "./timeline.ts";

/** A process, as far as its disk and its timers have to know: from its end on nothing moves any more. */
export interface Life {
  isOver: boolean;
}

interface Writing {
  readonly file: OpenFile;
  readonly bytes: Uint8Array;
  readonly position: number;
}

/** After it stalled it needs up to so long to catch up. */
const CATCH_UP_MS = 1_500;

/** The disk of one node; it outlives the node's processes. */
export class NodeDisk {
  /** What is on it, and what is wrong with it. */
  contents = new SimulatedDisk(async () => {});
  /** The last time in which it did nothing at all. */
  stalledFromMs = -Infinity;
  stalledUntilMs = -Infinity;
  private writing: Writing | null = null;

  /** A write, a sync or a change of names takes up to twice `maxDelayMs`, reading no time. */
  constructor(
    private readonly timeline: Timeline,
    private readonly chance: Chance,
    private readonly maxDelayMs: number,
  ) {}

  /** The disk as a process has it. */
  mount(life: Life): FileSystem {
    const { contents } = this;
    return {
      makeDirectory: () => contents.makeDirectory(),
      list: (path) => contents.list(path),
      sizeOf: (path) => contents.sizeOf(path),
      open: (path, mode, synced) => this.open(life, path, mode, synced),
      rename: (from, to) => this.late(life, () => contents.rename(from, to)),
      remove: (path) => this.late(life, () => contents.remove(path)),
      syncDirectory: (path) => this.late(life, () => contents.syncDirectory(path)),
      freeBytes: () => contents.freeBytes(),
    };
  }

  /** It does nothing for a while. */
  stall(ms: number): void {
    const { nowMs } = this.timeline;
    // What waited through the one before may not be done yet.
    if (this.stalledUntilMs + CATCH_UP_MS < nowMs) this.stalledFromMs = nowMs;
    this.stalledUntilMs = Math.max(this.stalledUntilMs, nowMs + ms);
  }

  /** The process is gone. What it was writing got to the system, in part, or not. */
  kill(): void {
    const { writing, chance } = this;
    if (writing !== null && chance.happens(0.5)) {
      const { file, bytes, position } = writing;
      file.write(bytes.subarray(0, chance.between(1, bytes.length)), position).catch(() => {});
      drainMicrotasks();
    }
    this.writing = null;
    this.contents.kill();
  }

  /** The power is gone, and with it what was not synced, all of it or any part. */
  cutPower(): void {
    this.kill();
    this.contents.crash(this.chance.pick(["none", "some"]), this.chance.next);
  }

  private async open(
    life: Life,
    path: string,
    mode: OpenMode,
    synced?: boolean,
  ): Promise<OpenFile> {
    if (mode !== "read") await this.delay(life);
    const file = await this.contents.open(path, mode, synced);
    return {
      size: () => file.size(),
      read: (into, position) => file.read(into, position),
      write: async (bytes, position) => {
        this.writing = { file, bytes, position };
        await this.delay(life);
        this.writing = null;
        await file.write(bytes, position);
        await this.delay(life);
      },
      sync: () => this.late(life, () => file.sync()),
      truncate: (length) => this.late(life, () => file.truncate(length)),
      isAt: (name) => file.isAt(name),
      close: () => file.close(),
    };
  }

  private async late<T>(life: Life, act: () => Promise<T>): Promise<T> {
    await this.delay(life);
    const result = await act();
    await this.delay(life);
    return result;
  }

  /** Never resolves once the life is over. */
  private delay(life: Life): Promise<void> {
    const stalledMs = Math.max(0, this.stalledUntilMs - this.timeline.nowMs);
    return new Promise((resolve) => {
      this.timeline.after(stalledMs + this.chance.next() * this.maxDelayMs, () => {
        if (!life.isOver) resolve();
      });
    });
  }
}
