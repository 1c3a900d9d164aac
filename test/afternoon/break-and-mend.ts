/** Breaks something, looks for everything that is to be seen of it, and mends it. */
import { eventually } from "../support/eventually.ts";
import { statusOf, untilWell, type Afternoon } from "./afternoon.ts";
import type { Fault } from "./fault.ts";
import type { Machine } from "./machine.ts";
import { eventsIn, metricsOf, unreadyOf, type Logins } from "./sight.ts";

/** A fault is to be seen, and to be over, within this; machines that test are busy. */
const WITHIN_MS = 30_000;

/**
 * What times divided by so much make of a busy machine: a scrape too late is a node that is down, and
 * a slow second a slow ten minutes.
 */
const OF_LOAD = /^MerkleKV(EventLoopHeld|NodeDown|DiskSlow|ReplicationSlow) /;

/** See the file header. */
export async function breakAndMend(it: Afternoon, fault: Fault): Promise<void> {
  const { machines, tally, prometheus, logins } = it;
  const machine = machines[fault.at];
  const startedMs = performance.now();
  const before = await machine.log();
  try {
    await fault.cause(it, machine);
  } catch (error) {
    await tally.look("it can be broken", () => Promise.reject(error));
  }
  const looks = [
    fault.metric === undefined || (["metric", () => awaitMetric(machine, logins, fault)] as const),
    fault.event === undefined || (["log", () => awaitEvent(machine, before, fault)] as const),
    ["readiness", () => awaitReadiness(machine, logins, fault.unready)] as const,
    fault.status === undefined || (["status", () => awaitStatus(it, fault)] as const),
    ...(prometheus === null ? [] : fault.alerts).map(
      (name) => [`alert ${name}`, () => it.untilAlert(name, startedMs)] as const,
    ),
  ].filter((look) => look !== true);
  await Promise.all(looks.map(([what, look]) => tally.look(what, look)));
  await tally.look("mended, all is well again", async () => {
    await fault.cure(it, machine);
    await untilWell(it, fault.toldForMs);
    if (prometheus === null) return;
    await eventually(
      "no alert is left",
      async () => {
        // One that is about to fire would do so in the midst of what is broken next.
        const pending = [...(await prometheus.inState("pending")).keys()];
        const firing = [...(await prometheus.inState("firing")).keys()];
        const left = [...firing, ...pending.filter((name) => !OF_LOAD.test(name))];
        if (left.length > 0) throw new Error(left.join(", "));
        return true;
      },
      WITHIN_MS,
    );
    const known = new Set([...fault.alerts, ...(fault.mayAlert ?? [])]);
    const fired = [...(await prometheus.fired(performance.now() - startedMs))];
    const unexpected = fired.filter((name) => !known.has(name.split(" ")[0]));
    const ofLoad = unexpected.filter((name) => OF_LOAD.test(name));
    if (ofLoad.length > 0) tally.note(`of a busy machine: ${ofLoad.join(", ")}`);
    const others = unexpected.filter((name) => !OF_LOAD.test(name));
    if (others.length > 0) throw new Error(`alerts without a cause: ${others.join(", ")}`);
  });
}

/** Waits for a sample as a fault names it; how it is. */
function awaitMetric(machine: Machine, logins: Logins, fault: Fault): Promise<string> {
  const wanted = fault.metric!;
  const [, name, labels, sign, limit] = /^(\w+)(\{.*\})? ([<>]?) ?(\S+)$/.exec(wanted)!;
  const isWanted = (value: number): boolean => {
    if (sign === ">") return value > Number(limit);
    return sign === "<" ? value < Number(limit) : value === Number(limit);
  };
  const asked = [...(labels ?? "").matchAll(/(\w+)="(.*?)"/g)];
  return eventually(
    wanted,
    async () => {
      const samples = await metricsOf(machine, logins);
      const found = samples.find(
        (sample) =>
          sample.name === name &&
          isWanted(sample.value) &&
          asked.every(([, label, value]) => sample.labels[label] === value),
      );
      const said = Object.entries(found?.labels ?? {}).map(
        ([label, value]) => `${label}="${value}"`,
      );
      return found && `${name}${said.length > 0 ? `{${said}}` : ""} ${found.value}`;
    },
    fault.toldWithinMs ?? WITHIN_MS,
  );
}

function awaitEvent(machine: Machine, before: string, fault: Fault): Promise<string> {
  const wanted = fault.event!;
  return eventually(
    `the event ${wanted}`,
    async () => {
      const log = (await machine.log()).slice(before.length);
      const found = eventsIn(log).find(({ event }) => event === wanted);
      if (found !== undefined) return `${wanted}, "${found.message}"`;
      throw new Error(`there was only\n${log.trim()}`);
    },
    fault.toldWithinMs ?? WITHIN_MS,
  );
}

async function awaitReadiness(
  machine: Machine,
  logins: Logins,
  wanted: Fault["unready"],
): Promise<string> {
  const seen = (): Promise<string> => unreadyOf(machine, logins).catch(() => "no answer");
  if (wanted === undefined) {
    const unready = await seen();
    if (unready !== "") throw new Error(unready);
    return "ready";
  }
  return eventually(
    String(wanted),
    async () => {
      const unready = await seen();
      if (wanted === "away" ? unready === "no answer" : wanted.test(unready)) return unready;
      throw new Error(unready);
    },
    WITHIN_MS,
  );
}

function awaitStatus({ machines }: Afternoon, fault: Fault): Promise<string> {
  const asked = machines[fault.at === 0 ? 1 : 0];
  return eventually(
    `merklekv status says ${fault.status}`,
    async () => {
      const { code, output } = await statusOf(asked);
      const line = output.split("\n").find((it) => fault.status!.test(it));
      if (line !== undefined && code === 1) return line;
      throw new Error(`exit code ${code}\n${output}`);
    },
    WITHIN_MS,
  );
}
