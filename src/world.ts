/**
 * The world that a replica lives in: time, chance, a disk, and ways to reach others. It is handed
 * down from the composition root; nothing takes it from anywhere else, so that the simulation puts
 * another world under the very same replica. Beside the command line this is the only file that
 * knows the real clocks, timers and random numbers.
 */
import { randomFillSync } from "node:crypto";
import { uptime } from "node:os";
import { tcpDialler, type Dial } from "./anti-entropy/dial.ts";
import type { PeerSecurity } from "./anti-entropy/peer-security.ts";
import { realFileSystem, type FileSystem } from "./durability/file-system.ts";
import { lockDirectory, type DirectoryLock } from "./durability/lock.ts";
import { MqttTransport } from "./replication/mqtt-transport.ts";
import type { Transport, TransportOptions } from "./replication/transport.ts";
import type { Timing } from "./timing.ts";

/** All that a replica takes from outside. */
export interface World {
  /** What time it is, in Unix ms: what people and NTP set it to, so it may jump both ways. */
  wallMs(): number;
  /**
   * How long the machine has slept since some fixed moment, in ms, to the second; 0 where nobody
   * knows. The monotonic clock may not count that.
   */
  sleptMs(): number;
  /** How time passes, and what is to be done later. */
  readonly timing: Timing;
  /** Processor time of this thread, in ms. */
  threadCpuMs(): number;
  /** From 0 to below 1. */
  random(): number;
  /**
   * So many words of 32 bits that nobody can guess, drawn at this very moment: a machine that was
   * copied with its memory draws others than its copy.
   */
  randomWords(count: number): Uint32Array;
  readonly files: FileSystem;
  /** Keeps other processes off a directory. Rejects with an OperationalError when one has it. */
  lock(directory: string): Promise<DirectoryLock>;
  /** Makes what reaches peers, in the way that is said. */
  dialler(security: PeerSecurity): Dial;
  /** Makes a connection to a broker, which is opened later. */
  connect(options: TransportOptions): Transport;
}

/** The time and the turns of this process's event loop. */
export const eventLoop: Timing = {
  nowMs: () => performance.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
  soon(task) {
    const immediate = setImmediate(task);
    return () => clearImmediate(immediate);
  },
};

/** The world of this process. */
export const realWorld: World = {
  wallMs: () => Date.now(),
  // The system's uptime goes on while the machine sleeps.
  sleptMs: () => uptime() * 1_000 - performance.now(),
  timing: eventLoop,
  threadCpuMs() {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  },
  random: () => Math.random(),
  // Not `crypto.getRandomValues`, which hands out what the runtime has drawn in advance.
  randomWords: (count) => randomFillSync(new Uint32Array(count)),
  files: realFileSystem,
  lock: lockDirectory,
  dialler: (security) => tcpDialler(eventLoop, security),
  connect: (options) => new MqttTransport(options),
};

/** So many hexadecimal digits that nobody can guess. */
export function randomHex(digits: number): string {
  const words = realWorld.randomWords(Math.ceil(digits / 8));
  return [...words]
    .map((word) => word.toString(16).padStart(8, "0"))
    .join("")
    .slice(0, digits);
}
