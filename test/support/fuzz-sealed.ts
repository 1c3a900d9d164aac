/**
 * Sealed messages in the hands of somebody who may publish what he likes: changed, cut, repeated,
 * moved to other topics, or made up, beside a peer that goes on writing. Each is counted under one
 * reason and changes nothing.
 */
import { Encoder } from "cbor-x/index-no-eval";
import { CURRENT } from "../../src/core/data/capabilities.ts";
import { timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { silentLogger } from "../../src/observability/log.ts";
import { MessageSeal } from "../../src/replication/message-seal.ts";
import { encodePresence } from "../../src/replication/presence-message.ts";
import { Replicator } from "../../src/replication/replicator.ts";
import type { SealPurpose } from "../../src/replication/sealed-message.ts";
import type { Transport, TransportOptions } from "../../src/replication/transport.ts";
import type { Timing } from "../../src/timing.ts";
import { Dice, type Fuzzer } from "./dice.ts";
import { readFact } from "./facts.ts";
import { FUZZED_NOW_MS, fuzzedStore } from "./fuzzed-store.ts";
import { mqttSettings } from "./mqtt-settings.ts";
import { seeded } from "./random.ts";
import { clusterSecrets } from "./secrets.ts";

const PREFIX = "kv";
/** Bad messages a step, and how often there is a good one. */
const BAD_A_STEP = 4;
const GOOD_EVERY = 10;
const MOST_OVERHEARD = 200;
const PIECES = ["MKS\x01", "MKS\x02", "{", "\0\0\0\0\0\0\0\0", "\xff\xff\xff\xff"];
/** Nothing is done later here: who waits goes on in the next turn. */
const timing: Timing = {
  nowMs: () => 0,
  after: () => () => {},
  soon(task) {
    const immediate = setImmediate(task);
    return () => clearImmediate(immediate);
  },
};

interface Message {
  readonly topic: string;
  readonly payload: Buffer;
}

/** See the file header. */
export class SealedFuzzer implements Fuzzer {
  readonly name = "sealed messages";
  private readonly dice: Dice;
  private readonly store = fuzzedStore();
  private readonly replicator: Replicator;
  private readonly peer: MessageSeal;
  private readonly stranger: MessageSeal;
  private readonly encoder = new Encoder({ useRecords: false, tagUint8Array: false });
  /** What `me` has been told by the broker; it is there once the replicator is made. */
  private wire!: TransportOptions;
  private readonly overheard: Message[] = [];
  private readonly values = new Map<string, string>();
  private steps = 0;

  constructor(seed: number) {
    this.dice = new Dice(seeded(seed));
    const random = seeded(seed + 1);
    const randomWords = (count: number): Uint32Array =>
      Uint32Array.from({ length: count }, () => random() * 2 ** 32);
    const sealed = { start: 7, randomWords };
    this.peer = new MessageSeal({ ...sealed, nodeId: "peer", secrets: clusterSecrets("one") });
    this.stranger = new MessageSeal({ ...sealed, nodeId: "peer", secrets: clusterSecrets("two") });
    this.replicator = new Replicator({
      store: this.store,
      nodeId: "me",
      settings: { ...mqttSettings, topic_prefix: PREFIX, accept_foreign_events: false },
      sealing: { secrets: clusterSecrets("one"), randomWords },
      address: () => "127.0.0.1:7379",
      isRelaying: true,
      version: "1",
      trees: () => ({ currentKey: "", rootHex: null, roots: () => ({}) }),
      now: () => FUZZED_NOW_MS,
      random,
      timing,
      logger: silentLogger,
      connect: (options) => {
        this.wire = options;
        return deafTransport();
      },
    });
    this.replicator.start();
    this.wire.onUp(false);
    this.tell("presence", this.peerTopic, this.presence(1));
  }

  async step(): Promise<void> {
    for (let i = 0; i < BAD_A_STEP; i++) await this.badMessage();
    if (++this.steps % GOOD_EVERY === 0) this.write();
  }

  check(): void {
    const entry = new Entry();
    let found = 0;
    for (let id = 0; id < this.store.idLimit; id++) {
      if (!this.store.isUsed(id) || !this.store.isLive(id)) continue;
      this.store.readValue(id, entry);
      const key = Buffer.from(entry.keyBytes()).toString();
      if (this.values.get(key) !== Buffer.from(entry.valueBytes()).toString()) {
        throw new Error(`${key} is not what was sent`);
      }
      found++;
    }
    if (found !== this.values.size) throw new Error("not all that was sent is there");
    const peers = this.replicator.peers().map(({ nodeId, online }) => `${nodeId} ${online}`);
    if (peers.join() !== "peer true") throw new Error(`its peers are ${peers.join()}`);
  }

  private get peerTopic(): string {
    return `${PREFIX}/nodes/${this.peer.namesOf("peer")[0]}`;
  }

  /** Everything is counted once, under whatever reason. */
  private async badMessage(): Promise<void> {
    const { topic, payload } = this.bad();
    const before = this.counted();
    let isDone = false;
    // The latest presence is nothing bad as a retained message: a broker has it for all who come.
    const isRetained = topic !== this.peerTopic && this.dice.chance(0.3);
    this.wire.onMessage(topic, payload, isRetained, () => {
      if (isDone) throw new Error("a message was done with twice");
      isDone = true;
    });
    while (!isDone) await new Promise((resolve) => setImmediate(resolve));
    if (this.counted() === before + 1) return;
    throw new Error(`not counted once: ${topic} ${payload.toString("hex")}`);
  }

  private bad(): Message {
    const { dice } = this;
    const own = this.peer.namesOf("me")[0];
    const topics = [`${PREFIX}/updates`, this.peerTopic, `${PREFIX}/sync/${own}/open`];
    const topic = dice.one([...topics, `${PREFIX}/events`, `${PREFIX}/nodes/0123456789abcdef`]);
    const known = dice.one(this.overheard);
    switch (dice.below(6)) {
      case 0:
        return { topic, payload: Buffer.concat([dice.bytes(100), Buffer.of(1)]) };
      case 1:
        return { topic, payload: this.stranger.seal("updates", topic, dice.bytes(50)) };
      case 2: {
        // The header of a real one, with something made up behind it.
        const made = Buffer.concat([
          known.payload.subarray(0, 44),
          Buffer.alloc(16),
          dice.bytes(60),
        ]);
        return { topic: dice.chance(0.5) ? topic : known.topic, payload: made };
      }
      case 3:
        return {
          topic: topic === known.topic ? `${PREFIX}/events` : topic,
          payload: known.payload,
        };
      case 4:
        return known;
      default: {
        const payload = dice.mutate(known.payload, PIECES);
        if (payload.equals(known.payload)) payload[payload.length - 1] ^= 1;
        return { topic: known.topic, payload: payload.length > 0 ? payload : Buffer.of(0) };
      }
    }
  }

  private write(): void {
    const { dice, steps } = this;
    const key = `k${dice.below(300)}`;
    const value = `${dice.below(1_000_000)}`;
    const unixMs = FUZZED_NOW_MS - 500;
    const time = (BigInt(timeHighOf(unixMs)) << 32n) | BigInt(timeLowOf(unixMs));
    const event = { op: "set", key: Buffer.from(key), val: Buffer.from(value) };
    const events = [{ ...event, ts: time + BigInt(steps) }];
    const batch = { v: 5, src: "peer", epoch: 7, seq: steps / GOOD_EVERY, events };
    this.tell("updates", `${PREFIX}/updates`, this.encoder.encode(batch));
    this.values.set(key, value);
    if (steps % 500 === 0) this.tell("presence", this.peerTopic, this.presence(steps));
    if (steps % 1_000 === 0) this.peer.begin();
  }

  private presence(sequence: number): Buffer {
    return encodePresence({
      nodeId: "peer",
      epoch: 7,
      connection: 1,
      address: "127.0.0.1:7380",
      tlsAddress: "",
      version: "1",
      roots: {},
      online: true,
      isRelayed: true,
      sequence,
      clientId: "peer",
      hears: true,
      refreshMs: 60_000,
      connectedMs: 0,
      capabilities: CURRENT,
    });
  }

  /** What a peer says, which is taken and overheard. */
  private tell(purpose: SealPurpose, topic: string, plain: Buffer): void {
    const payload = this.peer.seal(purpose, topic, plain);
    const before = this.counted();
    this.wire.onMessage(topic, Buffer.from(payload), false, () => {});
    if (this.counted() !== before) throw new Error(`refused what is good on ${topic}`);
    this.overheard.push({ topic, payload });
    if (this.overheard.length > MOST_OVERHEARD) this.overheard.shift();
  }

  private counted(): number {
    const names = Replicator.facts.filter(({ name }) => /_(refused|dropped)_/.test(name));
    return names.reduce((sum, { name }) => {
      return sum + Number(readFact(Replicator.facts, this.replicator, name));
    }, 0);
  }
}

/** A connection on which nothing is to be heard of what is sent. */
function deafTransport(): Transport {
  return {
    connected: true,
    protocolVersion: 5,
    remoteAddress: "",
    receiveMaximum: 10,
    messagesPerSecond: Infinity,
    pauseMs: () => 0,
    maxPacketBytes: 131_072,
    notePassed() {},
    noteTooLong: () => false,
    hurry() {},
    open() {},
    publish() {},
    send() {},
    isGranted: () => true,
    silenceOwn() {},
    close: async () => {},
  };
}
