/** What an afternoon has: three machines, a broker, Prometheus where there is one, and logins. */
import type { Mosquitto } from "../support/mosquitto.ts";
import { eventually } from "../support/eventually.ts";
import type { Ended, Machine } from "./machine.ts";
import type { Prometheus } from "./prometheus.ts";
import { metricsOf, tell, unreadyOf, type Logins } from "./sight.ts";
import type { Tally } from "./tally.ts";

/** See the file header. */
export interface Afternoon {
  /** In the first one things are done, the second has the disk and the third the clock that fail. */
  readonly machines: readonly [Machine, Machine, Machine];
  readonly broker: Mosquitto;
  /** The broker's rules for topics; it reads them when it starts. */
  readonly brokerRules: string;
  readonly prometheus: Prometheus | null;
  readonly logins: Logins;
  readonly tally: Tally;
  /** A certificate that is good for so many days, in PEM, with its key. */
  certificate(days: number): Certificate;
  /** What nodes are called that get another name for a while. */
  readonly names: Map<Machine, string>;
  /**
   * Waits until an alert of that name fires, or has fired since then; what it says. At once where
   * nothing tells of alerts.
   */
  untilAlert(name: string, sinceMs?: number): Promise<string>;
}

/** In PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  readonly authority: string;
}

/** Says lines to the machine's node as the administrator; every reply has to be OK. */
export async function order(it: Afternoon, machine: Machine, ...lines: string[]): Promise<void> {
  const replies = await tell(machine, it.logins, lines);
  const wrong = lines.filter((_, i) => replies[i] !== "OK");
  if (wrong.length > 0) throw new Error(`${wrong.join(", ")}: ${replies.join(", ")}`);
}

/** Waits until `merklekv status` finds nothing. */
export async function untilWell(it: Afternoon, withinMs?: number): Promise<void> {
  await untilReady(it);
  await eventually(
    "merklekv status finds nothing",
    async () => {
      const { code, output } = await statusOf(it.machines[0]);
      if (code !== 0) throw new Error(output);
      return true;
    },
    withinMs,
  );
}

/** Waits until every node is ready and has heard of all others, as one does in an upgrade. */
export async function untilReady({ machines, logins }: Afternoon): Promise<void> {
  await eventually("all nodes are ready, and have heard of each other", async () => {
    for (const machine of machines) {
      const unready = await unreadyOf(machine, logins);
      if (unready !== "") throw new Error(`${machine.name}: ${unready}`);
      const samples = await metricsOf(machine, logins);
      const nodes = samples.find(({ name }) => name === "merklekv_replication_nodes")!.value;
      if (nodes !== machines.length) throw new Error(`${machine.name} knows of ${nodes}`);
    }
    return true;
  });
}

/** What `merklekv status` says there. */
export function statusOf(machine: Machine): Promise<Ended> {
  const login = ["--user", "admin", "--pass-file", "/root/admin.password"];
  const secret = ["--secret-file", "/etc/merklekv/cluster.key"];
  return machine.merklekv("status", "-p", `${machine.port}`, ...login, ...secret);
}
