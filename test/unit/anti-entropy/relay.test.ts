/** Connections through a broker that loses messages, goes away, and carries what strangers make up. */
import { describe, expect, test } from "bun:test";
import { Relay } from "../../../src/anti-entropy/relay.ts";
import { encodeCall, OPEN_BOX } from "../../../src/anti-entropy/relay-messages.ts";
import type { Fact } from "../../../src/fact.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import type { Link, LinkHandler, Messenger } from "../../../src/ports.ts";
import { Timeline } from "../../sim/timeline.ts";
import { seeded } from "../../support/random.ts";

const LATENCY_MS = 10;
const BYTES_A_SECOND = 100_000;

/** One side of a connection: what came over it, and whether it is over. */
class End implements LinkHandler {
  received = "";
  isOver = false;
  isDrained = false;

  constructor(readonly link: Link) {}

  receive(bytes: Uint8Array): void {
    this.received += Buffer.from(bytes).toString("latin1");
  }

  drained(): void {
    this.isDrained = true;
  }

  closed(): void {
    this.isOver = true;
  }
}

/** A broker, and nodes that reach each other through it only. */
class Broker {
  readonly timeline = new Timeline();
  readonly timing = {
    nowMs: () => this.timeline.nowMs,
    after: (delayMs: number, task: () => void) => this.timeline.after(delayMs, task),
    soon: (task: () => void) => this.timeline.after(0, task),
  };
  /** Probability that a message is lost. */
  loss = 0;
  isUp = true;
  /** What was said to whom, where, how long it is, and when. */
  readonly messages: { to: string; box: string; bytes: number; atMs: number }[] = [];
  private readonly random = seeded(1);
  private readonly messengers = new Map<string, Messenger>();

  node(nodeId: string, bytesASecond = BYTES_A_SECOND, maxMessageBytes = 100_000): TestNode {
    const node = new TestNode(this, nodeId, bytesASecond, maxMessageBytes);
    this.messengers.set(nodeId, node.messenger);
    return node;
  }

  send(to: string, box: string, message: Uint8Array): void {
    if (!this.isUp) return;
    this.messages.push({ to, box, bytes: message.length, atMs: this.timeline.nowMs });
    if (this.random() < this.loss) return;
    this.timeline.after(LATENCY_MS, () => {
      if (this.isUp) this.messengers.get(to)?.onMessage(box, message);
    });
  }

  /** Is away for a while. */
  goAway(forMs: number): void {
    this.isUp = false;
    this.timeline.after(forMs, () => {
      this.isUp = true;
      for (const messenger of this.messengers.values()) messenger.onOpen();
    });
  }

  run(ms: number): void {
    this.timeline.runUntil(this.timeline.nowMs + ms);
  }
}

class TestNode {
  readonly messenger: Messenger;
  readonly relay: Relay;
  readonly accepted: End[] = [];
  refusal: string | null = null;
  isCrowded = false;
  isPaced = false;
  /** For how long nothing is to be sent. */
  pauseMs: () => number = () => 0;

  constructor(
    broker: Broker,
    readonly nodeId: string,
    bytesASecond: number,
    maxMessageBytes: number,
  ) {
    const { timing } = broker;
    const isCrowded = () => this.isCrowded;
    const isPaced = () => this.isPaced;
    this.messenger = {
      get isOpen() {
        return broker.isUp;
      },
      get isCrowded() {
        return isCrowded();
      },
      maxMessageBytes,
      get isPaced() {
        return isPaced();
      },
      pauseMs: () => this.pauseMs(),
      send(to, box, message, taken) {
        broker.send(to, box, message);
        if (broker.isUp) timing.after(1, taken);
      },
      onMessage() {},
      onOpen() {},
    };
    const random = seeded(nodeId.length + nodeId.charCodeAt(0));
    this.relay = new Relay({
      messenger: this.messenger,
      timing,
      randomWords: (count) => Uint32Array.from({ length: count }, () => random() * 2 ** 32),
      nodeId,
      bytesASecond,
      refusal: () => this.refusal,
      accept: () => (link) => {
        const end = new End(link);
        this.accepted.push(end);
        return end;
      },
      logger: silentLogger,
    });
  }

  /** Calls another; the end of the connection, or why there is none. */
  call(nodeId: string, greeting = "PEER"): { end: End | null; problem: string | null } {
    const call: { end: End | null; problem: string | null } = { end: null, problem: null };
    const handle = (link: Link): LinkHandler => (call.end = new End(link));
    const onRefused = (reason: string): void => void (call.problem = reason);
    this.relay
      .dial(nodeId, greeting, handle, onRefused)
      .catch((error: Error) => (call.problem = error.message));
    return call;
  }

  fact(name: string): number {
    const fact: Fact<Relay> = Relay.facts.find((it) => it.name === name)!;
    return Number(fact.read(this.relay));
  }
}

function connect(broker: Broker, a: TestNode, b: TestNode): { near: End; far: End } {
  const call = a.call(b.nodeId);
  broker.run(1_000);
  call.end!.link.send(Buffer.from("hello"));
  broker.run(1_000);
  return { near: call.end!, far: b.accepted.at(-1)! };
}

const text = (length: number): string => "0123456789abcdef".repeat(length / 16);

describe("a connection", () => {
  test("carries bytes both ways and ends on both sides", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    const { near, far } = connect(broker, a, b);
    expect([near.link.address, far.link.address]).toEqual(["broker/b", "broker/a"]);
    far.link.send(Buffer.from("hello yourself"));
    broker.run(1_000);
    expect([near.received, far.received]).toEqual(["hello yourself", "hello"]);
    expect(near.isDrained).toBeTrue();
    near.link.send(Buffer.from(", and goodbye"));
    near.link.end();
    broker.run(1_000);
    expect(far.received).toBe("hello, and goodbye");
    expect(far.isOver).toBeTrue();
    expect([a, b].map((node) => node.fact("relay_links"))).toEqual([0, 0]);
    expect([a, b].map((node) => node.fact("relay_dropped_malformed"))).toEqual([0, 0]);
  });

  test("arrives whole when a third of all messages is lost", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    broker.loss = 0.3;
    const call = a.call("b");
    broker.run(5_000);
    call.end!.link.send(Buffer.from(text(160_000)));
    broker.run(60_000);
    expect(b.accepted.map(({ received }) => received)).toEqual([text(160_000)]);
    expect(a.fact("relay_resends")).toBe(0);
    call.end!.link.end();
    broker.run(20_000);
    expect(a.fact("relay_resends")).toBeGreaterThan(5);
    expect([a, b].map((node) => node.fact("relay_links"))).toEqual([0, 0]);
  });

  test("goes on when the broker is back", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    const { near, far } = connect(broker, a, b);
    near.link.send(Buffer.from(text(160_000)));
    broker.run(500);
    broker.goAway(8_000);
    broker.run(8_100);
    const before = far.received.length;
    expect(before).toBeLessThan(160_000);
    broker.run(5_000);
    expect(far.received).toBe(`hello${text(160_000)}`);
  });

  test("whose other side is gone holds nothing back for ever", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    const { near } = connect(broker, a, b);
    broker.loss = 1;
    near.link.send(Buffer.from(text(16_000)));
    near.link.end();
    broker.run(20_000);
    expect(a.fact("relay_links")).toBe(0);
  });

  test("fits a broker that takes short messages only", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a", BYTES_A_SECOND, 600), broker.node("b", BYTES_A_SECOND, 600)];
    const { near, far } = connect(broker, a, b);
    near.link.send(Buffer.from(text(16_000)));
    broker.run(5_000);
    expect(far.received).toBe(`hello${text(16_000)}`);
    expect(Math.max(...broker.messages.map(({ bytes }) => bytes))).toBeLessThanOrEqual(600);
  });
});

describe("a call", () => {
  test("that nobody answers says so", () => {
    const broker = new Broker();
    const call = broker.node("a").call("nobody");
    broker.run(11_000);
    expect(call.problem).toStartWith(
      "cannot reach nobody through the broker: no answer within 8 s",
    );
    expect(broker.messages.length).toBeLessThan(6);
  });

  test("that is refused says why, in words that are known", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    b.refusal = "this node is stopping";
    const call = a.call("b");
    broker.run(1_000);
    expect(call.problem).toBe('b answered "this node is stopping"');
    b.refusal = "made up";
    const other = a.call("b");
    broker.run(1_000);
    expect(other.problem).toBe('b answered "it gives no reason"');
  });

  test("through a broker that is away fails at once, and so does one where the budget is 0", () => {
    const broker = new Broker();
    const a = broker.node("a");
    const none = broker.node("none", 0);
    const call = none.call("a");
    broker.isUp = false;
    const other = a.call("none");
    broker.run(1);
    const expected = ["a", "none"].map(
      (id) => `cannot reach ${id} through the broker: there is no way through it now`,
    );
    expect([call.problem, other.problem]).toEqual(expected);
  });
});

describe("the budget", () => {
  test("is kept to by all connections together, and used", () => {
    const broker = new Broker();
    const [a, b, c] = [broker.node("a"), broker.node("b"), broker.node("c")];
    const ends = [connect(broker, a, b), connect(broker, a, c)];
    const startMs = broker.timeline.nowMs;
    for (const { near } of ends) near.link.send(Buffer.from(text(1_600_000)));
    broker.run(10_000);
    const sent = broker.messages.filter(({ to, atMs }) => to !== "a" && atMs >= startMs);
    const bytes = sent.reduce((sum, message) => sum + message.bytes, 0);
    expect(bytes).toBeLessThan(1.05 * 10 * BYTES_A_SECOND);
    expect(bytes).toBeGreaterThan(0.9 * 10 * BYTES_A_SECOND);
    // Both get their part.
    for (const { far } of ends) expect(far.received.length).toBeGreaterThan(300_000);
  });

  test("next to nothing is sent while this node's own writes wait", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    const { near, far } = connect(broker, a, b);
    a.isCrowded = true;
    near.link.send(Buffer.from(text(160_000)));
    broker.run(5_000);
    expect(far.received.length).toBeLessThan(50_000);
    expect(far.received.length).toBeGreaterThan(8_000);
    a.isCrowded = false;
    broker.run(5_000);
    expect(far.received.length).toBe(160_005);
  });
});

test("nothing at all is sent while the broker takes no more messages", () => {
  const broker = new Broker();
  const [a, b] = [broker.node("a"), broker.node("b")];
  a.isPaced = b.isPaced = true;
  const { near, far } = connect(broker, a, b);
  const { timeline } = broker;
  // One message in 200 ms, both ways.
  for (const node of [a, b]) {
    let lastMs = timeline.nowMs;
    const { send } = node.messenger;
    node.messenger.send = (...message) => {
      lastMs = timeline.nowMs;
      send.call(node.messenger, ...message);
    };
    node.pauseMs = () => Math.max(0, lastMs + 200 - timeline.nowMs);
  }
  const startMs = timeline.nowMs;
  near.link.send(Buffer.from(text(160_000)));
  broker.run(10_000);
  for (const to of ["a", "b"]) {
    const times = broker.messages.filter((it) => it.to === to && it.atMs > startMs);
    expect(times.length).toBeLessThanOrEqual(50);
  }
  // And each is longer than usual.
  expect(Math.max(...broker.messages.map(({ bytes }) => bytes))).toBeGreaterThan(10_000);
  expect(far.received.length).toBe(160_005);
});

test("a pause that is over by the time the next look is planned stops nothing", () => {
  const broker = new Broker();
  const a = broker.node("a");
  const { near, far } = connect(broker, a, broker.node("b"));
  // Time goes on between two questions for it: it is over when it is asked for again.
  let pauses = 1;
  a.pauseMs = () => (pauses-- > 0 ? 1 : 0);
  near.link.send(Buffer.from(text(1_000)));
  broker.run(1_000);
  expect(far.received).toEndWith(text(1_000));
});

describe("strangers at the broker", () => {
  test("who call without end are answered at a bounded rate, and nothing is begun for them", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    for (let i = 0; i < 5_000; i++) {
      const box = i.toString(16).padStart(16, "0");
      broker.send("b", OPEN_BOX, encodeCall({ from: `stranger${i}`, box, isRound: false }));
    }
    broker.run(1_000);
    expect(broker.messages.filter(({ to }) => to !== "b").length).toBeLessThanOrEqual(80);
    expect(b.fact("relay_dropped_calls")).toBeGreaterThan(4_900);
    expect(b.accepted).toEqual([]);
    // And who really calls gets through.
    broker.run(3_000);
    expect(connect(broker, a, b).far.received).toBe("hello");
  });

  test("who make up messages for boxes there are not, or that are none, are counted", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    const { near, far } = connect(broker, a, b);
    const { box } = broker.messages.findLast(({ to }) => to === "b")!;
    broker.send("b", "0000000000000000", Buffer.from("x"));
    broker.send("b", OPEN_BOX, Buffer.from("{}"));
    broker.send("b", OPEN_BOX, Buffer.alloc(1_000_000));
    broker.send("b", box, Buffer.alloc(1_000_000));
    broker.send("b", box, Buffer.from('{"v":1,"box":"0000000000000000"}'));
    broker.send("b", box, Buffer.from("x"));
    broker.run(1_000);
    expect(b.fact("relay_dropped_stray")).toBe(1);
    expect(b.fact("relay_dropped_calls")).toBe(2);
    expect(b.fact("relay_dropped_malformed")).toBe(2);
    near.link.send(Buffer.from(", still there"));
    broker.run(1_000);
    expect(far.received).toBe("hello, still there");
  });

  test("a call that comes twice begins one connection", () => {
    const broker = new Broker();
    const [a, b] = [broker.node("a"), broker.node("b")];
    const call = encodeCall({ from: "a", box: "00000000000000aa", isRound: false });
    broker.send("b", OPEN_BOX, call);
    broker.send("b", OPEN_BOX, call);
    broker.run(1_000);
    expect(b.accepted).toEqual([]);
    expect(a.fact("relay_dropped_stray")).toBe(2);
    expect(new Set(broker.messages.filter(({ to }) => to === "a").map(({ box }) => box)).size).toBe(
      1,
    );
  });
});
