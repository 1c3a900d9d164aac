/**
 * A cluster of many nodes in the simulated world, without troubles but those that are made here, and
 * what it costs them to stay alike.
 */
import { Entry, KIND_STRING } from "../../src/core/data/entry.ts";
import { originOf } from "../../src/core/data/origin.ts";
import { AntiEntropy } from "../../src/anti-entropy/anti-entropy.ts";
import { PLAIN_BROKER } from "./broker.ts";
import { Clients } from "./clients.ts";
import type { Plan } from "./plan.ts";
import { EPOCH_MS } from "./sim-node.ts";
import { Simulation } from "./simulation.ts";

const SEED = 940_000_000;
/** One node in so many writes in an outage. */
const WRITERS = 10;
const INTERVAL_MS = 300_000;
const LOOK_EVERY_MS = 250;
/** While nothing is measured, nodes do what they do regularly so many times more seldom. */
const SETTLING_PACE = 5;
const START_MS = 10_000;
const DEADLINE_MS = 1_800_000;

/** The cluster: no troubles but those that are made here. */
function planOf(nodes: number): Plan {
  const none = {
    ...{ partition: 0, crash: 0, snapshot: 0, fullDisk: 0, stalledDisk: 0, failingSync: 0 },
    ...{
      brokerOutage: 0,
      clockStep: 0,
      lostTime: 0,
      absence: 0,
      secretChange: 0,
      isolation: 0,
      loss: 0,
      flush: 0,
      departure: 0,
    },
  };
  return {
    nodes,
    disks: Array.from({ length: nodes }, () => "everysec" as const),
    maxDiskMs: 1,
    segmentBytes: 100_000,
    keys: 33 + nodes,
    actions: 0,
    pauseMs: 0,
    maxLatencyMs: 20,
    broker: { ...{ drop: 0, duplicate: 0, reorder: 0 }, ...PLAIN_BROKER },
    cleanSession: true,
    maxOutboxEvents: 1_000,
    syncEveryMs: INTERVAL_MS,
    maxConcurrentSyncs: 3,
    graceMs: 86_400_000,
    cuts: 0,
    drift: 0,
    expiry: false,
    advertised: Array.from({ length: nodes }, () => "own" as const),
    brokerBytesASecond: 262_144,
    slowness: 0,
    versionChange: 0,
    hasThinLine: false,
    modeChange: 0,
    troubles: none,
  };
}

/** What there is to be measured, as `test/bench/fleet.ts` explains. */
export const SCENARIOS = [
  "equal",
  "left by one gone",
  "write, no broker",
  "broker restart",
  "power cut",
] as const;
/** One of them. */
export type Scenario = (typeof SCENARIOS)[number];

/** What was counted up to a moment. */
interface Counts {
  sessions: number;
  bytes: number;
  turnedAway: number;
  presenceBytes: number;
}

/** What something cost. Sessions are counted once each, where they came to their end. */
export interface FleetCost {
  readonly nodes: number;
  readonly what: string;
  readonly seconds: number;
  readonly sessions: number;
  readonly turnedAway: number;
  readonly bytes: number;
  /** Received as presence a second. */
  readonly presenceRate: number;
  readonly mostAtOnce: number;
}

/** A simulated cluster of so many nodes. */
export class Fleet {
  readonly simulation: Simulation;
  private readonly clients: Clients;
  private readonly ended: Counts = { sessions: 0, bytes: 0, turnedAway: 0, presenceBytes: 0 };
  private mostAtOnce = 0;
  private written = 0;

  /** `onProgress` is told again and again how many seconds have passed there. */
  constructor(
    private readonly size: number,
    private readonly onProgress: (seconds: number) => void = () => {},
  ) {
    const variation = { only: null, without: new Set<string>(), change: planOf(size) };
    this.simulation = new Simulation(SEED, { hasLiar: false, isSealed: false, variation });
    this.simulation.isTroubled = false;
    this.clients = new Clients(this.simulation);
  }

  /** These scenarios, in turn. */
  *run(scenarios: readonly Scenario[] = SCENARIOS): Generator<FleetCost> {
    this.begin();
    for (const what of scenarios) yield this.play(what);
  }

  /** All are started and have met. */
  private begin(): void {
    const { timeline } = this.simulation;
    // One after the other, or all would tell each other of all at the same moment.
    for (const [i, node] of this.simulation.present.entries()) {
      timeline.after((i * START_MS) / this.size, () => node.start());
    }
    this.pass(START_MS + 5_000);
    this.settle(25_000);
    for (let i = 0; i < 32; i++) this.write(i % this.size);
    this.pass(5_000);
    this.settle(25_000);
    this.acquaint();
    this.settle(90_000);
    this.expectAlike();
  }

  private play(what: Scenario): FleetCost {
    if (what === "equal") return this.measure(what, () => this.pass(INTERVAL_MS));
    if (what === "left by one gone") return this.playLeft(what);
    if (what === "write, no broker") return this.playWithoutBroker(what);
    return what === "broker restart" ? this.playRestart(what) : this.playPowerCut(what);
  }

  private playLeft(what: Scenario): FleetCost {
    this.leave(0);
    return this.measure(what, () => {
      this.untilAlike();
      this.pass(30_000);
    });
  }

  private playWithoutBroker(what: Scenario): FleetCost {
    this.stopBroker();
    const cost = this.measure(what, () => {
      this.write(0);
      this.untilAlike();
    });
    this.pass(60_000);
    return cost;
  }

  private playRestart(what: Scenario): FleetCost {
    this.stopBroker();
    this.writeByMany();
    return this.measure(what, () => {
      this.simulation.broker.start();
      this.untilAlike();
      this.pass(45_000);
    });
  }

  private playPowerCut(what: Scenario): FleetCost {
    const { broker, timeline } = this.simulation;
    this.stopBroker();
    this.writeByMany();
    this.pass(3_000);
    for (const node of this.simulation.present) this.cut(node.place);
    for (const node of this.simulation.present) {
      const chance = this.simulation.chanceOfAct(`start ${node.id}`);
      timeline.after(chance.next() * 10_000, () => node.start());
    }
    timeline.after(5_000, () => broker.start());
    return this.measure(what, () => {
      this.untilAlike();
      this.pass(45_000);
    });
  }

  private stopBroker(): void {
    if (!this.simulation.broker.isUp) return;
    this.simulation.broker.stop(false);
    this.pass(1_000);
    this.settle(15_000);
    this.pass(4_000);
  }

  /** Does something and tells what it cost; the time is that until all were alike, if it waited. */
  private measure(what: string, act: () => void): FleetCost {
    const { timeline, oracle } = this.simulation;
    const before = this.counts();
    const startMs = timeline.nowMs;
    this.mostAtOnce = 0;
    this.alikeMs = null;
    act();
    if (oracle.failure !== null) throw new Error(oracle.failure);
    const after = this.counts();
    const { size: nodes, mostAtOnce } = this;
    return {
      nodes,
      what,
      mostAtOnce,
      seconds: ((this.alikeMs ?? timeline.nowMs) - startMs) / 1_000,
      sessions: after.sessions - before.sessions,
      turnedAway: after.turnedAway - before.turnedAway,
      bytes: after.bytes - before.bytes,
      presenceRate:
        ((after.presenceBytes - before.presenceBytes) / (timeline.nowMs - startMs)) * 1_000,
    };
  }

  private alikeMs: number | null = null;

  private pass(ms: number): void {
    const { timeline } = this.simulation;
    const untilMs = timeline.nowMs + ms;
    while (timeline.nowMs < untilMs) {
      timeline.runUntil(Math.min(untilMs, timeline.nowMs + LOOK_EVERY_MS));
      this.onProgress(timeline.nowMs / 1_000);
      for (const { serving } of this.simulation.present) {
        if (serving === null) continue;
        this.mostAtOnce = Math.max(this.mostAtOnce, factOf(serving.antiEntropy, "sync_active"));
      }
    }
  }

  /** Time goes by with less going on than otherwise; nothing is measured. */
  private settle(ms: number): void {
    this.simulation.pass(ms, ms / SETTLING_PACE);
    // What a log has is mostly outdated by now, and a thousand disks take memory.
    for (const node of this.simulation.present) node.compact();
    this.pass(1_000);
  }

  private untilAlike(): void {
    const { timeline } = this.simulation;
    const untilMs = timeline.nowMs + DEADLINE_MS;
    while (!this.areAlike()) {
      if (timeline.nowMs > untilMs) throw new Error("they do not become alike");
      this.pass(LOOK_EVERY_MS);
    }
    this.alikeMs = timeline.nowMs;
  }

  private expectAlike(): void {
    if (!this.areAlike()) throw new Error("they should be alike by now");
  }

  /** Whether all are there and hold all that was written: each write is of a key of its own. */
  private areAlike(): boolean {
    return this.simulation.present.every(({ serving }) => serving?.store.size === this.written);
  }

  private write(place: number): void {
    const node = this.simulation.nodes[place];
    const name = this.simulation.names[this.written++];
    this.clients.set(node, node.serving!.store, name, `write ${this.written}`);
  }

  /**
   * A node has what nobody else has and nobody will publish, as after a session with a node that went
   * away before the broker had it.
   */
  private leave(place: number): void {
    const { serving } = this.simulation.nodes[place];
    const { clock } = serving!.store;
    const { high, low } = originOf("gone");
    const name = new TextEncoder().encode(this.simulation.names[this.written++]);
    const entry = new Entry()
      .setKey(name, 0, name.length)
      .setVersion(clock.high, clock.low, high, low);
    entry.kind = KIND_STRING;
    entry.setExpiry(0);
    serving!.store.apply(entry.setValue(name, 0, name.length));
  }

  private writeByMany(): void {
    for (let place = 0; place < this.size; place += WRITERS) this.write(place);
  }

  /** As if they had been together for long: each knows all, at times that differ by minutes. */
  private acquaint(): void {
    const nowMs = EPOCH_MS + this.simulation.timeline.nowMs;
    const origins = this.simulation.present.map(({ id }) => originOf(id));
    // In their order they are taken up without moving others.
    origins.sort((a, b) => a.high - b.high || a.low - b.low);
    for (const { serving, id } of this.simulation.present) {
      const chance = this.simulation.chanceOfAct(`acquaint ${id}`);
      for (const { high, low } of origins) {
        serving!.contacts.note(high, low, nowMs - chance.next() * 2 * INTERVAL_MS);
      }
    }
  }

  private cut(place: number): void {
    const node = this.simulation.nodes[place];
    const { serving } = node;
    if (serving !== null) this.add(this.ended, serving.antiEntropy);
    node.crash("power");
  }

  private counts(): Counts {
    const counts = { ...this.ended };
    for (const { serving } of this.simulation.present) {
      if (serving !== null) this.add(counts, serving.antiEntropy);
    }
    counts.presenceBytes += this.simulation.broker.counts.presenceBytes;
    return counts;
  }

  private add(counts: Counts, antiEntropy: AntiEntropy): void {
    // Each is counted at both of its ends.
    counts.sessions += factOf(antiEntropy, "sync_completed") / 2;
    counts.bytes += factOf(antiEntropy, "sync_bytes_sent");
    counts.turnedAway += factOf(antiEntropy, "sync_turned_away");
  }
}

function factOf(antiEntropy: AntiEntropy, name: string): number {
  return Number(AntiEntropy.facts.find((it) => it.name === name)!.read(antiEntropy));
}
