/** A node's store and replicator without the rest of it, for tests of replication over real brokers. */
import { HybridClock } from "../../src/core/data/clock.ts";
import { Int64 } from "../../src/core/data/int64.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { Store } from "../../src/core/store/store.ts";
import { type Logger, silentLogger } from "../../src/observability/log.ts";
import type { ReplicationHooks } from "../../src/replication/replicator-options.ts";
import { Replicator } from "../../src/replication/replicator.ts";
import type { Timing } from "../../src/timing.ts";
import { eventLoop, realWorld } from "../../src/world.ts";
import { readFact } from "./facts.ts";
import { mqttSettings } from "./mqtt-settings.ts";

/** UTF-8. */
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** How a node differs from the usual one; settings are those below `[mqtt]`. */
export interface ReplicatingNodeOptions {
  readonly hooks?: ReplicationHooks;
  readonly logger?: Logger;
  readonly settings?: Record<string, unknown>;
  readonly timing?: Timing;
}

/** Remembers what an operator sees: level, message and protocol. */
export class LogRecorder implements Logger {
  readonly lines: string[] = [];
  /** Failed attempts to connect that were not worth a line. */
  attempts = 0;
  /** Warnings with all that they say. */
  readonly warnings: string[] = [];
  /** Why, according to the last warning. */
  reason = "";
  trace(): void {}
  debug(): void {
    this.attempts++;
  }
  info(message: string, fields: Record<string, unknown> = {}): void {
    this.lines.push(`info ${message} ${fields["protocol"]}`);
  }
  warn(message: string, fields: Record<string, unknown> = {}): void {
    this.reason = String(fields["reason"]);
    this.lines.push(`warn ${message}`);
    this.warnings.push(`${message} ${JSON.stringify(fields)}`);
  }
  error(message: string): void {
    this.lines.push(`error ${message}`);
  }
  child(): Logger {
    return this;
  }
}

/** A store with its replicator, spoken to in strings. */
export class ReplicatingNode {
  readonly store: Store;
  readonly replicator: Replicator;
  private readonly view = new Entry();

  constructor(
    readonly id: string,
    broker: string,
    options: ReplicatingNodeOptions = {},
  ) {
    this.store = new Store({
      clock: new HybridClock(Date.now),
      origin: originOf(id),
      hashSeed: { high: 1, low: 2 },
      random: Math.random,
      memoryLimitBytes: 0,
      maxClockSkewMs: 60_000,
      tombstoneGraceMs: 86_400_000,
    });
    this.replicator = new Replicator({
      store: this.store,
      nodeId: id,
      settings: {
        ...mqttSettings,
        broker_address: broker,
        ...options.settings,
      },
      address: () => "127.0.0.1:7379",
      version: "1.0.0",
      trees: () => ({ currentKey: "", rootHex: null, roots: () => ({}) }),
      now: Date.now,
      random: Math.random,
      logger: options.logger ?? silentLogger,
      ...(options.hooks ? { hooks: options.hooks } : {}),
      timing: options.timing ?? eventLoop,
      sealing: { secrets: null, randomWords: realWorld.randomWords },
      connect: realWorld.connect,
    });
    this.store.observers.push(this.replicator.observer);
  }

  set(key: string, value: string, expiresAtMs = 0): void {
    const [k, v] = [bytes(key), bytes(value)];
    this.store.set(k, 0, k.length, v, 0, v.length, expiresAtMs);
  }

  expire(key: string, expiresAtMs: number): void {
    const k = bytes(key);
    this.store.expire(k, 0, k.length, expiresAtMs);
  }

  delete(key: string): void {
    const k = bytes(key);
    this.store.delete(k, 0, k.length);
  }

  increment(key: string, by: number): void {
    const k = bytes(key);
    this.store.increment(k, 0, k.length, new Int64().set(by < 0 ? -1 : 0, by));
  }

  get(key: string): string | null {
    const k = bytes(key);
    const id = this.store.find(k, 0, k.length);
    if (id < 0) return null;
    this.store.readValue(id, this.view);
    return new TextDecoder().decode(this.view.valueBytes());
  }

  counter(name: string): number {
    return Number(readFact(Replicator.facts, this.replicator, `replication_${name}`));
  }
}
