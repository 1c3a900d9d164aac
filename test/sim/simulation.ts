/**
 * A whole cluster on one seed: clients write to every node while messages are lost, nodes crash
 * and clocks jump; then everything is mended, and the cluster must come to rest in
 * exactly the state that `oracle.ts` demands.
 *
 * Real: the whole replica (`src/replica.ts`) with all that it is made of, from the journal to the
 * scheduling of sessions. Simulated is the world it is given: wall clock and timers, chance, disks,
 * the connections between nodes, and the broker in the place of the MQTT client.
 * Nothing depends on anything but the seed, so a failing seed fails again in the same way.
 */
import type { Config } from "../../src/config/schema.ts";
import { AntiEntropy } from "../../src/anti-entropy/anti-entropy.ts";
import type { Fact } from "../../src/fact.ts";
import { Replicator } from "../../src/replication/replicator.ts";
import { silentLogger, type Log, type Logger } from "../../src/observability/log.ts";
import type { Replica } from "../../src/replica.ts";
import type { ClusterSecrets } from "../../src/security/cluster-secrets.ts";
import { clusterSecrets } from "../support/secrets.ts";
import { Broker } from "./broker.ts";
import { Chance } from "./chance.ts";
import { Clients } from "./clients.ts";
import { History } from "./history.ts";
import { isLiars } from "./holding.ts";
import type { Party } from "./links.ts";
import { Liar } from "./liar.ts";
import { LIAR } from "./lies.ts";
import { Network } from "./network.ts";
import { Oracle } from "./oracle.ts";
import {
  drawForgettingPlan,
  drawPlan,
  withJumps,
  withMostASecond,
  withThinLine,
  withVersions,
  type Plan,
} from "./plan.ts";
import {
  checkClocks,
  findUntaken,
  checkLinks,
  checkContents,
  checkInvariants,
  findOddRoot,
  countFailedSyncs,
  findDifference,
  findUnsafe,
} from "./rest.ts";
import { EPOCH_MS, FIRST_PORT, MAX_EVENT_BYTES, SimNode } from "./sim-node.ts";
import { Timeline } from "./timeline.ts";
import { Troubles } from "./troubles.ts";
import { AS_DRAWN, changedPlan, type Act, type Variation } from "./variation.ts";
import { OriginNames } from "./watched-store.ts";

/** Its topic prefix, and so its name. */
const CLUSTER = "sim";
const HOUR_MS = 3_600_000;
/** Everything in the simulated world comes to rest within this time, and ten sync rounds. */
const MAX_REST_MS = 600_000;
/** Nobody holds a connection to a peer for longer, in ms: twenty times the time of silence, and a margin. */
const MAX_SESSION_MS = 630_000;
/** How many seeds go on for so long after all is mended, to see whether somebody does. */
const LINGERS = 0.1;
/**
 * Long quiet times go by with as much going on as in so many ms before. That is enough for a dozen
 * rounds of every node, whatever their interval: more would find nothing new, as all is equal by then.
 */
export const QUIET_LIKE_MS = 3_000;
/** Within this time each node has stored its clock, and what a disk takes for that. */
const STORED_MS = 1_200;
/** Every so many turns the invariants of one node's store and tree are looked at: it takes a while. */
const TURNS_A_CHECK = 20;
/** A process is there within this time, whatever its node was at. */
const MAX_START_MS = 120_000;
/** How many seeds have a liar, of those that could. */
const LIARS = 0.1;
/** How many seeds have clocks that jump often. */
const JUMPS = 0.25;
/** How many seeds have nodes of several versions. */
const VERSIONS = 0.25;
/** How many seeds have a cluster with a secret. */
const SEALED = 0.1;
/** How many seeds have a broker that takes few messages a second, and how many it takes. */
const PACED = 0.1;
const MOST_A_SECOND = [5, 60] as const;
/** How many seeds have a node at the end of a thin line. */
const THIN_LINES = 0.1;
/** What clients write once all clocks are right all others have after so long, if it has to be fetched, too. */
const SOON_MS = 120_000;

/** Those of a cluster that has some: as `clusterSecrets` takes them. */
export const SECRETS = ["one", ["other", "third"]] as const;

/** What came of a seed. */
export interface Outcome {
  readonly seed: number;
  /** What was wrong; null when nothing was. */
  readonly failure: string | null;
  /** What clients and troubles did. */
  readonly acts: readonly Act[];
  /** The nodes there were, by their ids. */
  readonly nodes: readonly string[];
  readonly plan: Plan;
  /** What happened, if it was traced. */
  readonly trace: readonly string[];
  /** The history of the key at fault, if there is one and it was traced. */
  readonly keyHistory: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
}

/** What to make of a seed. */
export interface SimulationOptions {
  /** Whether a record of what happens is kept. */
  readonly isTraced?: boolean;
  /** Whether it is mostly about deletions that are forgotten. */
  readonly isForgetting?: boolean;
  /** Whether one of the members lies; drawn by default. */
  readonly hasLiar?: boolean;
  /** Whether clocks jump often; drawn by default. */
  readonly hasJumps?: boolean;
  /** Whether there are nodes of several versions; drawn by default. */
  readonly hasVersions?: boolean;
  /** Whether a node is at the end of a thin line; drawn by default. */
  readonly hasThinLine?: boolean;
  /** Whether the broker takes few messages a second; drawn by default. */
  readonly isPaced?: boolean;
  /** Whether the cluster has a secret; drawn by default. */
  readonly isSealed?: boolean;
  /** What is left out. */
  readonly variation?: Variation;
}

/** Runs a seed to its end. */
export function simulate(seed: number, options: SimulationOptions = {}): Outcome {
  const simulation = new Simulation(seed, options);
  let failure: string | null;
  try {
    failure = simulation.run();
  } catch (error) {
    failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const { acts, broker, counts, history, names, plan, present } = simulation;
  const key = names.find((name) => new RegExp(`\\b${name}\\b`).test(failure ?? ""));
  return {
    seed,
    failure,
    acts,
    nodes: [...present.map(({ id }) => id), ...(simulation.liar === null ? [] : [LIAR])],
    plan,
    trace: history.all(),
    keyHistory: key === undefined ? [] : history.of(key),
    counts: { ...counts, ...broker.counts, folds: simulation.oracle.folds },
  };
}

/** The simulated world. */
export class Simulation {
  readonly timeline = new Timeline();
  readonly network = new Network();
  readonly plan: Plan;
  readonly broker: Broker;
  /** All that were drawn. */
  readonly nodes: SimNode[] = [];
  /** Those that are ever started. */
  readonly present: SimNode[] = [];
  /** What clients and troubles did. */
  readonly acts: Act[] = [];
  readonly oracle: Oracle;
  readonly mqttSettings: Omit<Config["mqtt"], "embedded" | "tls">;
  /** A member that lies; null for none. */
  readonly liar: Liar | null;
  /** Whether the cluster has a secret, which is being changed all the time. */
  readonly isSealed: boolean;
  readonly counts: Record<string, number> = {
    writes: 0,
    increments: 0,
    flushes: 0,
    partitions: 0,
    refusedWrites: 0,
    kills: 0,
    powerCuts: 0,
    stops: 0,
    snapshots: 0,
    fullDisks: 0,
    stalledDisks: 0,
    failedSyncsToDisk: 0,
    outages: 0,
    steps: 0,
    lostTimes: 0,
    absences: 0,
    losses: 0,
    versionChanges: 0,
    keyChanges: 0,
    secretChanges: 0,
    forgets: 0,
    setAside: 0,
    expiries: 0,
    missing: 0,
  };
  /** The keys there may be, and their bytes. */
  readonly names: string[] = [];
  readonly keys = new Map<string, Uint8Array>();
  readonly history: History;
  readonly originNames = new OriginNames(EPOCH_MS);
  /** Whether troubles go on. */
  isTroubled = true;
  /** Nodes do what they do regularly so many times more seldom: to get through quiet hours quickly. */
  pace = 1;
  private lastPace = 1;
  /** What is to come at a pace that will not last. */
  private readonly slowed = new Set<{ readonly atMs: number; run(): void; cancel(): void }>();
  private lastPaceMs = -Infinity;

  private readonly clients = new Clients(this);
  private readonly troubles = new Troubles(this, this.clients);

  private readonly variation: Variation;

  constructor(
    readonly seed: number,
    options: SimulationOptions,
  ) {
    this.variation = options.variation ?? AS_DRAWN;
    const chance = this.chanceOfAct("plan");
    const drawn = options.isForgetting ? drawForgettingPlan(chance) : drawPlan(chance);
    const jumps = options.hasJumps ?? (!options.isForgetting && this.isDrawn("has jumps", JUMPS));
    const jumping = jumps ? withJumps(drawn) : drawn;
    const versions = options.hasVersions ?? this.isDrawn("has versions", VERSIONS);
    const mixed = versions ? withVersions(jumping) : jumping;
    const thin = options.hasThinLine ?? this.isDrawn("has a thin line", THIN_LINES);
    const varied = thin ? withThinLine(mixed) : mixed;
    const isPaced = options.isPaced ?? this.isDrawn("is paced", PACED);
    const most = isPaced ? this.chanceOfAct("most a second").between(...MOST_A_SECOND) : 0;
    const paced = withMostASecond(varied, most);
    const plan = (this.plan = changedPlan(paced, this.variation.change));
    if (plan.hasThinLine) this.network.thinPlace = 0;
    const nowMs = () => this.timeline.nowMs;
    this.history = new History(options.isTraced ?? false, nowMs, this.names);
    this.oracle = new Oracle(plan.disks, nowMs, () => this.timeline.halt());
    const { maxLatencyMs } = plan;
    const { network, timeline } = this;
    this.broker = new Broker(
      plan.nodes,
      network,
      timeline,
      (name) => this.chanceOf(name),
      { ...plan.broker },
      maxLatencyMs,
      (delayMs, task) => void this.afterAtPace(delayMs, task),
      this.history,
    );
    this.mqttSettings = {
      enabled: true,
      broker_address: "mqtt://broker:1883",
      topic_prefix: CLUSTER,
      client_id: "",
      username: "",
      password: "",
      keep_alive: 60,
      clean_session: plan.cleanSession,
      protocol_version: "auto",
      max_packet_bytes: 131_072,
      max_messages_per_second: 0,
      max_event_bytes: MAX_EVENT_BYTES,
      accept_foreign_events: true,
      batch_milliseconds: 5,
      batch_bytes: 1_024,
      max_outbox_events: plan.maxOutboxEvents,
    };
    for (let i = 0; i < plan.keys; i++) {
      this.names.push(`k${i}`);
      this.keys.set(`k${i}`, new TextEncoder().encode(`k${i}`));
    }
    for (let place = 0; place < plan.nodes; place++) {
      const node = new SimNode(this, place);
      this.nodes.push(node);
      if (!this.variation.without.has(node.id)) this.present.push(node);
    }
    this.isSealed = options.isSealed ?? this.isDrawn("is sealed", SEALED);
    // Who hears little of anybody else believes a liar more of the time than it should: unsolved.
    const isLiarDrawn = !plan.hasThinLine && this.isDrawn("has liar", LIARS);
    this.liar = this.createLiar(options.hasLiar ?? isLiarDrawn);
  }

  /** Whether the seed stands for a cluster of a kind that so large a part of them is of. */
  private isDrawn(name: string, share: number): boolean {
    return this.chanceOfAct(name).happens(share);
  }

  private createLiar(isDrawn: boolean): Liar | null {
    const { nodes, syncEveryMs } = this.plan;
    const hasRounds = syncEveryMs !== Infinity;
    if (!isDrawn || !hasRounds || this.variation.without.has(LIAR)) return null;
    // The number after the last node's is the broker's.
    return new Liar(this, nodes + 1, FIRST_PORT + nodes + 1);
  }

  /** Where all members are, honest or not. */
  addresses(): string[] {
    const reachable = this.present.filter(({ isReachable }) => isReachable);
    const addresses = reachable.map(({ address }) => address);
    return this.liar === null ? addresses : [...addresses, this.liar.address];
  }

  /** What happens by itself, by what it happens to: drawn from the moment (`chance.ts`). */
  chanceOf(name: string): Chance {
    return new Chance(this.seed, name, () => this.timeline.nowMs);
  }

  /** What is drawn for an act, whenever it comes. */
  chanceOfAct(name: string): Chance {
    return new Chance(this.seed, name);
  }

  /** Whether an act is to be done, which is noted then. */
  admits(name: string, text: string): boolean {
    const { only } = this.variation;
    if (only !== null && !only.has(name)) return false;
    this.acts.push({ name, text });
    return true;
  }

  /** A node dropped an entry, which it has set aside. */
  noteSetAside(node: SimNode, key: string): void {
    this.history.noteKey(key, () => `${node.id} has set aside ${key}`);
    this.counts.setAside++;
    if (isLiars(key) || this.plan.troubles.absence > 0) return;
    this.oracle.fail(`${node.id} set something aside without having been away`);
  }

  /**
   * The secrets of a process that starts, or of the liar: it knows both, and seals with one. At
   * times it knows a third one that nobody seals with.
   */
  drawSecrets(chance: Chance): ClusterSecrets | null {
    if (!this.isSealed) return null;
    const [one, [other, third]] = SECRETS;
    const [current, previous] = chance.happens(0.5) ? [one, other] : [other, one];
    return clusterSecrets(current, chance.happens(0.3) ? [previous, third] : [previous]);
  }

  /** Who listens at an address, and where in the network that is. */
  partyAt(address: string): { place: number; party: Party | null } | null {
    if (this.liar?.address === address) return { place: this.liar.place, party: this.liar };
    const node = this.present.find((it) => it.address === address && it.isReachable);
    return node === undefined ? null : { place: node.place, party: node.process };
  }

  /** Takes the facts of a replica into account that is about to end, or at the end of it all. */
  count({ antiEntropy, replicator }: Replica): void {
    const { counts } = this;
    const add = <Part>(facts: readonly Fact<Part>[], part: Part): void => {
      for (const { kind, name, read } of facts) {
        if (kind === "counter") counts[name] = (counts[name] ?? 0) + Number(read(part));
      }
    };
    add(AntiEntropy.facts, antiEntropy);
    add(Replicator.facts, replicator!);
  }

  /** The log of a node, as a part of the history. A mistake in the program is one that fails the seed. */
  loggerOf(node: SimNode): Logger {
    const { history, oracle } = this;
    const log: Log = (message, fields = {}) =>
      history.noteAside(() => `${node.id} logs: ${message} ${JSON.stringify(fields)}`);
    const error: Log = (message, fields = {}) => {
      if (/bug/i.test(message)) oracle.fail(`${node.id}: ${JSON.stringify(fields)}`);
      log(message, fields);
    };
    const logger = { ...silentLogger, error, child: (): Logger => logger };
    if (history.isKept) Object.assign(logger, { debug: log, info: log, warn: log });
    return logger;
  }

  /** Runs it. Null when all is well, else what is wrong. */
  run(): string | null {
    const { plan, timeline, oracle } = this;
    this.history.note(() => JSON.stringify(plan));
    for (const node of this.present) {
      const chance = this.chanceOfAct(`drift ${node.id}`);
      node.drift = (chance.next() * 2 - 1) * plan.drift;
      node.start();
    }
    this.liar?.start();
    timeline.runUntil(3_000);
    for (let turn = 0; turn < plan.actions && oracle.failure === null; turn++) {
      const chance = this.chanceOfAct(`${turn}`);
      this.troubles.cause(turn);
      this.clients.act(chance.pick(this.nodes), `${turn}`);
      timeline.runUntil(timeline.nowMs + chance.next() * 2 * plan.pauseMs);
      if (turn % TURNS_A_CHECK === 0) checkInvariants(this, [chance.pick(this.present)]);
    }
    if (oracle.failure === null) this.mend();
    if (oracle.failure === null) this.comeToRest();
    for (const { serving } of this.present) if (serving !== null) this.count(serving);
    return oracle.failure;
  }

  /** Lets time pass at a pace that fits its length: with as much going on as in `likeMs` before. */
  pass(ms: number, likeMs: number): void {
    this.pace = this.lastPace = Math.max(1, ms / likeMs);
    this.timeline.runUntil(this.timeline.nowMs + ms);
    this.lastPaceMs = this.timeline.nowMs;
    // What was put off for the time that passed slowly is not to come long after it.
    const slowed = [...this.slowed];
    this.slowed.clear();
    for (const timer of slowed) {
      timer.cancel();
      const leftMs = (timer.atMs - this.timeline.nowMs) / this.pace;
      timer.cancel = this.timeline.after(leftMs, timer.run);
    }
    this.pace = 1;
    // A node stores its clock every second, and what it vouches for to peers is older than that.
    // At a slower pace it does not. So it does once more, or after a crash with a wrong clock it
    // would be behind what it vouched for, as no node is that had a disk (docs/forgetting.md).
    this.timeline.runUntil(this.timeline.nowMs + STORED_MS + 10 * this.plan.maxDiskMs);
  }

  /** Runs the task when so many milliseconds have passed at the pace there is. */
  afterAtPace(delayMs: number, task: () => void): () => void {
    const { pace, slowed, timeline } = this;
    if (pace === 1) return timeline.after(delayMs, task);
    const run = (): void => {
      slowed.delete(timer);
      task();
    };
    const atMs = timeline.nowMs + delayMs * pace;
    const timer = { atMs, run, cancel: timeline.after(delayMs * pace, run) };
    slowed.add(timer);
    return () => {
      slowed.delete(timer);
      timer.cancel();
    };
  }

  /** The slowest pace at which something regular may have been put off that is not done yet. */
  longestPace(): number {
    const { lastPace, lastPaceMs, pace, timeline } = this;
    return timeline.nowMs - lastPaceMs < 2 * lastPace * 1_000 ? lastPace : pace;
  }

  /** Ends all troubles. */
  private mend(): void {
    const { plan, timeline, network, broker } = this;
    this.history.note(() => "everything is mended");
    this.isTroubled = false;
    Object.assign(broker.faults, { drop: 0, duplicate: 0, reorder: 0 });
    network.heal();
    broker.start();
    for (const node of this.present) {
      node.clockOffsetMs = 0;
      node.drift = 0;
      node.disk.contents.failWritesWith = node.disk.contents.failSyncsWith = null;
      node.start();
    }
    const untilMs = timeline.nowMs + MAX_START_MS;
    do timeline.runUntil(timeline.nowMs + 30_000);
    while (this.present.some((node) => !node.isUp) && timeline.nowMs < untilMs);
    if (plan.troubles.clockStep > 0) {
      // Those that believed their clocks unconfirmed are no witnesses for others for a while.
      // Not so quickly that they would be taken for gone.
      this.pass(200_000, 100_000);
      this.tryWrites();
    }
    // What was written with a clock an hour ahead can be passed on when that hour is over.
    const { clockStep, lostTime } = plan.troubles;
    if (clockStep > 0 || lostTime > 0) this.pass(HOUR_MS + 60_000, QUIET_LIKE_MS);
    // The next batch of each node tells the others what they missed.
    if (plan.syncEveryMs === Infinity) {
      for (const node of this.present) {
        this.clients.set(node, node.serving!.store, "k0", `mended.${node.id}`);
      }
    }
  }

  /** All clocks are right again: what is written now all nodes have soon, or it is refused. */
  private tryWrites(): void {
    const { clients, oracle, present, timeline } = this;
    checkClocks(this);
    const tries = present.flatMap((node) => clients.tryWrites(node));
    // Over a thin line a session may take so long that others want its place.
    const untilMs = timeline.nowMs + (this.plan.hasThinLine ? 5 : 1) * SOON_MS;
    let problem: string | null;
    do {
      timeline.runUntil(timeline.nowMs + 10_000);
      problem = findUntaken(this, tries);
    } while (problem !== null && timeline.nowMs < untilMs && oracle.failure === null);
    if (problem !== null) oracle.fail(problem);
  }

  /** Waits until all nodes show what they must. */
  private comeToRest(): void {
    const { oracle, plan, timeline } = this;
    const failedBefore = countFailedSyncs(this.present);
    if (this.chanceOfAct("lingers").happens(LINGERS)) {
      this.pass(MAX_SESSION_MS, MAX_SESSION_MS / 10);
      checkLinks(this, MAX_SESSION_MS);
    }
    const isRegular = plan.syncEveryMs !== Infinity;
    const untilMs = timeline.nowMs + MAX_REST_MS + 10 * (isRegular ? plan.syncEveryMs : 0);
    let problem: string | null = null;
    do {
      timeline.runUntil(timeline.nowMs + 10_000);
      problem = findDifference(this.present, EPOCH_MS + timeline.nowMs) ?? findUnsafe(this.present);
      problem ??= findOddRoot(this);
    } while (problem !== null && timeline.nowMs < untilMs && oracle.failure === null);
    if (oracle.failure !== null) return;
    if (problem !== null) return oracle.fail(`not at rest: ${problem}`);
    // A session that comes to a standstill is begun anew in the end, and hides that way.
    const failed = countFailedSyncs(this.present) - failedBefore;
    // Over a thin line now and then something is not there in time.
    const mayFail = this.liar !== null || plan.hasThinLine || plan.broker.mostASecond > 0;
    if (failed > 0 && !mayFail) oracle.fail(`${failed} syncs failed, and all was well`);
    checkContents(this);
    checkInvariants(this, this.present);
  }
}
