/**
 * The short form of `bun run afternoon`: nodes are processes, started as the unit says, and what
 * breaks is what is seen within seconds. Alerts, which take a Prometheus, are for the long form;
 * upgrades of such nodes are in `rolling-upgrade.test.ts`.
 */
import { describe, expect, test } from "bun:test";
import { begin } from "../afternoon/begin.ts";
import { SHORT } from "../afternoon/faults.ts";
import { withSetting } from "../afternoon/machine.ts";
import { ProcessMachine } from "../afternoon/process-machine.ts";
import { alertNames } from "../afternoon/prometheus.ts";
import { ALL } from "../afternoon/faults.ts";
import { spend } from "../afternoon/story.ts";
import { Tally } from "../afternoon/tally.ts";
import { noFailingDisk } from "../support/failing-disk.ts";
import { mosquittoPath } from "../support/mosquitto.ts";
import { noWrongClock } from "../support/wrong-clock.ts";

const isPossible = mosquittoPath !== null && noFailingDisk === "" && noWrongClock === "";

test.skipIf(!isPossible)("a stranger's afternoon", async () => {
  const lines: string[] = [];
  const tally = new Tally((line) => lines.push(line));
  await using closing = new AsyncDisposableStack();
  const create = async (name: string, fault: "disk" | "clock" | "none") => {
    const machine = await ProcessMachine.create(name, fault);
    closing.defer(() => machine.close());
    return machine;
  };
  const machines = [
    await create("north", "none"),
    await create("east", "disk"),
    await create("west", "clock"),
  ] as const;
  const options = { tally, machines, host: "127.0.0.1", prometheus: null, haste: 1 };
  await spend(await begin(options, closing), SHORT, false);
  expect(lines.filter((line) => line.startsWith("(fail)"))).toEqual([]);
  expect(tally.passed).toBeGreaterThan(4 * SHORT.length);
});

test("everything that there is an alert for is broken in the long form", () => {
  const broken = new Set(ALL.flatMap(({ alerts }) => alerts));
  // On a disk of its own, see ALL_ON_DISKS.
  for (const name of ["MerkleKVDiskNearlyFull", "MerkleKVAuditLost"]) broken.add(name);
  expect(alertNames().filter((name) => !broken.has(name))).toEqual([]);
});

describe("a setting in a file", () => {
  const file = "[one]\na = 1\n#b = 2\n\n#[two]\n#c = 3\n";

  test.each([
    ["one.a", "5", "[one]\na = 5\n#b = 2\n\n#[two]\n#c = 3\n"],
    ["one.b", "5", "[one]\na = 1\nb = 5\n\n#[two]\n#c = 3\n"],
    ["one.d", "5", "[one]\nd = 5\na = 1\n#b = 2\n\n#[two]\n#c = 3\n"],
    ["two.c", "5", "[one]\na = 1\n#b = 2\n\n[two]\nc = 5\n"],
    ["one.a", null, "[one]\n#a = 1\n#b = 2\n\n#[two]\n#c = 3\n"],
    ["three.e", "5", `${file}\n[three]\ne = 5\n`],
  ])("%s", (name, value, result) => {
    expect(withSetting(file, name, value)).toBe(result);
  });
});
