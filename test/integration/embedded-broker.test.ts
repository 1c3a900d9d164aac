/** The embedded broker against clients that want its memory; honest ones are served beside them. */
import { eventLoop } from "../../src/world.ts";
import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import { connect as connectSocket, type Socket } from "node:net";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import { EmbeddedBroker, type BrokerLimits } from "../../src/replication/embedded-broker.ts";
import { PacketGuard } from "../../src/replication/packet-guard.ts";
import { eventually } from "../support/eventually.ts";

const MIB = 1_048_576;
const LIMITS: BrokerLimits = {
  max_clients: 20,
  max_packet_bytes: MIB,
  max_queued_mb: 8,
  max_retained_mb: 4,
};

let broker: EmbeddedBroker;
const clients: MqttClient[] = [];
const sockets: Socket[] = [];
beforeEach(async () => (broker = await EmbeddedBroker.start(eventLoop, "127.0.0.1", 0, LIMITS)));
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true);
  for (const socket of sockets.splice(0)) socket.destroy();
  await broker.stop();
});

async function join(options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${broker.port}`, {
    protocolVersion: 4,
    reconnectPeriod: 0,
    ...options,
  });
  client.on("error", () => {});
  clients.push(client);
  return client;
}

/** A raw connection; `isOver` turns true when the broker has ended it. */
async function raw(): Promise<{ socket: Socket; isOver: () => boolean }> {
  const socket = connectSocket(broker.port, "127.0.0.1");
  sockets.push(socket);
  let isOver = false;
  socket.on("error", () => {});
  socket.on("close", () => (isOver = true));
  await new Promise((resolve) => socket.once("connect", resolve));
  return { socket, isOver: () => isOver };
}

/** A message from one client reaches another. */
async function serves(): Promise<void> {
  const [from, to] = [await join(), await join()];
  const arrived: string[] = [];
  to.on("message", (topic) => arrived.push(topic));
  await to.subscribeAsync("honest", { qos: 1 });
  await from.publishAsync("honest", "hello", { qos: 1 });
  await eventually("it arrived", () => arrived.length === 1);
}

test("an absent subscriber is kept a share of the messages, the oldest", async () => {
  const absent = await join({ clientId: "absent", clean: false });
  await absent.subscribeAsync("flood", { qos: 1 });
  await absent.endAsync();
  const publisher = await join();
  for (let i = 0; i < 300; i++) {
    const payload = Buffer.alloc(MIB / 2, "x");
    payload.writeUInt32BE(i);
    await publisher.publishAsync("flood", payload, { qos: 1 });
  }
  const back = await connectLater({ clientId: "absent", clean: false });
  const numbers: number[] = [];
  back.on("message", (_topic, payload) => numbers.push(payload.readUInt32BE()));
  back.connect();
  await eventually("it gets them", () => numbers.length === 3);
  expect(numbers).toEqual([0, 1, 2]);
  await serves();
});

/** A client that is connected once its handlers are there. */
async function connectLater(options: IClientOptions): Promise<MqttClient> {
  const { connect } = await import("mqtt");
  const client = connect(`mqtt://127.0.0.1:${broker.port}`, {
    protocolVersion: 4,
    reconnectPeriod: 0,
    manualConnect: true,
    ...options,
  });
  clients.push(client);
  return client;
}

test("a packet that is too long ends its connection before it is kept", async () => {
  const { socket, isOver } = await raw();
  socket.write(new Uint8Array([0x10, 0xff, 0xff, 0xff, 0x7f]));
  await eventually("it is cut off", isOver);
  const client = await join();
  let isClosed = false;
  client.on("close", () => (isClosed = true));
  client.publish("t", Buffer.alloc(2 * MIB), { qos: 0 });
  await eventually("it is cut off", () => isClosed);
  await serves();
});

test("what is half sent is bounded over all connections", async () => {
  const halves = await Promise.all(Array.from({ length: 15 }, raw));
  // A CONNECT of nearly a MiB of which the last byte never comes.
  const head = Buffer.from([0x10, 0xf0, 0xff, 0x3f]);
  for (const { socket } of halves) socket.write(Buffer.concat([head, Buffer.alloc(MIB - 100)]));
  await eventually("some are cut off", () => halves.some(({ isOver }) => isOver()));
  await eventually("enough are", () => halves.filter(({ isOver }) => !isOver()).length <= 8);
  await serves();
});

test("connections are bounded, and this machine has places of its own", async () => {
  const idle = await Promise.all(Array.from({ length: 40 }, raw));
  const open = () => idle.filter(({ isOver }) => !isOver()).length;
  // All of these come from this machine.
  await eventually("the rest is cut off", () => open() === LIMITS.max_clients + 8);
});

test("what cannot be retained is delivered all the same", async () => {
  const [publisher, subscriber] = [await join(), await join()];
  const arrived: string[] = [];
  subscriber.on("message", (topic) => arrived.push(topic));
  await subscriber.subscribeAsync("t/#", { qos: 1 });
  for (let i = 0; i < 20; i++) {
    await publisher.publishAsync(`t/${i}`, Buffer.alloc(MIB / 2), { qos: 1, retain: true });
  }
  await eventually("all arrive", () => arrived.length === 20);
  const late = await connectLater({});
  const retained: string[] = [];
  late.on("message", (topic) => retained.push(topic));
  late.on("connect", () => void late.subscribe(["t/#", "end"], { qos: 1 }));
  late.connect();
  await eventually("those that fit are there", () => retained.length === 7);
  expect(retained).toContain("t/0");
});

test("topics, client ids and subscriptions are bounded", async () => {
  const named = await connectLater({ clientId: "x".repeat(2_000) });
  let isNamedClosed = false;
  named.on("close", () => (isNamedClosed = true));
  named.on("error", () => {});
  named.connect();
  await eventually("the long name is refused", () => isNamedClosed);
  const client = await join();
  const long = await client.subscribeAsync("x".repeat(5_000), { qos: 1 }).catch(() => "refused");
  expect(long).toBe("refused");
  const filters = Array.from({ length: 100 }, (_, i) => `f${i}`);
  for (const filter of filters) await client.subscribeAsync(filter, { qos: 1 });
  await expect(client.subscribeAsync("one more", { qos: 1 })).rejects.toThrow();
  let isClosed = false;
  client.on("close", () => (isClosed = true));
  client.publish("y".repeat(5_000), "v", { qos: 1 });
  await eventually("it is cut off", () => isClosed);
  await serves();
});

test("who sends much is read from in turns, and others meanwhile", async () => {
  const tasks: (() => void)[] = [];
  const soon = (task: () => void) => {
    tasks.push(task);
    return () => {};
  };
  const limits = { ...LIMITS, max_packet_bytes: 64_000_000, max_queued_mb: 128 };
  const held = await EmbeddedBroker.start({ ...eventLoop, soon }, "127.0.0.1", 0, limits);
  const sender = connectSocket({ port: held.port, host: "127.0.0.1" });
  try {
    let isTaken = false;
    const half = Buffer.alloc(40_000_000);
    half.set([0x10, 0xff, 0xff, 0xff, 0x13]);
    sender.write(half, () => (isTaken = true));
    await eventually("it waits for its turn", () => tasks.length > 0);
    const other = await connectAsync(`mqtt://127.0.0.1:${held.port}`);
    await other.publishAsync("t", "x", { qos: 1 });
    await other.endAsync();
    expect(isTaken).toBe(false);
    await eventually("its turns come", () => {
      tasks.shift()?.();
      return isTaken;
    });
  } finally {
    sender.destroy();
    await held.stop();
  }
});

test("a flood of small messages in one piece is taken a few at a time, and arrives", async () => {
  const COUNT = 10_000;
  const to = await join();
  let arrived = 0;
  to.on("message", () => arrived++);
  await to.subscribeAsync("f", { qos: 0 });
  const look = spyOn(PacketGuard.prototype, "look");
  const { socket } = await raw();
  socket.write(Buffer.from("100d00044d5154540402003c000166", "hex"));
  await new Promise((resolve) => socket.once("data", resolve));
  const message = Buffer.from("300400016621", "hex");
  socket.write(Buffer.concat(Array<Buffer>(COUNT).fill(message)));
  await eventually("all arrived", () => arrived === COUNT);
  const largest = Math.max(...look.mock.calls.map(([chunk]) => chunk.length));
  look.mockRestore();
  expect(largest).toBeLessThan(100 * message.length);
});
