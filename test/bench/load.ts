/** The load: redis-benchmark as everybody has it, and a fast loader for exactly the keys it uses. */
import { LineClient } from "../support/line-client.ts";
import { seeded } from "../support/random.ts";
import { processorMs, type Server } from "./servers.ts";

/** How many keys there are. */
export const KEYS = 1_000_000;
/** Commands sent before their replies are awaited. */
const BATCH = 2_000;
const VALUE = "x".repeat(22);

/** A command that redis-benchmark knows, or is told. MSET and MGET have ten keys a request. */
export type Command = "SET" | "GET" | "INCR" | "MSET" | "MGET";

/** How redis-benchmark is to ask, where that is not as usual. */
export interface Shape {
  readonly connections?: number;
  /** Random keys are out of so many. */
  readonly keys?: number;
  readonly valueBytes?: number;
}

/** Where redis-benchmark is installed; null when it is not. */
export const benchmarkPath: string | null = Bun.which("redis-benchmark");

/** What one run of redis-benchmark came to. */
export interface Run {
  /** Requests answered per second. */
  readonly perSecond: number;
  /** Latency in ms that 99.9 % of the requests (with pipelining: of the batches) stayed within. */
  readonly p999Ms: number;
  /** Processor time that the server took for a request, the kernel's part included, in µs. */
  readonly processorUs: number;
}

/**
 * Runs redis-benchmark: 50 connections, random keys out of a million, 22-byte values, unless
 * `shape` says otherwise.
 */
export async function redisBenchmark(
  server: Server,
  command: Command,
  pipeline: number,
  requests: number,
  { connections = 50, keys = KEYS, valueBytes = VALUE.length }: Shape = {},
): Promise<Run> {
  if (benchmarkPath === null) throw new Error("redis-benchmark is not installed");
  const load = ["-c", `${connections}`, "-r", `${keys}`, "-d", `${valueBytes}`];
  const run = ["-P", `${pipeline}`, "-n", `${requests}`, "--precision", "3"];
  const many = Array.from({ length: 10 }, () => "key:__rand_int__");
  const what = command === "MGET" ? ["MGET", ...many] : ["-t", command.toLowerCase()];
  const before = processorMs(server.pid);
  const child = Bun.spawn([benchmarkPath, "-p", `${server.port}`, ...load, ...run, ...what], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const perSecond = /throughput summary: ([\d.]+) requests per second/.exec(output)?.[1];
  if ((await child.exited) !== 0 || perSecond === undefined) {
    throw new Error(
      `redis-benchmark against ${server.name} failed:\n${errors}${output.slice(-500)}`,
    );
  }
  const processorUs = ((processorMs(server.pid) - before) * 1_000) / requests;
  return { perSecond: Number(perSecond), p999Ms: p999Of(output), processorUs };
}

/** The finer one of its two distributions comes first; its step nearest to 99.9 % is 99.902 %. */
function p999Of(output: string): number {
  for (const [, percent, ms] of output.matchAll(/([\d.]+)% <= ([\d.]+) milliseconds/g)) {
    if (Number(percent) >= 99.9) return Number(ms);
  }
  return NaN;
}

/**
 * Writes each of the million keys of redis-benchmark once: `key:…` with SET, `counter:…` with INCR.
 */
export function fill(server: Server, command: "SET" | "INCR"): Promise<void> {
  return fillWith(server, KEYS, (number) =>
    command === "SET"
      ? request("SET", keyName(number), VALUE)
      : request("INCR", `counter:${padded(number)}`),
  );
}

/**
 * Writes so many keys, each by a request of its own, in a random order that is always the same.
 * Throws when the server does not hold as many keys more afterwards.
 */
export async function fillWith(
  server: Server,
  keys: number,
  requestOf: (number: number) => string,
): Promise<void> {
  const before = await keyCount(server);
  await sendEach(server, shuffledNumbers(keys), requestOf);
  const added = (await keyCount(server)) - before;
  if (added !== keys) throw new Error(`${server.name} holds ${added} keys more, not ${keys}`);
}

/** Sends a request for each number, many at a time, and waits for all answers. */
export async function sendEach(
  server: Server,
  numbers: ArrayLike<number>,
  requestOf: (number: number) => string,
): Promise<void> {
  const filler = new Filler();
  const socket = await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: filler });
  for (let first = 0; first < numbers.length; first += BATCH) {
    const count = Math.min(BATCH, numbers.length - first);
    let batch = "";
    for (let i = first; i < first + count; i++) batch += requestOf(numbers[i]);
    await filler.exchange(socket, Buffer.from(batch), count);
  }
  socket.end();
}

/** The name that redis-benchmark gives a key. */
export function keyName(number: number): string {
  return `key:${padded(number)}`;
}

function padded(number: number): string {
  return String(number).padStart(12, "0");
}

/** Sends requests that are answered with a line each, at once, and waits for all answers. */
export async function sendAll(server: Server, requests: readonly string[]): Promise<void> {
  const filler = new Filler();
  const socket = await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: filler });
  await filler.exchange(socket, Buffer.from(requests.join("")), requests.length);
  socket.end();
}

/** How many keys a server holds. */
export async function keyCount(server: Server): Promise<number> {
  return Number((await ask(server, "DBSIZE")).slice(1));
}

/** Asks one thing over a connection of its own; the first line of the RESP reply. */
export async function ask(server: Server, ...words: string[]): Promise<string> {
  const client = await LineClient.connect(server.port);
  try {
    client.sendRaw(request(...words));
    return await client.readLine();
  } finally {
    await client.close();
  }
}

/** One RESP request of ASCII words. */
export function request(...words: string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`;
}

/** Sends batches and counts the lines that come back; one that begins with `-` fails it. */
class Filler {
  private missing = 0;
  private unsent: Uint8Array = new Uint8Array(0);
  private exchanged = Promise.withResolvers<void>();

  exchange(socket: Bun.Socket, batch: Uint8Array, replies: number): Promise<void> {
    this.exchanged = Promise.withResolvers<void>();
    this.missing = replies;
    this.unsent = batch;
    this.drain(socket);
    return this.exchanged.promise;
  }

  readonly drain = (socket: Bun.Socket): void => {
    if (this.unsent.length === 0) return;
    const taken = socket.write(this.unsent);
    if (taken > 0) this.unsent = this.unsent.subarray(taken);
  };

  readonly data = (_socket: Bun.Socket, chunk: Uint8Array): void => {
    if (chunk.includes(0x2d)) this.exchanged.reject(new Error(`refused: ${chunk}`));
    for (const byte of chunk) if (byte === 0x0a) this.missing--;
    if (this.missing === 0) this.exchanged.resolve();
  };

  readonly close = (): void => this.exchanged.reject(new Error("the server hung up"));
}

function shuffledNumbers(count: number): Uint32Array {
  const random = seeded(1);
  const numbers = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const swap = numbers[i];
    numbers[i] = numbers[j];
    numbers[j] = swap;
  }
  return numbers;
}
