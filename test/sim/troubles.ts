/** What goes wrong in the simulation. */
import type { Chance } from "./chance.ts";
import type { Clients } from "./clients.ts";
import type { SimulatedDisk } from "../support/simulated-disk.ts";
import { EPOCH_MS, type SimNode } from "./sim-node.ts";
import type { Plan } from "./plan.ts";
import { QUIET_LIKE_MS, type Simulation } from "./simulation.ts";

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
/** Troubles that are not of one node. */
const OF_ALL = new Set(["partition", "brokerOutage", "isolation"]);
/** Troubles during which time passes. */
const TAKES_TIME = new Set(["absence", "isolation", "departure"]);

/** Draws troubles and causes them. */
export class Troubles {
  /** What was on the disks of nodes once. */
  private nextJumpMs = 0;
  private readonly backups = new Map<SimNode, SimulatedDisk>();

  constructor(
    private readonly simulation: Simulation,
    private readonly clients: Clients,
  ) {}

  /** Lets something go wrong in a turn, or not. */
  cause(turn: number): void {
    this.attempt(turn, "partition", (_, chance) => this.partition(chance));
    this.attempt(turn, "crash", (node, chance) => this.crash(node, chance));
    this.attempt(turn, "snapshot", (node) => this.snapshot(node));
    this.attempt(turn, "fullDisk", (node, chance) => this.fill(node, chance));
    this.attempt(turn, "stalledDisk", (node, chance) => this.stall(node, chance));
    this.attempt(turn, "failingSync", (node) => this.failSync(node));
    this.attempt(turn, "brokerOutage", (_, chance) => this.breakBroker(chance));
    this.attempt(turn, "clockStep", (node, chance) => this.step(node, chance));
    this.attempt(turn, "lostTime", (node, chance) => this.loseTime(node, chance));
    this.attempt(turn, "absence", this.sendAway.bind(this));
    this.attempt(turn, "isolation", this.isolate.bind(this));
    this.attempt(turn, "departure", this.depart.bind(this));
    this.attempt(turn, "loss", (node, chance) => this.lose(node, chance));
    if (this.simulation.isSealed) {
      this.attempt(turn, "secretChange", (node, chance) => this.changeSecret(node, chance));
    }
  }

  /** An act of its own, of a node or of all. One that takes time lets it pass when it is left out. */
  private attempt(
    turn: number,
    kind: keyof Plan["troubles"],
    act: (node: SimNode, chance: Chance, name: string, isLeftOut: boolean) => void,
  ): void {
    const { nodes, plan } = this.simulation;
    const name = `${turn}.${kind}`;
    const chance = this.simulation.chanceOfAct(name);
    if (!chance.happens(plan.troubles[kind])) return;
    const node = chance.pick(nodes);
    const text = OF_ALL.has(kind) ? kind : `${node.id} ${kind}`;
    const isLeftOut = !this.simulation.admits(name, text);
    if (!isLeftOut || TAKES_TIME.has(kind)) act(node, chance, name, isLeftOut);
  }

  /** Cuts lines between some places, one way or both, for a while. */
  private partition(chance: Chance): void {
    const { counts, plan, timeline, network } = this.simulation;
    counts.partitions++;
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
    this.simulation.history.note(
      () => `cut off: ${lines.map(([from, to]) => `${from}→${to}`).join(" ")}`,
    );
    const { broker, network } = this.simulation;
    const { place } = broker;
    for (const [from, to] of lines) {
      network.set(from, to, true);
      if (from === place || to === place) broker.cutOff(from === place ? to : from);
    }
  }

  /** Ends a process in one way or another; often the next one comes soon and does not live long either. */
  private crash(node: SimNode, chance: Chance): void {
    const { counts, timeline } = this.simulation;
    const how = chance.pick(["kill", "power", "stop"] as const);
    this.simulation.history.note(() => `${node.id} ends: ${how}`);
    if (how === "stop") {
      counts.stops++;
      node.stop();
    } else {
      if (how === "kill") counts.kills++;
      else counts.powerCuts++;
      node.crash(how);
    }
    const downMs = chance.magnitude(10, 20_000);
    timeline.after(downMs, () => node.start());
    if (!this.simulation.isTroubled || !chance.happens(0.3)) return;
    timeline.after(downMs + chance.magnitude(1, 3_000), () => {
      if (this.simulation.isTroubled) this.crash(node, chance);
    });
  }

  private snapshot(node: SimNode): void {
    this.simulation.counts.snapshots++;
    node.compact();
  }

  private changeSecret(node: SimNode, chance: Chance): void {
    const secrets = this.simulation.drawSecrets(chance);
    this.simulation.counts.secretChanges++;
    node.renewSecrets(secrets);
  }

  private stall(node: SimNode, chance: Chance): void {
    this.simulation.counts.stalledDisks++;
    this.simulation.history.note(() => `the disk of ${node.id} stalls`);
    node.disk.stall(chance.magnitude(100, 10_000));
  }

  private failSync(node: SimNode): void {
    this.simulation.counts.failedSyncsToDisk++;
    node.disk.contents.failSyncsWith = "EIO";
  }

  private breakBroker(chance: Chance): void {
    const { broker, counts, history, timeline } = this.simulation;
    counts.outages++;
    history.note(() => "the broker goes away");
    broker.stop(chance.happens(0.5));
    timeline.after(chance.magnitude(100, 30_000), () => broker.start());
  }

  private step(node: SimNode, chance: Chance): void {
    const { counts, timeline } = this.simulation;
    if (!this.mayJump(chance)) return;
    counts.steps++;
    const how = chance.pick(["for good", "for two seconds", "for a while", "over a restart"]);
    if (how === "for good") {
      const offsetMs = chance.pick([-HOUR_MS, 0, HOUR_MS, chance.between(-5_000, 5_000)]);
      return this.setClock(node, offsetMs);
    }
    if (how === "over a restart") {
      node.crash(chance.pick(["kill", "power"]));
      this.setClock(node, chance.pick([-HOUR_MS, 0, HOUR_MS]));
      return void timeline.after(chance.magnitude(10, 5_000), () => node.start());
    }
    const before = node.clockOffsetMs;
    this.setClock(node, chance.between(-60, 60) * 60_000);
    const lengthMs = how === "for two seconds" ? 2_000 : chance.magnitude(5_000, HOUR_MS);
    timeline.after(lengthMs, () => {
      if (this.simulation.isTroubled) this.setClock(node, before);
    });
  }

  /** Not all clocks jump at once, or it would be nobody's fault that nobody knows the time. */
  private mayJump(chance: Chance): boolean {
    const { nowMs } = this.simulation.timeline;
    if (nowMs < this.nextJumpMs) return false;
    this.nextJumpMs = nowMs + chance.magnitude(1_000, 30_000);
    return true;
  }

  /** A machine boots with a clock that is years off, until it learns the time. */
  private loseTime(node: SimNode, chance: Chance): void {
    const { counts, timeline } = this.simulation;
    if (!this.mayJump(chance)) return;
    counts.lostTimes++;
    node.crash(chance.pick(["kill", "power"]));
    const yearsMs = chance.between(2, 20) * YEAR_MS;
    // One that has no data knows of no time that its clock could be measured by.
    const hasData = this.simulation.oracle.heldBy(node.place).size > 0;
    this.setClock(node, chance.pick([-EPOCH_MS, -yearsMs, hasData ? yearsMs : -yearsMs]));
    node.start();
    timeline.after(chance.magnitude(100, 60_000), () => {
      if (this.simulation.isTroubled) this.setClock(node, 0);
    });
  }

  private setClock(node: SimNode, offsetMs: number): void {
    node.clockOffsetMs = offsetMs;
    this.simulation.history.note(() => `the clock of ${node.id} is off by ${offsetMs} ms`);
  }

  /** A disk takes nothing for a while. */
  private fill(node: SimNode, chance: Chance): void {
    const { counts, timeline } = this.simulation;
    const { contents } = node.disk;
    counts.fullDisks++;
    this.simulation.history.note(() => `the disk of ${node.id} is full`);
    contents.failWritesWith = "ENOSPC";
    contents.partBytes = chance.pick([0, chance.below(300)]);
    timeline.after(chance.magnitude(100, 30_000), () => (contents.failWritesWith = null));
  }

  /** A node hears nobody for longer than deletions are remembered, its clients still there. */
  private sendAway(node: SimNode, chance: Chance, name: string, isLeftOut: boolean): void {
    const { counts, history, plan, timeline, network, nodes } = this.simulation;
    const lines: [number, number][] = [];
    for (let place = 0; place <= plan.nodes; place++) {
      if (place !== node.place) lines.push([place, node.place], [node.place, place]);
    }
    if (!isLeftOut) {
      counts.absences++;
      history.note(() => `${node.id} is away past the grace`);
      this.cut(lines);
    }
    this.clients.act(node, `${name}.0`);
    timeline.runUntil(timeline.nowMs + 10_000);
    this.clients.act(node, `${name}.1`);
    this.clients.act(chance.pick(nodes), `${name}.2`);
    this.clients.act(chance.pick(nodes), `${name}.3`);
    // Long enough for the others to compare.
    this.simulation.pass(plan.graceMs * (1 + chance.next()), QUIET_LIKE_MS);
    if (isLeftOut) return;
    for (const [from, to] of lines) network.set(from, to, false);
    history.note(() => `${node.id} is reachable again`);
  }

  /** Some lines are cut and some nodes down for long, while clients go on at the others. */
  private isolate(_: SimNode, chance: Chance, name: string, isLeftOut: boolean): void {
    const { history, plan, timeline, network, nodes } = this.simulation;
    const lines: [number, number][] = [];
    const apart = chance.pick([0.3, 0.6, 0.9]);
    for (let a = 0; a < plan.nodes; a++) {
      for (let b = a + 1; b <= plan.nodes; b++) {
        if (chance.happens(b === plan.nodes ? 0.6 : apart)) lines.push([a, b], [b, a]);
      }
    }
    const down = nodes.filter(() => chance.happens(0.1));
    if (!isLeftOut) {
      history.note(() => "few reach each other");
      this.cut(lines);
      for (const node of down) if (node.isUp) node.crash("kill");
    }
    const pieces = chance.between(1, 4);
    const lengthMs = plan.graceMs * chance.pick([0.05, 0.3, 0.9, 1.1, 1.6]);
    for (let piece = 0; piece < pieces; piece++) {
      const acts = chance.between(0, 3);
      for (let i = 0; i < acts; i++) this.clients.act(chance.pick(nodes), `${name}.${piece}.${i}`);
      timeline.runUntil(timeline.nowMs + chance.next() * 10_000);
      this.simulation.pass(lengthMs / pieces, QUIET_LIKE_MS);
    }
    if (isLeftOut) return;
    for (const node of down) node.start();
    for (const [from, to] of lines) network.set(from, to, false);
    history.note(() => "all reach each other");
  }

  /**
   * A node is switched off, and an operator says at another that it is gone for good. Then so much
   * time passes, or less, that it is dropped, and in the end it comes back all the same.
   */
  private depart(node: SimNode, chance: Chance, name: string, isLeftOut: boolean): void {
    const { counts, history, plan, timeline, nodes } = this.simulation;
    const isStopped = !isLeftOut && node.isUp;
    if (isStopped) {
      history.note(() => `${node.id} is switched off for good`);
      node.crash("kill");
    }
    const lengthMs = plan.graceMs * chance.pick([0.5, 1.5, 4, 8.5, 11]);
    const pieces = chance.between(2, 6);
    for (let piece = 0; piece < pieces; piece++) {
      const teller = chance.pick(nodes);
      if (isStopped && teller !== node && teller.serving !== null && chance.happens(0.6)) {
        const refusal = teller.serving.antiEntropy.forget(node.id);
        if (refusal === null) counts.forgets++;
        history.note(() => `${teller.id} is told to forget ${node.id}: ${refusal ?? "OK"}`);
      }
      const acts = chance.between(0, 3);
      for (let i = 0; i < acts; i++) this.clients.act(chance.pick(nodes), `${name}.${piece}.${i}`);
      timeline.runUntil(timeline.nowMs + chance.next() * 20_000);
      this.simulation.pass(lengthMs / pieces, QUIET_LIKE_MS);
    }
    if (isStopped) node.start();
  }

  /** A node comes back without its data, or with what it once had. */
  private lose(node: SimNode, chance: Chance): void {
    const { counts, timeline } = this.simulation;
    if (!node.isUp) return;
    const copy = node.disk.contents.copy();
    const backup = this.backups.get(node) ?? copy;
    this.backups.set(node, copy);
    if (chance.happens(0.4)) return;
    counts.losses++;
    this.simulation.history.note(() => `${node.id} loses its data`);
    node.crash("kill");
    node.replaceData(chance.happens(0.5) ? backup : null);
    timeline.after(chance.magnitude(10, 20_000), () => node.start());
  }
}
