/** Messages to single nodes: which topics they take, and what is passed over. */
import { beforeEach, expect, test } from "bun:test";
import { BrokerMessenger } from "../../../src/replication/broker-messenger.ts";

let granted: boolean;
let sent: string[];
let received: string[];
let opened: number;
let messenger: BrokerMessenger;

beforeEach(() => {
  granted = true;
  sent = [];
  received = [];
  opened = 0;
  const transport = {
    maxPacketBytes: 1_000,
    messagesPerSecond: Infinity,
    pauseMs: () => 0,
    isGranted: (topic: string) => granted && topic === "home/kv/sync/n%201/+",
    send: (topic: string, message: Uint8Array) =>
      void sent.push(`${topic} ${Buffer.from(message).toString()}`),
  };
  messenger = new BrokerMessenger(
    "home/kv",
    "n 1",
    () => transport,
    () => false,
  );
  messenger.onMessage = (box, message) =>
    void received.push(`${box} ${Buffer.from(message).toString()}`);
  messenger.onOpen = () => opened++;
});

test("each node has topics of its own, whatever is in its name", () => {
  expect(messenger.subscription).toBe("home/kv/sync/n%201/+");
  messenger.send("n/2", "open", Buffer.from("x"), () => {});
  expect(sent).toEqual(["home/kv/sync/n%2F2/open x"]);
});

test("what comes for a box is passed on; retained messages and odd boxes are not", () => {
  const take = (topic: string, isRetained = false) =>
    messenger.receive(topic, Buffer.from("x"), isRetained);
  expect(take("home/kv/sync/n%201/0123456789abcdef")).toBeTrue();
  expect(take("home/kv/sync/n%201/open", true)).toBeTrue();
  expect(take("home/kv/sync/n%201/../etc")).toBeTrue();
  expect(take(`home/kv/sync/n%201/${"a".repeat(1_000)}`)).toBeTrue();
  expect(take("home/kv/nodes/n%201")).toBeFalse();
  expect(received).toEqual(["0123456789abcdef x"]);
});

test("it is open while the broker lets this node hear its topics", () => {
  messenger.up();
  expect([messenger.isOpen, opened]).toEqual([true, 1]);
  granted = false;
  messenger.up();
  expect([messenger.isOpen, opened]).toEqual([false, 1]);
});

test("a message fits the broker's packets together with its topic", () => {
  const longest = "home/kv/sync/n%201/0123456789abcdef".length;
  expect(messenger.maxMessageBytes + longest).toBeLessThan(1_000);
  expect(messenger.maxMessageBytes).toBeGreaterThan(850);
});
