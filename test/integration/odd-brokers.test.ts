/** Replication over brokers that have limits, rules and gaps, announced or not. */
import { afterEach, describe, expect, test } from "bun:test";
import type { Entry } from "../../src/core/data/entry.ts";
import type { ReplicationHooks } from "../../src/replication/replicator-options.ts";
import { eventually } from "../support/eventually.ts";
import { fasterBy } from "../support/faster.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";
import { OddBroker, type Oddities } from "../support/odd-broker.ts";
import {
  LogRecorder,
  ReplicatingNode,
  type ReplicatingNodeOptions,
} from "../support/replicating-node.ts";

const VERSIONS = ["5", "3.1.1"] as const;
const running: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const it of running.splice(0).reverse()) await it.stop();
});

async function startBroker(oddities: Oddities = {}): Promise<OddBroker> {
  const broker = await OddBroker.start(oddities);
  running.push(broker);
  return broker;
}

/** A node with the usual limits, what it says in its log, and what it was told to fetch. */
function startNode(
  address: string,
  id: string,
  settings: Record<string, unknown> = {},
  options: ReplicatingNodeOptions = {},
) {
  const log = new LogRecorder();
  const references: string[] = [];
  const gaps: string[] = [];
  const hooks: ReplicationHooks = {
    onReference: (_: string, entry: Entry) =>
      references.push(new TextDecoder().decode(entry.keyBytes())),
    onGap: (source: string) => gaps.push(source),
    ...options.hooks,
  };
  const limits = { max_event_bytes: 1_048_576, batch_bytes: 65_536 };
  const node = new ReplicatingNode(id, address, {
    logger: log,
    ...options,
    hooks,
    settings: { ...limits, ...settings },
  });
  node.replicator.start();
  running.push({ stop: () => node.replicator.stop() });
  return { node, log, references, gaps, status: () => node.replicator.status() };
}

type Started = ReturnType<typeof startNode>;

async function startPair(address: string, settings: Record<string, unknown> = {}) {
  const [a, b] = ["a", "b"].map((id) => startNode(address, id, settings)) as [Started, Started];
  await meet(a, b);
  return [a, b] as const;
}

const meet = (...all: Started[]) =>
  eventually("they see each other", () => all.every((it) => it.status().nodes === all.length));
const said = ({ log }: Started, pattern: RegExp) => log.warnings.filter((it) => pattern.test(it));
/** What asks the scheduler for comparisons. */
const asked = ({ node }: Started) => node.replicator.presence().droppedEvents;

/** Text that does not get much shorter when it is compressed. */
function noise(length: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(Math.min(length, 65_536)));
  const text = Buffer.from(bytes).toString("base64");
  return text.repeat(Math.ceil(length / text.length)).slice(0, length);
}

/**
 * Waits until a node has been sent a batch of its own: what the first brought is there before the
 * second is acknowledged.
 */
async function hearItself({ node, status }: Started): Promise<void> {
  for (const value of ["first", "second"]) {
    node.set("heard", value);
    await eventually("it is sent", () => status().waiting + status().unacknowledged === 0);
  }
}

function fill({ node }: Started, count: number, valueBytes = 60): void {
  for (let i = 0; i < count; i++) node.set(`key${i}`, noise(valueBytes));
}

describe("a limit that is announced", () => {
  test.each([2_000, 20_480, 149_504])(
    "of %i bytes is kept, and used",
    async (maximumPacketSize) => {
      const broker = await startBroker({ announced: { maximumPacketSize } });
      const [a, b] = await startPair(broker.address, { max_packet_bytes: 200_000 });
      fill(a, 3_000);
      a.node.set("fits", noise(maximumPacketSize - 150));
      a.node.set("large", noise(maximumPacketSize));
      await eventually("all arrives", () => b.node.store.size === 3_001);
      await eventually("or is told of", () => b.references.length === 1);
      expect(b.references).toEqual(["large"]);
      expect(Math.max(...broker.publishes.map(({ bytes }) => bytes))).toBeLessThanOrEqual(
        maximumPacketSize,
      );
      expect(b.gaps).toEqual([]);
    },
  );

  test("of messages that are not acknowledged counts presence as well", async () => {
    const broker = await startBroker({ announced: { receiveMaximum: 10 }, ackDelayMs: 5 });
    const [a, b] = await startPair(broker.address, { batch_bytes: 1_024 });
    for (let i = 1; i <= 3; i++) {
      fill(a, i * 2_000, 60 + i);
      await eventually("some arrive", () => b.node.store.size > (i - 1) * 2_000);
      broker.dropAll();
    }
    await eventually("all arrives", () => b.node.store.size === 6_000);
    expect(broker.mostUnacknowledged).toBeLessThanOrEqual(10);
    expect(broker.mostUnacknowledged).toBeGreaterThan(5);
  });

  test("by mosquitto, of a packet, is kept", async () => {
    if (mosquittoPath === null) return;
    const broker = await Mosquitto.start(["max_packet_size 20000"]);
    running.push(broker);
    const [a, b] = await startPair(broker.address);
    fill(a, 3_000);
    a.node.set("fits", noise(19_800));
    a.node.set("large", noise(20_000));
    await eventually("all arrives", () => b.node.store.size === 3_001);
    await eventually("or is told of", () => b.references.length === 1);
    expect(a.status().connections).toBe(1);
  });
});

describe.each(VERSIONS)("a limit that is not announced, over MQTT %s,", (protocol_version) => {
  test.each([
    ["rumqttd's", 20_480],
    ["Moquette's", 8_092],
    ["a tiny one", 1_500],
  ])("by which the broker hangs up: %s", async (_, maxBytes) => {
    const broker = await startBroker({
      onPublish: (_packet, bytes) => (bytes > maxBytes ? "hang up" : undefined),
    });
    const [a, b] = await startPair(broker.address, { protocol_version });
    fill(a, 5_000);
    a.node.set("large", noise(100_000));
    await eventually("all arrives", () => b.node.store.size === 5_000);
    await eventually("or is told of", () => b.references.includes("large"));
    const { hangUps } = broker;
    expect(hangUps).toBeLessThan(14);
    expect(said(a, /mqtt\.max_packet_bytes/).length).toBeGreaterThan(0);
    // What was learned is kept to.
    for (let i = 0; i < 5; i++) a.node.set(`larger${i}`, noise(100_000));
    fill(a, 2_000, 70);
    await eventually("it is told of", () => b.references.includes("larger4"));
    expect(broker.hangUps).toBe(hangUps);
  });

  test("by which it drops what it acknowledges, or says that it does", async () => {
    const tooLarge = (bytes: number) => bytes > 20_000;
    const broker = await startBroker(
      protocol_version === "5"
        ? { onPublish: (_, bytes) => (tooLarge(bytes) ? 0x95 : undefined) }
        : { swallows: ({ payload }) => tooLarge(payload.length) },
    );
    const [a, b] = await startPair(broker.address, { protocol_version });
    await hearItself(a);
    fill(a, 5_000);
    a.node.set("large", noise(100_000));
    await eventually("all arrives", () => b.node.store.size === 5_001);
    await eventually("or is told of", () => b.references.includes("large"));
    expect(said(a, /mqtt\.max_packet_bytes/).length).toBeGreaterThan(0);
    expect(broker.hangUps).toBe(0);
  });

  test("by which it says nothing at all", async () => {
    const broker = await startBroker({
      onPublish: (_, bytes) => (bytes > 20_000 ? "silence" : undefined),
    });
    const timing = fasterBy(10);
    const b = startNode(broker.address, "b", { protocol_version });
    const a = startNode(broker.address, "a", { protocol_version }, { timing });
    await meet(a, b);
    a.node.set("large", noise(100_000));
    await eventually("it is sent", () => broker.publishes.some(({ bytes }) => bytes > 50_000));
    fill(a, 100);
    await eventually("the others arrive", () => b.node.store.size === 100);
    await eventually("it is told of", () => b.references.includes("large"));
    const { status } = a;
    await eventually("nothing is left", () => status().waiting + status().unacknowledged === 0);
  });
});

describe.skipIf(mosquittoPath === null)("mosquitto's message_size_limit", () => {
  test.each(VERSIONS)("stalls nothing over MQTT %s", async (protocol_version) => {
    const broker = await Mosquitto.start(["message_size_limit 10000"]);
    running.push(broker);
    const [a, b] = await startPair(broker.address, { protocol_version });
    await hearItself(a);
    for (let i = 0; i < 30; i++) a.node.set(`large${i}`, noise(20_000));
    fill(a, 3_000);
    await eventually("what fits arrives", () => b.node.store.size === 3_001);
    await eventually("the rest is told of", () => new Set(b.references).size === 30);
    // The peer has the last message before this node has its acknowledgement.
    await eventually("all is acknowledged", () => a.status().unacknowledged === 0);
    expect(a.status()).toMatchObject({ waiting: 0, connections: 1 });
  });
});

describe("what a broker lacks is done without:", () => {
  const REFUSES_WILL: Oddities["onConnect"] = ({ will, protocolVersion }) =>
    will?.retain ? (protocolVersion === 5 ? 0x9a : "hang up") : undefined;

  test.each([
    [
      "retained messages, said so",
      { onConnect: REFUSES_WILL, announced: { retainAvailable: false } },
    ],
    [
      "retained messages, at PUBLISH",
      { onPublish: ({ retain }) => (retain ? "hang up" : undefined) },
    ],
    ["QoS 1, said so", { announced: { maximumQoS: 0 } }],
    ["QoS 1, at PUBLISH", { onPublish: ({ qos }) => (qos > 0 ? "hang up" : undefined) }],
    ["all of it", { onPublish: ({ qos, retain }) => (qos > 0 || retain ? "hang up" : undefined) }],
    ["a will", { onConnect: ({ will }) => (will ? "hang up" : undefined) }],
    ["a will, not authorized", { onConnect: ({ will }) => (will ? 5 : undefined) }],
  ] as [string, Oddities][])("%s", async (what, oddities) => {
    for (const protocol_version of ["auto", ...VERSIONS]) {
      const broker = await startBroker({ ...oddities, forgetsRetained: true });
      const settings = { protocol_version };
      const a = startNode(broker.address, `a${protocol_version}`, settings);
      await eventually("a is there", () => a.status().connected);
      const b = startNode(broker.address, `b${protocol_version}`, settings);
      await eventually(`they meet: ${what}, ${protocol_version}`, () =>
        [a, b].every((it) => it.status().nodes === 2),
      );
      fill(a, 500);
      await eventually("all arrives", () => b.node.store.size === 500);
      // MQTT 3.1.1 has no words for it, and the broker would take it.
      if (what === "QoS 1, said so" && protocol_version === "3.1.1") continue;
      expect(said(a, /without/)).not.toEqual([]);
    }
  });
});

describe("what a broker refuses is known:", () => {
  test("writes, with a reason", async () => {
    const broker = await startBroker({
      onPublish: ({ topic }) => (topic.endsWith("/updates") ? 0x87 : undefined),
    });
    const [a] = await startPair(broker.address);
    const before = asked(a);
    a.node.set("k", "v");
    await eventually("others are to be compared with", () => asked(a) > before);
    await eventually("a stop hands it over", () => a.status().refused > 0);
    expect(said(a, /refused a message.*test\/updates.*not authorized/).length).toBe(1);
  });

  test.each(VERSIONS)("writes that are acknowledged and dropped, over MQTT %s", async (version) => {
    const broker = await startBroker({ swallows: ({ topic }) => topic.endsWith("/updates") });
    const timing = fasterBy(10);
    const settings = { protocol_version: version };
    const a = startNode(broker.address, "a", settings, { timing });
    const b = startNode(broker.address, "b", settings, { timing });
    await meet(a, b);
    await eventually("it is found", () => a.node.counter("heard") === 0);
    expect(said(a, /does not come back.*test\/updates.*access rules/).length).toBe(1);
    a.node.set("k", "v");
    await eventually("a stop hands it over", () => a.status().refused > 0);
    const before = asked(a);
    await eventually("others are compared with again and again", () => asked(a) > before + 1);
    await eventually("its peer is told", () => {
      return b.node.replicator.peers().some(({ nodeId, hears }) => nodeId === "a" && !hears);
    });
    delete broker.oddities.swallows;
    await eventually("it is heard when the rules are mended", () => a.node.counter("heard") === 1);
  });

  test.each(VERSIONS)("presence acknowledged and dropped, over MQTT %s", async (version) => {
    const broker = await startBroker({ swallows: ({ topic }) => topic.endsWith("/nodes/a") });
    const settings = { protocol_version: version };
    const [a, b] = ["a", "b"].map((id) =>
      startNode(broker.address, id, settings, { timing: fasterBy(10) }),
    );
    const told = /announces of itself does not come back.*test\/nodes\/a.*access rules/;
    await eventually("it is found", () => said(a, told).length > 0);
    expect(said(b, /announces of itself/)).toEqual([]);
  });

  test.each([
    ["the updates", "updates", 0x87],
    ["the updates, by hanging up", "updates", "hang up"],
    ["presence", "nodes/+", 0x87],
    ["events of others", "events", 0x80],
    ["events of others, by hanging up", "events", "hang up"],
  ] as const)("a subscription of %s", async (_, name, fate) => {
    const broker = await startBroker({
      onSubscribe: (topic) => (topic.endsWith(`/${name}`) ? fate : undefined),
    });
    const a = startNode(broker.address, "a", {}, { timing: fasterBy(10) });
    await eventually("it is connected", () => a.status().connected);
    await eventually("it stays so", () => said(a, /refused a subscription/).length > 0);
    expect(said(a, /refused a subscription/)[0]).toContain(`test/${name}`);
    const heard = name === "updates" ? 0 : 1;
    await eventually("it is known", () => a.node.counter("heard") === heard);
    if (name === "updates") await eventually("it asks others", () => asked(a) > 0);
  });

  test("any message on the topic of writes, by hanging up: nothing is sent for ever", async () => {
    const broker = await startBroker({
      onPublish: ({ topic }) => (topic.endsWith("/updates") ? "hang up" : undefined),
    });
    const timing = fasterBy(5);
    const a = startNode(broker.address, "a", {}, { timing });
    await eventually("it is connected", () => a.status().connected);
    fill(a, 10);
    await eventually("it is given up", () => said(a, /refused a message.*updates/).length > 0);
    await eventually("it is connected", () => a.status().connected);
    const { hangUps } = broker;
    fill(a, 10, 61);
    const before = asked(a);
    await eventually("others are asked instead", () => asked(a) > before + 2);
    expect(broker.hangUps).toBe(hangUps);
  });

  test.each([
    [
      { onConnect: (): number => 4 },
      "3.1.1",
      /password is wrong.*mqtt\.username and mqtt\.password/,
    ],
    [
      { onConnect: (): number => 0x86 },
      "5",
      /password is wrong.*mqtt\.username and mqtt\.password/,
    ],
    [{ onConnect: (): number => 0x85 }, "5", /client id.*mqtt\.client_id/],
    [{ onConnect: (): number => 0x84 }, "5", /version.*mqtt\.protocol_version/],
  ] as const)("the connection: %#", async (oddities, protocol_version, words) => {
    const broker = await startBroker(oddities);
    const a = startNode(broker.address, "a", { protocol_version });
    await eventually("it is said", () => a.log.warnings.length > 0);
    expect(a.log.warnings.join()).toMatch(words);
    expect(a.log.warnings.join()).not.toContain("is away");
  });
});

describe("the version", () => {
  test("falls back when a broker does not answer MQTT 5", async () => {
    const broker = await startBroker({
      onConnect: ({ protocolVersion }) => (protocolVersion === 5 ? "silence" : undefined),
    });
    const a = startNode(broker.address, "a", {}, { timing: fasterBy(20) });
    await eventually("it is connected", () => a.status().connected);
    expect(broker.connects.map(({ protocolVersion }) => protocolVersion)).toEqual([5, 4]);
  });

  test("goes up again after something else hung up on it, and nothing is lost", async () => {
    let isProxyAway = true;
    const broker = await startBroker({
      onConnect: ({ protocolVersion }) =>
        protocolVersion === 5 && isProxyAway ? "hang up" : undefined,
    });
    const timing = fasterBy(100);
    const a = startNode(broker.address, "a", {}, { timing });
    await eventually("it is connected", () => a.status().connected);
    isProxyAway = false;
    const { connections } = a.status();
    const before = broker.connects.length;
    const comesUp = () => {
      const later = broker.connects.slice(before);
      return later.some((it) => it.protocolVersion === 5 && it.clientId === "a");
    };
    await eventually("it comes by MQTT 5", comesUp);
    await eventually("it is connected anew", () => a.status().connections > connections);
    await eventually("and stays so", () => a.status().connected);
  });
});

describe("what cannot be meant", () => {
  test.each([true, false])("two clients with one id, retained messages: %p", async (retains) => {
    const broker = await startBroker({ forgetsRetained: !retains });
    const settings = { client_id: "gateway" };
    const [a, b] = ["a", "b"].map((id) =>
      startNode(broker.address, id, settings, { timing: fasterBy(10) }),
    );
    await eventually("it is said", () =>
      [a, b].every((it) => said(it, /gateway.*mqtt\.client_id/).length === 1),
    );
  });

  test("a topic prefix under which nobody is known", async () => {
    const broker = await startBroker();
    const timing = fasterBy(20);
    const formerMembers = { count: 2, has: (id: string) => id === "n1" || id === "n2" };
    const a = startNode(broker.address, "a", {}, { timing, hooks: { formerMembers } });
    const b = startNode(broker.address, "b", {}, { timing, hooks: { formerMembers } });
    const n1 = startNode(broker.address, "n1", { topic_prefix: "other" }, { timing });
    await meet(a, b);
    await eventually("it is said", () => said(a, /mqtt\.topic_prefix/).length === 1);
    expect(said(n1, /mqtt\.topic_prefix/)).toEqual([]);
  });

  test("is not what a broker keeps of an earlier run, and does not say that it kept", async () => {
    const broker = await startBroker({ hidesRetained: true });
    const timing = fasterBy(20);
    const b = startNode(broker.address, "b", {}, { timing });
    const first = new ReplicatingNode("a", broker.address, { timing });
    first.replicator.start();
    await eventually("it is there", () => b.status().nodes === 2);
    // Its connection ends with it, and nobody says goodbye.
    broker.oddities.onConnect = () => "silence";
    broker.dropAll();
    await first.replicator.stop();
    delete broker.oddities.onConnect;
    const again = startNode(broker.address, "a", {}, { timing });
    await eventually("it is back", () => b.status().nodes === 2 && again.status().nodes === 2);
    broker.dropAll();
    await eventually("and once more", () => again.status().connections > 1);
    await eventually("they meet", () => again.status().nodes === 2);
    expect(again.status().duplicateNodeId).toBe(false);
    expect(again.log.lines.filter((line) => line.startsWith("error"))).toEqual([]);
  });
});

test("the last writes before a silence are missed when they were dropped", async () => {
  let dropped = 0;
  let isDropping = false;
  const broker = await startBroker({
    swallows({ topic }) {
      const isDropped = isDropping && topic.endsWith("/updates");
      if (isDropped) dropped++;
      return isDropped;
    },
  });
  const [a, b] = await startPair(broker.address, { protocol_version: "5" });
  a.node.set("first", "1");
  await eventually("it arrives", () => b.node.get("first"));
  isDropping = true;
  a.node.set("last", "1");
  await eventually("it is dropped", () => dropped > 0);
  isDropping = false;
  await eventually("it is missed", () => b.gaps.includes("a"));
});
