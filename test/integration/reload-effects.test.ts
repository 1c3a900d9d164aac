/**
 * Every key that a running node takes is changed in the file of a running node, and the effect is
 * looked at. A key that the schema says reloads, and that has no line here, fails.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, statfsSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectMqtt, connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import { keyNames, schema, type KeyName } from "../../src/config/schema.ts";
import type { Field } from "../../src/config/field.ts";
import { Authority, type CertificateFiles } from "../support/certificates.ts";
import { ConnectPackets } from "../support/connect-packets.ts";
import { eventually } from "../support/eventually.ts";
import { secretFileNamed, secretIdOf, secretText } from "../support/secret-files.ts";
import { OtlpReceiver } from "../support/otlp-receiver.ts";
import { change, Started, type ReloadingNode, type Values } from "../support/reloading-node.ts";
import { ask, connectTls } from "../support/tls-client.ts";
import { usersFile } from "../support/users-node.ts";

const started = new Started();
const start = (values: Values = {}) => started.node(values);
let authority: Authority;
let own: CertificateFiles;
let other: CertificateFiles;

beforeAll(() => {
  authority = new Authority();
  own = authority.issue({ name: "own" });
  other = authority.issue({ name: "other", alternatives: "DNS:other.example" });
});
afterEach(() => started.end());
afterAll(() => authority.remove());

function collector(): OtlpReceiver {
  const receiver = new OtlpReceiver();
  started.also(() => receiver.stop());
  return receiver;
}

/** A traceparent of a client. */
const tracedAs = (trace: number): string =>
  `00-${String(trace).padStart(32, "0")}-00f067aa0ba902b7-01`;

/** Becomes a value that a fact shows. */
function shownBy(fact: string, key: KeyName, value: unknown, shown: string, more: Values = {}) {
  return async (): Promise<void> => {
    const node = await start(more);
    expect(await node.fact(fact)).not.toBe(shown);
    await change(node, { [key]: value });
    await eventually(`${fact} is ${shown}`, async () => (await node.fact(fact)) === shown);
  };
}

/** Comes with the next connection to the broker. */
function sentToBroker(key: KeyName, value: unknown, shown: object, more: Values = {}) {
  return async (): Promise<void> => {
    const broker = await ConnectPackets.listen();
    started.also(() => broker.close());
    const broker_address = `mqtt://127.0.0.1:${broker.port}`;
    const mqtt = { "mqtt.enabled": true, "mqtt.broker_address": broker_address, ...more };
    const node = await start(mqtt);
    await eventually("it has come", () => broker.arrivals.length > 0);
    expect(broker.arrivals[0].packet).not.toMatchObject(shown);
    await change(node, { [key]: value });
    await eventually("it has come again", () => broker.arrivals.length > 1);
    expect(broker.arrivals[1].packet).toMatchObject(shown);
  };
}

/** The same over TLS. */
function shownToBroker(change_: () => Values, shown: object, before: () => Values = () => ({})) {
  return async (): Promise<void> => {
    const broker = await ConnectPackets.listen({ ...own, caFile: authority.caFile });
    started.also(() => broker.close());
    const node = await start({
      "mqtt.enabled": true,
      "mqtt.broker_address": `mqtts://127.0.0.1:${broker.port}`,
      "mqtt.tls.ca_file": authority.caFile,
      ...before(),
    });
    if (!("mqtt.tls.insecure" in change_()) && !("mqtt.tls.ca_file" in change_())) {
      await eventually("it has come", () => broker.arrivals.length > 0);
      expect(broker.arrivals[0].tls).not.toMatchObject(shown);
    }
    const count = broker.arrivals.length;
    await change(node, change_());
    await eventually("it has come again", () => broker.arrivals.length > count);
    expect(broker.arrivals[count].tls).toMatchObject(shown);
  };
}

/** A node with TLS at which every peer and client shows a certificate of the test's authority. */
const tls = (): Values => ({
  "tls.cert_file": own.cert,
  "tls.key_file": own.key,
  "tls.ca_file": authority.caFile,
});

/** A node with a broker of its own, and what connects to that. */
async function startBroker(more: Values = {}) {
  const node = await start({
    "mqtt.enabled": true,
    "mqtt.broker_address": "embedded",
    "mqtt.embedded.bind_port": 0,
    ...more,
  });
  await eventually("it listens", () => /Embedded broker listening/.test(node.read("log")));
  const port = Number(/Embedded broker listening.*address=\S+:(\d+)/.exec(node.read("log"))![1]);
  const connect = async (
    options: IClientOptions = {},
    prepare: (client: MqttClient) => void = () => {},
  ): Promise<MqttClient> => {
    const client = connectMqtt(`mqtt://127.0.0.1:${port}`, {
      ...{ reconnectPeriod: 0, protocolVersion: 4, connectTimeout: 5_000 },
      ...options,
    });
    prepare(client);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    client.once("connect", () => resolve());
    client.once("close", () => reject(new Error("it was cut off")));
    client.on("error", reject);
    await promise;
    started.also(() => client.endAsync(true));
    return client;
  };
  return { node, connect };
}

async function answerOverTls(node: ReloadingNode, certificate?: CertificateFiles) {
  const options = { port: node.tlsPort, caFile: authority.caFile };
  const socket = await connectTls({ ...options, ...(certificate && { certificate }) });
  try {
    return { answer: await ask(socket, "ACL WHOAMI"), by: socket.getPeerCertificate().subject.CN };
  } finally {
    socket.destroy();
  }
}

async function fillLog(node: ReloadingNode, name: string, megabytes: number): Promise<void> {
  for (let i = 0; i < megabytes * 600; i++) {
    node.logger.debug(`${"x".repeat(1_990)} ${i}`);
    // The file may be put away just then; the former one first, lest it be missed.
    const isWritten = () => `${node.read(`${name}.1`)}${node.read(name)}`.includes(` ${i}\n`);
    if (i % 300 === 299) await eventually("it is written", isWritten);
  }
}

const outward = Object.values(networkInterfaces())
  .flatMap((all) => all ?? [])
  .find(({ internal, family }) => !internal && family === "IPv4")?.address;

/** Key → how it is changed, and what of it can be seen. */
const EFFECTS: Partial<Record<KeyName, () => Promise<void>>> = {
  async description() {
    const node = await start();
    await change(node, { description: "in the cellar" });
    expect(await node.setting("description")).toBe("in the cellar");
  },
  async "network.advertise_address"() {
    const broker_address = await started.broker();
    const node = await start({ "mqtt.enabled": true, "mqtt.broker_address": broker_address });
    const watcher = await connectAsync(broker_address);
    started.also(() => watcher.endAsync(true));
    let seen = "";
    watcher.on("message", (_topic, message) => (seen += message.toString("latin1")));
    await watcher.subscribeAsync("merkle-kv/nodes/+");
    await eventually("it is there", () => seen.includes(`127.0.0.1:${node.port}`));
    await change(node, { "network.advertise_address": "192.0.2.7" });
    await eventually("it says so", () => seen.includes(`192.0.2.7:${node.port}`));
  },
  async "cluster.secret"() {
    // What the environment says of a running process does not change, so it is said to the node.
    const node = await start({ "auth.password": "secret" });
    await node.ask("AUTH secret");
    expect(await node.ask(`CONFIG SET cluster.secret ${secretText("said")}`)).toBe("OK");
    expect(await node.fact("cluster_secret_id")).toBe(secretIdOf("said"));
  },
  async "cluster.secret_file"() {
    const node = await start({ "cluster.secret_file": secretFileNamed("one") });
    await change(node, { "cluster.secret_file": secretFileNamed("two") });
    expect(await node.fact("cluster_secret_id")).toBe(secretIdOf("two"));
  },
  async "cluster.previous_secret_files"() {
    const node = await start({ "cluster.secret_file": secretFileNamed("one") });
    await change(node, { "cluster.previous_secret_files": [secretFileNamed("two")] });
    expect(await node.fact("cluster_secret_id")).toBe(secretIdOf("one"));
    expect(await node.fact("cluster_previous_secret_ids")).toBe(secretIdOf("two"));
  },
  "network.max_connections": shownBy("connection_limit", "network.max_connections", 9, "9"),
  async "network.connection_timeout"() {
    const node = await start();
    await change(node, { "network.connection_timeout": 1 });
    const silent = await node.connect();
    await expect(silent.readLine()).rejects.toThrow();
  },
  async "network.idle_timeout"() {
    const node = await start();
    const idle = await node.connect();
    expect(await idle.send("PING")).toBe("PONG");
    await change(node, { "network.idle_timeout": 1 });
    await expect(idle.readLine()).rejects.toThrow();
  },
  async "network.dialect"() {
    const node = await start();
    await change(node, { "network.dialect": "tagged" });
    expect(await (await node.connect()).send("VERSION")).toMatch(/^VERSION /);
  },
  async "network.max_line_bytes"() {
    const node = await start();
    await change(node, { "network.max_line_bytes": 64 });
    expect(await node.ask(`SET k ${"v".repeat(100)}`)).toContain("network.max_line_bytes is 64");
  },
  async "network.max_value_bytes"() {
    const node = await start();
    await change(node, { "network.max_value_bytes": 4 });
    expect(await node.ask("SET k 12345")).toContain("Value too large");
    node.client.sendRaw("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\n12345\r\n");
    expect(await node.client.readLine()).toContain("-ERR Value too large");
  },
  async "network.max_output_bytes"() {
    const node = await start({ "network.max_value_bytes": 900 });
    await change(node, { "network.max_output_bytes": 1_024 });
    node.client.sendRaw(`*22\r\n$7\r\nCOMMAND\r\n$4\r\nINFO\r\n${"$3\r\nGET\r\n".repeat(20)}`);
    expect(await node.client.readLine()).toContain("exceeds network.max_output_bytes");
  },
  "network.max_client_memory_mb": shownBy(
    "client_memory_limit_bytes",
    "network.max_client_memory_mb",
    200,
    String(200 * 1_048_576),
  ),
  async "network.open_administration"() {
    if (outward === undefined) return;
    const node = await start({ "network.bind_address": "0.0.0.0" });
    const far = await node.connect(outward);
    expect(await far.send("CONFIG GET node_id")).toContain("Permission denied");
    await change(node, { "network.open_administration": true });
    expect(await (await node.connect(outward)).send("CONFIG GET node_id")).toBe("node_id:n");
    await change(node, { "network.open_administration": false });
    expect(await (await node.connect(outward)).send("CONFIG GET node_id")).toContain("denied");
  },
  async "auth.acl_file"() {
    const node = await start();
    const path = usersFile(["user default off", "user eve on >secret ~* +@all"]);
    await change(node, { "auth.acl_file": path });
    await eventually("who came without a login is gone", () => isOver(node.client));
    const client = await node.connect();
    expect(await client.send("GET k")).toContain("Not authenticated");
    expect(await client.send("AUTH eve secret")).toBe("OK");
    const without = usersFile(["user bob on >other ~* +@all"]);
    await change(node, { "auth.acl_file": without });
    await eventually("eve is gone", () => isOver(client));
    expect(await (await node.connect()).send("AUTH bob other")).toBe("OK");
  },
  async "auth.password"() {
    const node = await start({ "auth.password": "first" });
    expect(await node.ask("AUTH first")).toBe("OK");
    await change(node, { "auth.password": "second" });
    expect(await (await node.connect()).send("AUTH second")).toBe("OK");
    expect(await (await node.connect()).send("AUTH first")).toContain("ERROR");
  },
  async "auth.certificate_users"() {
    const path = usersFile(["user default on nopass +@all ~*", "user other on nopass +@all ~*"]);
    const node = await start({
      ...tls(),
      "tls.client_certificates": "request",
      "auth.acl_file": path,
    });
    expect((await answerOverTls(node, other)).answer).toBe("default");
    await change(node, { "auth.certificate_users": "common_name" });
    expect((await answerOverTls(node, other)).answer).toBe("other");
  },
  async "http.api"() {
    const node = await start({ "http.bind_address": "127.0.0.1" });
    const statusOf = async () => (await fetch(`http://${node.http}/v1/keys`)).status;
    expect(await statusOf()).toBe(200);
    await change(node, { "http.api": false });
    expect(await statusOf()).toBe(404);
  },
  async "http.host_names"() {
    // A port for this machine alone has no names.
    const node = await start({ "http.bind_address": "0.0.0.0" });
    const url = `http://${node.http.replace("0.0.0.0", "127.0.0.1")}/v1/keys/none`;
    const statusBy = async (host: string) => (await fetch(url, { headers: { host } })).status;
    expect(await statusBy("db.example")).toBe(403);
    await change(node, { "http.host_names": ["db.example"] });
    expect(await statusBy("db.example")).toBe(404);
  },
  async "tls.cert_file"() {
    const node = await start(tls());
    expect((await answerOverTls(node)).by).toBe("own");
    const next = authority.issue({ name: "next" });
    await change(node, { "tls.cert_file": next.cert, "tls.key_file": next.key });
    expect((await answerOverTls(node)).by).toBe("next");
  },
  // A key comes with its certificate.
  "tls.key_file": () => EFFECTS["tls.cert_file"]!(),
  async "tls.ca_file"() {
    const foreign = new Authority("Other Authority");
    started.also(() => foreign.remove());
    const node = await start({
      ...tls(),
      "tls.ca_file": foreign.caFile,
      "tls.client_certificates": "require",
    });
    const isIn = async (): Promise<boolean> =>
      (await answerOverTls(node, other).catch(() => ({ answer: "" }))).answer === "default";
    expect(await isIn()).toBe(false);
    await change(node, { "tls.ca_file": authority.caFile });
    expect(await isIn()).toBe(true);
  },
  async "tls.client_certificates"() {
    const node = await start(tls());
    expect((await answerOverTls(node)).answer).toBe("default");
    await change(node, { "tls.client_certificates": "require" });
    const without = await answerOverTls(node).catch(() => ({ answer: null }));
    expect(without.answer).toBeNull();
    expect((await answerOverTls(node, other)).answer).toBe("default");
  },
  async "tls.server_name"() {
    const files = { ...tls(), "tls.cert_file": other.cert, "tls.key_file": other.key };
    const peer = await start({ ...files, node_id: "p" });
    const node = await start({ ...tls(), node_id: "n" });
    await peer.ask("SET k v");
    const sync = `SYNC 127.0.0.1 ${peer.tlsPort} --tls`;
    expect(await node.ask(sync)).toContain("ERROR");
    await change(node, { "tls.server_name": "other.example" });
    expect(await node.ask(sync)).toBe("OK");
    expect(await node.ask("GET k")).toBe("v");
  },
  async "mqtt.broker_address"() {
    const [first, second] = [await started.broker(), await started.broker()];
    const node = await start({ "mqtt.enabled": true, "mqtt.broker_address": first });
    const watcher = await connectAsync(second);
    started.also(() => watcher.endAsync(true));
    let heard = 0;
    watcher.on("message", (topic) => (heard += Number(topic === "merkle-kv/updates")));
    await watcher.subscribeAsync("merkle-kv/#");
    await change(node, { "mqtt.broker_address": second });
    // What is written until then may still go to the first.
    await eventually("its writes are there", async () => {
      await node.ask("SET k v");
      return heard > 0;
    });
  },
  async "mqtt.embedded.max_clients"() {
    const { node, connect } = await startBroker();
    const comeIn = async () =>
      (await Promise.all(Array.from({ length: 12 }, () => connect().catch(() => null)))).filter(
        (client) => client !== null,
      );
    const before = await comeIn();
    expect(before.length).toBe(12);
    for (const client of before) await client.endAsync(true);
    await change(node, { "mqtt.embedded.max_clients": 1 });
    await eventually("some are cut off", async () => {
      const after = await comeIn();
      for (const client of after) await client.endAsync(true);
      return after.length < 12;
    });
  },
  async "mqtt.embedded.max_packet_bytes"() {
    // What the node itself may send fits in any case.
    const { node, connect } = await startBroker({ "mqtt.max_event_bytes": 65_536 });
    const send = async () => {
      const client = await connect();
      const { promise, resolve } = Promise.withResolvers<string>();
      client.on("close", () => resolve("cut off"));
      client.on("error", () => {});
      client.publish("elsewhere", Buffer.alloc(2_000_000), { qos: 1 }, (problem) => {
        if (!problem) resolve("taken");
      });
      const outcome = await promise;
      await client.endAsync(true);
      return outcome;
    };
    expect(await send()).toBe("taken");
    await change(node, { "mqtt.embedded.max_packet_bytes": 1_024 });
    expect(await send()).toBe("cut off");
  },
  async "mqtt.embedded.max_queued_mb"() {
    const { node, connect } = await startBroker();
    /** Publishes 20 messages for an absent subscriber. */
    const publishFor = async (clientId: string) => {
      const absent = await connect({ clientId, clean: false });
      await absent.subscribeAsync(`for/${clientId}`, { qos: 1 });
      await absent.endAsync();
      const sender = await connect();
      for (let i = 0; i < 20; i++) {
        await sender.publishAsync(`for/${clientId}`, Buffer.alloc(50_000), { qos: 1 });
      }
      await sender.endAsync();
    };
    await publishFor("one");
    let kept = 0;
    await connect({ clientId: "one", clean: false }, (it) => it.on("message", () => kept++));
    await eventually("all were kept", () => kept === 20);
    expect(node.read("log")).not.toContain("has no room");
    await change(node, { "mqtt.embedded.max_queued_mb": 1 });
    await publishFor("two");
    await eventually("it says so", () => node.read("log").includes("has no room"));
  },
  async "mqtt.embedded.max_retained_mb"() {
    const { node, connect } = await startBroker();
    const retain = async (prefix: string) => {
      const client = await connect();
      for (const name of ["a", "b", "c"]) {
        const payload = Buffer.alloc(400_000);
        await client.publishAsync(`${prefix}/${name}`, payload, { qos: 1, retain: true });
      }
      await client.endAsync();
    };
    await retain("before");
    let retained = 0;
    const reader = await connect({}, (it) => it.on("message", () => retained++));
    await reader.subscribeAsync("before/+", { qos: 1 });
    await eventually("all were retained", () => retained === 3);
    expect(node.read("log")).not.toContain("has no room");
    await change(node, { "mqtt.embedded.max_retained_mb": 1 });
    await retain("after");
    await eventually("it says so", () => node.read("log").includes("has no room"));
  },
  "mqtt.client_id": sentToBroker("mqtt.client_id", "another", { clientId: "another" }),
  "mqtt.username": sentToBroker("mqtt.username", "eve", { username: "eve" }),
  "mqtt.password": sentToBroker(
    "mqtt.password",
    "secret",
    { password: Buffer.from("secret") },
    { "mqtt.username": "eve" },
  ),
  "mqtt.keep_alive": sentToBroker("mqtt.keep_alive", 17, { keepalive: 17 }),
  "mqtt.clean_session": sentToBroker("mqtt.clean_session", false, { clean: false }),
  "mqtt.protocol_version": sentToBroker("mqtt.protocol_version", "3.1.1", { protocolVersion: 4 }),
  async "mqtt.max_packet_bytes"() {
    const broker_address = await started.broker();
    const mqtt = { "mqtt.enabled": true, "mqtt.broker_address": broker_address };
    await shownBy("replication_max_packet_bytes", "mqtt.max_packet_bytes", 9_999, "9999", mqtt)();
  },
  async "mqtt.max_messages_per_second"() {
    const broker_address = await started.broker();
    const mqtt = { "mqtt.enabled": true, "mqtt.broker_address": broker_address };
    const fact = "replication_max_messages_per_second";
    await shownBy(fact, "mqtt.max_messages_per_second", 70, "70", mqtt)();
  },
  async "mqtt.max_event_bytes"() {
    const broker_address = await started.broker();
    const node = await start({ "mqtt.enabled": true, "mqtt.broker_address": broker_address });
    await change(node, { "mqtt.max_event_bytes": 256 });
    await node.ask(`SET k ${"v".repeat(300)}`);
    const fact = "replication_published_references";
    await eventually("it is only referred to", async () => (await node.fact(fact)) === "1");
  },
  async "mqtt.accept_foreign_events"() {
    const broker_address = await started.broker();
    const node = await start({ "mqtt.enabled": true, "mqtt.broker_address": broker_address });
    const stranger = await connectAsync(broker_address);
    started.also(() => stranger.endAsync(true));
    await eventually("it is there", async () => (await node.fact("replication_connected")) === "1");
    await change(node, { "mqtt.accept_foreign_events": false });
    await stranger.publishAsync("merkle-kv/events", "what it says does not matter", { qos: 1 });
    const fact = "replication_dropped_foreign";
    await eventually("it is dropped", async () => (await node.fact(fact)) === "1");
  },
  async "mqtt.batch_milliseconds"() {
    const broker_address = await started.broker();
    const node = await start({
      "mqtt.enabled": true,
      "mqtt.broker_address": broker_address,
      "mqtt.batch_milliseconds": 10_000,
    });
    const isSent = async () => (await node.fact("replication_waiting")) === "0";
    await eventually("it is connected", async () => (await node.fact("replication_heard")) === "1");
    await node.ask("SET a 1");
    await eventually("the first leaves", isSent);
    await node.ask("SET b 2");
    expect(await isSent()).toBe(false);
    await change(node, { "mqtt.batch_milliseconds": 1 });
    await eventually("the second leaves, too", isSent, 9_000);
  },
  async "mqtt.batch_bytes"() {
    const broker_address = await started.broker();
    const node = await start({
      "mqtt.enabled": true,
      "mqtt.broker_address": broker_address,
      "mqtt.batch_milliseconds": 10_000,
    });
    await change(node, { "mqtt.batch_bytes": 256 });
    await node.askAll(Array.from({ length: 20 }, (_, i) => `SET key${i} ${"v".repeat(200)}`));
    const batches = async () => Number(await node.fact("replication_published_batches"));
    await eventually("they leave in many batches", async () => (await batches()) >= 8, 9_000);
  },
  async "mqtt.max_outbox_events"() {
    const node = await start({
      "mqtt.enabled": true,
      "mqtt.broker_address": "mqtt://127.0.0.1:1",
    });
    await change(node, { "mqtt.max_outbox_events": 1 });
    await node.askAll(["SET a 1", "SET b 2", "SET c 3"]);
    expect(Number(await node.fact("replication_outbox_dropped_events"))).toBeGreaterThan(0);
  },
  async "mqtt.tls.ca_file"() {
    const foreign = new Authority("Other Authority");
    started.also(() => foreign.remove());
    const before = () => ({ "mqtt.tls.ca_file": foreign.caFile });
    const after = () => ({ "mqtt.tls.ca_file": authority.caFile });
    await shownToBroker(after, {}, before)();
  },
  "mqtt.tls.cert_file": shownToBroker(
    () => ({ "mqtt.tls.cert_file": other.cert, "mqtt.tls.key_file": other.key }),
    { certificateName: "other" },
  ),
  // A key comes with its certificate.
  "mqtt.tls.key_file": () => EFFECTS["mqtt.tls.cert_file"]!(),
  "mqtt.tls.server_name": shownToBroker(() => ({ "mqtt.tls.server_name": "localhost" }), {
    serverName: "localhost",
  }),
  "mqtt.tls.alpn": shownToBroker(() => ({ "mqtt.tls.alpn": "other" }), { alpn: "other" }),
  "mqtt.tls.insecure": shownToBroker(
    () => ({ "mqtt.tls.insecure": true }),
    {},
    () => ({ "mqtt.tls.server_name": "wrong.example" }),
  ),
  async "anti_entropy.enabled"() {
    const peer = await start({ node_id: "p" });
    const node = await start({
      "anti_entropy.enabled": false,
      "anti_entropy.interval_seconds": 1,
      "anti_entropy.peer_list": [peer.address],
    });
    await peer.ask("SET k v");
    await change(node, { "anti_entropy.enabled": true });
    await eventually("it has come", async () => (await node.ask("GET k")) === "v");
  },
  async "anti_entropy.interval_seconds"() {
    const peer = await start({ node_id: "p" });
    const node = await start({ "anti_entropy.peer_list": [peer.address] });
    await peer.ask("SET k v");
    await change(node, { "anti_entropy.interval_seconds": 1 });
    await eventually("it has come", async () => (await node.ask("GET k")) === "v");
  },
  async "anti_entropy.peer_discovery_interval"() {
    const node = await start();
    const seconds = async () => Number(await node.fact("sync_discovery_in_seconds"));
    await eventually("it has begun", async () => (await seconds()) > 500);
    await change(node, { "anti_entropy.peer_discovery_interval": 30 });
    await eventually("it comes soon", async () => (await seconds()) <= 30);
  },
  "anti_entropy.max_concurrent_syncs": shownBy(
    "sync_limit",
    "anti_entropy.max_concurrent_syncs",
    7,
    "7",
  ),
  async "anti_entropy.broker_bytes_per_second"() {
    const broker_address = await started.broker();
    const mqtt = { "mqtt.enabled": true, "mqtt.broker_address": broker_address };
    const key = "anti_entropy.broker_bytes_per_second";
    await shownBy("relay_limit_bytes_per_second", key, 5_000, "5000", mqtt)();
  },
  async "anti_entropy.peer_list"() {
    const [first, second] = [await start({ node_id: "a" }), await start({ node_id: "b" })];
    const node = await start({
      "anti_entropy.interval_seconds": 1,
      "anti_entropy.peer_list": [first.address],
    });
    await second.ask("SET k v");
    await change(node, { "anti_entropy.peer_list": [second.address] });
    await eventually("it has come", async () => (await node.ask("GET k")) === "v");
    // The session may go on for a moment.
    await eventually("by its way", async () => (await node.fact("sync_ways")) === "b=tcp");
  },
  "anti_entropy.forget_after_days": shownBy(
    "sync_forget_after_seconds",
    "anti_entropy.forget_after_days",
    100,
    String(100 * 86_400),
  ),
  "anti_entropy.max_set_aside_mb": shownBy(
    "set_aside_limit_bytes",
    "anti_entropy.max_set_aside_mb",
    3,
    String(3 * 1_048_576),
  ),
  async "storage.backup_interval_hours"() {
    const node = await start();
    await change(node, { "storage.backup_interval_hours": 1 });
    await eventually("there is one", () => backupsOf(node).length === 1);
  },
  async "storage.backup_path"() {
    const node = await start();
    await change(node, { "storage.backup_path": join(node.directory, "elsewhere") });
    expect(await node.ask("BACKUP b")).toContain("BACKUP b ");
    expect(readdirSync(join(node.directory, "elsewhere"))).toEqual(["b.backup"]);
  },
  async "storage.backup_keep"() {
    const node = await start();
    const directory = join(node.directory, "data/backups");
    mkdirSync(directory, { recursive: true });
    for (const day of [1, 2, 3]) writeFileSync(join(directory, `2020010${day}T000000Z.backup`), "");
    await change(node, { "storage.backup_keep": 2 });
    expect(await node.ask("BACKUP")).toContain("BACKUP ");
    expect(backupsOf(node)).toHaveLength(2);
  },
  async "storage.max_backups"() {
    const node = await start();
    await change(node, { "storage.max_backups": 1 });
    expect(await node.ask("BACKUP a")).toContain("BACKUP a ");
    expect(await node.ask("BACKUP b")).toContain("storage.max_backups");
  },
  async "storage.min_free_mb"() {
    const { bavail, bsize } = statfsSync(tmpdir());
    // The most that can be asked for is there anyway.
    if (bavail * bsize > 2 ** 40) return;
    const node = await start({ "storage.min_free_mb": 0 });
    await change(node, { "storage.min_free_mb": 1_048_576 });
    expect(await node.ask("BACKUP a")).toContain("storage.min_free_mb");
  },
  async "storage.memory_limit_mb"() {
    const node = await start({ "storage.memory_limit_mb": 1 });
    const value = "v".repeat(100_000);
    const fill = async (from: number) => {
      for (let i = from; i < from + 20; i++) {
        if ((await node.ask(`SET key${i} ${value}`)).includes("Storage full")) return true;
      }
      return false;
    };
    expect(await fill(0)).toBe(true);
    await change(node, { "storage.memory_limit_mb": 100 });
    expect(await fill(20)).toBe(false);
    await change(node, { "storage.memory_limit_mb": 1 });
    expect(await fill(40)).toBe(true);
  },
  async "slowlog.log_slower_than"() {
    const node = await start({ "slowlog.log_slower_than": -1 });
    expect(await node.ask("SLOWLOG LEN")).toBe("0");
    await change(node, { "slowlog.log_slower_than": 0 });
    await node.ask("PING");
    expect(Number(await node.ask("SLOWLOG LEN"))).toBeGreaterThan(0);
    expect(await node.ask("CONFIG SET slowlog-log-slower-than -1")).toBe("OK");
    expect(await node.setting("slowlog.log_slower_than")).toBe("-1");
  },
  async "slowlog.max_len"() {
    const node = await start({ "slowlog.log_slower_than": 0 });
    for (let i = 0; i < 5; i++) await node.ask("PING");
    await change(node, { "slowlog.max_len": 2 });
    expect(await node.ask("SLOWLOG LEN")).toBe("2");
  },
  async "tracing.endpoint"() {
    const [one, other] = [collector(), collector()];
    const node = await start();
    await node.ask(`TRACE ${tracedAs(1)} PING`);
    expect(await node.fact("tracing_enabled")).toBe("0");
    await change(node, { "tracing.endpoint": one.url });
    await node.ask(`TRACE ${tracedAs(2)} PING`);
    await change(node, { "tracing.endpoint": `${other.url}/elsewhere` });
    await node.ask(`TRACE ${tracedAs(3)} PING`);
    await eventually("both have theirs", () => one.spans.length > 0 && other.spans.length > 0);
    expect([one, other].map((it) => it.requests[0].path)).toEqual(["/v1/traces", "/elsewhere"]);
    const ids = [one, other].map((it) => it.spans.map(({ traceId }) => Number(traceId)));
    expect(ids).toEqual([[2], [3]]);
    await change(node, { "tracing.endpoint": "" });
    expect(await node.fact("tracing_enabled")).toBe("0");
  },
  async "tracing.sample_ratio"() {
    const receiver = collector();
    const node = await start({ "tracing.endpoint": receiver.url, "tracing.sample_ratio": 0 });
    await node.ask("ECHO 1");
    await change(node, { "tracing.sample_ratio": 1 });
    await node.ask("PING");
    await eventually("it is traced", () => receiver.spans.length > 0);
    expect(receiver.spans.map(({ name }) => name)).not.toContain("ECHO");
  },
  async "tracing.headers"() {
    const receiver = collector();
    const node = await start({ "tracing.endpoint": receiver.url });
    await node.ask(`TRACE ${tracedAs(1)} PING`);
    await eventually("it has come", () => receiver.requests.length > 0);
    expect(receiver.requests[0].headers.get("api-key")).toBeNull();
    await change(node, { "tracing.headers": ["api-key: open sesame"] });
    await node.ask(`TRACE ${tracedAs(2)} PING`);
    await eventually("it has come", () => receiver.requests.length > 1);
    expect(receiver.requests[1].headers.get("api-key")).toBe("open sesame");
    expect(await node.setting("tracing.headers")).toBe("");
  },
  async "logging.level"() {
    const node = await start({ "logging.level": "error" });
    const child = node.logger.child("part");
    child.info("not this");
    await change(node, { "logging.level": "info" });
    child.info("but this");
    await eventually("it is written", () => node.read("log").includes("but this"));
    expect(node.read("log")).not.toContain("not this");
  },
  async "logging.format"() {
    const node = await start();
    await change(node, { "logging.format": "json" });
    node.logger.info("now in JSON");
    await eventually("it is", () => node.read("log").includes('"message":"now in JSON"'));
  },
  async "logging.file_path"() {
    const node = await start();
    await change(node, { "logging.file_path": join(node.directory, "other") });
    node.logger.info("elsewhere");
    await eventually("it is there", () => node.read("other").includes("elsewhere"));
    expect(node.read("log")).not.toContain("elsewhere");
  },
  async "logging.max_file_mb"() {
    const node = await start({ "logging.level": "debug" });
    await change(node, { "logging.max_file_mb": 1 });
    await fillLog(node, "log", 1.2);
    await eventually("another is begun", () => node.read("log.1") !== "");
  },
  async "logging.keep_files"() {
    const node = await start({
      "logging.level": "debug",
      "logging.max_file_mb": 1,
      "logging.keep_files": 1,
    });
    await change(node, { "logging.keep_files": 2 });
    await fillLog(node, "log", 2.4);
    await eventually("two are kept", () => node.read("log.2") !== "");
  },
  async "audit.file"() {
    const node = await start({ "audit.file": "/dev/null" });
    const path = join(node.directory, "audit");
    await change(node, { "audit.file": path });
    await node.ask("CONFIG GET save");
    await eventually("it is there", () => node.read("audit").includes("CONFIG GET"));
  },
  async "audit.max_file_mb"() {
    const node = await startAudited();
    await change(node, { "audit.max_file_mb": 1 });
    await fillAudit(node);
    await eventually("another is begun", () => node.read("audit.1") !== "");
  },
  async "audit.keep_files"() {
    const node = await startAudited({ "audit.max_file_mb": 1 });
    await change(node, { "audit.keep_files": 0 });
    await fillAudit(node);
    await eventually("another is begun", () => node.read("audit").length < 1_000_000);
    expect(node.read("audit.1")).toBe("");
  },
};

async function startAudited(more: Values = {}): Promise<ReloadingNode> {
  const node = await start({ "audit.file": "/dev/null", ...more });
  await change(node, { "audit.file": join(node.directory, "audit") });
  return node;
}

/** More than one MiB. */
async function fillAudit(node: ReloadingNode): Promise<void> {
  for (let i = 0; i < 10; i++) await node.askAll(Array(1_000).fill("FORGET " + "x".repeat(128)));
}

function backupsOf(node: ReloadingNode): string[] {
  const directory = join(node.directory, "data/backups");
  return existsSync(directory) ? readdirSync(directory).filter((it) => it.endsWith(".backup")) : [];
}

/** Whether the node has closed a connection. */
async function isOver(client: { send(line: string): Promise<string> }): Promise<boolean> {
  return client.send("PING").then(
    () => false,
    () => true,
  );
}

describe("the effect of another value while the node runs", () => {
  const reloadable = keyNames.filter(
    (key) => (schema[key] as Field<unknown>).reloads !== undefined,
  );
  test.each(reloadable)("%s", async (key) => {
    const effect = EFFECTS[key];
    if (effect === undefined) throw new Error(`${key} reloads, and nothing here sees its effect`);
    await effect();
  });

  test("there is a line for nothing else", () => {
    expect(Object.keys(EFFECTS).sort()).toEqual([...reloadable].sort());
  });
});
