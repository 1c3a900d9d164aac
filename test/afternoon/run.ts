/**
 * `bun run afternoon`: a stranger's afternoon. Three machines get the package of the version before,
 * and become a cluster by what the documentation says; then everything breaks that there is an
 * alert for, is seen, and is mended; at last each is upgraded under load, and nothing is lost.
 *
 *   bun run afternoon [--older DEB] [--newer DEB] [--root DIR] [--only WORDS] [--short]
 *     [--processes]
 *
 * As root each machine is a Debian of its own, in which systemd runs, in namespaces that end with
 * this program; ROOT is made with mmdebstrap unless it is there, and packages are built unless
 * given. --short breaks what takes seconds. Elsewhere, and with --processes, nodes are processes that are started as the unit says.
 * Alerts are those of a real Prometheus, if one is there or in Debian's archive. What was seen is
 * printed, a line each; the last is one of counts.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { eventually } from "../support/eventually.ts";
import { begin } from "./begin.ts";
import type { Fault } from "./fault.ts";
import { ALL, ALL_ON_DISKS, SHORT } from "./faults.ts";
import type { Machine } from "./machine.ts";
import * as inside from "./namespaces.ts";
import { ProcessMachine } from "./process-machine.ts";
import { ServiceMachine } from "./service-machine.ts";
import { spend } from "./story.ts";
import { getPrometheus, makePackages, makeRoot, type Packages } from "./supplies.ts";
import { Tally } from "./tally.ts";

/** Ten minutes of a rule are four seconds. */
const HASTE = 150;
const NAMES = [
  ["north", "none"],
  ["east", "disk"],
  ["west", "clock"],
] as const;

/** What the program tells itself when it runs again, inside. */
interface Supplies {
  readonly root: string;
  readonly work: string;
  readonly groups: string;
  readonly packages: Packages;
  readonly prometheus: string | null;
}

type Closing = AsyncDisposableStack;

const { values } = parseArgs({
  options: {
    older: { type: "string" },
    newer: { type: "string" },
    root: { type: "string" },
    only: { type: "string", default: "" },
    short: { type: "boolean", default: false },
    processes: { type: "boolean", default: false },
    inside: { type: "string" },
  },
});
process.exit(await main());

async function main(): Promise<number> {
  if (values.inside !== undefined) return onServices(JSON.parse(values.inside) as Supplies);
  const reason = values.processes ? "" : await inside.whyNoMachines(values.root !== undefined);
  if (reason !== "") console.log(`Nodes are processes: ${reason}`);
  return values.processes || reason !== "" ? onProcesses() : enter();
}

/** Whoever ends this program is heard. */
function onEnd(end: () => void): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, end);
}

/** Gets everything, and goes on inside. */
async function enter(): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-afternoon-"));
  let groups: string | undefined;
  const told = new AbortController();
  onEnd(() => {
    told.abort();
    if (groups !== undefined) return;
    rmSync(directory, { recursive: true, force: true });
    process.exit(1);
  });
  try {
    const { root = join(directory, "root"), older, newer } = values;
    const work = join(directory, "work");
    mkdirSync(work);
    await makeRoot(root);
    const given = { ...(older && { older }), ...(newer && { newer }) };
    const packages = await makePackages(given, directory);
    const prometheus = await getPrometheus(directory);
    groups = inside.makeGroup();
    const supplies: Supplies = { root, work, groups, packages, prometheus };
    const wishes = ["--only", values.only, ...(values.short ? ["--short"] : [])];
    const args = ["--inside", JSON.stringify(supplies), ...wishes];
    return await inside.runInside(work, args, told.signal);
  } finally {
    if (groups !== undefined) await leave(groups);
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What has been killed may take a moment to be gone. */
async function leave(groups: string): Promise<void> {
  await eventually("all that ran has ended", () => {
    inside.removeGroup(groups);
    return true;
  }).catch((error: Error) => console.error(error.message));
}

async function onServices(supplies: Supplies): Promise<number> {
  await inside.furnish(supplies.work);
  const place = { ...supplies, bridge: inside.BRIDGE, net: inside.NET };
  const boot = (i: number): Promise<Machine> =>
    ServiceMachine.boot(NAMES[i]![0], i + 1, place, NAMES[i]![1]);
  return run(boot, `${inside.NET}.1`, supplies.prometheus, values.short ? SHORT : ALL_ON_DISKS);
}

async function onProcesses(): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-afternoon-"));
  try {
    const prometheus = await getPrometheus(directory);
    const create = (i: number): Promise<Machine> =>
      ProcessMachine.create(NAMES[i]![0], NAMES[i]![1]);
    return await run(create, "127.0.0.1", prometheus, values.short ? SHORT : ALL);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function run(
  make: (index: number) => Promise<Machine>,
  host: string,
  prometheus: string | null,
  faults: readonly Fault[],
): Promise<number> {
  const tally = new Tally(console.log);
  if (prometheus === null) tally.note("without alerts: there is no Prometheus here");
  try {
    await using closing: Closing = new AsyncDisposableStack();
    onEnd(() => void closing.disposeAsync().finally(() => process.exit(1)));
    const open = async (index: number): Promise<Machine> => {
      const machine = await make(index);
      closing.defer(() => machine.close());
      return machine;
    };
    const machines = [await open(0), await open(1), await open(2)] as const;
    const options = { tally, machines, host, prometheus, haste: HASTE };
    const afternoon = await begin(options, closing);
    const chosen = faults.filter(({ title }) => title.includes(values.only));
    await spend(afternoon, chosen);
  } catch (error) {
    tally.failed++;
    console.log(
      `(fail) ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  }
  console.log(tally.counts);
  return tally.failed > 0 ? 1 : 0;
}
