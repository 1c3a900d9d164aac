/** Nodes that reach the broker and not each other: they heal through it, and values of any size arrive. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClusterNode, type ClusterNodeOptions } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { Link } from "../support/link.ts";
import { Mosquitto, MOSQUITTO_MISSING, mosquittoPath } from "../support/mosquitto.ts";
import {
  createNamespace,
  PRIVATE_ADDRESS,
  removeNamespace,
  whyNoNamespaces,
  type Namespace,
} from "../support/namespaces.ts";
import { runToEnd } from "../support/process.ts";

const LARGE = "x".repeat(3 * 1_048_576);

let broker: Mosquitto;
let nodes: ClusterNode[];

beforeEach(async () => {
  if (mosquittoPath === null) return;
  broker = await Mosquitto.start();
  nodes = [];
});
afterEach(async () => {
  if (mosquittoPath === null) return;
  await Promise.all(nodes.map((node) => node.process.kill()));
  await broker.stop();
});

/** A node that nobody need try to reach, unless it is said otherwise. */
async function start(id: string, options: ClusterNodeOptions = {}): Promise<ClusterNode> {
  const node = await ClusterNode.start(id, {
    broker: broker.address,
    ...options,
    network: { advertise_address: "none", max_line_bytes: 8_000_000, ...options.network },
    antiEntropy: { broker_bytes_per_second: 4_194_304, ...options.antiEntropy },
  });
  nodes.push(node);
  return node;
}

async function equalHashes(): Promise<boolean> {
  const hashes = await Promise.all(nodes.map((node) => node.ask("HASH")));
  return new Set(hashes).size === 1;
}

async function setKeys(node: ClusterNode, prefix: string, count: number): Promise<void> {
  await node.askAll(Array.from({ length: count }, (_, i) => `SET ${prefix}${i} value of ${i}`));
}

describe.skipIf(mosquittoPath === null)("three nodes that see only the broker", () => {
  test("heal what one of them missed, and a value too large for the broker arrives", async () => {
    const [n1, n2] = [await start("n1"), await start("n2")];
    await n2.ask("REPLICATE disable");
    await setKeys(n1, "missed", 2_000);
    await setKeys(n2, "alone", 2_000);
    await n2.ask("REPLICATE enable");
    // And one that has nothing yet.
    const n3 = await start("n3");
    await eventually("all hold the same", equalHashes);
    expect(await n3.ask("DBSIZE")).toBe("4000");

    expect(await n3.ask(`SET large ${LARGE}`)).toBe("OK");
    await eventually("the large value is everywhere", equalHashes);
    expect(await n1.ask("STRLEN large")).toBe(`${LARGE.length}`);
    // What n3 wrote may have come by way of n2.
    expect((await n1.info()).get("sync_ways")).toMatch(/^n2=broker n3=(broker|untried)$/);
    expect(await n1.fact("relay_dropped_malformed")).toBe(0);
  });

  test("a node that stops hands over a value that nobody has fetched yet", async () => {
    const [n1, n2] = [await start("n1"), await start("n2")];
    for (const node of [n1, n2]) {
      const knows = async (): Promise<boolean> => (await node.fact("sync_peers")) === 1;
      await eventually("they know each other", knows);
    }
    expect(await n1.ask(`SET large ${LARGE}`)).toBe("OK");
    await n1.stop();
    nodes = [n2];
    expect(await n2.ask("STRLEN large")).toBe(`${LARGE.length}`);
  });

  test("SYNC and diff take a node id", async () => {
    const [n1, n2] = [await start("n1"), await start("n2")];
    await n2.ask("REPLICATE disable");
    await n1.ask("SET city Hanoi");
    const knows = async () => (await n1.info()).get("sync_ways") === "n2=broker";
    const diff = (...places: string[]) => runToEnd(["diff", ...places]);
    await n2.ask("REPLICATE enable");
    await eventually("they know each other", knows);
    await eventually("they are equal", equalHashes);
    const equal = await diff(n1.address, "n2");
    expect(equal.output).toBe(
      `n1 (${n1.address}) and n2 (through ${n1.address} and the broker) hold the same.\n`,
    );
    expect(equal.code).toBe(0);

    expect(await n1.ask("SYNC n2 --full --verify")).toBe("OK");
    expect(await n1.ask("SYNC nobody")).toStartWith(
      "ERROR: Connection failed - cannot reach nobody through the broker: no answer within 8 s",
    );
    await n1.ask("REPLICATE disable");
    const none = await diff(n1.address, "n2");
    expect(none.output).toContain(`cannot look into n2 through ${n1.address}`);
  });

  test("a broker that is restarted in the middle of a session costs nothing but time", async () => {
    // What waits to be published would heal it by itself.
    const mqtt = { max_outbox_events: 1 };
    const slow = { mqtt, antiEntropy: { broker_bytes_per_second: 65_536 } };
    const [n1, n2] = [await start("n1", slow), await start("n2", slow)];
    await n1.ask("REPLICATE disable");
    await setKeys(n1, "missed", 5_000);
    await n1.ask("REPLICATE enable");
    await eventually("a session is under way", async () => (await n2.fact("relay_links")) > 0);
    await eventually("some has come", async () => Number(await n2.ask("DBSIZE")) > 100);
    broker.freeze();
    const [links, held] = [await n2.fact("relay_links_begun"), await n2.ask("DBSIZE")];
    expect(Number(held)).toBeLessThan(4_000);
    await broker.crash();
    await broker.resume();
    await eventually("all hold the same", equalHashes);
    expect(await n2.ask("DBSIZE")).toBe("5000");
    // The session that was under way has gone on; none could begin meanwhile.
    expect(links).toBeGreaterThan(0);
    const lost = /A sync.* failed.*(the connection was lost|nothing came)/;
    expect(n1.logged(lost) + n2.logged(lost)).toBe(0);
  });
});

describe.skipIf(mosquittoPath === null)("on a thin line to the broker", () => {
  /** Less than this takes it less than the line does, and more than it more. */
  const LINE_BYTES_A_SECOND = 16_384;
  const VALUE_BYTES = 200;
  const KEYS = 1_500;
  const noise = (bytes: number): string =>
    Buffer.from(crypto.getRandomValues(new Uint8Array((bytes * 3) / 4))).toString("base64");

  test.each([8_192, 262_144])(
    "what is written now comes before what heals at %i bytes a second",
    async (broker_bytes_per_second) => {
      const link = await Link.to(broker.port, LINE_BYTES_A_SECOND);
      try {
        const antiEntropy = { broker_bytes_per_second };
        const mqtt = { max_outbox_events: 1 };
        const n1 = await start("n1", {
          broker: `mqtt://127.0.0.1:${link.port}`,
          mqtt,
          antiEntropy,
        });
        const n2 = await start("n2", { antiEntropy });
        await n1.ask("REPLICATE disable");
        await n1.askAll(
          Array.from({ length: KEYS }, (_, i) => `SET missed${i} ${noise(VALUE_BYTES)}`),
        );
        await n1.ask("REPLICATE enable");
        const held = async (): Promise<number> => Number(await n2.ask("DBSIZE"));
        await eventually("it is being healed", async () => (await held()) > 100);
        for (let i = 0; i < 5; i++) {
          const before = await n1.fact("relay_sent_bytes");
          await n1.ask(`SET fresh${i} 1`);
          const isThere = async (): Promise<boolean> => (await n2.ask(`GET fresh${i}`)) === "1";
          await eventually("what is written arrives", isThere);
          // Not much of what heals has gone before it.
          const passed = (await n1.fact("relay_sent_bytes")) - before;
          expect(passed).toBeLessThan((KEYS * VALUE_BYTES) / 4);
        }
      } finally {
        link.close();
      }
    },
  );
});

describe.skipIf(mosquittoPath === null)("a broker that refuses the writes of all", () => {
  let directory: string;
  beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "merklekv-acl-"))));
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  async function startPair(): Promise<[ClusterNode, ClusterNode]> {
    const rules = join(directory, "acl");
    writeFileSync(rules, "topic readwrite merkle-kv/#\ntopic deny merkle-kv/updates\n");
    // It runs under another name than root's.
    chmodSync(directory, 0o755);
    await broker.stop();
    broker = await Mosquitto.start([`acl_file ${rules}`]);
    const pair: [ClusterNode, ClusterNode] = [await start("n1"), await start("n2")];
    for (const node of pair) {
      const knows = async (): Promise<boolean> => (await node.fact("sync_peers")) === 1;
      await eventually("they know each other", knows);
    }
    return pair;
  }

  test("still carries what heals them", async () => {
    const [n1, n2] = await startPair();
    await n1.ask("SET first 1");
    await eventually("it has come", async () => (await n2.ask("GET first")) === "1");
  });

  test("carries what a node that stops hands over", async () => {
    const [n1, n2] = await startPair();
    await n1.ask("SET last 1");
    await n1.stop();
    nodes = [n2];
    expect(await n2.ask("GET last")).toBe("1");
  });
});

const missing = mosquittoPath === null ? MOSQUITTO_MISSING : whyNoNamespaces();
if (missing !== null) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== null)("three nodes in networks of their own", () => {
  const namespaces: Namespace[] = [];
  afterEach(() => namespaces.splice(0).forEach(removeNamespace));

  test.each(["none", PRIVATE_ADDRESS])(
    "that advertise %p heal all the same",
    async (advertised) => {
      await broker.stop();
      broker = await Mosquitto.start([], "0.0.0.0");
      const create = async (number: number) => {
        const namespace = createNamespace(number);
        namespaces.push(namespace);
        return start(`n${number}`, {
          namespace,
          broker: `mqtt://${namespace.gateway}:${broker.port}`,
          network: { advertise_address: advertised, bind_address: "0.0.0.0", bind_port: 7379 },
        });
      };
      const [n1, n2] = [await create(1), await create(2)];
      await n2.ask("REPLICATE disable");
      await setKeys(n1, "missed", 500);
      await setKeys(n2, "alone", 500);
      await n2.ask("REPLICATE enable");
      const n3 = await create(3);
      await eventually("all hold the same", equalHashes);
      expect(await n3.ask("DBSIZE")).toBe("1000");
      expect(await n2.ask(`SET large ${LARGE}`)).toBe("OK");
      await eventually("the large value is everywhere", equalHashes);
      expect(await n1.ask("STRLEN large")).toBe(`${LARGE.length}`);
      expect((await n1.info()).get("sync_ways")).toMatch(/^n2=broker n3=(broker|untried)$/);
    },
  );
});
