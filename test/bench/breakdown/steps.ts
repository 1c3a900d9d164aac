/** The steps of a request, each run by itself, and all of them through a connection. */
import type { Socket } from "bun";
import { ClientSession } from "../../../src/commands/client-session.ts";
import { commandTable } from "../../../src/commands/table.ts";
import { Int64 } from "../../../src/core/data/int64.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import { Store } from "../../../src/core/store/store.ts";
import { LATEST, MerkleTree } from "../../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../../src/core/tree/record-digest.ts";
import { FrameQueue } from "../../../src/durability/frame-queue.ts";
import { RESP2 } from "../../../src/protocol/reply.ts";
import { Request } from "../../../src/protocol/request.ts";
import { InputBuffer } from "../../../src/server/input-buffer.ts";
import { Connection } from "../../../src/server/connection.ts";
import { SmallChunks } from "../../../src/server/small-chunks.ts";
import type { SocketHandler } from "../../../src/server/socket-handler.ts";
import { SendQueue } from "../../../src/send-queue.ts";
import { InProcessServer } from "../../support/in-process.ts";
import { seeded } from "../../support/random.ts";
import { request } from "../load.ts";
import { percentile } from "../report.ts";
import { threadTimeNs } from "./thread-time.ts";

/** What is measured. */
export const COMMANDS = ["SET", "GET", "INCR"] as const;
type Command = (typeof COMMANDS)[number];

/** Nanoseconds a request, in the order of the table's columns; null where there is no such step. */
export interface Row {
  readonly name: string;
  readonly ns: readonly (number | null)[];
}

const PIPELINE = 100;
const CLIENTS = 50;
const REQUESTS = 20_000;
const WARM_ROUNDS = 8;
const ROUNDS = 24;
const VALUE = "x".repeat(22);
const KEY_BYTES = 16;

/** Takes all that is sent. */
class Sink {
  sentBytes = 0;
  write = (_bytes: Uint8Array, _at: number, length: number): number => {
    this.sentBytes += length;
    return length;
  };
}

/** The requests of a command in chunks, and where the key of each lies in its chunk. */
class Load {
  readonly chunks: Uint8Array[] = [];
  readonly keyStarts: Int32Array;

  constructor(command: Command, keys: number, pipeline: number) {
    const random = seeded(7);
    const one = requestOf(command, 0);
    this.keyStarts = Int32Array.from({ length: pipeline }, (_, i) => i * one.length + keyAt(one));
    for (let sent = 0; sent < REQUESTS; sent += pipeline) {
      let text = "";
      for (let i = 0; i < pipeline; i++) text += requestOf(command, Math.floor(random() * keys));
      this.chunks.push(Buffer.from(text));
    }
  }
}

function requestOf(command: Command, number: number): string {
  const key = `${command === "INCR" ? "ctr" : "key"}:${String(number).padStart(12, "0")}`;
  return command === "SET" ? request("SET", key, VALUE) : request(command, key);
}

function keyAt(text: string): number {
  return text.search(/(key|ctr):/);
}

/** See the file header. */
export class Breakdown {
  private readonly server = new InProcessServer();
  private readonly store: Store;
  private readonly tree: MerkleTree;
  private readonly one = new Int64().set(0, 1);
  private readonly entry = new Entry();

  constructor(private readonly keys: number) {
    // Unlike in a test, time passes.
    Object.defineProperty(this.server, "nowMs", { get: () => Date.now() });
    this.store = this.server.store;
    this.tree = new MerkleTree(this.store, new RecordDigester(treeKeyOf("bench")));
    // As in a node: the marks of a million keys are not in the cache when the next one is made.
    this.store.observers.push(this.tree);
    const connection = this.connect();
    for (let i = 0; i < keys; i++) {
      for (const command of ["SET", "INCR"] as const) {
        connection.onData(Buffer.from(requestOf(command, i)));
      }
    }
    this.catchUp();
  }

  /** Brings the tree up to date, as a node does meanwhile: what is marked anew is not marked yet. */
  private catchUp(): void {
    while (this.tree.update(LATEST, LATEST, Infinity, () => 0));
  }

  /** All rows, for each command. */
  measure(): Map<string, (number | null)[]> {
    const rows = new Map<string, (number | null)[]>();
    for (const command of COMMANDS) {
      let sum = 0;
      for (const [name, ns, isPart] of this.rowsOf(command)) {
        rows.set(name, [...(rows.get(name) ?? []), ns]);
        if (isPart) sum += ns ?? 0;
      }
      for (const pipeline of [100, 16, 1]) {
        const ns = this.throughConnection(command, pipeline);
        if (pipeline === PIPELINE) push(rows, "together, beyond that", ns - sum);
        push(rows, `through a connection, pipeline ${pipeline}`, ns);
      }
      push(rows, `the same of ${CLIENTS} clients at once`, this.throughMany(command));
    }
    return rows;
  }

  private connect(): Connection {
    const user = this.server.shared.context.services.users.arrive("127.0.0.1:1", null);
    const session = new ClientSession(1, "127.0.0.1:1", Date.now(), RESP2, user);
    return new Connection(
      new Sink() as unknown as Socket<SocketHandler>,
      session,
      this.server.shared,
    );
  }

  private rowsOf(command: Command): [name: string, ns: number | null, isPart: boolean][] {
    const load = new Load(command, this.keys, PIPELINE);
    const find = this.find(load);
    const data = this.withStore(command, load);
    const changed = command === "GET" ? null : data - this.withoutTree(command, load);
    const encoded = command === "GET" ? null : this.encoding(load) - find;
    return [
      ["read: take a chunk, let go of it", this.reading(load), true],
      ["look ahead: hash the keys, load their memory", this.lookingAhead(load), true],
      ["parse", this.parsing(load), true],
      ["find the command", this.naming(load), true],
      ["find the entry", find, false],
      ["find it and read, add to or write it", data, true],
      ["reply", this.replying(command), true],
      ["send", this.sending(command), true],
      ["a part of that: the tree's mark", changed, false],
      ["beside it with a log: encode", encoded, false],
    ];
  }

  private reading({ chunks }: Load): number {
    const input = new InputBuffer();
    return perRequest(chunks, PIPELINE, (chunk) => {
      input.add(chunk);
      input.start = input.end;
      input.compact();
    });
  }

  private lookingAhead({ chunks }: Load): number {
    const { readAhead } = this.server.shared;
    return perRequest(chunks, PIPELINE, (chunk) => {
      for (let at = 0; at < chunk.length;) at = readAhead.look(chunk, at, chunk.length);
    });
  }

  private parsing({ chunks }: Load): number {
    const { parser } = this.server.shared;
    const parsed = new Request();
    return perRequest(chunks, PIPELINE, (chunk) => {
      for (let at = 0; at < chunk.length; at += parsed.readBytes) {
        parsed.reset();
        parsed.base = at;
        parser.parse(parsed, chunk, chunk.length);
      }
    });
  }

  private naming({ chunks }: Load): number {
    const length = chunks[0].length / PIPELINE;
    const nameLength = chunks[0][5] - 0x30;
    return perRequest(chunks, PIPELINE, (chunk) => {
      for (let at = 8; at < chunk.length; at += length) commandTable.row(chunk, at, nameLength);
    });
  }

  /** With the memory loaded, as it is when requests are run. */
  private find({ chunks, keyStarts }: Load): number {
    const { store } = this;
    return this.afterLooking(chunks, (chunk) => {
      for (let i = 0; i < PIPELINE; i++) store.find(chunk, keyStarts[i], KEY_BYTES);
    });
  }

  private withStore(command: Command, { chunks, keyStarts }: Load): number {
    const { store, entry, one } = this;
    const valueAt = keyStarts[0] + KEY_BYTES + "\r\n$22\r\n".length - keyStarts[0];
    return this.afterLooking(chunks, (chunk) => {
      store.beginRun();
      for (let i = 0; i < PIPELINE; i++) {
        const at = keyStarts[i];
        if (command === "SET") store.set(chunk, at, KEY_BYTES, chunk, at + valueAt, 22, 0);
        else if (command === "INCR") store.increment(chunk, at, KEY_BYTES, one);
        else store.readValueAlone(store.find(chunk, at, KEY_BYTES), entry);
      }
      store.endRun();
    });
  }

  /** What looking ahead takes is not counted: that is a step of its own. */
  private afterLooking(chunks: readonly Uint8Array[], step: (chunk: Uint8Array) => void): number {
    const { readAhead } = this.server.shared;
    const look = (chunk: Uint8Array): void => {
      for (let at = 0; at < chunk.length;) at = readAhead.look(chunk, at, chunk.length);
    };
    const both = perRequest(chunks, PIPELINE, (chunk) => {
      look(chunk);
      step(chunk);
    });
    return both - perRequest(chunks, PIPELINE, look);
  }

  private withoutTree(command: Command, load: Load): number {
    const { observers } = this.store;
    observers.splice(observers.indexOf(this.tree), 1);
    const ns = this.withStore(command, load);
    observers.push(this.tree);
    return ns;
  }

  private encoding({ chunks, keyStarts }: Load): number {
    const frames = new FrameQueue();
    const { store, entry } = this;
    return this.afterLooking(chunks, (chunk) => {
      for (let i = 0; i < PIPELINE; i++) {
        store.read(store.find(chunk, keyStarts[i], KEY_BYTES), entry);
        frames.begin().addEntry(entry);
        frames.end();
      }
      frames.recycle(frames.take()!);
    });
  }

  private replying(command: Command): number {
    const { reply } = this.server.shared;
    const value = Buffer.from(VALUE);
    const number = new Int64().set(0, 12);
    return perRequest(new Array<number>(REQUESTS / PIPELINE).fill(0), PIPELINE, () => {
      reply.reset();
      reply.dialect = RESP2;
      for (let i = 0; i < PIPELINE; i++) {
        if (command === "SET") reply.ok();
        else if (command === "GET") reply.value(value, 0, value.length);
        else reply.integer(number);
      }
    });
  }

  private sending(command: Command): number {
    const output = new SendQueue(new Sink());
    const { reply } = this.server.shared;
    const bytes = PIPELINE * { SET: 5, GET: 29, INCR: 5 }[command];
    return perRequest(new Array<number>(REQUESTS / PIPELINE).fill(0), PIPELINE, () => {
      output.send(reply.bytes, bytes);
    });
  }

  private throughConnection(command: Command, pipeline: number): number {
    const { chunks } = new Load(command, this.keys, pipeline);
    const connection = this.connect();
    // A connection keeps what it is given: a copy, as the runtime makes one.
    return perRequest(chunks, pipeline, (chunk) => connection.onData(new Uint8Array(chunk)));
  }

  /** What comes in one turn of the event loop, as the listener hands it on. */
  private throughMany(command: Command): number {
    const { chunks } = new Load(command, this.keys, 1);
    const sockets = Array.from({ length: CLIENTS }, () => {
      return { data: this.connect() } as unknown as Socket<SocketHandler>;
    });
    let endTurn = (): void => {};
    const soon = (task: () => void): (() => void) => {
      endTurn = task;
      return () => {};
    };
    const { readAhead, runQueue } = this.server.shared;
    const timing = { ...runQueue.timing, soon };
    const onError = (_: unknown, error: Error): never => {
      throw error;
    };
    const smallChunks = new SmallChunks({ readAhead, timing, onError });
    const turns = Array.from({ length: Math.floor(chunks.length / CLIENTS) }, (_, i) =>
      chunks.slice(i * CLIENTS, (i + 1) * CLIENTS),
    );
    return perRequest(turns, CLIENTS, (turn) => {
      for (let i = 0; i < CLIENTS; i++) smallChunks.add(sockets[i], new Uint8Array(turn[i]));
      endTurn();
    });
  }
}

/**
 * The lower quartile of rounds over all items, each of so many requests: other programs on the same
 * processor empty its caches, which only ever takes time.
 */
function perRequest<T>(items: readonly T[], requests: number, step: (item: T) => void): number {
  const rounds: number[] = [];
  for (let round = -WARM_ROUNDS; round < ROUNDS; round++) {
    const before = threadTimeNs();
    for (const item of items) step(item);
    if (round >= 0) rounds.push((threadTimeNs() - before) / (items.length * requests));
  }
  return percentile(rounds, 0.25);
}

function push(rows: Map<string, (number | null)[]>, name: string, ns: number): void {
  rows.set(name, [...(rows.get(name) ?? []), ns]);
}
