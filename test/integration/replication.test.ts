/** Replicators with real stores over real brokers: the embedded one and mosquitto. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect as connectTcp, type Socket } from "node:net";
import { connect, type MqttClient } from "mqtt";
import { Encoder } from "cbor-x/index-no-eval";
import { Entry } from "../../src/core/data/entry.ts";
import { EmbeddedBroker } from "../../src/replication/embedded-broker.ts";
import { eventLoop } from "../../src/world.ts";
import { eventually } from "../support/eventually.ts";
import { freePort, Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import {
  bytes,
  LogRecorder,
  ReplicatingNode,
  type ReplicatingNodeOptions,
} from "../support/replicating-node.ts";

interface Broker {
  readonly address: string;
  pause(): Promise<void>;
  crash(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
}

async function embedded(): Promise<Broker> {
  const port = await freePort();
  let broker = await EmbeddedBroker.start(eventLoop, "127.0.0.1", port);
  return {
    address: `mqtt://127.0.0.1:${port}`,
    pause: () => broker.stop(),
    crash: () => broker.stop(),
    resume: async () => {
      broker = await EmbeddedBroker.start(eventLoop, "127.0.0.1", port);
    },
    stop: () => broker.stop(),
  };
}

const brokers: [string, boolean, () => Promise<Broker>][] = [
  ["the embedded broker", true, embedded],
  ["mosquitto", mosquittoPath !== null, () => Mosquitto.start()],
];

for (const [name, installed, startBroker] of brokers) {
  describe.skipIf(!installed)(`over ${name}`, () => {
    let broker: Broker;
    let nodes: ReplicatingNode[];

    beforeEach(async () => {
      broker = await startBroker();
      nodes = [];
    });
    afterEach(async () => {
      await Promise.all(nodes.map((node) => node.replicator.stop()));
      await broker.stop();
    });

    const start = (id: string, options: ReplicatingNodeOptions = {}): ReplicatingNode => {
      const node = new ReplicatingNode(id, broker.address, options);
      nodes.push(node);
      node.replicator.start();
      return node;
    };
    const meet = (...all: ReplicatingNode[]) =>
      eventually("the nodes see each other", () =>
        all.every((node) => node.replicator.status().nodes === all.length),
      );

    test("an expiry travels without the value, and undoes no newer one", async () => {
      const [a, b] = [start("a"), start("b")];
      await meet(a, b);
      // Nothing that compression would make short.
      const value = Buffer.from(crypto.getRandomValues(new Uint8Array(700))).toString("base64");
      a.set("session", value);
      a.increment("limiter", 1);
      const limiter = (node: ReplicatingNode) => node.get("limiter") === "1";
      await eventually("both are there", () => limiter(b) && b.get("session") === value);
      const before = [a, b].map((node) => node.counter("published_bytes"));
      const untilMs = Date.now() + 3_600_000;
      for (const node of [a, b]) {
        for (const key of ["session", "limiter"]) node.expire(key, untilMs);
        node.increment("limiter", 1);
      }
      await eventually("nothing was lost", () =>
        [a, b].every((node) => node.get("limiter") === "3" && node.get("session") === value),
      );
      const after = [a, b].map((node) => node.counter("published_bytes"));
      for (const [i, bytesNow] of after.entries()) expect(bytesNow - before[i]).toBeLessThan(800);
      a.set("session", "new");
      b.expire("session", untilMs + 1_000);
      await eventually("the new one is there", () => b.get("session") === "new");
      await eventually("the roots are equal", () => a.get("session") === "new");
    });

    test("every kind of write arrives", async () => {
      const [a, b, c] = [start("a"), start("b"), start("c")];
      await meet(a, b, c);
      a.set("string", "from a");
      b.set("gone", "soon");
      c.set("expires", "later", Date.now() + 3_600_000);
      a.increment("counter", 5);
      b.increment("counter", -2);
      await eventually("all is everywhere", () =>
        nodes.every(
          (n) =>
            n.get("string") === "from a" &&
            n.get("gone") === "soon" &&
            n.get("expires") === "later" &&
            n.get("counter") === "3",
        ),
      );
      const k = bytes("expires");
      const entry = new Entry();
      a.store.read(a.store.find(k, 0, k.length), entry);
      expect(entry.expiresAtMs).toBeGreaterThan(Date.now());

      a.delete("gone");
      await eventually("it is gone", () => nodes.every((n) => n.get("gone") === null));
      b.store.flush();
      b.set("after", "flush");
      await eventually("all is flushed", () =>
        nodes.every((n) => n.store.size === 1 && n.get("after") === "flush"),
      );
    });

    test("only own writes are published, and each node's once", async () => {
      const [a, b] = [start("a"), start("b")];
      await meet(a, b);
      for (let i = 0; i < 500; i++) a.set(`key${i}`, `value${i}`);
      await eventually("all arrived", () => b.store.size === 500);
      await eventually("all is acknowledged", () => a.replicator.status().unacknowledged === 0);
      expect(a.counter("published_events")).toBe(500);
      expect(a.counter("published_batches")).toBeGreaterThan(1);
      expect(b.counter("applied_events")).toBe(500);
      expect(b.counter("published_events")).toBe(0);
      expect(a.counter("received_events")).toBe(0);
      expect(b.counter("gaps")).toBe(0);
    });

    test("a large value travels as a reference", async () => {
      const references: string[] = [];
      const onReference = (source: string, entry: Entry) => {
        references.push(`${source}:${new TextDecoder().decode(entry.keyBytes())}`);
      };
      const [a, b] = [start("a"), start("b", { hooks: { onReference } })];
      await meet(a, b);
      a.set("large", "x".repeat(1_001));
      a.set("small", "x".repeat(1_000));
      await eventually("the small one arrived", () => b.get("small"));
      expect(references).toEqual(["a:large"]);
      expect(b.get("large")).toBeNull();
      expect(b.counter("received_references")).toBe(1);
    });

    test("writes during a restart of the broker arrive when it is back", async () => {
      const [a, b] = [start("a"), start("b")];
      await meet(a, b);
      a.set("before", "1");
      await eventually("it arrived", () => b.get("before"));
      await broker.pause();
      await eventually("both noticed", () => nodes.every((n) => !n.replicator.status().connected));
      for (let i = 0; i < 3_000; i++) a.set(`a${i}`, "written meanwhile");
      for (let i = 0; i < 3_000; i++) b.set(`b${i}`, "written meanwhile");
      a.increment("counter", 1);
      b.increment("counter", 1);
      a.delete("before");
      await broker.resume();
      await eventually("all is everywhere", () =>
        nodes.every(
          (n) => n.store.size === 6_001 && n.get("counter") === "2" && n.get("before") === null,
        ),
      );
    });

    test("writes all through a crash of the broker arrive, or are known to be missing", async () => {
      const [a, b] = [start("a"), start("b")];
      await meet(a, b);
      let written = 0;
      const writing = setInterval(() => {
        for (let i = 0; i < 20; i++, written++) nodes[written % 2].set(`key${written}`, "v");
      }, 1);
      try {
        await eventually("writes arrive", () => b.counter("applied_events") > 500);
        await broker.crash();
        await eventually("both noticed", () =>
          nodes.every((n) => !n.replicator.status().connected),
        );
        await broker.resume();
        await eventually("both are back", () =>
          nodes.every((n) => n.replicator.status().connected),
        );
      } finally {
        clearInterval(writing);
      }
      // A broker that is killed may take along what it had acknowledged. Whoever then gets what is
      // written next sees by its number that something is missing, and would compare with a peer.
      for (const node of nodes) node.set(`key${written++}`, "v");
      await eventually("all is everywhere, or missed", () =>
        nodes.every((n) => n.store.size === written || n.counter("gaps") > 0),
      );
      await eventually("the last have come", () =>
        nodes.every(
          (n) => n.get(`key${written - 1}`) === "v" && n.get(`key${written - 2}`) === "v",
        ),
      );
    });

    test("a node without its broker starts, and stops promptly", async () => {
      await broker.pause();
      const log = new LogRecorder();
      const [a, b] = [start("a", { logger: log }), start("b", { logger: log })];
      a.set("key", "written before the broker came");
      await eventually("both noticed", () => log.lines.length === 2);
      await a.replicator.disable();
      expect(a.replicator.status()).toMatchObject({ enabled: false, connected: false, nodes: 1 });
      a.replicator.enable();
      await broker.resume();
      await eventually("it arrived", () => b.get("key"));
    });

    test("a disabled node neither sends nor applies, and catches up on its own writes", async () => {
      const [a, b] = [start("a"), start("b")];
      await meet(a, b);
      a.set("last", "words");
      await a.replicator.disable();
      await eventually("what was written before arrived", () => b.get("last"));
      await eventually("b is alone", () => b.replicator.status().nodes === 1);
      a.set("silent", "a");
      b.set("unheard", "b");
      await eventually("b has published", () => b.counter("published_events") === 1);
      expect(b.get("silent")).toBeNull();
      a.replicator.enable();
      await eventually("it arrived", () => b.get("silent"));
      expect(a.get("unheard")).toBeNull();
    });

    test("an outage is logged once, and so is its end", async () => {
      const log = new LogRecorder();
      const a = start("a", { logger: log });
      await eventually("it is connected", () => a.replicator.status().connected);
      await broker.pause();
      await eventually("it noticed", () => !a.replicator.status().connected);
      await eventually("it tried again", () => log.attempts > 1);
      await broker.resume();
      await eventually("it is connected", () => a.replicator.status().connected);
      const protocol = name === "mosquitto" ? "MQTT 5" : "MQTT 3.1.1";
      expect(log.lines).toEqual([
        `info Connected to the broker ${protocol}`,
        "warn The broker is away; writes wait here until it is back",
        `info The broker is back ${protocol}`,
      ]);
    });

    test("a node that stops is offline for its peers, and its last writes arrive", async () => {
      const [a, b] = [start("a"), start("b")];
      await meet(a, b);
      for (let i = 0; i < 2_000; i++) a.set(`key${i}`, "last");
      await a.replicator.stop();
      await eventually("all arrived", () => b.store.size === 2_000);
      await eventually("a is offline", () => b.replicator.status().nodes === 1);
      expect(b.replicator.peers()).toMatchObject([
        { nodeId: "a", online: false, address: "127.0.0.1:7379", version: "1.0.0" },
      ]);
    });

    test("an overflowing outbox is a gap for the others", async () => {
      const gaps: string[] = [];
      const a = start("a", { settings: { max_outbox_events: 10 } });
      const b = start("b", { hooks: { onGap: (source) => gaps.push(source) } });
      await meet(a, b);
      a.set("first", "1");
      await eventually("it arrived", () => b.get("first"));
      // In one turn of the event loop, so nothing can be sent in between.
      for (let i = 0; i < 15; i++) a.set(`key${i}`, "v");
      await eventually("some arrived", () => b.store.size === 11);
      expect(gaps).toEqual(["a"]);
      expect(a.counter("outbox_dropped_events")).toBe(5);
    });

    test("two live nodes with one id are told so", async () => {
      const log = new LogRecorder();
      const a = start("twin", { settings: { client_id: "one" } });
      await eventually("it is connected", () => a.replicator.status().connected);
      const b = start("twin", { settings: { client_id: "two" }, logger: log });
      await eventually("it is connected", () => b.replicator.status().connected);
      a.set("key", "a");
      await eventually("both know", () =>
        nodes.every((n) => n.replicator.status().duplicateNodeId),
      );
      const complaints = log.lines.filter((line) => line.startsWith("error"));
      expect(complaints).toEqual([expect.stringContaining("node_id")]);
    });

    test("a forged batch in a node's own name makes no twin of it for long", async () => {
      let passedMs = 0;
      const timing = { ...eventLoop, nowMs: () => performance.now() + passedMs };
      const log = new LogRecorder();
      const a = start("a", { timing, logger: log });
      await eventually("it is connected", () => a.replicator.status().connected);
      const client = await connectForeign(broker.address);
      const encoder = new Encoder({ useRecords: false, variableMapSize: true });
      const forge = (epoch: number) =>
        client.publishAsync(
          "test/updates",
          encoder.encode({ v: 1, src: "a", epoch: BigInt(epoch), seq: 1, events: [] }),
          { qos: 1 },
        );
      await forge(Number.MAX_SAFE_INTEGER);
      await eventually("it is counted", () => a.counter("dropped_invalid") === 1);
      expect(a.replicator.status().duplicateNodeId).toBe(false);
      await forge(a.replicator.epoch + 1);
      await eventually("it is told", () => a.replicator.status().duplicateNodeId);
      passedMs = 180_000;
      expect(a.replicator.status().duplicateNodeId).toBe(false);
      await client.endAsync();
    });

    test("single events of other implementations are read", async () => {
      const a = start("a");
      await eventually("it is connected", () => a.replicator.status().connected);
      const client = await connectForeign(broker.address);
      const encoder = new Encoder({ useRecords: false, variableMapSize: true });
      const event = {
        v: 1,
        op: "append",
        key: "foreign",
        val: [...bytes("whole value")],
        ts: BigInt(Date.now()) * 1_000_000n,
        src: "elsewhere",
        op_id: Array.from({ length: 16 }, (_, i) => i),
        prev: null,
        ttl: null,
      };
      client.publish("test/events", encoder.encode({ ...event, src: "a", key: "own" }), { qos: 1 });
      client.publish("test/events", Buffer.from("garbage"), { qos: 1 });
      client.publish("test/updates", Buffer.from("garbage"), { qos: 1 });
      client.publish("test/events", encoder.encode(event), { qos: 1 });
      await eventually("it arrived", () => a.get("foreign") === "whole value");
      expect(a.get("own")).toBeNull();
      expect(a.counter("dropped_malformed")).toBe(2);
      client.end(true);
    });

    test("memory stays bounded while the broker does not answer", async () => {
      const a = start("a", { settings: { max_outbox_events: 1_000 } });
      await eventually("it is connected", () => a.replicator.status().connected);
      await broker.pause();
      await eventually("it noticed", () => !a.replicator.status().connected);
      for (let i = 0; i < 5_000; i++) a.set(`key${i}`, "v");
      expect(a.replicator.status().waiting).toBe(1_000);
      expect(a.counter("outbox_dropped_events")).toBe(4_000);
      await broker.resume();
    });
  });
}

test("it works over a WebSocket", async () => {
  const broker = await EmbeddedBroker.start(eventLoop, "127.0.0.1", 0);
  const bridge = webSocketBridge(broker.port);
  const address = `ws://127.0.0.1:${bridge.port}/mqtt`;
  const [a, b] = [new ReplicatingNode("a", address), new ReplicatingNode("b", address)];
  try {
    a.replicator.start();
    b.replicator.start();
    await eventually("they see each other", () => a.replicator.status().nodes === 2);
    a.set("key", "value");
    await eventually("it arrived", () => b.get("key") === "value");
  } finally {
    await Promise.all([a.replicator.stop(), b.replicator.stop()]);
    await bridge.stop(true);
    await broker.stop();
  }
});

test.skipIf(mosquittoPath === null)("a broker that wants a password says so", async () => {
  const broker = await Mosquitto.start(["allow_anonymous false"]);
  const log = new LogRecorder();
  const node = new ReplicatingNode("a", broker.address, { logger: log });
  try {
    node.replicator.start();
    await eventually("it is logged", () => log.lines.length > 0);
    const refuses = "warn The broker refuses the connection; writes wait here until it does not";
    expect(log.lines).toEqual([refuses]);
    expect(log.reason).toContain("not authorized");
  } finally {
    await node.replicator.stop();
    await broker.stop();
  }
});

test("a port in use is one clear line", async () => {
  const broker = await EmbeddedBroker.start(eventLoop, "127.0.0.1", 0);
  try {
    await expect(EmbeddedBroker.start(eventLoop, "127.0.0.1", broker.port)).rejects.toThrow(
      `mqtt.embedded: cannot listen on 127.0.0.1:${broker.port}: the port is in use`,
    );
  } finally {
    await broker.stop();
  }
});

test("a bad broker address is one clear line", () => {
  expect(() => new ReplicatingNode("a", "http://nowhere")).toThrow(
    'mqtt.broker_address: "http://nowhere" is not the address of a broker',
  );
});

test("stop is prompt when nothing answers at the broker's address", async () => {
  const log = new LogRecorder();
  const node = new ReplicatingNode("a", "mqtt://127.0.0.1:1", { logger: log });
  node.replicator.start();
  await eventually("the outage is logged", () => log.lines.length > 0);
  node.set("key", "value");
  await node.replicator.stop();
  expect(node.replicator.status().connected).toBe(false);
  expect(log.lines).toHaveLength(1);
});

async function connectForeign(address: string): Promise<MqttClient> {
  const client = connect(address, { protocolVersion: 4, reconnectPeriod: 0 });
  await eventually("the foreign client is connected", () => client.connected);
  return client;
}

/** Passes WebSocket messages at /mqtt on to a TCP port, as brokers with WebSockets do inside. */
function webSocketBridge(port: number) {
  return Bun.serve<{ broker: Socket }>({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    fetch(request, server) {
      const data = { broker: connectTcp(port, "127.0.0.1") };
      const headers = { "Sec-WebSocket-Protocol": "mqtt" };
      const isMqtt = new URL(request.url).pathname === "/mqtt";
      if (isMqtt && server.upgrade(request, { data, headers })) return undefined;
      return new Response("not here", { status: 404 });
    },
    websocket: {
      open: (socket) => void socket.data.broker.on("data", (chunk) => void socket.send(chunk)),
      message: (socket, message) => void socket.data.broker.write(message),
      close: (socket) => void socket.data.broker.destroy(),
    },
  });
}
