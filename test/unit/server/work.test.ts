/**
 * What requests cost, told without a clock: no memory of the collector's for any, and no more work
 * than there was to do. The bounds are generous: what breaks them is a mistake, and not a busy
 * machine. How long requests take is what `bun run bench` tells.
 */
import { heapStats } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { MerkleTree } from "../../../src/core/tree/merkle.ts";
import { RecordDigester, treeKeyOf } from "../../../src/core/tree/record-digest.ts";
import { RESP2 } from "../../../src/protocol/reply.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

const KEYS = 1_000;
const PIPELINE = 100;
const REQUESTS = 50_000;
const ROUNDS = 20;
/** The smallest object has 16. */
const BYTES_A_REQUEST = 8;

const key = (i: number): string => `key:${i % KEYS}`;
const COMMANDS: readonly [name: string, requestOf: (i: number) => Buffer][] = [
  ["SET", (i) => respRequest("SET", key(i), "x".repeat(22))],
  ["SET of other lengths", (i) => respRequest("SET", key(i), "x".repeat(i % 61))],
  ["SET of a long value", (i) => respRequest("SET", key(i), "x".repeat(1_000))],
  ["GET", (i) => respRequest("GET", key(i))],
  ["INCR", (i) => respRequest("INCR", `counter:${i % KEYS}`)],
  ["MSET", (i) => respRequest("MSET", key(i), "one", key(i + 1), "two")],
  ["MGET", (i) => respRequest("MGET", key(i), key(i + 1))],
  ["EXPIRE", (i) => respRequest("EXPIRE", key(i), "100")],
  ["DEL", (i) => respRequest("DEL", key(i))],
];

/** Runs requests in chunks, as they come in a pipeline: those of all keys over and over. */
function prepared(requestOf: (i: number) => Buffer): { server: InProcessServer; run(): void } {
  const server = new InProcessServer();
  const tree = new MerkleTree(server.store, new RecordDigester(treeKeyOf("test")));
  server.store.observers.push(tree);
  const { connection } = server.connect(RESP2);
  // What a test might want to read would be kept.
  Object.assign(server.clients[0], { take: (bytes: Uint8Array) => bytes.length });
  for (let i = 0; i < KEYS; i++) server.clients[0].send(respRequest("SET", key(i), "a value"));
  const chunks: Uint8Array[] = [];
  for (let first = 0; first < KEYS; first += PIPELINE) {
    const some = Array.from({ length: PIPELINE }, (_, i) => requestOf(first + i));
    chunks.push(new Uint8Array(Buffer.concat(some)));
  }
  const run = (): void => {
    for (let done = 0; done < REQUESTS; done += KEYS) {
      for (const chunk of chunks) connection.onData(chunk);
    }
  };
  return { server, run };
}

describe("a request leaves nothing for the collector", () => {
  test.each(COMMANDS)("%s", (_, requestOf) => {
    const { run, server } = prepared(requestOf);
    // It does as soon as it is compiled well, which takes some rounds.
    let grown = Infinity;
    for (let round = 0; round < ROUNDS && grown >= REQUESTS * BYTES_A_REQUEST; round++) {
      Bun.gc(true);
      // Blocks for objects: taken as objects are made, and given back by a collection only.
      const before = heapStats().heapCapacity;
      run();
      grown = heapStats().heapCapacity - before;
    }
    expect(grown).toBeLessThan(REQUESTS * BYTES_A_REQUEST);
    expect(server.bugs).toEqual([]);
  });
});

test("a run of requests looks at the clock and at the kernel once, however long", () => {
  const { run, server } = prepared((i) => respRequest("SET", key(i), "x"));
  let looks = 0;
  let sent = 0;
  const nowMs = server.nowMs;
  Object.defineProperty(server, "nowMs", { get: () => (looks++, nowMs) });
  Object.assign(server.clients[0], { take: (bytes: Uint8Array) => (sent++, bytes.length) });
  run();
  const chunks = REQUESTS / PIPELINE;
  expect(sent).toBe(chunks);
  expect(looks).toBeLessThanOrEqual(4 * chunks);
});

test("what the tree has to hash is what changed, however often that did", () => {
  const { run, server } = prepared((i) => respRequest("SET", key(i), "x"));
  run();
  const tree = server.store.observers[0] as MerkleTree;
  expect(tree.waiting).toBe(KEYS);
});
