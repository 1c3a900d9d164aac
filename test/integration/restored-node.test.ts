/**
 * A node that was restored from a backup heals forward: it takes what the cluster wrote since, brings
 * nothing back that the cluster deleted since, and counts on exactly.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "mqtt";
import { eventually } from "../support/eventually.ts";
import { openStore } from "../support/journalled-store.ts";
import { LineClient } from "../support/line-client.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { type NodeProcess, runToEnd, startNodeProcess } from "../support/process.ts";

let directory: string;
const running: NodeProcess[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-restored-"));
});
afterEach(async () => {
  for (const node of running.splice(0)) await node.kill();
  rmSync(directory, { recursive: true, force: true });
});

interface Member {
  readonly node: NodeProcess;
  ask(line: string): Promise<string>;
}

const dataOf = (id: string): string => join(directory, id);

/** Starts a node on the directory of its name; it syncs when it is told to. */
async function start(id: string, broker?: string): Promise<Member> {
  const mqtt = broker === undefined ? "enabled = false" : `broker_address = "${broker}"`;
  const node = await startNodeProcess({
    config:
      `node_id = "${id}"\n[network]\nbind_port = 0\n[mqtt]\n${mqtt}\n` +
      `[anti_entropy]\ninterval_seconds = 3600\n` +
      `[storage]\npath = ${JSON.stringify(dataOf(id))}\nfsync = "always"\n`,
  });
  running.push(node);
  const client = await LineClient.connect(node.port);
  return { node, ask: (line) => client.send(line) };
}

async function sayAll(member: Member, lines: Record<string, string>): Promise<void> {
  for (const [line, reply] of Object.entries(lines)) {
    expect(`${line} → ${await member.ask(line)}`).toBe(`${line} → ${reply}`);
  }
}

async function backup({ node }: Member): Promise<string> {
  const to = join(directory, `${crypto.randomUUID()}.backup`);
  expect((await runToEnd(["backup", "-p", `${node.port}`, "--to", to])).code).toBe(0);
  return to;
}

async function restore(id: string, file: string): Promise<void> {
  const { code, output } = await runToEnd(["restore", "--force", file, dataOf(id)]);
  expect(`${code} ${output}`).toStartWith("0 Restored ");
}

test("what the cluster deleted, wrote and counted since the backup holds", async () => {
  let north = await start("north");
  const south = await start("south");
  const sync = async () =>
    expect(await south.ask(`SYNC 127.0.0.1 ${north.node.port} --verify`)).toBe("OK");
  await sayAll(north, {
    "SET doomed:north x": "OK",
    "SET doomed:south x": "OK",
    "SET city Hanoi": "OK",
    "INCR visits 10": "10",
  });
  await sync();
  const file = await backup(north);

  await sayAll(north, { "DEL doomed:north": "DELETED", "INCR visits 5": "15" });
  await sync();
  await sayAll(south, { "DEL doomed:south": "DELETED", "SET city Hue": "OK", "INCR visits": "16" });
  expect(await north.node.stop()).toBe(0);
  await restore("north", file);
  north = await start("north");
  await sayAll(north, { "GET doomed:north": "x", "GET city": "Hanoi", "GET visits": "10" });

  // Before it has heard of the 15: under its old origin this would stand for 12 of its own.
  await sayAll(north, { "INCR visits 2": "12" });
  await sync();
  for (const member of [north, south]) {
    await sayAll(member, {
      "GET doomed:north": "(null)",
      "GET doomed:south": "(null)",
      "GET city": "Hue",
      "GET visits": "18",
      DBSIZE: "2",
    });
  }
  await sayAll(north, { "SET city Saigon": "OK", "INCR visits": "19" });
  await sync();
  await sayAll(south, { "GET city": "Saigon", "GET visits": "19" });
});

describe.skipIf(mosquittoPath === null)("with a broker", () => {
  test.each([
    ["as the clock has it", 0],
    ["when the clock was set back far", 9_000_000_000_000_000],
  ])("every start has a higher epoch than the one before, %s", async (_when, lastEpoch) => {
    if (lastEpoch > 0) {
      const { journal } = await openStore({ directory: dataOf("solo"), nodeId: "solo" });
      journal.setMetadata("epoch", new TextEncoder().encode(`${lastEpoch}`));
      await journal.close();
    }
    const broker = await Mosquitto.start();
    const watcher = connect(broker.address);
    try {
      let epoch = 0;
      watcher.on("message", (_topic, payload) => {
        epoch = JSON.parse(payload.toString()).epoch ?? epoch;
      });
      await watcher.subscribeAsync("+/nodes/solo");
      const epochs = [lastEpoch];
      const run = async (work: (member: Member) => Promise<unknown> = async () => {}) => {
        const member = await start("solo", broker.address);
        await eventually("it announces itself", () => epoch > epochs.at(-1)!);
        epochs.push(epoch);
        await member.ask("SET key value");
        await work(member);
        await member.node.kill();
      };
      let file = "";
      await run();
      await run(async (member) => (file = await backup(member)));
      await restore("solo", file);
      await run();
    } finally {
      await watcher.endAsync();
      await broker.stop();
    }
  });
});
