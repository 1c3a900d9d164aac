/** Requests that take long: what they answer, while others are served and write in between. */
import { expect, test } from "bun:test";
import { DEADLINE_MS, eventually } from "../../support/eventually.ts";
import type { Durability } from "../../../src/ports.ts";
import { MemoryJournal } from "../../../src/durability/journal.ts";
import { PLAIN, TAGGED } from "../../../src/protocol/reply.ts";
import {
  InProcessServer,
  respRequest,
  type InProcessClient,
  type ServerOptions,
} from "../../support/in-process.ts";

function serverWith(keys: number, options: ServerOptions = {}): InProcessServer {
  const server = new InProcessServer(options);
  for (let i = 0; i < keys; i++) set(server, `key:${i}`, String(i));
  return server;
}

function set(server: InProcessServer, key: string, value: string): number {
  const [k, v] = [Buffer.from(key), Buffer.from(value)];
  return server.store.set(k, 0, k.length, v, 0, v.length, 0);
}

function remove(server: InProcessServer, key: string): void {
  server.store.delete(Buffer.from(key), 0, key.length);
}

/** All that comes until `isWhole` says it is all there. */
async function replyOf(
  client: InProcessClient,
  isWhole: (text: string) => boolean,
): Promise<string> {
  let text = "";
  for (const deadline = Date.now() + DEADLINE_MS; Date.now() < deadline;) {
    text += client.read();
    if (isWhole(text)) return text;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`no whole reply; so far ${text.slice(0, 200)}`);
}

const isLine = (text: string): boolean => text.endsWith("\n");

/** A RESP array of bulk strings, as deep as SCAN's. */
function parse(text: string): unknown {
  let at = 0;
  const line = (): string => {
    const end = text.indexOf("\r\n", at);
    if (end < 0) throw new RangeError("not whole");
    const found = text.slice(at, end);
    at = end + 2;
    return found;
  };
  const one = (): unknown => {
    const head = line();
    if (head[0] === "*") return Array.from({ length: Number(head.slice(1)) }, one);
    if (head === "$-1") return null;
    if (head[0] !== "$") return head;
    const start = at;
    at += Number(head.slice(1)) + 2;
    if (at > text.length) throw new RangeError("not whole");
    return text.slice(start, at - 2);
  };
  return one();
}

async function ask(client: InProcessClient, ...words: string[]): Promise<unknown> {
  client.send(respRequest(...words));
  return parse(
    await replyOf(client, (text) => {
      try {
        parse(text);
        return true;
      } catch {
        return false;
      }
    }),
  );
}

async function scanAll(
  client: InProcessClient,
  between: () => void,
  ...options: string[]
): Promise<string[]> {
  const keys: string[] = [];
  let cursor = "0";
  do {
    const [next, found] = (await ask(client, "SCAN", cursor, ...options)) as [string, string[]];
    keys.push(...found);
    cursor = next;
    between();
  } while (cursor !== "0");
  return keys;
}

test("SCAN whose reply is full says where to go on, and no key is lost", async () => {
  const server = new InProcessServer({ maxOutputBytes: 1_024, maxValueBytes: 1_024 });
  const keys = Array.from({ length: 20 }, (_, i) => `${i}`.padStart(200, "k"));
  for (const key of keys) set(server, key, "");
  const client = server.connect();
  const found = await scanAll(client, () => {}, "COUNT", "100");
  expect(found.sort()).toEqual(keys.sort());
  const matching = await scanAll(client, () => {}, "COUNT", "100", "MATCH", "*k*");
  expect(matching.sort()).toEqual(keys);
});

test("SCAN says so when a key alone is larger than a reply may be", async () => {
  const server = new InProcessServer({ maxOutputBytes: 1_024 });
  set(server, "k".repeat(2_000), "");
  expect(await ask(server.connect(), "SCAN", "0")).toMatch(/^-ERR Value too large/);
});

test("SCAN returns every key that is there throughout, whatever is written meanwhile", async () => {
  const server = serverWith(20_000);
  const writer = server.connect();
  let round = 0;
  const write = (): void => {
    for (let i = 0; i < 50; i++) {
      writer.send(`SET new:${round}:${i} x\n`);
      writer.send(`DEL key:${((round * 50 + i) % 10_000) * 2}\n`);
    }
    round++;
  };
  const ticker = setInterval(write, 0);
  const found = new Set(await scanAll(server.connect(), write, "COUNT", "3000"));
  clearInterval(ticker);
  for (let i = 1; i < 20_000; i += 2) expect(found.has(`key:${i}`)).toBe(true);
});

test("KEYS lets others be served, and is sent in pieces to a client that reads slowly", async () => {
  const server = serverWith(100_000);
  const slow = server.connect();
  slow.capacity = 10_000;
  slow.send(respRequest("KEYS", "*"));
  expect(slow.read()).toBe("");
  const other = server.connect();
  expect(other.send("PING\n").read()).toBe("PONG\n");
  const element = (i: number): string => `$${`key:${i}`.length}\r\nkey:${i}\r\n`;
  const wholeBytes = Array.from({ length: 100_000 }, (_, i) => element(i)).join("").length + 9;
  let text = "";
  await eventually("all has come", () => {
    slow.drain(200_000);
    text += slow.read();
    return text.length >= wholeBytes;
  });
  expect(new Set(parse(text) as string[]).size).toBe(100_000);
  slow.capacity = Infinity;
  slow.send("PING\n");
  expect(await replyOf(slow, isLine)).toBe("PONG\n");
});

test("a list that is larger than a reply may be is an error, in KEYS and in lines", async () => {
  const server = serverWith(1_000, { maxOutputBytes: 4_096 });
  const client = server.connect();
  expect(await ask(client, "KEYS", "*")).toMatch(/^-ERR Value too large.*use SCAN/);
  for (const line of ["KEYS *", "SCAN", "SCAN key:"]) {
    client.send(`${line}\n`);
    expect(await replyOf(client, isLine)).toMatch(/^ERROR: Value too large.*use SCAN/);
  }
  client.send("SCAN key: COUNT 3\n");
  expect(await replyOf(client, (text) => text.split("\n").length === 5)).toBe(
    "KEYS 3\nkey:0\nkey:1\nkey:10\n",
  );
});

test("KEYS in lines is in the order of keys only for SCAN; a prefix ends the walk", async () => {
  const server = serverWith(12_000);
  set(server, "later", "");
  const client = server.connect();
  client.send("SCAN key:\n");
  const text = await replyOf(client, (text) => text.split("\n").length === 12_002);
  const keys = text.split("\n").slice(1, -1);
  expect(keys).toEqual([...keys].sort());
});

test("a pattern longer than any key is refused", async () => {
  const client = new InProcessServer().connect();
  expect(await ask(client, "KEYS", "a".repeat(140_000))).toMatch(/^-ERR Value too large/);
  expect(await ask(client, "SCAN", "0", "MATCH", "a".repeat(140_000))).toMatch(
    /^-ERR Value too large/,
  );
});

test("a pattern that takes long on one key is interrupted on it", async () => {
  const server = new InProcessServer();
  const key = "a".repeat(60_000);
  set(server, key, "");
  const client = server.connect();
  client.send(respRequest("KEYS", `*${"a?".repeat(3_000)}b*`));
  expect(server.connect().send("PING\n").read()).toBe("PONG\n");
  remove(server, key);
  expect(parse(await replyOf(client, isLine))).toEqual([]);
  set(server, key, "");
  expect(await ask(client, "KEYS", `*${"a?".repeat(3_000)}a`)).toEqual([key]);
});

test("EXISTS, MGET, MSET and DEL of very many keys do all of them, a few at a time", async () => {
  const server = new InProcessServer();
  const other = server.connect();
  const keys = Array.from({ length: 30_000 }, (_, i) => `key:${i}`);
  const client = server.connect();
  client.send(respRequest("MSET", ...keys.flatMap((key) => [key, `v${key}`])));
  expect(client.read()).toBe("");
  expect(other.send("PING\n").read()).toBe("PONG\n");
  expect(await replyOf(client, isLine)).toBe("+OK\r\n");
  expect(await ask(client, "EXISTS", ...keys, "nokey")).toBe(":30000");
  expect(await ask(client, "MGET", ...keys)).toEqual(keys.map((key) => `v${key}`));
  expect(await ask(client, "DEL", ...keys, ...keys)).toBe(":30000");
  expect(server.store.size).toBe(0);
});

test("MGET in lines, plain and tagged, is the same however long it is", async () => {
  const server = serverWith(500);
  const keys = Array.from({ length: 1_000 }, (_, i) => `key:${i}`);
  const plain = server.connect(PLAIN).send(`MGET ${keys.join(" ")}\n`);
  const values = keys.map((_, i) => (i < 500 ? `${i}` : "(null)"));
  expect(await replyOf(plain, (text) => text.split("\n").length === 1_001)).toBe(
    values.map((value) => `${value}\n`).join(""),
  );
  const tagged = server.connect(TAGGED).send(`MGET ${keys.join(" ")}\n`);
  const lines = keys.map((key, i) => `${key} ${i < 500 ? i : "NOT_FOUND"}\r\n`);
  expect(await replyOf(tagged, (text) => text.split("\n").length === 1_002)).toBe(
    `VALUES 500\r\n${lines.join("")}`,
  );
  tagged.send(`MGET ${keys.slice(500).join(" ")}\n`);
  expect(await replyOf(tagged, isLine)).toBe("NOT_FOUND\r\n");
});

test("MGET of large values is gathered in pieces, and an error when it is too large", async () => {
  const server = new InProcessServer({ maxOutputBytes: 1_048_576 });
  for (const key of ["a", "b", "c"]) set(server, key, key.repeat(300_000));
  const client = server.connect();
  expect(await ask(client, "MGET", "a", "x", "b")).toHaveLength(3);
  expect(await ask(client, "MGET", "a", "b", "c", "a")).toMatch(/^-ERR Value too large/);
  expect(client.send("PING\n").read()).toBe("PONG\n");
});

test("a key that is none refuses the whole of a long request", async () => {
  const server = serverWith(10);
  const client = server.connect();
  const keys = Array.from({ length: 5_000 }, (_, i) => `key:${i}`);
  expect(await ask(client, "DEL", ...keys, "")).toMatch(/^-ERR Invalid key/);
  expect(await ask(client, "MSET", ...keys.flatMap((key) => [key, "x"]), "", "x")).toMatch(
    /^-ERR Invalid key/,
  );
  expect(server.store.size).toBe(10);
});

test("a disk that fails in the middle of a long request ends it, and the error says how far it came", async () => {
  const durability = new MemoryJournal();
  const failing = durability as unknown as { failure: Durability["failure"] };
  const server = new InProcessServer({ services: { durability } });
  const client = server.connect();
  const keys = Array.from({ length: 30_000 }, (_, i) => `key:${i}`);
  for (const [words, done] of [
    [["MSET", ...keys.flatMap((key) => [key, "v"])], "of 30000 keys were written"],
    [["DEL", ...keys], "keys were deleted before"],
  ] as const) {
    client.send(respRequest(...words));
    const { size } = server.store;
    while (server.store.size === size) await new Promise((resolve) => setImmediate(resolve));
    failing.failure = { kind: "write", message: "the disk is broken" };
    const reply = await replyOf(client, isLine);
    expect(reply).toStartWith("-READONLY the disk is broken; ");
    expect(reply).toContain(done);
    failing.failure = null;
    for (const key of keys) set(server, key, "v");
  }
});

test("MSETNX writes all or nothing: of too many keys nothing, and nothing when memory is full", async () => {
  const server = new InProcessServer({ memoryLimitBytes: 3_000_000 });
  const client = server.connect();
  const many = Array.from({ length: 1_001 }, (_, i) => [`key:${i}`, "v"]).flat();
  expect(await ask(client, "MSETNX", ...many)).toMatch(/^-ERR Too many arguments.*1000 keys/);
  const large = Array.from({ length: 7 }, (_, i) => [`key:${i}`, "v".repeat(1_000_000)]).flat();
  expect(await ask(client, "MSETNX", ...large)).toMatch(/^-OOM/);
  expect(server.store.size).toBe(0);
  expect(await ask(client, "MSETNX", ...many.slice(0, 2_000))).toBe(":1");
  expect(await ask(client, "MSETNX", "new", "v", "key:5", "v")).toBe(":0");
  expect(server.store.size).toBe(1_000);
});

test("RANDOMKEY finds any of the few keys that a mass deletion left", async () => {
  const server = serverWith(50_000);
  for (let i = 0; i < 50_000; i++) if (i % 5_000 !== 7) remove(server, `key:${i}`);
  const client = server.connect();
  const found = new Set<unknown>();
  for (let i = 0; i < 600; i++) found.add(await ask(client, "RANDOMKEY"));
  expect(found.size).toBe(10);
});

test("RANDOMKEY finds the one key among those that have expired", async () => {
  const server = new InProcessServer();
  for (let i = 0; i < 20_000; i++) {
    const key = Buffer.from(`key:${i}`);
    server.store.set(key, 0, key.length, key, 0, 0, i === 7 ? 0 : server.nowMs + 1_000);
  }
  server.nowMs += 2_000;
  expect(await ask(server.connect(), "RANDOMKEY")).toBe("key:7");
  remove(server, "key:7");
  expect(await ask(server.connect(), "RANDOMKEY")).toBe(null);
});

test("CONFIG GET of very many patterns, COMMAND INFO of very many names, and CLIENT LIST of many", async () => {
  const server = new InProcessServer();
  const client = server.connect();
  expect(await ask(client, "CONFIG", "GET", ...Array(50_000).fill("s?v*"))).toEqual(["save", ""]);
  const info = (await ask(client, "COMMAND", "INFO", ...Array(5_000).fill("get"))) as unknown[];
  expect(info).toHaveLength(5_000);
  for (let i = 0; i < 3_000; i++) server.connect();
  const list = (await ask(client, "CLIENT", "LIST")) as string;
  expect(list.split("\n")).toHaveLength(3_002);
});

test("what is left of a long list is not made for a client that has gone", async () => {
  const server = serverWith(50_000);
  let left = 0;
  const { isLive } = server.store;
  server.store.isLive = (id) => (left++, isLive.call(server.store, id));
  const client = server.connect();
  client.send(respRequest("KEYS", "*"));
  client.connection.cut();
  for (let i = 0; i < 500; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(left).toBeLessThan(50_000);
  expect(server.bugs).toEqual([]);
});

test("a request of very many parts is read a few thousand at a time, refused ones too", async () => {
  const server = serverWith(1, { maxValueBytes: 300_000 });
  const client = server.connect();
  const words = Array<string>(30_000).fill("nokey");
  client.send(respRequest("EXISTS", "key:0", ...words.slice(0, 20_000)));
  expect(client.read()).toBe("");
  expect(server.connect().send("PING\n").read()).toBe("PONG\n");
  expect(await replyOf(client, isLine)).toBe(":1\r\n");
  // More than a request may hold in all.
  const refused = respRequest("EXISTS", "x".repeat(300_001), ...words);
  client.send(Buffer.concat([refused, respRequest("PING")]));
  expect(await replyOf(client, (text) => text.endsWith("+PONG\r\n"))).toMatch(
    /^-ERR Value too large[^\n]*\n\+PONG/,
  );
});
