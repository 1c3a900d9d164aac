/**
 * A part of the spike `more-cores.ts`: the process under load, `server.ts WAY PORT KEYS`, which
 * answers each message with the processor time it has taken. A way is
 *
 *   whole         one thread, connections as the listener makes them
 *   bare          one thread that only reads, parses, asks the store and replies
 *   notify-N      N workers do all of that but asking the store, woken by Atomics.notify
 *   message-N     the same, woken by messages
 *   rings         no clients: how long it takes to empty a ring that is full; prints it and ends
 */
import type { Socket } from "bun";
import { ClientSession } from "../../../../src/commands/client-session.ts";
import { Entry } from "../../../../src/core/data/entry.ts";
import { PREFETCH_KEYS } from "../../../../src/core/store/keyed-entries.ts";
import { Reply, RESP2 } from "../../../../src/protocol/reply.ts";
import type { Request } from "../../../../src/protocol/request.ts";
import { Connection } from "../../../../src/server/connection.ts";
import { SmallChunks } from "../../../../src/server/small-chunks.ts";
import type { SocketHandler } from "../../../../src/server/socket-handler.ts";
import { InProcessServer } from "../../../support/in-process.ts";
import { seeded } from "../../../support/random.ts";
import { threadTimeNs } from "../../breakdown/thread-time.ts";
import { keyName } from "../../load.ts";
import { Client, parseChunk, type ReaderOptions } from "./reader.ts";
import { GET, MISSING, OK, OTHER, Ring, SET, VALUE, type Wake } from "./ring.ts";

/** Processor time so far, and how often the store's thread was woken. */
export interface Taken {
  readonly mainNs: number;
  readonly processNs: number;
  readonly wakes: number;
}

const [, , way, port, keys] = Bun.argv;
const server = new InProcessServer();
Object.defineProperty(server, "nowMs", { get: () => Date.now() });
const { store, shared } = server;
const entry = new Entry();
let wakes = 0;

function fill(): void {
  const value = Buffer.from("x".repeat(22));
  for (let i = 0; i < Number(keys); i++) {
    const key = Buffer.from(keyName(i));
    store.set(key, 0, key.length, value, 0, value.length, 0);
  }
}

/** One thread, with a handler for each socket. */
function listenAlone(handlerOf: (socket: Socket<SocketHandler>) => SocketHandler): void {
  const onError = (_: unknown, error: Error): never => {
    throw error;
  };
  const { readAhead, runQueue } = shared;
  const chunks = new SmallChunks({ readAhead, timing: runQueue.timing, onError });
  Bun.listen<SocketHandler>({
    hostname: "127.0.0.1",
    port: Number(port),
    socket: {
      open: (socket) => void (socket.data = handlerOf(socket)),
      data: (socket, chunk) => chunks.add(socket, chunk),
      drain: ({ data }) => data.onDrain(),
      close: ({ data }) => data.onClose(),
    },
  });
}

function wholeHandler(socket: Socket<SocketHandler>): SocketHandler {
  const user = shared.context.services.users.arrive("127.0.0.1:1", null);
  const session = new ClientSession(1, "127.0.0.1:1", Date.now(), RESP2, user);
  return new Connection(socket, session, shared);
}

const reply = new Reply();
reply.dialect = RESP2;

function bareHandler(socket: Socket<SocketHandler>): SocketHandler {
  const client = new Client(0, socket as unknown as Socket<Client>);
  const onData = (chunk: Uint8Array): void => {
    store.beginRun();
    for (let at = 0; at < chunk.length;) at = shared.readAhead.look(chunk, at, chunk.length);
    parseChunk(client, chunk, answer);
    store.endRun();
    client.output.send(reply.bytes, reply.length);
    reply.length = 0;
  };
  const bare = { onData, onDrain: () => client.output.flush(), onClose() {} };
  return bare as unknown as SocketHandler;
}

function answer(_client: Client, kind: number, asked: Request): void {
  const { bytes } = asked;
  if (kind === OTHER) return reply.respError("ERR only SET and GET");
  const keyAt = asked.start(0);
  if (kind === SET) {
    store.set(bytes, keyAt, asked.length(0), bytes, asked.start(1), asked.length(1), 0);
    return reply.ok();
  }
  const id = store.find(bytes, keyAt, asked.length(0));
  if (id < 0) return reply.missing();
  store.readValueAlone(id, entry);
  reply.value(entry.value, entry.valueOffset, entry.valueLength);
}

/** A run of records: the ring's fields of each, so that their keys can be loaded together. */
const inputs: Uint8Array[] = new Array<Uint8Array>(PREFETCH_KEYS);
const starts = new Int32Array(PREFETCH_KEYS);
const lengths = new Int32Array(PREFETCH_KEYS);
const values = new Int32Array(PREFETCH_KEYS);
const kinds = new Int32Array(PREFETCH_KEYS);
const senders = new Int32Array(PREFETCH_KEYS);

/** Answers what is in a ring. */
function drain(requests: Ring, replies: Ring): void {
  let count = 0;
  do {
    for (count = 0; count < PREFETCH_KEYS && requests.next(); count++) {
      inputs[count] = requests.bytes;
      starts[count] = requests.keyAt;
      lengths[count] = requests.keyLength;
      values[count] = requests.valueLength;
      kinds[count] = requests.kind;
      senders[count] = requests.connection;
    }
    store.beginRun();
    if (count > 1) store.prefetch(inputs, starts, lengths, count);
    for (let i = 0; i < count; i++) answerRecord(requests.bytes, i, replies);
    store.endRun();
    requests.free();
  } while (count === PREFETCH_KEYS);
}

function answerRecord(bytes: Uint8Array, i: number, replies: Ring): void {
  const start = starts[i];
  const length = lengths[i];
  const to = senders[i];
  if (kinds[i] === SET) {
    store.set(bytes, start, length, bytes, start + length, values[i], 0);
    return replies.put(to, OK, bytes, 0, 0, 0, 0);
  }
  if (kinds[i] !== GET) return replies.put(to, OTHER, bytes, 0, 0, 0, 0);
  const id = store.find(bytes, start, length);
  if (id < 0) return replies.put(to, MISSING, bytes, 0, 0, 0, 0);
  store.readValueAlone(id, entry);
  replies.put(to, VALUE, entry.value, 0, 0, entry.valueOffset, entry.valueLength);
}

function startReader(wake: Wake): void {
  const requests = new Ring();
  const replies = new Ring();
  const worker = new Worker(new URL("./reader.ts", import.meta.url).href);
  const onWake = (): void => {
    wakes++;
    do {
      drain(requests, replies);
      if (!replies.publish()) continue;
      if (wake === "notify") replies.notify();
      else worker.postMessage(0);
    } while (!requests.sleep());
  };
  requests.sleep();
  if (wake === "notify") requests.onNotify(onWake);
  else worker.onmessage = onWake;
  const memory = { requests: requests.memory, replies: replies.memory };
  worker.postMessage({ port: Number(port), wake, ...memory } satisfies ReaderOptions);
}

/** Nanoseconds a request, for SET and GET: 800 at a time, what 50 clients have under way at 16. */
function emptyRings(): number[] {
  const random = seeded(3);
  const requests = new Ring();
  const taker = new Ring(requests.memory);
  const replies = new Ring();
  const trash = new Ring(replies.memory);
  const rounds: number[][] = [[], []];
  for (let round = 0; round < 800; round++) {
    const kind = round % 2 === 0 ? SET : GET;
    for (let i = 0; i < 800; i++) {
      const key = Buffer.from(`${keyName(Math.floor(random() * Number(keys)))}${"x".repeat(22)}`);
      requests.put(i >> 4, kind, key, 0, 16, 16, kind === SET ? 22 : 0);
    }
    requests.publish();
    const before = threadTimeNs();
    drain(taker, replies);
    replies.publish();
    rounds[round % 2].push((threadTimeNs() - before) / 800);
    while (trash.next());
    trash.free();
  }
  return rounds.map((some) => some.slice(200).sort((a, b) => a - b)[100]);
}

fill();
if (way === "rings") console.log(emptyRings().join(" "));
else {
  if (way === "whole") listenAlone(wholeHandler);
  else if (way === "bare") listenAlone(bareHandler);
  else {
    const [wake, count] = way.split("-");
    for (let i = 0; i < Number(count); i++) startReader(wake as Wake);
  }
  process.on("message", () => {
    const { user, system } = process.cpuUsage();
    const processNs = (user + system) * 1_000;
    process.send!({ mainNs: threadTimeNs(), processNs, wakes } satisfies Taken);
  });
  process.on("disconnect", () => process.exit());
  setTimeout(() => process.send!("ready"), 500);
}
