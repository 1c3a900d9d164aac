/** What goes wrong in the simulation. */
import type { Clients } from "./clients.ts";
import type { SimulatedDisk } from "../support/simulated-disk.ts";
import type { SimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";

const HOUR_MS = 3_600_000;

/** Draws troubles and causes them. */
export class Troubles {
  /** What was on the disks of nodes once. */
  private readonly backups = new Map<SimNode, SimulatedDisk>();

  constructor(
    private readonly simulation: Simulation,
    private readonly clients: Clients,
  ) {}

  /** Lets something go wrong, or not. */
  cause(): void {
    const { chance, plan, counts, broker, nodes, timeline } = this.simulation;
    const { troubles } = plan;
    if (chance.happens(troubles.partition)) {
      counts.partitions++;
      this.partition();
    }
    if (chance.happens(troubles.crash)) {
      this.crash(chance.pick(nodes));
    }
    if (chance.happens(troubles.snapshot)) {
      counts.snapshots++;
      chance.pick(nodes).compact();
    }
    if (chance.happens(troubles.fullDisk)) {
      counts.fullDisks++;
      this.fill(chance.pick(nodes));
    }
    if (chance.happens(troubles.stalledDisk)) {
      counts.stalledDisks++;
      const node = chance.pick(nodes);
      this.simulation.history.note(() => `the disk of ${node.id} stalls`);
      node.disk.stall(chance.magnitude(100, 10_000));
    }
    if (chance.happens(troubles.failingSync)) {
      counts.failedSyncsToDisk++;
      chance.pick(nodes).disk.contents.failSyncsWith = "EIO";
    }
    if (chance.happens(troubles.brokerOutage)) {
      counts.outages++;
      this.simulation.history.note(() => "the broker goes away");
      broker.stop(chance.happens(0.5));
      timeline.after(chance.magnitude(100, 30_000), () => broker.start());
    }
    if (chance.happens(troubles.clockStep)) {
      counts.steps++;
      const node = chance.pick(nodes);
      node.clockOffsetMs = chance.pick([-HOUR_MS, 0, HOUR_MS, chance.between(-5_000, 5_000)]);
      this.simulation.history.note(
        () => `the clock of ${node.id} is off by ${node.clockOffsetMs} ms`,
      );
    }
    if (chance.happens(troubles.absence)) {
      counts.absences++;
      this.sendAway(chance.pick(nodes));
    }
    if (troubles.isolation > 0 && chance.happens(troubles.isolation)) this.isolate();
    if (troubles.loss > 0 && chance.happens(troubles.loss)) this.lose(chance.pick(nodes));
  }

  /** Cuts lines between some places, one way or both, for a while. */
  private partition(): void {
    const { chance, plan, timeline, network } = this.simulation;
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
  private crash(node: SimNode): void {
    const { chance, counts, timeline } = this.simulation;
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
      if (this.simulation.isTroubled) this.crash(node);
    });
  }

  /** A disk takes nothing for a while. */
  private fill(node: SimNode): void {
    const { diskChance, timeline } = this.simulation;
    const { contents } = node.disk;
    this.simulation.history.note(() => `the disk of ${node.id} is full`);
    contents.failWritesWith = "ENOSPC";
    contents.partBytes = diskChance.pick([0, diskChance.below(300)]);
    timeline.after(diskChance.magnitude(100, 30_000), () => (contents.failWritesWith = null));
  }

  /** A node hears nobody for longer than deletions are remembered, its clients still there. */
  private sendAway(node: SimNode): void {
    const { chance, plan, timeline, network, nodes } = this.simulation;
    const others = Array.from({ length: plan.nodes + 1 }, (_, i) => i).filter(
      (it) => it !== node.place,
    );
    const lines = others.flatMap((it): [number, number][] => [
      [it, node.place],
      [node.place, it],
    ]);
    this.simulation.history.note(() => `${node.id} is away past the grace`);
    this.cut(lines);
    this.clients.act(node);
    timeline.runUntil(timeline.nowMs + 10_000);
    this.clients.act(node);
    this.clients.act(chance.pick(nodes));
    this.clients.act(chance.pick(nodes));
    this.simulation.pass(plan.graceMs * (1 + chance.next()));
    for (const [from, to] of lines) network.set(from, to, false);
    this.simulation.history.note(() => `${node.id} is reachable again`);
  }

  /** Some lines are cut and some nodes down for long, while clients go on at the others. */
  private isolate(): void {
    const { chance, plan, timeline, network, nodes } = this.simulation;
    const lines: [number, number][] = [];
    const apart = chance.pick([0.3, 0.6, 0.9]);
    for (let a = 0; a < plan.nodes; a++) {
      for (let b = a + 1; b <= plan.nodes; b++) {
        if (chance.happens(b === plan.nodes ? 0.6 : apart)) lines.push([a, b], [b, a]);
      }
    }
    this.simulation.history.note(() => "few reach each other");
    this.cut(lines);
    const down = nodes.filter((node) => node.isUp && chance.happens(0.1));
    for (const node of down) node.crash("kill");
    const pieces = chance.between(1, 4);
    const lengthMs = plan.graceMs * chance.pick([0.05, 0.3, 0.9, 1.1, 1.6]);
    for (let i = 0; i < pieces; i++) {
      for (let acts = chance.between(0, 3); acts > 0; acts--) this.clients.act(chance.pick(nodes));
      timeline.runUntil(timeline.nowMs + chance.next() * 10_000);
      this.simulation.pass(lengthMs / pieces, 15_000);
    }
    for (const node of down) node.start();
    for (const [from, to] of lines) network.set(from, to, false);
    this.simulation.history.note(() => "all reach each other");
  }

  /** A node comes back without its data, or with what it once had. */
  private lose(node: SimNode): void {
    const { chance, counts, timeline } = this.simulation;
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
