/** What the embedded broker keeps stays within its bounds, and those who were there keep theirs. */
import { expect, test } from "bun:test";
import { BrokerStore, matchesFilter } from "../../../src/replication/broker-store.ts";

const KIB = 1_024;

function create(present: string[] = []) {
  const time = { ms: 0 };
  const refused: string[] = [];
  const store = new BrokerStore(
    { maxQueuedBytes: 400 * KIB, maxRetainedBytes: 100 * KIB },
    (what, id) => refused.push(`${what} ${id}`),
    () => time.ms,
  );
  const clients: Record<string, unknown> = Object.fromEntries(present.map((id) => [id, {}]));
  return { store, refused, time, ready: store.setup({ id: "broker", clients }) };
}

let counter = 0;
const message = (topic: string, bytes: number) => ({
  cmd: "publish",
  brokerId: "broker",
  brokerCounter: ++counter,
  topic,
  payload: Buffer.alloc(bytes, "x"),
  qos: 1,
});
async function payloadsOf(stream: AsyncIterable<unknown>): Promise<string[]> {
  const topics: string[] = [];
  for await (const packet of stream) topics.push((packet as { topic: string }).topic);
  return topics;
}

test("retained messages: those who were there first stay, and may change theirs", async () => {
  const { store, refused, ready } = create();
  await ready;
  await store.storeRetained(message("nodes/n1", 100));
  for (let i = 0; i < 1_000; i++) await store.storeRetained(message(`flood/${i}`, 10 * KIB));
  expect(refused.length).toBeGreaterThan(900);
  expect(await payloadsOf(store.createRetainedStream("nodes/+"))).toEqual(["nodes/n1"]);
  await store.storeRetained(message("nodes/n1", 120));
  await store.storeRetained(message("nodes/n2", 100 * KIB));
  expect(refused.at(-1)).toBe("retained message nodes/n2");
  for (let i = 0; i < 1_000; i++) await store.storeRetained(message(`flood/${i}`, 0));
  await store.storeRetained(message("nodes/n2", 50 * KIB));
  expect(await payloadsOf(store.createRetainedStreamCombi(["#"]))).toEqual([
    "nodes/n1",
    "nodes/n2",
  ]);
});

test("however small they are, retained messages are bounded in number", async () => {
  const store = new BrokerStore(
    { maxQueuedBytes: 1, maxRetainedBytes: 1e12 },
    () => {},
    () => 0,
  );
  for (let i = 0; i < 11_000; i++) await store.storeRetained(message(`t${i}`, 1));
  expect(store.refused).toBe(1_000);
});

test("an absent subscriber takes a share, and what it acknowledges makes room", async () => {
  const { store, refused, ready } = create();
  await ready;
  const [one, two] = [{ clientId: "one" }, { clientId: "two" }];
  for (let i = 0; i < 100; i++) await store.outgoingEnqueue(one, message(`a${i}`, 10 * KIB));
  expect(refused).toHaveLength(100 - 9);
  await store.outgoingEnqueueCombi([one, two], message("for both", 10 * KIB));
  expect(await payloadsOf(store.outgoingStream({ id: "two" }))).toEqual(["for both"]);
  let messageId = 0;
  const packets = [];
  for await (const packet of store.outgoingStream({ id: "one" })) packets.push(packet);
  for (const packet of packets) {
    await store.outgoingUpdate({ id: "one" }, { ...packet, messageId: ++messageId });
  }
  for (let id = messageId; id > 0; id--) {
    const packet = await store.outgoingClearMessageId(
      { id: "one" },
      { cmd: "puback", messageId: id },
    );
    expect(packet?.topic).toBe(`a${id - 1}`);
  }
  const before = refused.length;
  for (let i = 0; i < 9; i++) await store.outgoingEnqueue(one, message(`b${i}`, 10 * KIB));
  expect(refused).toHaveLength(before);
});

test("all subscribers together are bounded, and who comes with a clean session frees its own", async () => {
  const { store, refused, ready } = create();
  await ready;
  for (let i = 0; i < 100; i++) {
    await store.outgoingEnqueue({ clientId: `c${i}` }, message("t", 80 * KIB));
  }
  expect(refused).toHaveLength(96);
  await store.cleanSubscriptions({ id: "c0" });
  await store.outgoingEnqueue({ clientId: "late" }, message("t", 80 * KIB));
  expect(refused).toHaveLength(96);
});

test("sessions are bounded: the one that has been away longest goes, who is present stays", async () => {
  const { store, time, ready } = create(["c0"]);
  await ready;
  const subscription = { topic: "t", qos: 1 };
  for (let i = 0; i < 1_100; i++) {
    time.ms++;
    await store.addSubscriptions({ id: `c${i}` }, [subscription]);
  }
  const subscribers = (await store.subscriptionsByTopic("t")) as { clientId: string }[];
  const ids = subscribers.map(({ clientId }) => clientId);
  expect(ids).toHaveLength(1_000);
  expect(ids).toContain("c0");
  expect(ids).not.toContain("c1");
  expect(ids).toContain("c1099");
});

test("a session without its client ends after a day", async () => {
  const { store, time, ready } = create();
  await ready;
  await store.addSubscriptions({ id: "away" }, [{ topic: "t", qos: 1 }]);
  await store.outgoingEnqueue({ clientId: "away" }, message("t", 10));
  time.ms += 86_400_001;
  await store.outgoingEnqueue({ clientId: "away" }, message("t", 10));
  expect(await payloadsOf(store.outgoingStream({ id: "away" }))).toEqual([]);
  expect(await store.subscriptionsByTopic("t")).toEqual([]);
});

test("a small message keeps nothing alive of the chunk it came in", async () => {
  const { store, ready } = create();
  await ready;
  const chunk = Buffer.alloc(64 * KIB);
  const packet = { ...message("t", 0), payload: chunk.subarray(10, 20) };
  await store.storeRetained(packet);
  await store.outgoingEnqueue({ clientId: "one" }, packet);
  for (const stream of [store.createRetainedStream("t"), store.outgoingStream({ id: "one" })]) {
    for await (const kept of stream) expect(kept.payload.buffer.byteLength).toBe(10);
  }
});

test("messages of QoS 2 half way count, and their second half is remembered", async () => {
  const { store, refused, ready } = create();
  await ready;
  const client = { id: "one" };
  const half = (messageId: number) => ({ ...message("t", 30 * KIB), messageId });
  for (let id = 1; id <= 3; id++) await store.incomingStorePacket(client, half(id));
  await expect(store.incomingStorePacket(client, half(4))).rejects.toThrow("half way");
  expect(refused).toEqual(["message of QoS 2 one"]);
  await store.incomingDelPacket(client, half(2));
  await store.incomingStorePacket(client, half(4));
  await expect(store.incomingGetPacket(client, half(2))).rejects.toThrow("no such packet");

  await store.outgoingEnqueue({ clientId: "two" }, message("u", 10));
  const two = { id: "two" };
  for await (const packet of store.outgoingStream(two)) {
    await store.outgoingUpdate(two, { ...packet, messageId: 7 });
  }
  await store.outgoingUpdate(two, { cmd: "pubrel", messageId: 7 });
  for await (const packet of store.outgoingStream(two)) expect(packet.cmd).toBe("pubrel");
  await store.outgoingClearMessageId(two, { cmd: "pubcomp", messageId: 7 });
  expect(await payloadsOf(store.outgoingStream(two))).toEqual([]);
});

test.each([
  ["a/b", "a/b", true],
  ["a/+", "a/b", true],
  ["a/+", "a/b/c", false],
  ["a/#", "a", true],
  ["a/#", "a/b/c", true],
  ["#", "a/b", true],
  ["+/+", "/a", true],
  ["#", "$SYS/x", false],
  ["$SYS/#", "$SYS/x", true],
  ["a", "a/b", false],
])("the filter %s and the topic %s: %p", (filter, topic, matches) => {
  expect(matchesFilter(filter, topic)).toBe(matches);
});
