/**
 * Somebody owns the broker: he reads, drops, delays, reorders, repeats, edits and forges messages on
 * every topic. With a cluster secret he gets nothing out and changes nothing, and the nodes hold the
 * same as soon as he lets messages through.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";
import { silentLogger, type Fields, type Logger } from "../../src/observability/log.ts";
import { startNode, type Node } from "../../src/node.ts";
import { randomHex } from "../../src/world.ts";
import { eventually } from "../support/eventually.ts";
import { HostileBroker, type Overheard } from "../support/hostile-broker.ts";
import { LineClient } from "../support/line-client.ts";

const PREFIX = "attacked";
const SECRET = "s3cret".padEnd(43, "x");

let broker: HostileBroker;
let nodes: Attacked[];

beforeEach(async () => {
  broker = await HostileBroker.start();
  nodes = [];
});
afterEach(async () => {
  broker.tamper = (message) => message;
  await Promise.all(nodes.map((node) => node.stop()));
  await broker.stop();
});

/** A node in this process with a client, and what it logs. */
class Attacked {
  readonly lines: string[] = [];
  private node!: Node;
  private client!: LineClient;

  static async start(id: string, env: Record<string, string> = {}): Promise<Attacked> {
    const loaded = loadConfig({
      randomHex,
      env: {
        MERKLE_KV_NODE_ID: id,
        MERKLE_KV_MQTT_BROKER_ADDRESS: broker.address,
        MERKLE_KV_MQTT_TOPIC_PREFIX: PREFIX,
        MERKLE_KV_STORAGE_ENGINE: "memory",
        MERKLE_KV_NETWORK_BIND_PORT: "0",
        // They reach each other through the broker only.
        MERKLE_KV_NETWORK_ADVERTISE_ADDRESS: "none",
        MERKLE_KV_ANTI_ENTROPY_BROKER_BYTES_PER_SECOND: "4194304",
        MERKLE_KV_ANTI_ENTROPY_INTERVAL_SECONDS: "3600",
        MERKLE_KV_CLUSTER_SECRET: SECRET,
        ...env,
      },
    });
    if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
    const attacked = new Attacked();
    attacked.node = await startNode(loaded.config, attacked.logger());
    attacked.client = await LineClient.connect(attacked.node.address.port, "127.0.0.1");
    nodes.push(attacked);
    return attacked;
  }

  /** What it is called as a client of the broker. */
  get clientId(): string {
    return broker.clients.at(nodes.indexOf(this))!;
  }

  ask(line: string): Promise<string> {
    return this.client.send(line);
  }

  async fact(name: string): Promise<number> {
    this.client.sendRaw("INFO\n");
    let found = NaN;
    for (let line; (line = await this.client.readLine()) !== "";) {
      if (line.startsWith(`${name}:`)) found = Number(line.slice(name.length + 1));
    }
    return found;
  }

  async stop(): Promise<void> {
    await this.client.close();
    await this.node.stop();
  }

  private logger(): Logger {
    const note = (message: string, fields: Fields = {}): void =>
      void this.lines.push(`${message} ${JSON.stringify(fields)}`);
    const logger: Logger = { ...silentLogger, warn: note, error: note, child: () => logger };
    return logger;
  }
}

const hashes = (): Promise<string[]> => Promise.all(nodes.map((node) => node.ask("HASH")));
const nodesOf = async (node: Attacked): Promise<string> => node.ask("REPLICATE status");

async function converged(): Promise<void> {
  await eventually("all hold the same", async () => new Set(await hashes()).size === 1);
}

/** Two nodes that have met, with something in them that both have. */
async function pair(): Promise<[Attacked, Attacked]> {
  const [a, b] = [await Attacked.start("plant-north"), await Attacked.start("plant-south")];
  for (const node of [a, b]) {
    await eventually("they have met", async () => (await nodesOf(node)).includes("2 nodes"));
  }
  await a.ask("SET valve-pressure-7 confidential-value-42");
  await b.ask("INCR pump-cycles-total 5");
  await eventually("both have it", async () => (await b.ask("DBSIZE")) === "2");
  await converged();
  return [a, b];
}

const topics = (suffix: RegExp): Overheard[] =>
  broker.overheard.filter(({ topic }) => suffix.test(topic));

describe("who reads everything", () => {
  test("finds no key, no value, no name and no address, in any payload or topic", async () => {
    const [a, b] = await pair();
    const large = "LARGE-SECRET ".repeat(50_000);
    await a.ask(`SET a-large-one ${large}`);
    await eventually("it is fetched", async () => (await b.ask("STRLEN a-large-one")) !== "0");
    await a.ask("DEL valve-pressure-7");
    await b.stop();
    nodes.pop();
    expect(topics(/\/updates$/).length).toBeGreaterThan(2);
    expect(topics(/\/nodes\//).length).toBeGreaterThan(2);
    expect(topics(/\/sync\//).length).toBeGreaterThan(2);
    const words = ["valve", "confidential", "pump-cycles", "a-large-one", "LARGE-SECRET", "plant-"];
    const others = ["127.0.0.1", "node_id", "epoch", "online", "events", "caller", "HELLO", SECRET];
    for (const { topic, payload } of broker.overheard) {
      const seen = topic + payload.toString("latin1");
      for (const word of [...words, ...others]) expect(seen.includes(word)).toBeFalse();
    }
    for (const { topic } of broker.overheard) {
      expect(topic).toMatch(/^attacked\/(updates|nodes\/[0-9a-f]{16}|sync\/[0-9a-f]{16}\/\w+)$/);
    }
  });
});

describe("who changes, forges, moves and repeats", () => {
  test("every bit of a message counts: edited ones change nothing and are counted", async () => {
    const [a, b] = await pair();
    let at = 0;
    broker.tamper = ({ topic, payload }) => {
      const edited = Buffer.from(payload);
      if (edited.length > 0) edited[at++ % edited.length] ^= 1 << (at & 7);
      return { topic, payload: edited };
    };
    for (let i = 0; i < 20; i++) await a.ask(`SET edited${i} ${"v".repeat(i)}`);
    await eventually("b has refused some", async () => {
      return (await b.fact("replication_refused_forged")) > 0;
    });
    expect(await b.ask("DBSIZE")).toBe("2");
    broker.tamper = (message) => message;
    await a.ask("SET let-through yes");
    await converged();
    expect(await b.ask("GET edited19")).toBe("v".repeat(19));
  });

  test("without the secret nothing can be made that is believed", async () => {
    const [a, b] = await pair();
    const before = await hashes();
    const forged = [
      Buffer.from("nonsense"),
      Buffer.alloc(0),
      Buffer.from('{"v":1,"node_id":"plant-south","epoch":99999999999,"connection":1}'),
      createHash("sha512").update("x").digest(),
      Buffer.concat([Buffer.from("MKS\u0001"), createHash("sha512").update("y").digest()]),
      Buffer.concat([broker.overheard[0].payload.subarray(0, 44), Buffer.alloc(40, 1)]),
    ];
    const targets = new Set(broker.overheard.map(({ topic }) => topic));
    for (const topic of [...targets, `${PREFIX}/nodes/plant-north`, `${PREFIX}/events`]) {
      for (const payload of forged) await broker.publish(topic, payload, topic.includes("nodes"));
    }
    await eventually("they have come", async () => {
      return (await b.fact("replication_refused_forged")) > 0;
    });
    expect(await b.fact("replication_dropped_foreign")).toBeGreaterThan(0);
    expect(await b.fact("replication_refused_unsealed")).toBeGreaterThan(0);
    expect(await b.fact("replication_refused_damaged")).toBe(0);
    expect(await hashes()).toEqual(before);
    for (const node of [a, b]) expect(await nodesOf(node)).toContain("2 nodes");
    await a.ask("SET let-through yes");
    await converged();
  });

  test("all that was ever said, said again on every topic: nothing comes back", async () => {
    const [a, b] = await pair();
    await a.ask("SET gone soon");
    await eventually("it is there", async () => (await b.ask("GET gone")) === "soon");
    await a.ask("DEL gone");
    await a.ask("SET valve-pressure-7 newer");
    await b.ask("INCR pump-cycles-total 1");
    await eventually("it is newer", async () => (await b.ask("GET valve-pressure-7")) === "newer");
    await b.stop();
    nodes.splice(nodes.indexOf(b), 1);
    await eventually("b is gone", async () => (await nodesOf(a)).includes("1 nodes"));

    const all = [...broker.overheard];
    for (const isRetained of [false, true]) {
      for (const { topic, payload } of all) await broker.publish(topic, payload, isRetained);
      // Moved to where it was not meant for.
      for (const { payload } of all.slice(-40)) {
        for (const topic of new Set(all.map((it) => it.topic))) {
          await broker.publish(topic, payload);
        }
      }
    }
    await eventually("they have come", async () => {
      return (await a.fact("replication_refused_replayed")) > 0;
    });
    expect(await a.ask("GET gone")).toBe("(null)");
    expect(await a.ask("GET valve-pressure-7")).toBe("newer");
    expect(await a.ask("GET pump-cycles-total")).toBe("6");
    expect(await nodesOf(a)).toContain("1 nodes");
    expect(await a.fact("replication_duplicate_node_id")).toBe(0);

    // b is back, and hears all of it once more beside what is new.
    const again = await Attacked.start("plant-south");
    for (const { topic, payload } of all) await broker.publish(topic, payload);
    await converged();
    expect(await again.ask("GET gone")).toBe("(null)");
    expect(await again.ask("GET pump-cycles-total")).toBe("6");
    for (const node of nodes) expect(await nodesOf(node)).toContain("2 nodes");
  });
});

describe("who waits until nodes have forgotten", () => {
  test("finds that they have not, over a restart: who is gone stays gone", async () => {
    const path = mkdtempSync(join(tmpdir(), "merklekv-attacked-"));
    const env = { MERKLE_KV_STORAGE_ENGINE: "log", MERKLE_KV_STORAGE_PATH: path };
    const a = await Attacked.start("plant-north", env);
    const b = await Attacked.start("plant-south");
    await eventually("they have met", async () => (await nodesOf(a)).includes("2 nodes"));
    await b.ask("SET gone soon");
    await eventually("it is there", async () => (await a.ask("GET gone")) === "soon");
    // Both connect anew, so that there is something old to say.
    await b.ask("REPLICATE disable");
    await b.ask("REPLICATE enable");
    await eventually("they have met again", async () => (await nodesOf(a)).includes("2 nodes"));
    const ofLater = topics(/\/nodes\//).length;
    await b.ask("DEL gone");
    await eventually("it is gone", async () => (await a.ask("GET gone")) === "(null)");
    for (const node of nodes.splice(0)) await node.stop();
    // He keeps their goodbyes to himself.
    for (const topic of new Set(topics(/\/nodes\//).map((it) => it.topic))) {
      await broker.publish(topic, Buffer.alloc(0), true);
    }

    const again = await Attacked.start("plant-north", env);
    const earlier = topics(/\/nodes\//).slice(0, ofLater - 2);
    for (const isRetained of [false, true]) {
      for (const { topic, payload } of earlier) await broker.publish(topic, payload, isRetained);
      for (const { topic, payload } of topics(/\/(updates|sync\/.*)$/)) {
        await broker.publish(topic, payload, isRetained);
      }
    }
    await eventually("they have come", async () => {
      return (await again.fact("replication_refused_replayed")) > 0;
    });
    expect(await nodesOf(again)).toContain("1 nodes");
    expect(await again.ask("GET gone")).toBe("(null)");
    expect(await again.fact("replication_duplicate_node_id")).toBe(0);
    await Promise.all(nodes.splice(0).map((node) => node.stop()));
    rmSync(path, { recursive: true });
  });

  test("and that the end of a connection is told once", async () => {
    const [a, b] = await pair();
    // What the broker says when a connection breaks is b's will, which it has from the start.
    const wills = broker.wills.get(b.clientId)!;
    expect(wills).toHaveLength(1);
    for (let i = 0; i < 5; i++) await broker.publish(wills[0].topic, wills[0].payload, i % 2 > 0);
    await eventually("a has refused it", async () => {
      return (await a.fact("replication_refused_replayed")) > 0;
    });
    // b hears of its end, too, and says otherwise.
    await eventually("b is there", async () => (await nodesOf(a)).includes("2 nodes"));
    const before = await a.fact("replication_refused_replayed");
    for (let i = 0; i < 5; i++) await broker.publish(wills[0].topic, wills[0].payload, i % 2 > 0);
    await eventually("a has refused all", async () => {
      return (await a.fact("replication_refused_replayed")) >= before + 5;
    });
    expect(await nodesOf(a)).toContain("2 nodes");
  });
});

describe("who drops, delays and reorders", () => {
  test("keeps nodes apart for as long as he does, and no longer", async () => {
    const [a, b] = await pair();
    const held: [string, Buffer][] = [];
    broker.tamper = ({ topic, payload }) => {
      held.push([topic, payload]);
      return null;
    };
    for (let i = 0; i < 50; i++) await a.ask(`SET held${i} ${i}`);
    for (let i = 0; i < 50; i++) await b.ask(`SET other${i} ${i}`);
    await eventually("he holds some", () => held.length > 1);
    broker.tamper = (message) => message;
    // In another order, each twice; then what is new.
    for (const [topic, payload] of held.reverse()) {
      await broker.publish(topic, payload);
      await broker.publish(topic, payload);
    }
    await a.ask("SET let-through yes");
    await b.ask("SET here-too yes");
    await converged();
    expect(await a.ask("DBSIZE")).toBe("104");
  });
});

describe("nodes that do not have the same secret", () => {
  const OTHER = { MERKLE_KV_CLUSTER_SECRET: "another".padEnd(43, "y") };

  async function refusals(node: Attacked): Promise<string[]> {
    return node.lines.filter((line) => /sealed|seals/.test(line));
  }

  test("refuse each other, and both say why, once", async () => {
    const a = await Attacked.start("a");
    const b = await Attacked.start("b", OTHER);
    for (const node of [a, b]) {
      await eventually("it has refused", async () => {
        return (await node.fact("replication_refused_other_secret")) > 0;
      });
      await node.ask("SET k v");
      const said = await refusals(node);
      expect(said).toHaveLength(1);
      expect(said[0]).toContain("sealed with another secret than this node's");
      expect(said[0]).toContain("cluster.secret_file");
      expect(await nodesOf(node)).toContain("1 nodes");
    }
    await a.ask("SET only-here yes");
    expect(await b.ask("GET only-here")).toBe("(null)");
  });

  test("nor one that has none", async () => {
    const a = await Attacked.start("a");
    const { MERKLE_KV_CLUSTER_SECRET: _, ...rest } = OTHER;
    const plain = await Attacked.start("b", {
      ...rest,
      MERKLE_KV_CLUSTER_SECRET: undefined as unknown as string,
    });
    await eventually("a has refused", async () => {
      return (await a.fact("replication_refused_unsealed")) > 0;
    });
    await eventually("b has refused", async () => {
      return (await plain.fact("replication_refused_no_secret")) > 0;
    });
    expect((await refusals(a))[0]).toContain(
      "not sealed was refused, for this cluster has a secret",
    );
    expect((await refusals(plain))[0]).toContain("this one has no cluster secret");
    await plain.ask("SET from-outside yes");
    await a.ask("SET from-inside yes");
    expect([await a.ask("GET from-outside"), await plain.ask("GET from-inside")]).toEqual([
      "(null)",
      "(null)",
    ]);
  });
});
