/**
 * Input that nobody in his right mind would send, and what must hold all the same: nothing throws,
 * nothing that was stored changes, errors are those of the protocol, and the connection goes on
 * unless the error says that it does not. Shared by the tests and by `bun run fuzz`.
 */
import { Encoder } from "cbor-x/index-no-eval";
import { eventLoop } from "../../src/world.ts";
import { timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { Receiver } from "../../src/replication/receiver.ts";
import { Dice, type Fuzzer } from "./dice.ts";
import { UsersFuzzer } from "./fuzz-users.ts";
import { HelloFuzzer } from "./fuzz-hellos.ts";
import { NoiseFuzzer } from "./fuzz-noise.ts";
import { SealedFuzzer } from "./fuzz-sealed.ts";
import { InProcessServer, respRequest, type InProcessClient } from "./in-process.ts";
import { FUZZED_NOW_MS, fuzzedStore } from "./fuzzed-store.ts";
import { seeded } from "./random.ts";

const LINE_ERROR =
  /^ERROR:? (Invalid command|Missing arguments|Too many arguments|Invalid key|Value is not a valid number|Value out of range|Value too large|Line too long|Storage full|Connection failed|Not authenticated|Permission denied|Read only)( - .+)?$/s;
const RESP_ERROR = /^-(ERR|WRONGTYPE|NOAUTH|WRONGPASS|NOPERM|OOM|NOPROTO) .+$/s;

/** What EXISTS becomes by losing two letters: it rightly ends the connection. */
const FAREWELL = /\b(exit|quit)\b/i;

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** Commands on keys of their own. None of them can become one that empties the store or stops it. */
const COMMANDS = [
  ["SET", "z1", "some value"],
  ["SET", "z2", '"quoted \\x41\\n"'],
  ["GET", "z1"],
  ["DEL", "z2"],
  ["INCR", "z3"],
  ["INCRBY", "z3", "9223372036854775807"],
  ["DECR", "z3", "12"],
  ["APPEND", "z1", "more"],
  ["PREPEND", "z1", "less"],
  ["MGET", "z1", "z2", "z3"],
  ["MSET", "z4", "1", "z5", '"2 3"'],
  ["EXISTS", "z1", "z2"],
  ["SCAN", "z", "AFTER", "z1", "COUNT", "2"],
  ["SCAN", "0", "MATCH", "z[^1]*", "COUNT", "10"],
  ["KEYS", "z?"],
  ["PING", "hello"],
  ["ECHO", "hello"],
  ["EXPIRE", "z4", "100", "NX"],
  ["GETEX", "z4", "PX", "1000"],
  ["SETRANGE", "z5", "10", "x"],
  ["GETRANGE", "z5", "-3", "-1"],
  ["SETEX", "z6", "10", "v"],
  ["RENAME", "z1", "z7"],
  ["TTL", "z4"],
  ["STRLEN", "z1"],
  ["DBSIZE"],
  ["TYPE", "z1"],
  ["CLIENT", "SETNAME", "me"],
  ["CONFIG", "GET", "*"],
  ["COMMAND", "INFO", "GET"],
  ["COMMAND", "GETKEYS", "MSET", "z1", "a", "z2", "b"],
  ["ACL", "SETUSER", "zoe", "on", ">pass", "~z*", "(+get", "%R~y)", "+@read"],
  ["ACL", "GETUSER", "zoe"],
  ["ACL", "DRYRUN", "zoe", "GET", "z1"],
  ["ACL", "LIST"],
  ["ACL", "LOG", "3"],
  ["REPLICATE", "status"],
  ["STATS"],
  ["INFO"],
  ["MEMORY"],
] as const;

const PIECES = [
  " ",
  "  ",
  "\t",
  '"',
  '\\"',
  "\\x4",
  "\0",
  "\xff",
  "\r",
  "-",
  "99999999999999999999",
  "-9223372036854775808",
  "x".repeat(300),
];

/** Good requests on a connection of their own, and what they must have led to. */
class Model {
  private readonly values = new Map<string, string>();
  private readonly client: InProcessClient;

  constructor(
    readonly server: InProcessServer,
    private readonly dice: Dice,
  ) {
    this.client = server.connect();
  }

  step(): void {
    const { dice, values } = this;
    const key = `model-key-${dice.below(1_000)}`;
    const present = values.get(key);
    switch (dice.below(4)) {
      case 0: {
        const value = latin1(dice.bytes(50));
        values.set(key, value);
        return this.expect(["SET", key, value], "+OK\r\n");
      }
      case 1: {
        const length = `${present ?? ""}x`.length;
        values.set(key, `${present ?? ""}x`);
        return this.expect(["APPEND", key, "x"], `:${length}\r\n`);
      }
      case 2:
        values.delete(key);
        return this.expect(["DEL", key], `:${present === undefined ? 0 : 1}\r\n`);
      default: {
        const bulk = present === undefined ? "$-1\r\n" : `$${present.length}\r\n${present}\r\n`;
        return this.expect(["GET", key], bulk);
      }
    }
  }

  /** Every key of the model is as it should be, and the store holds no other of that name. */
  check(): void {
    const { store } = this.server;
    const found = new Map<string, string>();
    const entry = new Entry();
    for (let id = 0; id < store.idLimit; id++) {
      if (!store.isUsed(id) || !store.isLive(id)) continue;
      store.readValue(id, entry);
      const key = latin1(entry.keyBytes());
      if (key.startsWith("model-key-")) found.set(key, latin1(entry.valueBytes()));
    }
    for (const [key, value] of this.values) {
      if (found.get(key) !== value) throw new Error(`${key} is not what was stored`);
    }
    if (found.size !== this.values.size) throw new Error("keys have come up from nowhere");
  }

  private expect(parts: string[], reply: string): void {
    const got = this.client.send(respRequest(...parts)).read();
    if (got !== reply) throw new Error(`${parts.join(" ")}: ${JSON.stringify(got)}`);
  }
}

/** Rubbish goes into keys as well; that must not grow for ever. */
const MOST_KEYS = 5_000;
const GOOD_EVERY = 10;

abstract class ServerFuzzer implements Fuzzer {
  abstract readonly name: string;
  protected readonly server = new InProcessServer({
    maxLineBytes: 500,
    maxValueBytes: 400,
    maxOutputBytes: 1_000_000,
  });
  protected readonly dice: Dice;
  private readonly model: Model;
  private readonly cleaner = this.server.connect();
  private steps = 0;

  constructor(seed: number) {
    this.dice = new Dice(seeded(seed));
    this.model = new Model(this.server, this.dice);
  }

  async step(): Promise<void> {
    await this.badStep();
    const { bugs } = this.server;
    if (bugs.length > 0) throw bugs[0];
    if (++this.steps % GOOD_EVERY === 0) this.model.step();
    if (this.server.store.size > MOST_KEYS) await this.clean();
    // Tombstones go as time goes by.
    this.server.nowMs += 1;
    if (this.steps % 1_000 === 0) this.server.store.sweep(1_000_000);
  }

  check(): void {
    this.model.check();
  }

  protected abstract badStep(): Promise<void>;

  /** Removes all keys but those of the model. */
  private async clean(): Promise<void> {
    const { store } = this.server;
    const entry = new Entry();
    for (let id = 0; id < store.idLimit; id++) {
      if (!store.isUsed(id)) continue;
      store.read(id, entry);
      const key = entry.keyBytes();
      if (!latin1(key).startsWith("model-key-")) this.cleaner.send(respRequest("DEL", key)).read();
    }
  }

  /** Sends input in chunks; what came back. */
  protected async talk(client: InProcessClient, input: Buffer): Promise<string> {
    if (this.dice.chance(0.7)) await client.deliver([input]);
    else {
      const at = this.dice.below(input.length + 1);
      await client.deliver([input.subarray(0, at), input.subarray(at)]);
    }
    return client.read();
  }
}

/** Random and mutated lines, in either dialect. */
export class LineFuzzer extends ServerFuzzer {
  readonly name = "lines";
  private readonly client = this.server.connect();
  private count = 0;

  protected async badStep(): Promise<void> {
    const { dice } = this;
    if (dice.chance(0.01)) this.client.send(`DIALECT ${dice.one(["plain", "tagged"])}\n`).read();
    const base = Buffer.from(dice.one(COMMANDS).join(" "));
    const line = dice.chance(0.3) ? dice.bytes(80) : dice.mutate(base, PIECES);
    // Those that are RESP or end the line are others' business.
    for (let i = 0; i < line.length; i++) {
      if (line[i] === 0x0a || (i === 0 && line[i] === 0x2a)) line[i] = 0x20;
    }
    if (FAREWELL.test(latin1(line))) return;
    const sentinel = `that was ${this.count++}`;
    const bytes = Buffer.concat([line, Buffer.from(`\nPING ${sentinel}\n`)]);
    const reply = (await this.talk(this.client, bytes)).replace(/\r\n/g, "\n");
    const end = `PONG ${sentinel}\n`;
    if (!reply.endsWith(end) || reply.length === end.length) {
      throw new Error(`the connection does not go on after ${JSON.stringify(latin1(line))}`);
    }
    const first = reply.slice(0, reply.indexOf("\n"));
    if (first.startsWith("ERROR") && !LINE_ERROR.test(first)) {
      throw new Error(`${JSON.stringify(latin1(line))}: ${first}`);
    }
    if (first.startsWith("-ERR")) throw new Error(`a line was answered in RESP: ${first}`);
  }
}

/** Mutated RESP requests, each followed by an innocent line, on a connection of its own. */
export class RespFuzzer extends ServerFuzzer {
  readonly name = "RESP frames";

  protected async badStep(): Promise<void> {
    const { dice, server } = this;
    const parts = dice.one(COMMANDS);
    let frame = respRequest(...parts);
    if (dice.chance(0.1)) frame = Buffer.concat([Buffer.from("*"), dice.bytes(60)]);
    else if (dice.chance(0.2))
      frame = respRequest(...parts.map((part) => dice.mutate(Buffer.from(part), PIECES)));
    else
      frame = dice.mutate(frame, [
        ...PIECES,
        "\r\n",
        "$",
        "*",
        "*3\r\n",
        "$-1\r\n",
        "$1000000\r\n",
      ]);
    if (FAREWELL.test(latin1(frame))) return;
    const client = server.connect();
    const reply = await this.talk(client, Buffer.concat([frame, Buffer.from("\nPING\n")]));
    if (reply.startsWith("-") && !RESP_ERROR.test(reply.slice(0, reply.indexOf("\r\n")))) {
      throw new Error(`${JSON.stringify(latin1(frame))}: ${reply}`);
    }
    const isClosed = client.isShutDown;
    if (isClosed !== reply.includes("-ERR Protocol error: ")) {
      throw new Error(`${JSON.stringify(latin1(frame))} closes the connection with ${reply}`);
    }
    client.connection.onEnd();
    client.connection.onClose();
    server.clients.splice(server.clients.indexOf(client), 1);
    if (server.shared.deadlines.halfSent.size + server.shared.deadlines.closing.size > 0) {
      throw new Error("a connection that is gone is still waited for");
    }
  }
}

const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });
const timestampAt = (unixMs: number): bigint =>
  (BigInt(timeHighOf(unixMs)) << 32n) | BigInt(timeLowOf(unixMs));

/** Mutated batches and single events, among good ones. */
export class EventFuzzer implements Fuzzer {
  readonly name = "events";
  private readonly dice: Dice;
  private readonly store = fuzzedStore();
  private readonly values = new Map<string, string>();
  private readonly receiver: Receiver;
  private readonly bad: Buffer[];
  private accounted = 0;
  private steps = 0;

  constructor(seed: number) {
    this.dice = new Dice(seeded(seed));
    this.receiver = new Receiver({
      store: this.store,
      nodeId: "me",
      epoch: 5,
      maxEventBytes: 1_000,
      maxMessageBytes: 100_000,
      onGap: () => {},
      onReference: () => {},
      onDropped: () => void this.accounted++,
      isPossibleEpoch: () => true,
      onDuplicateNodeId: () => {},
      timing: eventLoop,
    });
    const ts = timestampAt(FUZZED_NOW_MS);
    const key = Buffer.from("z1");
    const batch = (...events: unknown[]) =>
      Buffer.from(encoder.encode({ v: 1, src: "peer", epoch: 1, seq: 1, events }));
    const single = (op: string, val: unknown, more: object = {}) => {
      const event = {
        v: 1,
        op,
        key: "z1",
        val,
        ts: BigInt(FUZZED_NOW_MS) * 1_000_000n,
        src: "other",
      };
      return Buffer.from(encoder.encode({ ...event, op_id: Array(16).fill(7), ...more }));
    };
    this.bad = [
      batch({ op: "set", key, val: Buffer.from("value"), ts }),
      batch(
        { op: "set", key, val: Buffer.from("value"), ts, exp: FUZZED_NOW_MS + 5 },
        { op: "del", key, ts },
      ),
      batch({ op: "counter", key, val: Buffer.alloc(57, 1), ts }),
      batch({ op: "ref", key, ts }),
      batch(),
      single("set", [1, 2, 3]),
      single("del", null, { ttl: 10, prev: null }),
      single("incr", Buffer.from("12")),
    ];
  }

  async step(): Promise<void> {
    const { dice, receiver } = this;
    const cbor = [
      "\x9f",
      "\xff",
      "\xbf",
      "\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
      "\x5b\0\0\0\0\x7f",
      "\xd8\x40",
      "\xf9\x7e\0",
      "\x81".repeat(50),
    ];
    const message = dice.chance(0.1) ? dice.bytes(100) : dice.mutate(dice.one(this.bad), cbor);
    const before = this.sum();
    if (dice.chance(0.5)) receiver.receiveEvent(Buffer.from(message));
    else {
      let isDone = false;
      receiver.receiveBatch(Buffer.from(message), () => (isDone = true));
      while (!isDone) await new Promise((resolve) => setImmediate(resolve));
    }
    // An event of nobody else's may be our own, or an empty batch: those count for nothing.
    if (this.sum() < before) throw new Error("something was counted twice");
    if (++this.steps % GOOD_EVERY === 0) this.goodStep();
    if (this.steps % 1_000 === 0) this.store.sweep(1_000_000);
  }

  check(): void {
    const entry = new Entry();
    const found = new Map<string, string>();
    for (let id = 0; id < this.store.idLimit; id++) {
      if (!this.store.isUsed(id) || !this.store.isLive(id)) continue;
      this.store.readValue(id, entry);
      const key = latin1(entry.keyBytes());
      if (key.startsWith("model-key-")) found.set(key, latin1(entry.valueBytes()));
    }
    for (const [key, value] of this.values) {
      if (found.get(key) !== value) throw new Error(`${key} is not what was sent`);
    }
    if (found.size !== this.values.size) throw new Error("keys have come up from nowhere");
  }

  private goodStep(): void {
    const key = `model-key-${this.dice.below(500)}`;
    const value = latin1(this.dice.bytes(40));
    // Later than the one before, never ahead, and not so old that its deletion may be forgotten.
    const ts = timestampAt(FUZZED_NOW_MS - 500) + BigInt(this.steps);
    const event = { op: "set", key: Buffer.from(key), val: Buffer.from(value, "latin1"), ts };
    const batch = { v: 1, src: "good", epoch: 1, seq: this.steps, events: [event] };
    this.receiver.receiveBatch(encoder.encode(batch), () => {});
    this.values.set(key, value);
  }

  private sum(): number {
    const { appliedEvents, knownEvents, receivedReferences } = this.receiver;
    return appliedEvents + knownEvents + receivedReferences + this.accounted;
  }
}

/** One of each. */
export function fuzzers(seed: number): Fuzzer[] {
  return [
    new LineFuzzer(seed),
    new RespFuzzer(seed),
    new EventFuzzer(seed),
    new NoiseFuzzer(seed),
    new SealedFuzzer(seed),
    new HelloFuzzer(seed),
    new UsersFuzzer(seed),
  ];
}
