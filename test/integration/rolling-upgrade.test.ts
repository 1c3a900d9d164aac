/**
 * Three nodes under load are upgraded one by one, and then downgraded again: nothing that was
 * acknowledged is lost, and what is said for all to hear all can read. Older and newer versions are
 * played by binaries of the same sources (`binaryAs`).
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type MqttClient } from "mqtt";
import {
  CURRENT,
  OLDEST,
  READS_COMPRESSED,
  type Capabilities,
} from "../../src/core/data/capabilities.ts";
import { isCompressed } from "../../src/core/data/compression.ts";
import { binaryAs } from "../support/binary.ts";
import { ClusterNode } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";

const IDS = ["n1", "n2", "n3"];
/** Writes that are sent at once, so that batches are long enough to be compressed. */
const AT_ONCE = 100;
/** The longest test there is: it compiles two executables, and starts nine processes of them. */
const MOST_MS = 300_000;
/** Between two rounds of them: nodes and test share a machine. */
const PAUSE_MS = 50;

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-upgrade-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Three nodes with data of their own, one broker, and somebody who listens at it. */
class Cluster {
  readonly nodes = new Map<string, ClusterNode>();
  /** What was published on the topic of writes since this was emptied. */
  readonly batches: Buffer[] = [];
  /** What came out in the logs of all processes that ended. */
  logs = "";
  private listener!: MqttClient;
  private readonly paths: string;

  constructor(private readonly broker: Mosquitto) {
    this.paths = mkdtempSync(join(directory, "data-"));
    for (const id of IDS) mkdirSync(join(this.paths, id));
  }

  async open(binary: string): Promise<void> {
    this.listener = connect({ host: "127.0.0.1", port: this.broker.port });
    this.listener.on("message", (_topic, payload) => this.batches.push(payload));
    await this.listener.subscribeAsync("merkle_kv/updates");
    for (const id of IDS) await this.start(id, binary);
    await this.untilTogether();
  }

  async start(id: string, binary: string): Promise<void> {
    const node = await ClusterNode.start(id, {
      broker: this.broker.address,
      mqtt: { topic_prefix: "merkle_kv" },
      antiEntropy: { interval_seconds: 5 },
      storage: { path: join(this.paths, id) },
      binary,
    });
    this.nodes.set(id, node);
  }

  /** Stops a node as a service manager does, and starts another version on its data. */
  async replace(id: string, binary: string): Promise<void> {
    const node = this.nodes.get(id)!;
    this.nodes.delete(id);
    await node.stop();
    this.logs += node.process.output();
    await this.start(id, binary);
    await this.untilTogether();
  }

  async untilTogether(): Promise<void> {
    await eventually("all hear of each other", async () => {
      for (const node of this.nodes.values()) {
        if ((await node.fact("replication_nodes")) !== IDS.length) return false;
      }
      return true;
    });
  }

  async hashes(): Promise<string[]> {
    return Promise.all([...this.nodes.values()].map((node) => node.ask("HASH")));
  }

  async close(): Promise<void> {
    for (const node of this.nodes.values()) {
      await node.stop();
      this.logs += node.process.output();
    }
    await this.listener.endAsync();
  }
}

/** Somebody who writes at one node all the time, and remembers what was acknowledged. */
class Writer {
  readonly acknowledged: string[] = [];
  /** Increments that were acknowledged, and those of which nobody knows. */
  counted = 0;
  uncertain = 0;
  private isStopping = false;
  private readonly done: Promise<void>;

  constructor(
    private readonly cluster: Cluster,
    private readonly id: string,
  ) {
    this.done = this.run();
  }

  /** Ends it, after at least one more round. */
  async stop(): Promise<void> {
    this.isStopping = true;
    await this.done;
  }

  private async run(): Promise<void> {
    while (!this.isStopping) {
      const node = this.cluster.nodes.get(this.id);
      if (node === undefined) {
        await Bun.sleep(20);
        continue;
      }
      const client = await LineClient.connect(node.process.port).catch(() => null);
      if (client === null) continue;
      await this.write(client).catch(() => {});
      await client.close();
    }
  }

  private async write(client: LineClient): Promise<void> {
    while (!this.isStopping) {
      const from = this.acknowledged.length;
      const keys = Array.from({ length: AT_ONCE }, (_, i) => `${this.id}:${from + i}`);
      const lines = keys.map((key) => `SET ${key} value-of-${key}\n`);
      client.sendRaw(`${lines.join("")}INCR counter\n`);
      this.uncertain++;
      for (const key of keys) {
        if ((await client.readLine()) !== "OK") throw new Error("a write was refused");
        this.acknowledged.push(key);
      }
      if (!/^\d+$/.test(await client.readLine())) throw new Error("a write was refused");
      this.uncertain--;
      this.counted++;
      await Bun.sleep(PAUSE_MS);
    }
  }
}

async function expectAllThere(cluster: Cluster, writers: readonly Writer[]): Promise<void> {
  await eventually(
    "all nodes have the same",
    async () => new Set(await cluster.hashes()).size === 1,
  );
  for (const node of cluster.nodes.values()) {
    for (const { acknowledged } of writers) {
      const values = await node.askAll(acknowledged.map((key) => `GET ${key}`));
      expect(values).toEqual(acknowledged.map((key) => `value-of-${key}`));
    }
    const counted = writers.reduce((sum, it) => sum + it.counted, 0);
    const uncertain = writers.reduce((sum, it) => sum + it.uncertain, 0);
    const count = Number(await node.ask("GET counter"));
    expect(count).toBeGreaterThanOrEqual(counted);
    expect(count).toBeLessThanOrEqual(counted + uncertain);
  }
}

/** Whether what is published from now on is compressed, once that is clear. */
async function areCompressed(cluster: Cluster): Promise<boolean> {
  cluster.batches.length = 0;
  // Presence is heard of in a moment, and what was written before is on its way.
  await eventually("many batches came", () => cluster.batches.length > 60);
  return cluster.batches.slice(-30).some((batch) => isCompressed(batch));
}

const older: Capabilities = OLDEST;
const newer: Capabilities = {
  lowest: CURRENT.lowest,
  highest: CURRENT.highest + 1,
  features: CURRENT.features | 0x40,
};

describe.skipIf(mosquittoPath === null)("three nodes under load are upgraded", () => {
  test.each([
    ["from the version before to this one", older, CURRENT],
    ["from this version to the next", CURRENT, newer],
  ])(
    "%s, and downgraded again",
    async (_, before, after) => {
      const [old, young] = await Promise.all([
        binaryAs(before, directory),
        binaryAs(after, directory),
      ]);
      const broker = await Mosquitto.start();
      const cluster = new Cluster(broker);
      await cluster.open(old);
      const writers = IDS.map((id) => new Writer(cluster, id));
      const isKnown = (features: number): boolean => (features & READS_COMPRESSED) !== 0;
      expect(await areCompressed(cluster)).toBe(isKnown(before.features));
      for (const id of IDS) {
        await cluster.replace(id, young);
        const areAllNew = id === IDS.at(-1);
        const features = areAllNew ? after.features : before.features;
        expect(await areCompressed(cluster)).toBe(isKnown(features));
      }
      for (const id of IDS) {
        await cluster.replace(id, old);
        expect(await areCompressed(cluster)).toBe(isKnown(before.features));
      }
      await Promise.all(writers.map((writer) => writer.stop()));
      await expectAllThere(cluster, writers);
      const written = writers.reduce((sum, it) => sum + it.acknowledged.length, 0);
      expect(written).toBeGreaterThan(10 * AT_ONCE);
      await cluster.close();
      await broker.stop();
      // At most what was said while a node was just coming it could not read, and then compared.
      for (const trouble of [/cannot be talked to/, /reason=malformed/, /does not keep to/]) {
        expect(cluster.logs.split("\n").filter((line) => trouble.test(line))).toEqual([]);
      }
    },
    MOST_MS,
  );

  test("to one that speaks no version of theirs: each says so in one line", async () => {
    const strange = { lowest: CURRENT.highest + 3, highest: CURRENT.highest + 4, features: 0 };
    const [now, far] = await Promise.all([
      binaryAs(CURRENT, directory),
      binaryAs(strange, directory),
    ]);
    const broker = await Mosquitto.start();
    const cluster = new Cluster(broker);
    await cluster.start("n1", now);
    await cluster.start("n2", far);
    const [n1, n2] = [cluster.nodes.get("n1")!, cluster.nodes.get("n2")!];
    const both = new RegExp(
      `A node cannot be talked to.*version.* ${CURRENT.highest}.*; upgrade (it|this node)`,
    );
    await eventually("both say so", () => n1.logged(both) === 1 && n2.logged(both) === 1);
    expect(n1.process.output()).toContain(`versions ${strange.lowest} to ${strange.highest}`);
    expect(n2.process.output()).toContain(`versions ${strange.lowest} to ${strange.highest}`);
    // Neither takes harm from what the other publishes.
    expect(await n1.ask("SET k one")).toBe("OK");
    expect(await n2.ask("SET k two")).toBe("OK");
    expect(await n1.ask("GET k")).toBe("one");
    for (const node of cluster.nodes.values()) await node.stop();
    await broker.stop();
  });
});
