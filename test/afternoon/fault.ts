/** Something that breaks, what is to be seen of it, and how it is mended. */
import { connect } from "node:net";
import { eventually } from "../support/eventually.ts";
import { order, type Afternoon } from "./afternoon.ts";
import type { Machine } from "./machine.ts";
import { metricsOf, tell } from "./sight.ts";

/** See the file header. */
export interface Fault {
  readonly title: string;
  /** Whose machine is looked at. */
  readonly at: 0 | 1 | 2;
  /** Alerts that it leads to, there or on others. */
  readonly alerts: readonly string[];
  /** Others that may come with it. */
  readonly mayAlert?: readonly string[];
  /** A sample: `name 1`, `name > 1`, with labels `name{label="x"} 1`. None of a node that is gone. */
  readonly metric?: string;
  /** Of the log; none where nothing is to be said there. */
  readonly event?: string;
  /** What `/readyz` says; unless given the node stays ready. "away" is no answer at all. */
  readonly unready?: RegExp | "away";
  /** What `merklekv status` says, asked of another machine. */
  readonly status?: RegExp;
  /** Within what time metric and log tell of it; what tests wait for unless given. */
  readonly toldWithinMs?: number;
  /** How long `status` may say so when all is mended; what tests wait for unless given. */
  readonly toldForMs?: number;
  cause(it: Afternoon, machine: Machine): Promise<void>;
  cure(it: Afternoon, machine: Machine): Promise<void>;
}

/** Writes that many small values, from the one of that number on. */
export async function flood(
  it: Afternoon,
  machine: Machine,
  from: number,
  count: number,
): Promise<void> {
  const lines = Array.from({ length: count }, (_, i) => `SET flood:${from + i} ${"x".repeat(20)}`);
  await order(it, machine, ...lines);
}

/** Waits until a metric of a machine is as it should be. */
export async function untilMetric(
  it: Afternoon,
  machine: Machine,
  name: string,
  isRight: (value: number) => boolean,
): Promise<void> {
  await eventually(`${name} of ${machine.name} is as it should be`, async () => {
    const samples = await metricsOf(machine, it.logins);
    const { value } = samples.find((sample) => sample.name === name)!;
    if (!isRight(value)) throw new Error(`it is ${value}`);
    return true;
  });
}

/** Tries to write until that goes through, or until it does not. */
export async function untilWrites(
  it: Afternoon,
  machine: Machine,
  goThrough: boolean,
): Promise<void> {
  const line = `SET tried ${"x".repeat(10_000)}`;
  await eventually(`writes go through: ${goThrough}`, async () => {
    const [reply] = await tell(machine, it.logins, [line]);
    return (reply === "OK") === goThrough;
  });
}

/** That many logins that fail, each another, from elsewhere: who fails from an address is let wait. */
export async function failLogins(machine: Machine, count: number): Promise<void> {
  const once = async (_: unknown, i: number): Promise<void> => {
    const { address: host, port, strangersAddress: localAddress } = machine;
    const socket = connect({ host, port, localAddress });
    const answered = Promise.withResolvers<void>();
    socket.on("connect", () => socket.write(`AUTH nobody-${i} wrong\n`));
    socket.on("data", answered.resolve).on("error", answered.reject);
    await answered.promise;
    socket.destroy();
  };
  await Promise.all(Array.from({ length: count }, once));
}
