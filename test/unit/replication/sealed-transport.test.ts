/** A sealed connection: what the broker sees of topics and messages, and what becomes of odd ones. */
import { beforeEach, describe, expect, test } from "bun:test";
import { MessageSeal } from "../../../src/replication/message-seal.ts";
import { SEAL_BYTES } from "../../../src/replication/sealed-message.ts";
import { SealedTransport } from "../../../src/replication/sealed-transport.ts";
import type { Transport, TransportOptions } from "../../../src/replication/transport.ts";
import { realWorld } from "../../../src/world.ts";
import { clusterSecrets } from "../../support/secrets.ts";
import { transportOptions } from "../../support/transport-options.ts";

interface Published {
  readonly topic: string;
  readonly payload: Buffer;
  readonly retain: boolean;
}

/** One node on a broker that passes everything on at once. */
class Member {
  readonly published: Published[] = [];
  readonly received: string[] = [];
  readonly refused: string[] = [];
  readonly seal: MessageSeal;
  readonly transport: SealedTransport;
  inner!: TransportOptions;
  isUp = true;
  longest = 0;

  constructor(
    readonly id: string,
    secrets = clusterSecrets("one"),
    start = 1_000,
  ) {
    const { randomWords } = realWorld;
    this.seal = new MessageSeal({ secrets, nodeId: id, start, randomWords });
    const wire = this.wire();
    const connect = (options: TransportOptions): Transport => {
      this.inner = options;
      return wire;
    };
    const onRefused = (reason: string): void => void this.refused.push(reason);
    const rest = { topicPrefix: "kv", nodeId: id, connect, onRefused };
    this.transport = new SealedTransport(
      { seal: this.seal, ...rest },
      transportOptions("mqtt://127.0.0.1", {
        subscriptions: [
          { topic: "kv/updates", ownToo: "at first" },
          { topic: "kv/nodes/+", ownToo: true },
          { topic: `kv/sync/${encodeURIComponent(id)}/+`, ownToo: false, qos: 0 },
        ],
        will: () => ({ topic: `kv/nodes/${encodeURIComponent(id)}`, payload: Buffer.from("gone") }),
        onMessage: (topic, payload, retained, done) => {
          this.received.push(`${topic} ${payload.toString()}${retained ? " retained" : ""}`);
          done();
        },
      }),
    );
  }

  /** Whether the message was done with at once. */
  hear(topic: string, payload: Buffer, isRetained = false): boolean {
    let isDone = false;
    this.inner.onMessage(topic, payload, isRetained, () => (isDone = true));
    return isDone;
  }

  say(topic: string, text: string): Published {
    this.transport.publish(topic, Buffer.from(text), false, () => {});
    return this.published.at(-1)!;
  }

  private wire(): Transport {
    const isUp = (): boolean => this.isUp;
    return {
      get connected() {
        return isUp();
      },
      protocolVersion: 5,
      remoteAddress: "",
      receiveMaximum: 7,
      messagesPerSecond: Infinity,
      pauseMs: () => 0,
      maxPacketBytes: 1_000,
      notePassed: (bytes) => (this.longest = bytes),
      noteTooLong: (bytes) => bytes > 500,
      hurry() {},
      open() {},
      publish: (topic, payload, retain) => void this.published.push({ topic, payload, retain }),
      send: (topic, payload) =>
        void this.published.push({ topic, payload: payload as Buffer, retain: false }),
      isGranted: (topic) => topic === "kv/updates" || /^kv\/sync\/[0-9a-f]{16}\/\+$/.test(topic),
      silenceOwn() {},
      close: async () => {},
    };
  }
}

let a: Member;
let b: Member;
beforeEach(() => {
  a = new Member("Ångström 1");
  b = new Member("b");
});

const NAME = encodeURIComponent("Ångström 1");

describe("topics", () => {
  test("tell no node's id to the broker, and are as they were to the other node", () => {
    const messages = [
      a.say("kv/updates", "writes"),
      a.say(`kv/nodes/${NAME}`, "here"),
      a.say("kv/sync/b/open", "call"),
    ];
    const [own] = a.seal.namesOf("Ångström 1");
    const [other] = b.seal.namesOf("b");
    const topics = ["kv/updates", `kv/nodes/${own}`, `kv/sync/${other}/open`];
    expect(messages.map(({ topic }) => topic)).toEqual(topics);
    for (const { topic, payload } of messages) expect(b.hear(topic, payload)).toBeTrue();
    const said = ["kv/updates writes", `kv/nodes/${NAME} here`, "kv/sync/b/open call"];
    expect(b.received).toEqual(said);
  });

  test("are subscribed to under all names that the node has", () => {
    const both = new Member("b", clusterSecrets("new", ["one"]));
    const [current, former] = both.seal.namesOf("b");
    expect(both.inner.subscriptions.map(({ topic }) => topic)).toEqual([
      "kv/updates",
      "kv/nodes/+",
      `kv/sync/${current}/+`,
      `kv/sync/${former}/+`,
    ]);
    expect(both.transport.isGranted("kv/sync/b/+")).toBeTrue();
    const { topic, payload } = a.say("kv/sync/b/open", "call");
    both.hear(topic, payload);
    expect(both.received).toEqual(["kv/sync/b/open call"]);
  });

  test("bind a message to themselves, and presence to its sender", () => {
    const update = a.say("kv/updates", "x");
    const presence = a.say(`kv/nodes/${NAME}`, "x");
    const [other] = a.seal.namesOf("b");
    b.hear(`kv/nodes/${other}`, presence.payload);
    b.hear(`kv/nodes/${other}`, update.payload);
    b.hear("kv/updates", presence.payload);
    b.hear(`kv/sync/${other}/open`, update.payload);
    const insider = b.seal.seal("presence", "kv/nodes/0123456789abcdef", Buffer.from("x"));
    a.hear("kv/nodes/0123456789abcdef", insider);
    expect([b.refused, a.refused]).toEqual([Array<string>(4).fill("forged"), ["forged"]]);
    expect([...a.received, ...b.received]).toEqual([]);
  });
});

describe("messages", () => {
  test("of a will are sealed, and come once", () => {
    const { topic, payload } = a.inner.will();
    expect(payload.includes("gone")).toBeFalse();
    const here = a.say(`kv/nodes/${NAME}`, "here");
    b.hear(here.topic, here.payload);
    b.hear(topic, payload);
    b.hear(topic, payload);
    b.hear(topic, payload, true);
    const last = `kv/nodes/${NAME} gone`;
    expect(b.received).toEqual([`kv/nodes/${NAME} here`, last, `${last} retained`]);
    expect(b.refused).toEqual(["replayed"]);
  });

  test("of each connection are of another epoch, its will the first", () => {
    const epochOf = ({ payload }: { payload: Buffer }): string =>
      payload.subarray(16, 32).toString("hex");
    const seen: string[] = [];
    for (let connection = 0; connection < 3; connection++) {
      seen.push(epochOf(a.inner.will()));
      expect(epochOf(a.say("kv/updates", "x"))).toBe(seen.at(-1)!);
    }
    expect(seen).toEqual([...new Set(seen)].sort());
  });

  test("fit the broker's packets with their seal", () => {
    expect(a.transport.maxPacketBytes).toBe(1_000 - SEAL_BYTES);
    a.transport.notePassed(100);
    expect(a.longest).toBe(100 + SEAL_BYTES);
    expect([a.transport.noteTooLong(440), a.transport.noteTooLong(441)]).toEqual([false, true]);
    expect(a.inner.maxPacketBytes).toBe(1_000_000 + SEAL_BYTES);
    const { payload } = a.say("kv/updates", "x".repeat(200));
    expect(payload.length).toBe(200 + SEAL_BYTES);
  });

  test("of other implementations are passed on as they are", () => {
    b.hear("kv/events", Buffer.from("event"));
    expect(b.received).toEqual(["kv/events event"]);
  });

  test("that are empty say nothing, whoever sent them", () => {
    const [own] = b.seal.namesOf("b");
    for (const topic of ["kv/updates", `kv/nodes/${own}`, `kv/sync/${own}/open`]) {
      expect(b.hear(topic, Buffer.alloc(0))).toBeTrue();
    }
    expect([b.received, b.refused]).toEqual([[], []]);
  });

  test("that are not taken are done with, or no other would come", () => {
    expect(b.hear("kv/updates", Buffer.from("in clear"))).toBeTrue();
    expect(b.hear("kv/nodes/b", Buffer.from('{"v":1}'), true)).toBeTrue();
    expect(b.refused).toEqual(["unsealed"]);
  });
});

describe("what the broker retains of this node under a former name", () => {
  test("is cleared once it is seen and the connection is up, and nothing else is", () => {
    const both = new Member("b", clusterSecrets("new", ["one"]));
    const [current, former] = both.seal.namesOf("b");
    both.isUp = false;
    for (const name of ["b", former, current, "c"]) {
      both.hear(`kv/nodes/${name}`, Buffer.from("old"), true);
    }
    both.hear(`kv/nodes/${former}`, Buffer.from("old"), false);
    expect(both.published).toEqual([]);
    both.isUp = true;
    both.inner.onUp(false);
    const cleared = both.published.map(({ topic, payload, retain }) => [
      topic,
      payload.length,
      retain,
    ]);
    expect(cleared).toEqual([
      ["kv/nodes/b", 0, true],
      [`kv/nodes/${former}`, 0, true],
    ]);
    both.inner.onUp(false);
    expect(both.published).toHaveLength(2);
  });

  test("and of a node that is gone for good under all of its names", () => {
    const both = new Member("b", clusterSecrets("new", ["one"]));
    both.transport.publish("kv/nodes/c", Buffer.alloc(0), true, () => {});
    const topics = [...both.seal.namesOf("c"), "c"].map((name) => `kv/nodes/${name}`);
    expect(both.published.map(({ topic }) => topic)).toEqual(topics);
  });
});

test("a node whose clock went back is told, and passes by what others have heard of", () => {
  const ahead = new Member("b", clusterSecrets("one"), 9_000);
  const before = ahead.say("kv/nodes/b", "before");
  a.hear(before.topic, before.payload);
  const early = b.say("kv/nodes/b", "early");
  a.hear(early.topic, early.payload);
  expect(a.refused).toEqual(["replayed"]);
  const word = a.published.at(-1)!;
  expect(word.topic).toBe(`kv/sync/${b.seal.namesOf("b")[0]}/epoch`);
  b.hear(word.topic, word.payload);
  expect(b.received).toEqual([]);
  const now = b.say("kv/nodes/b", "now");
  a.hear(now.topic, now.payload);
  expect(a.received).toEqual(["kv/nodes/b before", "kv/nodes/b now"]);
  // Whoever repeats what is old does not make it talk.
  for (let i = 0; i < 100; i++) a.hear(early.topic, early.payload);
  expect(a.published).toHaveLength(1);
});
