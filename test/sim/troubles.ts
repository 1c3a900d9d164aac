/** What goes wrong in the simulation. */
import type { Clients } from "./clients.ts";
import type { SimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";

const HOUR_MS = 3_600_000;

/** Draws troubles and causes them. */
export class Troubles {
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
      counts.crashes++;
      this.crash(chance.pick(nodes));
    }
    if (chance.happens(troubles.brokerOutage)) {
      counts.outages++;
      this.simulation.trace(() => "the broker goes away");
      broker.stop(chance.happens(0.5));
      timeline.after(chance.magnitude(100, 30_000), () => broker.start());
    }
    if (chance.happens(troubles.clockStep)) {
      counts.steps++;
      const node = chance.pick(nodes);
      node.clockOffsetMs = chance.pick([-HOUR_MS, 0, HOUR_MS, chance.between(-5_000, 5_000)]);
      this.simulation.trace(() => `the clock of ${node.id} is off by ${node.clockOffsetMs} ms`);
    }
    if (chance.happens(troubles.absence)) {
      counts.absences++;
      this.sendAway(chance.pick(nodes));
    }
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
    this.simulation.trace(() => `cut off: ${lines.map(([from, to]) => `${from}→${to}`).join(" ")}`);
    const { broker, network } = this.simulation;
    const { place } = broker;
    for (const [from, to] of lines) {
      network.set(from, to, true);
      if (from === place || to === place) broker.cutOff(from === place ? to : from);
    }
  }

  private crash(node: SimNode): void {
    if (!node.isUp) return;
    const { chance, timeline } = this.simulation;
    this.simulation.trace(() => `${node.id} crashes`);
    node.crash();
    timeline.after(chance.magnitude(10, 20_000), () => node.restart());
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
    this.simulation.trace(() => `${node.id} is away past the grace`);
    this.cut(lines);
    this.clients.act(node);
    timeline.runUntil(timeline.nowMs + 10_000);
    this.clients.act(node);
    this.clients.act(chance.pick(nodes));
    this.clients.act(chance.pick(nodes));
    this.simulation.pass(plan.graceMs * (1 + chance.next()));
    for (const [from, to] of lines) network.set(from, to, false);
    this.simulation.trace(() => `${node.id} is reachable again`);
  }
}
