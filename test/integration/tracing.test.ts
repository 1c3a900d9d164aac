/** Traces through whole nodes, as a collector gets them. */
import { afterEach, describe, expect, test } from "bun:test";
import { connectAsync, type IPublishPacket } from "mqtt";
import { eventually } from "../support/eventually.ts";
import { respRequest } from "../support/in-process.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { OtlpReceiver, type ReceivedSpan } from "../support/otlp-receiver.ts";
import { secretFileNamed } from "../support/secret-files.ts";
import { change, Started, type ReloadingNode, type Values } from "../support/reloading-node.ts";

const started = new Started();
afterEach(() => started.end());

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = "00f067aa0ba902b7";
const TRACEPARENT = `00-${TRACE}-${PARENT}-01`;

function collector(): OtlpReceiver {
  const receiver = new OtlpReceiver();
  started.also(() => receiver.stop());
  return receiver;
}

/** A node that traces what clients ask for. */
function tracing(receiver: OtlpReceiver, values: Values = {}): Promise<ReloadingNode> {
  const settings = { "tracing.endpoint": receiver.url, "tracing.sample_ratio": 0 };
  return started.node({ ...settings, ...values });
}

async function pair(receiver: OtlpReceiver, values: Values = {}): Promise<ReloadingNode[]> {
  const broker_address = await started.broker();
  const common = {
    "mqtt.enabled": true,
    "mqtt.broker_address": broker_address,
    "storage.engine": "log",
    "storage.fsync": "always",
    "anti_entropy.enabled": false,
    ...values,
  };
  const a = await tracing(receiver, { ...common, node_id: "a" });
  const b = await tracing(receiver, { ...common, node_id: "b" });
  // What one of them writes before the other is there does not reach it by the broker.
  await eventually("they replicate", async () => {
    await a.ask("SET first 1");
    return (await b.ask("GET first")) === "1";
  });
  return [a, b];
}

/** Lines of a node's log about that event. */
function eventsIn(node: ReloadingNode, event: string): string[] {
  const lines = node.read("log").split("\n");
  return lines.filter((line) => line.endsWith("}") && line.includes(`"event":"${event}"`));
}

/** Name, node and the name of what each belongs to. */
function shapeOf(spans: readonly ReceivedSpan[]): string[] {
  const parentOf = ({ parentSpanId }: ReceivedSpan): string =>
    spans.find(({ spanId }) => spanId === parentSpanId)?.name ?? parentSpanId;
  return spans.map((span) => `${span.node}: ${span.name} < ${parentOf(span)}`).sort();
}

const WHOLE = [
  `a: SET < ${PARENT}`,
  "a: broker < publish",
  "a: journal < SET",
  "a: publish < SET",
  "b: apply < publish",
];

describe("one trace", () => {
  test("shows a command, the journal, the broker, and what a peer makes of it", async () => {
    const receiver = collector();
    const [a, b] = await pair(receiver);
    expect(await a.ask(`TRACE ${TRACEPARENT} SET key value`)).toBe("OK");
    const spans = await receiver.trace(TRACE, WHOLE.length);
    expect(shapeOf(spans)).toEqual(WHOLE);
    const kinds = Object.fromEntries(spans.map(({ name, kind }) => [name, kind]));
    expect(kinds).toEqual({ SET: 2, journal: 1, publish: 4, broker: 3, apply: 5 });
    expect(spans.every((span) => span.to >= span.from && !span.hasFailed)).toBe(true);
    const apply = spans.find(({ name }) => name === "apply")!;
    expect(apply.facts).toMatchObject({ "merklekv.batch.source": "a" });
    // Neither keys nor values leave the node this way.
    expect(JSON.stringify(spans.map((it) => it.facts))).not.toMatch(/key|value/);
    expect(await b.ask("GET key")).toBe("value");
  });

  test("is the client's whole connection, after CLIENT TRACE; RESP, a flush and a read", async () => {
    const receiver = collector();
    const [a] = await pair(receiver);
    const client = await a.connect();
    for (const words of [["CLIENT", "TRACE", TRACEPARENT], ["FLUSHALL"], ["GET", "none"]]) {
      client.sendRaw(respRequest(...words));
      await client.readLine();
    }
    client.sendRaw(respRequest("CLIENT", "TRACE", "OFF"));
    await client.readLine();
    client.sendRaw(respRequest("GET", "untraced"));
    await client.readLine();
    const spans = await receiver.trace(TRACE, 7);
    expect(shapeOf(spans)).toEqual([
      `a: CLIENT < ${PARENT}`,
      `a: FLUSHALL < ${PARENT}`,
      `a: GET < ${PARENT}`,
      "a: broker < publish",
      "a: journal < FLUSHALL",
      "a: publish < FLUSHALL",
      "b: apply < publish",
    ]);
  });

  test("goes on from a request of HTTP, whose malformed headers are passed over", async () => {
    const receiver = collector();
    const http = { "http.bind_address": "127.0.0.1" };
    const node = await tracing(receiver, { ...http, "storage.engine": "log" });
    const send = (path: string, method: string, traceparent: string): Promise<Response> =>
      fetch(`http://${node.http}${path}`, {
        method,
        headers: { traceparent, tracestate: "vendor=1" },
        ...(method === "PUT" && { body: "value" }),
      });
    expect((await send("/v1/keys/secret", "PUT", `${TRACEPARENT}-x`)).status).toBe(201);
    expect((await send("/v1/keys/secret", "PUT", TRACEPARENT.replace(/1$/, "0"))).status).toBe(204);
    expect((await send("/v1/keys/secret", "PUT", TRACEPARENT)).status).toBe(204);
    expect((await send("/v1/keys/none", "GET", TRACEPARENT)).status).toBe(404);
    const spans = await receiver.trace(TRACE, 5);
    expect(shapeOf(spans)).toEqual(
      [
        `n: GET /v1/keys/{key} < ${PARENT}`,
        "n: GET < GET /v1/keys/{key}",
        `n: PUT /v1/keys/{key} < ${PARENT}`,
        "n: SET < PUT /v1/keys/{key}",
        "n: journal < SET",
      ].sort(),
    );
    const put = spans.find(({ name }) => name.startsWith("PUT"))!;
    expect(put.facts).toMatchObject({ "http.response.status_code": 204 });
    expect(spans.every(({ traceState }) => traceState === "vendor=1")).toBe(true);
    expect(receiver.spans).toHaveLength(5);
  });

  test("tells of a command that fails, and of none of somebody who is not logged in", async () => {
    const receiver = collector();
    const node = await tracing(receiver, { "auth.password": "open-sesame" });
    const prefix = `TRACE ${TRACEPARENT}`;
    expect(await node.ask(`${prefix} GET key`)).toStartWith("ERROR: Not authenticated");
    expect(await node.ask(`CLIENT TRACE ${TRACEPARENT}`)).toStartWith("ERROR: Not authenticated");
    expect(await node.ask(`${prefix} AUTH open sesame`)).toStartWith("ERROR");
    expect(await node.ask("AUTH open-sesame")).toBe("OK");
    await node.ask("SET key no number");
    expect(await node.ask(`${prefix} INCR key`)).toStartWith("ERROR");
    const spans = await receiver.trace(TRACE, 1);
    expect(spans.map(({ name, hasFailed }) => [name, hasFailed])).toEqual([["INCR", true]]);
  });
});

describe.skipIf(mosquittoPath === null)("at a broker", () => {
  test("a cluster secret seals the trace with the batch, and the broker is told nothing", async () => {
    const receiver = collector();
    const packets = await seen(receiver, { "cluster.secret_file": secretFileNamed("one") });
    expect(packets).toEqual([undefined, false]);
  });

  test("without one, a broker of MQTT 5 may take part", async () => {
    const receiver = collector();
    const [property, isReadable] = await seen(receiver, {});
    const publish = receiver.spans.find(({ name }) => name === "publish")!;
    expect(property).toBe(`00-${TRACE}-${publish.spanId}-01`);
    expect(isReadable).toBe(true);
  });
});

describe("between nodes", () => {
  test("a node that does not trace takes what belongs to a trace, and the other way round", async () => {
    const receiver = collector();
    const [a, b] = await pair(receiver);
    await change(b, { "tracing.endpoint": "" });
    expect(await a.ask(`TRACE ${TRACEPARENT} SET key value`)).toBe("OK");
    await eventually("it is there", async () => (await b.ask("GET key")) === "value");
    const count = WHOLE.length - 1;
    expect(shapeOf(await receiver.trace(TRACE, count))).toEqual(WHOLE.slice(0, count));
    expect(await b.ask(`TRACE ${TRACEPARENT} SET key back`)).toBe("OK");
    await eventually("it is there", async () => (await a.ask("GET key")) === "back");
    expect(receiver.spans.filter(({ node }) => node === "b")).toEqual([]);
  });
});

/** The user property of the traced batch as the broker passes it on, and whether it can be read. */
async function seen(receiver: OtlpReceiver, values: Values): Promise<unknown[]> {
  const broker = await Mosquitto.start();
  started.also(() => broker.stop());
  const client = await connectAsync(broker.address, { protocolVersion: 5 });
  started.also(() => client.endAsync());
  const packets: IPublishPacket[] = [];
  client.on("message", (_topic, _payload, packet) => packets.push(packet));
  await client.subscribeAsync("merkle-kv/updates");
  const mqtt = { "mqtt.enabled": true, "mqtt.broker_address": broker.address };
  const node = await tracing(receiver, { ...mqtt, "storage.engine": "log", ...values });
  await eventually("it is connected", async () => {
    await node.ask("SET before 1");
    return packets.length > 0;
  });
  const before = packets.length;
  await node.ask(`TRACE ${TRACEPARENT} SET key value`);
  await receiver.trace(TRACE, 4);
  await eventually("it has come", () => packets.length > before);
  const found = packets.map((it) => it.properties?.userProperties?.["traceparent"]);
  const id = Buffer.from(TRACE, "hex");
  return [found.find(Boolean), packets.some((it) => Buffer.from(it.payload).includes(id))];
}

describe("a collector", () => {
  const fill = async (node: ReloadingNode, count: number): Promise<void> => {
    const lines = Array.from({ length: count }, () => `TRACE ${TRACEPARENT} PING`);
    await node.askAll(lines);
  };
  const dropped = async (node: ReloadingNode): Promise<number> =>
    Number(await node.fact("trace_spans_dropped"));
  const complaints = (node: ReloadingNode): string[] =>
    node
      .read("log")
      .split("\n")
      .filter((line) => line.includes("Traces do not reach"));

  test("that is not there holds nothing up, and is named in one line", async () => {
    const node = await started.node({ "tracing.endpoint": "http://127.0.0.1:1" });
    await fill(node, 2_500);
    // Those that there was no room for, or those that could not be sent.
    await eventually("some are dropped", async () => (await dropped(node)) > 0);
    await eventually("more are", async () => (await dropped(node)) > 2_500 - 2_048);
    expect(await node.fact("trace_spans_exported")).toBe("0");
    await eventually("it is told", () => complaints(node).length > 0);
    expect(complaints(node)).toHaveLength(1);
    expect(complaints(node)[0]).toContain("endpoint=http://127.0.0.1:1/v1/traces reason=");
  });

  test("that refuses is told of with what it says, and when it takes again", async () => {
    const receiver = collector();
    receiver.answer = () => new Response("who are you?", { status: 401 });
    const node = await tracing(receiver);
    await fill(node, 10);
    await eventually("they are dropped", async () => (await dropped(node)) === 10);
    await eventually("it is told", () => /Unauthorized|401/.test(complaints(node)[0] ?? ""));
    receiver.answer = () => Response.json({});
    await change(node, { "tracing.headers": ["name: a node"] });
    await fill(node, 1);
    await receiver.trace(TRACE, 1);
    await eventually("that is told", () => node.read("log").includes("reach the collector again"));
  });

  test("that never answers is not waited for: neither by commands, nor by a node that stops", async () => {
    const receiver = collector();
    receiver.answer = () => new Promise<Response>(() => {});
    const node = await tracing(receiver);
    await fill(node, 2_500);
    await eventually("it is asked", () => receiver.requests.length > 0);
    // Beyond what waits for it; more when it is given up.
    expect(await dropped(node)).toBeGreaterThanOrEqual(2_500 - 2_048);
    expect(await node.ask("SET key value")).toBe("OK");
  });
});

test("without a caller's trace, so many commands begin one as the ratio says", async () => {
  const receiver = collector();
  const node = await tracing(receiver, { "tracing.sample_ratio": 1, "storage.engine": "log" });
  await node.ask("SET key value");
  await eventually("it is traced", () => receiver.spans.some(({ name }) => name === "journal"));
  const set = receiver.spans.find(({ name }) => name === "SET")!;
  expect([set.parentSpanId, set.traceId.length]).toEqual(["", 32]);
  expect(shapeOf(receiver.spans.filter(({ traceId }) => traceId === set.traceId))).toEqual([
    "n: SET < ",
    "n: journal < SET",
  ]);
});

test("lines of the log name the trace of the command that they belong to, at once or later", async () => {
  const node = await tracing(collector(), { "logging.format": "json" });
  await node.ask(`TRACE ${TRACEPARENT} CONFIG SET slowlog.max_len 7`);
  await node.ask(`TRACE ${TRACEPARENT} FORGET nobody`);
  await node.ask("CONFIG SET slowlog.max_len 8");
  const changes = (): string[] => eventsIn(node, "settings_changed");
  await eventually("both are written", () => changes().length === 2);
  expect(changes().map((line) => JSON.parse(line).trace_id)).toEqual([TRACE, undefined]);
});

test("a sync session and its rounds are one trace, on both nodes and in both logs", async () => {
  const receiver = collector();
  const json = { "logging.format": "json", "storage.engine": "log" };
  const a = await tracing(receiver, { ...json, node_id: "a" });
  const b = await tracing(receiver, { ...json, node_id: "b", "logging.level": "debug" });
  await a.askAll(["SET x 1", "SET y 2"]);
  await b.ask("SET z 3");
  const [host, port] = a.address.split(":");
  expect(await b.ask(`TRACE ${TRACEPARENT} SYNC ${host} ${port}`)).toBe("OK");
  const last = ["SYNC", "journal", "serve sync"];
  await eventually("all has come", () =>
    last.every((name) => receiver.spans.some((span) => span.name === name)),
  );
  const { spans } = receiver;
  const rounds = spans.filter(({ name }) => name === "round");
  expect(rounds.length).toBeGreaterThan(1);
  expect(shapeOf(spans.filter((span) => !rounds.includes(span)))).toEqual([
    "a: serve sync < sync",
    `b: SYNC < ${PARENT}`,
    "b: journal < SYNC",
    "b: reach < sync",
    "b: sync < SYNC",
  ]);
  const sync = spans.find(({ name }) => name === "sync")!;
  expect(rounds.map((it) => [it.node, it.parentSpanId])).toEqual(
    rounds.map(() => ["b", sync.spanId]),
  );
  const sum = (fact: string): number =>
    rounds.reduce((all, { facts }) => all + Number(facts[fact]), 0);
  for (const fact of ["merklekv.sync.entries_sent", "merklekv.sync.entries_received"]) {
    expect(sum(fact)).toBe(Number(sync.facts[fact]));
  }
  expect(sync.facts).toMatchObject({ "merklekv.peer": "a" });
  for (const node of [a, b]) {
    await eventually("it is written", () => eventsIn(node, "sync").length > 0);
    expect(eventsIn(node, "sync").map((line) => JSON.parse(line).trace_id)).toEqual([TRACE]);
  }
});
