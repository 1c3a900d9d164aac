/** The world of a simulated process: what `world.ts` is to a real one. */
import type { Timing } from "../../src/timing.ts";
import type { World } from "../../src/world.ts";
import { simulatedDial } from "./links.ts";
import type { SimNode } from "./sim-node.ts";
import type { SimProcess } from "./sim-process.ts";
import type { Simulation } from "./simulation.ts";

/** How much later than asked for a timer may come, as a part of the time asked for. */
export const MAX_TIMER_DELAY = 0.2;

/** Everything in it ends with the process. */
export function createWorld(simulation: Simulation, node: SimNode, process: SimProcess): World {
  const chance = simulation.chanceOf(`${node.id} world`);
  return {
    wallMs: () => node.wallMs(),
    sleptMs: () => 0,
    timing: createTiming(simulation, node, process),
    threadCpuMs: () => 0,
    random: chance.next,
    randomWords: (count) => Uint32Array.from({ length: count }, () => chance.below(2 ** 32)),
    files: node.disk.mount(process),
    lock: async () => ({ release() {} }),
    dialler: () => simulatedDial(simulation, process),
    connect: (options) =>
      (process.transport = simulation.broker.transport(options, node.place, () => !process.isOver)),
  };
}

function createTiming(simulation: Simulation, node: SimNode, process: SimProcess): Timing {
  const { plan, timeline } = simulation;
  const chance = simulation.chanceOf(`${node.id} timers`);
  return {
    nowMs: () => node.monotonicMs(),
    // Later by chance, so that nodes do not do the same at the same moment.
    after: (delayMs, task) =>
      simulation.afterAtPace(delayMs * (1 + MAX_TIMER_DELAY * chance.next()), () => {
        if (!process.isOver) task();
      }),
    soon: (task) =>
      timeline.after(plan.slowness > 0 ? chance.next() * plan.slowness : 0, () => {
        if (!process.isOver) task();
      }),
  };
}
