/**
 * The real binary with a wall clock that is wrong, behind a real broker: what it takes, what it says,
 * and that all are equal soon after the clock is right.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClusterNode, type ClusterNodeOptions } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { WrongClock, noWrongClock } from "../support/wrong-clock.ts";

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
const isPossible = mosquittoPath !== null && noWrongClock === "";
if (noWrongClock !== "") console.warn(`skipped: ${noWrongClock}`);

let broker: Mosquitto;
let nodes: ClusterNode[] = [];
let clocks: WrongClock[] = [];
let directories: string[] = [];
/** Each test has a cluster of its own. */
let tests = 0;

beforeAll(async () => {
  if (isPossible) broker = await Mosquitto.start();
});
afterAll(() => broker?.stop());
beforeEach(() => void tests++);
afterEach(async () => {
  await Promise.all(nodes.map((node) => node.stop()));
  for (const clock of clocks) clock.remove();
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  [nodes, clocks, directories] = [[], [], []];
});

async function start(id: string, options: ClusterNodeOptions = {}): Promise<ClusterNode> {
  const mqtt = { topic_prefix: `test-${tests}`, ...options.mqtt };
  const node = await ClusterNode.start(id, { broker: broker.address, ...options, mqtt });
  nodes.push(node);
  return node;
}

function clockOff(offMs: number): WrongClock {
  const clock = new WrongClock(offMs);
  clocks.push(clock);
  return clock;
}

/** A directory that outlives the process that keeps its data there. */
function onDisk(): Pick<ClusterNodeOptions, "storage"> & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "merklekv-clocks-"));
  directories.push(path);
  return { path, storage: { engine: "log", path } };
}

const areEqual = async (): Promise<boolean> => {
  const hashes = await Promise.all(nodes.map((node) => node.ask("HASH")));
  return new Set(hashes).size === 1;
};
const stateOf = async (node: ClusterNode) => (await node.info()).get("clock_state");

describe.skipIf(!isPossible)("a clock that starts in 1970", () => {
  test("serves reads, sees its peer, says why it takes no writes, and is equal once set", async () => {
    const b = await start("b");
    expect(await b.ask("SET cfg v1")).toBe("OK");
    expect(await b.ask("INCR n")).toBe("1");
    await b.ask("SET gone 1");
    await b.ask("DEL gone");
    const clock = clockOff(20_000 - Date.now());
    const disk = onDisk();
    const a = await start("a", { ...disk, env: clock.env });
    expect(await a.ask("GET nothing")).toBe("(null)");
    expect(await a.ask("SET x 1")).toStartWith(
      "ERROR: Read only - this machine's clock says 1970-",
    );
    expect(await stateOf(a)).toBe("implausible");
    await eventually("it is logged", () => a.logged(/The time is not known/) === 1);
    await eventually("it sees its peer", async () => (await a.fact("sync_peers")) === 1);
    clock.set(0);
    await eventually("it is equal", areEqual);
    expect(await a.ask("GET cfg")).toBe("v1");
    await eventually("its clock counts", async () => (await stateOf(a)) === "trusted");
    expect(await a.fact("sync_peers")).toBe(1);
    expect(await a.ask("SET x 1")).toBe("OK");
    await eventually("what it writes arrives", async () => (await b.ask("GET x")) === "1");
    expect(readdirSync(disk.path).filter((name) => name.startsWith("set-aside"))).toEqual([]);
  });

  test("goes by the time that two peers agree on", async () => {
    const [b, c] = [await start("b"), await start("c")];
    await b.ask("SET cfg v1");
    await eventually(
      "they are sure of the time",
      async () => (await stateOf(b)) === "trusted" && (await stateOf(c)) === "trusted",
    );
    const clock = clockOff(20_000 - Date.now());
    const a = await start("a", { env: clock.env });
    await eventually("it knows the time", async () => (await stateOf(a)) === "held");
    await eventually("it is equal", areEqual);
    expect(await a.ask("SET x 1")).toBe("OK");
    await eventually("what it writes arrives", async () => (await c.ask("GET x")) === "1");
  });
});

describe.skipIf(!isPossible)("a clock that was ahead", () => {
  test("by an hour for a while: what is taken arrives all the time", async () => {
    const clock = clockOff(0);
    const [a, b] = [await start("a", { env: clock.env }), await start("b")];
    for (const [i, offMs] of [0, HOUR_MS, 0, -HOUR_MS, 0].entries()) {
      clock.set(offMs);
      await eventually("it is seen", async () => (await a.fact("clock_steps")) === i);
      // Right after a step back it may not know yet which time is right.
      const write = async () => (await a.ask(`SET k ${i}`)) === "OK";
      await eventually("it takes a write", write);
      await eventually(
        `what was written arrives (${i})`,
        async () => (await b.ask("GET k")) === `${i}`,
      );
    }
    const jumped = /The wall clock has jumped.*by_seconds=/;
    await eventually("it is logged", () => a.logged(jumped) > 0);
  });

  test("when nobody knew: what was written then stays, the rest arrives, over a restart too", async () => {
    const clock = clockOff(HOUR_MS);
    const disk = onDisk();
    const options = { ...disk, env: clock.env, antiEntropy: { peer_list: ["127.0.0.1:1"] } };
    let a = await start("a", options);
    expect(await a.ask("SET early 1")).toBe("OK");
    clock.set(0);
    const b = await start("b");
    await eventually("its clock counts", async () => (await stateOf(a)) === "trusted");
    for (const i of [1, 2]) {
      expect(await a.ask("SET early 2")).toStartWith(
        "ERROR: Read only - the key was written while this node's clock was ahead; no peer takes",
      );
      expect(await a.ask(`SET late ${i}`)).toBe("OK");
      await eventually("what is late arrives", async () => (await b.ask("GET late")) === `${i}`);
      await a.stop();
      nodes = [b];
      a = await start("a", options);
      await eventually("its clock counts again", async () => (await stateOf(a)) === "trusted");
    }
    expect(await b.ask("GET early")).toBe("(null)");
  });

  test("by years, over a restart: it waits for a peer, and goes by its time", async () => {
    const clock = clockOff(0);
    const disk = onDisk();
    const b = await start("b");
    let a = await start("a", { ...disk, env: clock.env });
    expect(await a.ask("SET k 1")).toBe("OK");
    await eventually("it arrives", async () => (await b.ask("GET k")) === "1");
    await a.stop();
    nodes = [b];
    clock.set(7 * YEAR_MS);
    a = await start("a", { ...disk, env: clock.env });
    await eventually("it knows the time", async () => (await stateOf(a)) === "held");
    expect(await a.ask("SET k 2")).toBe("OK");
    await eventually("it arrives", async () => (await b.ask("GET k")) === "2");
  });
});

test.skipIf(!isPossible)(
  "a lease of a node whose clock is behind after a restart lives, or is refused",
  async () => {
    const clock = clockOff(0);
    const disk = onDisk();
    const b = await start("b");
    let a = await start("a", { ...disk, env: clock.env });
    expect(await a.ask("SETEX lease 3000 before")).toBe("OK");
    await eventually("it arrives", async () => (await b.ask("GET lease")) === "before");
    await a.stop();
    nodes = [b];
    clock.set(-HOUR_MS);
    a = await start("a", { ...disk, env: clock.env });
    const said = await a.ask("SETEX lease 60 mine");
    if (said !== "OK")
      expect(said).toMatch(/^ERROR: Read only - (no expiry counts from now|the key)/);
    const expected = said === "OK" ? "mine" : "before";
    await eventually("both read the same", async () => (await b.ask("GET lease")) === expected);
    expect(await a.ask("GET lease")).toBe(expected);
    await eventually(
      "leases are given again",
      async () => (await a.ask("SETEX lease 60 again")) === "OK",
    );
    await eventually("it arrives", async () => (await b.ask("GET lease")) === "again");
    expect(Number(await b.ask("TTL lease"))).toBeGreaterThan(30);
  },
);
