/**
 * `bun run afternoon`: a stranger's afternoon. Three machines get the package of the version before,
 * and become a cluster by what the documentation says; then everything breaks that there is an
 * alert for, is seen, and is mended; at last each is upgraded under load, and nothing is lost.
 *
 *   bun run afternoon [--older DEB] [--newer DEB] [--root DIR] [--only WORDS]… [--short]
 *     [--processes] [--list]
 *
 * As root each machine is a Debian of its own, in which systemd runs, in namespaces that end with
 * this program; ROOT is made with mmdebstrap unless it is there, and packages are built unless
 * given. --short breaks what takes seconds, --only what has one of these words in its title; --list
 * shows the titles. Elsewhere, and with --processes, nodes are processes that are started as the
 * unit says.
 * Alerts are those of a real Prometheus, if one is there or in Debian's archive. What was seen is
 * printed, a line each; the last is one of counts. Nothing is left of it, however it ends.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { begin } from "./begin.ts";
import type { Fault } from "./fault.ts";
import { ALL, ALL_ON_DISKS, SHORT } from "./faults.ts";
import { Janitor, makeGroup } from "./janitor.ts";
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

/** Everything that is open. */
const closing = new AsyncDisposableStack();

const { values } = parseArgs({
  options: {
    older: { type: "string" },
    newer: { type: "string" },
    root: { type: "string" },
    only: { type: "string", multiple: true, default: [] },
    list: { type: "boolean", default: false },
    short: { type: "boolean", default: false },
    processes: { type: "boolean", default: false },
    inside: { type: "string" },
  },
});
process.exit(await main());

async function main(): Promise<number> {
  const all = values.short ? SHORT : ALL_ON_DISKS;
  if (values.list || (values.only.length > 0 && chosen(all).length === 0)) {
    for (const { title } of all) console.log(title);
    return values.list ? 0 : 2;
  }
  if (values.inside !== undefined) return onServices(JSON.parse(values.inside) as Supplies);
  const reason = values.processes ? "" : await inside.whyNoMachines(values.root !== undefined);
  if (reason !== "") console.log(`Nodes are processes: ${reason}`);
  return values.processes || reason !== "" ? onProcesses() : enter();
}

/** Those that are wished for. */
function chosen(faults: readonly Fault[]): readonly Fault[] {
  const { only } = values;
  return faults.filter(({ title }) => only.length === 0 || only.some((it) => title.includes(it)));
}

/** Does something with a directory for all that is temporary; whoever ends this program is heard. */
async function inDirectory(
  group: string | null,
  work: (directory: string) => Promise<number>,
): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "merklekv-afternoon-"));
  const janitor = new Janitor(directory, group);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      const closed = closing.disposeAsync().catch(() => {});
      void closed.then(() => janitor.clear()).finally(() => process.exit(1));
    });
  }
  try {
    return await work(directory);
  } finally {
    await janitor.clear();
  }
}

/** Gets everything, and goes on inside. */
function enter(): Promise<number> {
  const groups = makeGroup();
  return inDirectory(groups, async (directory) => {
    const { root = join(directory, "root"), older, newer } = values;
    const work = join(directory, "work");
    mkdirSync(work);
    await makeRoot(root);
    const given = { ...(older && { older }), ...(newer && { newer }) };
    const packages = await makePackages(given, directory);
    const prometheus = await getPrometheus(directory);
    const supplies: Supplies = { root, work, groups, packages, prometheus };
    const wishes = values.only.flatMap((words) => ["--only", words]);
    if (values.short) wishes.push("--short");
    return inside.runInside(work, ["--inside", JSON.stringify(supplies), ...wishes]);
  });
}

async function onServices(supplies: Supplies): Promise<number> {
  await inside.furnish(supplies.work);
  const place = { ...supplies, bridge: inside.BRIDGE, net: inside.NET };
  const boot = (i: number): Promise<Machine> =>
    ServiceMachine.boot(NAMES[i][0], i + 1, place, NAMES[i][1]);
  return run(boot, `${inside.NET}.1`, supplies.prometheus, values.short ? SHORT : ALL_ON_DISKS);
}

function onProcesses(): Promise<number> {
  return inDirectory(groupIfAny(), async (directory) => {
    process.env["TMPDIR"] = directory;
    const prometheus = await getPrometheus(directory);
    const create = (i: number): Promise<Machine> => ProcessMachine.create(NAMES[i][0], NAMES[i][1]);
    return run(create, "127.0.0.1", prometheus, values.short ? SHORT : ALL);
  });
}

function groupIfAny(): string | null {
  try {
    return makeGroup();
  } catch {
    return null;
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
    const open = async (index: number): Promise<Machine> => {
      const machine = await make(index);
      closing.defer(() => machine.close());
      return machine;
    };
    const machines = [await open(0), await open(1), await open(2)] as const;
    const options = { tally, machines, host, prometheus, haste: HASTE };
    const afternoon = await begin(options, closing);
    await spend(afternoon, chosen(faults));
  } catch (error) {
    tally.failed++;
    console.log(
      `(fail) ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  } finally {
    await closing.disposeAsync();
  }
  console.log(tally.counts);
  return tally.failed > 0 ? 1 : 0;
}
