/**
 * A whole cluster on one seed: clients write to every node while messages are lost, nodes crash
 * and clocks jump; then everything is mended, and the cluster must come to rest in
 * exactly the state that `oracle.ts` demands.
 *
 * Real: store, Merkle tree, sync sessions, contacts, and all of replication above the MQTT
 * client. Simulated: time, chance, broker, connections, disks, and when a node syncs.
 * Nothing depends on anything but the seed, so a failing seed fails again in the same way.
 */
import type { Config } from "../../src/config/schema.ts";
import { Int64 } from "../../src/core/counter.ts";
import { Entry } from "../../src/core/entry.ts";
import { LATEST, MerkleTree } from "../../src/core/merkle.ts";
import { APPLIED, NOT_A_NUMBER, type Store } from "../../src/core/store.ts";
import { Broker } from "./broker.ts";
import { Chance } from "./chance.ts";
import { ImageDisk, NoDisk } from "./disk.ts";
import { Network } from "./network.ts";
import { Oracle, shownBy } from "./oracle.ts";
import { drawPlan, type Plan } from "./plan.ts";
import { EPOCH_MS, MAX_EVENT_BYTES, SimNode } from "./sim-node.ts";
import { Timeline } from "./timeline.ts";

const HOUR_MS = 3_600_000;
/** Everything in the simulated world comes to rest within this time, and ten sync rounds. */
const MAX_REST_MS = 600_000;
const TRACE_LINES = 300;

/** What came of a seed. */
export interface Outcome {
  readonly seed: number;
  /** What was wrong; null when nothing was. */
  readonly failure: string | null;
  /** What happened last, if it was traced. */
  readonly trace: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
}

/** Runs a seed to its end. `isTraced` keeps a record of what happens. */
export function simulate(seed: number, isTraced = false): Outcome {
  const simulation = new Simulation(seed, isTraced);
  let failure: string | null;
  try {
    failure = simulation.run();
  } catch (error) {
    failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const { broker, counts, lines } = simulation;
  return { seed, failure, trace: lines, counts: { ...counts, ...broker.counts } };
}

/** The simulated world. */
export class Simulation {
  readonly chance: Chance;
  readonly timeline = new Timeline();
  readonly network = new Network();
  readonly plan: Plan;
  readonly broker: Broker;
  readonly nodes: SimNode[] = [];
  readonly oracle: Oracle;
  readonly mqttSettings: Omit<Config["mqtt"], "embedded">;
  readonly counts = {
    writes: 0,
    increments: 0,
    flushes: 0,
    partitions: 0,
    crashes: 0,
    outages: 0,
    steps: 0,
    absences: 0,
    gaps: 0,
    references: 0,
    syncs: 0,
    failedSyncs: 0,
    setAside: 0,
    refusedFuture: 0,
  };
  readonly lines: string[] = [];
  /** Whether troubles go on. */
  isTroubled = true;
  /** Nodes do what they do regularly so many times more seldom: to get through quiet hours quickly. */
  pace = 1;

  private readonly names: string[] = [];
  private readonly keys = new Map<string, Uint8Array>();
  private readonly delta = new Int64();
  private readonly view = new Entry();
  private valueNumber = 0;

  constructor(
    seed: number,
    private readonly isTraced: boolean,
  ) {
    this.chance = new Chance(seed);
    this.plan = drawPlan(this.chance);
    const { plan } = this;
    this.oracle = new Oracle(plan.nodes, () => this.timeline.halt());
    const { maxLatencyMs } = plan;
    const { network, timeline, chance } = this;
    this.broker = new Broker(
      plan.nodes,
      network,
      timeline,
      chance,
      { ...plan.broker },
      maxLatencyMs,
    );
    this.mqttSettings = {
      enabled: true,
      broker_address: "mqtt://broker:1883",
      topic_prefix: "sim",
      client_id: "",
      username: "",
      password: "",
      keep_alive: 60,
      clean_session: plan.cleanSession,
      max_event_bytes: MAX_EVENT_BYTES,
      batch_milliseconds: 5,
      batch_bytes: 1_024,
      max_outbox_events: plan.maxOutboxEvents,
    };
    for (let i = 0; i < plan.keys; i++) {
      this.names.push(`k${i}`);
      this.keys.set(`k${i}`, new TextEncoder().encode(`k${i}`));
    }
    for (let place = 0; place < plan.nodes; place++) {
      const kind = plan.disks[place];
      const disk = kind === "none" ? new NoDisk() : new ImageDisk(kind === "always");
      this.nodes.push(new SimNode(this, place, disk));
    }
  }

  /** Notes a line, made only when somebody wants to see it. */
  trace(line: () => string): void {
    if (!this.isTraced) return;
    if (this.lines.length === TRACE_LINES) this.lines.shift();
    this.lines.push(`${(this.timeline.nowMs / 1_000).toFixed(3)} ${line()}`);
  }

  /** A session set an entry of a node aside. */
  noteSetAside(node: SimNode, entry: Entry, reason: "stale" | "future"): void {
    this.trace(() => `${node.id} sets aside ${Buffer.from(entry.keyBytes())}: ${reason}`);
    if (reason === "future") {
      this.counts.refusedFuture++;
      return;
    }
    this.counts.setAside++;
    const { troubles } = this.plan;
    if (troubles.absence === 0)
      this.oracle.fail(`${node.id} set something aside without having been away`);
    this.oracle.gaveUp(node.place, entry);
  }

  /** Runs it. Null when all is well, else what is wrong. */
  run(): string | null {
    const { plan, timeline, chance, oracle } = this;
    this.trace(() => JSON.stringify(plan));
    for (const node of this.nodes) {
      node.drift = (chance.next() * 2 - 1) * plan.drift;
      node.start();
    }
    timeline.runUntil(1_000);
    for (let action = 0; action < plan.actions && oracle.failure === null; action++) {
      this.causeTrouble();
      this.act(chance.pick(this.nodes));
      timeline.runUntil(timeline.nowMs + chance.next() * 2 * plan.pauseMs);
    }
    if (oracle.failure === null) this.mend();
    if (oracle.failure === null) this.comeToRest();
    return oracle.failure;
  }

  private act(node: SimNode): void {
    const { chance, plan } = this;
    const store = node.process?.store;
    if (store === undefined) return;
    const burst = chance.happens(0.1) ? chance.between(2, 8) : 1;
    for (let i = 0; i < burst; i++) {
      if (chance.happens(plan.troubles.flush)) this.flush(node, store);
      const index = chance.below(plan.keys);
      const name = this.names[index];
      // Every other key is a counter most of the time.
      const isCounter = index % 2 === 1 ? chance.happens(0.8) : chance.happens(0.05);
      if (isCounter) this.increment(node, store, name);
      else if (chance.happens(0.3)) this.delete(node, store, name);
      else this.set(node, store, name, index % 2 === 1);
    }
  }

  private set(node: SimNode, store: Store, name: string, isNumber: boolean): void {
    const { chance, plan } = this;
    const number = ++this.valueNumber;
    let value = isNumber && chance.happens(0.9) ? String(number) : `v${number}`;
    if (!isNumber && chance.happens(0.1)) value = value.padEnd(MAX_EVENT_BYTES + 50, ".");
    const canExpire = plan.expiry && (!isNumber || plan.troubles.absence === 0);
    const livesMs = canExpire && chance.happens(0.3) ? chance.magnitude(10, 100_000) : 0;
    const expiresAtMs = livesMs === 0 ? 0 : node.wallMs() + livesMs;
    const key = this.keys.get(name)!;
    const bytes = new TextEncoder().encode(value);
    const outcome = store.set(key, 0, key.length, bytes, 0, bytes.length, expiresAtMs);
    this.counts.writes++;
    this.trace(() => `${node.id} SET ${name} ${value.slice(0, 10)} ${expiresAtMs || ""}`);
    if (outcome !== APPLIED) return this.oracle.fail(`SET came to ${outcome}`);
    this.oracle.wrote(node.place, store, name, value, expiresAtMs);
    const shown = shownBy(store, key, this.view);
    if (shown?.value !== value) this.oracle.fail(`${node.id}: SET ${name} does not show`);
  }

  private delete(node: SimNode, store: Store, name: string): void {
    // A counter that was deleted, forgotten and begun again is beyond what is promised.
    if (this.plan.troubles.absence > 0 && Number(name.slice(1)) % 2 === 1) return;
    const key = this.keys.get(name)!;
    if (!store.delete(key, 0, key.length)) return;
    this.counts.writes++;
    this.trace(() => `${node.id} DEL ${name}`);
    this.oracle.wrote(node.place, store, name, null, 0);
    if (store.find(key, 0, key.length) >= 0) this.oracle.fail(`${node.id}: DEL ${name} did not`);
  }

  private increment(node: SimNode, store: Store, name: string): void {
    if (this.plan.troubles.absence > 0 && Number(name.slice(1)) % 2 === 0) return;
    const key = this.keys.get(name)!;
    const by = this.chance.between(-5, 9);
    const before = shownBy(store, key, this.view)?.value ?? "0";
    const outcome = store.increment(key, 0, key.length, this.delta.set(by < 0 ? -1 : 0, by));
    if (outcome === NOT_A_NUMBER && !/^-?\d+$/.test(before)) return;
    this.counts.increments++;
    const after = shownBy(store, key, this.view)?.value;
    this.trace(() => `${node.id} INCR ${name} by ${by} to ${after}`);
    const expected = String(BigInt(before) + BigInt(by));
    if (outcome !== APPLIED || after !== expected) {
      this.oracle.fail(`${node.id}: INCR ${name} from ${before} by ${by} came to ${after}`);
    } else {
      this.oracle.incremented(node.place, store, name, BigInt(by));
    }
  }

  private flush(node: SimNode, store: Store): void {
    store.flush();
    this.counts.flushes++;
    this.trace(() => `${node.id} FLUSH`);
    if (store.size !== 0) this.oracle.fail(`${node.id}: FLUSH left something`);
  }

  private causeTrouble(): void {
    const { chance, plan, counts } = this;
    const { troubles } = plan;
    if (chance.happens(troubles.partition)) {
      counts.partitions++;
      this.partition();
    }
    if (chance.happens(troubles.crash)) {
      counts.crashes++;
      this.crash(chance.pick(this.nodes));
    }
    if (chance.happens(troubles.brokerOutage)) {
      counts.outages++;
      this.trace(() => "the broker goes away");
      this.broker.stop(chance.happens(0.5));
      this.timeline.after(chance.magnitude(100, 30_000), () => this.broker.start());
    }
    if (chance.happens(troubles.clockStep)) {
      counts.steps++;
      const node = chance.pick(this.nodes);
      node.clockOffsetMs = chance.pick([-HOUR_MS, 0, HOUR_MS, chance.between(-5_000, 5_000)]);
      this.trace(() => `the clock of ${node.id} is off by ${node.clockOffsetMs} ms`);
    }
    if (chance.happens(troubles.absence)) {
      counts.absences++;
      this.sendAway(chance.pick(this.nodes));
    }
  }

  /** Cuts lines between some places, one way or both, for a while. */
  private partition(): void {
    const { chance, plan, timeline, network } = this;
    const cut: [number, number][] = [];
    if (chance.happens(0.4)) {
      // A group against the rest.
      const group = chance.between(1, 2 ** (plan.nodes + 1) - 2);
      for (let a = 0; a <= plan.nodes; a++) {
        for (let b = 0; b <= plan.nodes; b++) {
          if (((group >> a) & 1) !== ((group >> b) & 1)) cut.push([a, b]);
        }
      }
    } else {
      const a = chance.below(plan.nodes + 1);
      const b = (a + 1 + chance.below(plan.nodes)) % (plan.nodes + 1);
      cut.push([a, b]);
      if (chance.happens(0.5)) cut.push([b, a]);
    }
    this.cut(cut);
    timeline.after(chance.magnitude(100, 60_000), () => {
      for (const [from, to] of cut) network.set(from, to, false);
    });
  }

  private cut(lines: [number, number][]): void {
    this.trace(() => `cut off: ${lines.map(([from, to]) => `${from}→${to}`).join(" ")}`);
    const { place } = this.broker;
    for (const [from, to] of lines) {
      this.network.set(from, to, true);
      if (from === place || to === place) this.broker.cutOff(from === place ? to : from);
    }
  }

  private crash(node: SimNode): void {
    if (!node.isUp) return;
    this.trace(() => `${node.id} crashes`);
    node.crash();
    this.timeline.after(this.chance.magnitude(10, 20_000), () => this.restart(node));
  }

  private restart(node: SimNode): void {
    if (node.isUp) return;
    node.start();
    this.trace(() => `${node.id} is back with ${node.process!.store.size} keys`);
  }

  /** A node hears nobody for longer than deletions are remembered, its clients still there. */
  private sendAway(node: SimNode): void {
    const { chance, plan, timeline, network } = this;
    const others = Array.from({ length: plan.nodes + 1 }, (_, i) => i).filter(
      (it) => it !== node.place,
    );
    const lines = others.flatMap((it): [number, number][] => [
      [it, node.place],
      [node.place, it],
    ]);
    this.trace(() => `${node.id} is away past the grace`);
    this.cut(lines);
    this.act(node);
    timeline.runUntil(timeline.nowMs + 10_000);
    this.act(node);
    this.act(chance.pick(this.nodes));
    this.act(chance.pick(this.nodes));
    this.pass(plan.graceMs * (1 + chance.next()));
    for (const [from, to] of lines) network.set(from, to, false);
    this.trace(() => `${node.id} is reachable again`);
  }

  /** Lets time pass at a pace that fits its length. */
  private pass(ms: number): void {
    this.pace = Math.max(1, ms / 100_000);
    this.timeline.runUntil(this.timeline.nowMs + ms);
    this.pace = 1;
  }

  /** Ends all troubles. */
  private mend(): void {
    const { plan, timeline, network, broker } = this;
    this.trace(() => "everything is mended");
    this.isTroubled = false;
    plan.broker.drop = broker.faults.drop = 0;
    broker.faults.duplicate = broker.faults.reorder = 0;
    network.heal();
    broker.start();
    for (const node of this.nodes) {
      node.clockOffsetMs = 0;
      node.drift = 0;
      this.restart(node);
    }
    timeline.runUntil(timeline.nowMs + 30_000);
    // What was written with a clock an hour ahead can be passed on when that hour is over.
    if (plan.troubles.clockStep > 0) this.pass(HOUR_MS + 60_000);
    // The next batch of each node tells the others what they missed.
    if (plan.syncEveryMs === Infinity) {
      for (const node of this.nodes) this.set(node, node.process!.store, "k0", false);
    }
  }

  /** Waits until all nodes show what they must. */
  private comeToRest(): void {
    const { oracle, plan, timeline } = this;
    const isRegular = plan.syncEveryMs !== Infinity;
    const untilMs = timeline.nowMs + MAX_REST_MS + 10 * (isRegular ? plan.syncEveryMs : 0);
    let problem: string | null = null;
    do {
      timeline.runUntil(timeline.nowMs + 10_000);
      problem = this.findDifference();
    } while (problem !== null && timeline.nowMs < untilMs && oracle.failure === null);
    if (oracle.failure !== null) return;
    if (problem !== null) return oracle.fail(`not at rest: ${problem}`);
    this.checkContents();
    this.checkTrees();
  }

  /** How two nodes differ; null when all hold the same. */
  private findDifference(): string | null {
    const [first, ...others] = this.nodes.map((node) => this.contentsOf(node.process!.store));
    for (const [index, other] of others.entries()) {
      for (const key of new Set([...first.keys(), ...other.keys()])) {
        if (first.get(key) !== other.get(key)) {
          return `${key} is ${first.get(key)} on n0 and ${other.get(key)} on n${index + 1}`;
        }
      }
    }
    return null;
  }

  private contentsOf(store: Store): Map<string, string> {
    const contents = new Map<string, string>();
    const { view } = this;
    for (let id = 0; id < store.idLimit; id++) {
      if (!store.isUsed(id)) continue;
      store.read(id, view);
      const { kind, timeHigh, timeLow, originHigh, originLow, expiresAtMs } = view;
      const version = `${timeHigh}.${timeLow}.${originHigh}.${originLow}`;
      const value = Buffer.from(view.valueBytes()).toString("latin1");
      const key = Buffer.from(view.keyBytes()).toString();
      contents.set(key, `kind ${kind} version ${version} expires ${expiresAtMs} value ${value}`);
    }
    return contents;
  }

  private checkContents(): void {
    for (const [name, key] of this.keys) {
      const expected = this.oracle.expected(name, EPOCH_MS + this.timeline.nowMs);
      for (const { id, process } of this.nodes) {
        const shown = shownBy(process!.store, key, this.view);
        if (shown?.value === expected?.value && shown?.expiresAtMs === expected?.expiresAtMs)
          continue;
        const [is, be] = [shown, expected].map((it) => JSON.stringify(it));
        return this.oracle.fail(`${id}: ${name} is ${is} and should be ${be}`);
      }
    }
  }

  private checkTrees(): void {
    const now = () => 0;
    const { store } = this.nodes[0].process!;
    const fresh = new MerkleTree(store);
    for (let id = 0; id < store.idLimit; id++) if (store.isUsed(id)) fresh.changed(id);
    while (fresh.update(LATEST, LATEST, 1, now));
    for (const { id, process } of this.nodes) {
      while (process!.tree.update(LATEST, LATEST, 1, now));
      if (process!.tree.rootHex() !== fresh.rootHex()) {
        this.oracle.fail(`${id}: the root is not that of what it holds`);
      }
    }
  }
}
