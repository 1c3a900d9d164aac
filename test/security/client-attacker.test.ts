/**
 * The attacker is a client with few rights. It says every command there is, in every dialect, whole,
 * in pieces and many at once, to two nodes that differ only in what it may not know of: keys beyond
 * its patterns, which one of the nodes has. If it hears the same from both, whatever it says, then it
 * has learnt nothing; and what it may not change is as it was.
 */
import { describe, expect, test } from "bun:test";
import type { UserDirectory } from "../../src/access/directory.ts";
import { commandTable } from "../../src/commands/table.ts";
import type { Command } from "../../src/commands/command.ts";
import { Entry } from "../../src/core/data/entry.ts";
import { InProcessServer, respRequest, type InProcessClient } from "../support/in-process.ts";
import { eventually } from "../support/eventually.ts";
import { seeded } from "../support/random.ts";
import { testRights, usersOf } from "../support/users.ts";

/** What only one of the nodes has. The attacker knows the name of the first, and not of the others. */
const KNOWN = "theirs:known";
const HIDDEN = ["theirs:hidden-d41d8", "hidden-98f00b", "minehidden-204e9"];
const SECRET = "value-800998ecf8427e";
const OWN = ["mine:1", "mine:2", "mine:3"];

/** Attackers, and what each may do. */
const ATTACKERS = {
  "that may only read": "user spy on nopass ~mine:* +@read",
  "that may do everything but administer, on its own keys":
    "user spy on nopass ~mine:* +@all -@admin",
  "that may only write": "user spy on nopass %W~mine:* +@all -@admin",
  "that may read its keys and say everything": "user spy on nopass %R~mine:* +@all -@admin",
  "with two selectors":
    "user spy on nopass +@all -@admin (~mine:1 +@all -@admin) (%R~mine:* +@read)",
  "that may say everything, on no keys": "user spy on nopass +@all -@admin",
  "that has not logged in": null,
};

/** To those who may only write, what their keys hold is not told either. */
const valueOf = (rule: string | null, isOther: boolean): string =>
  isOther && rule !== null && rule.includes("%W~") ? "99" : "17";

/** How much there is of everything together is no secret: who may ask for it, is told. */
const TOTALS = new Set(["DBSIZE", "INFO", "STATS", "MEMORY"]);
/** Which of its own keys it gets is left to chance. */
const BY_CHANCE = new Set(["RANDOMKEY"]);
/** A login takes its time, and ends a connection's rights: they are tested elsewhere. */
const LOGINS = new Set(["AUTH", "HELLO"]);
const ENDING = new Set(["QUIT", "EXIT", "SELECT"]);

type Framing = "plain" | "tagged" | "resp2" | "resp3";
const FRAMINGS: readonly Framing[] = ["plain", "tagged", "resp2", "resp3"];

function serverWith(rule: string | null, hasSecrets: boolean): InProcessServer {
  const lines = rule === null ? ["user default off"] : [rule, "user default off"];
  const users = usersOf(lines);
  const server = new InProcessServer({ services: testRights(users) });
  stock(server, rule, hasSecrets);
  if (!hasSecrets) return server;
  for (const key of [KNOWN, ...HIDDEN]) put(server, key, SECRET, server.nowMs + 1e9);
  return server;
}

function put({ store }: InProcessServer, key: string, value: string, expiresAtMs = 0): void {
  const [k, v] = [Buffer.from(key), Buffer.from(value)];
  store.set(k, 0, k.length, v, 0, v.length, expiresAtMs);
}

/** The attacker's own keys, as they are before each request. */
function stock(server: InProcessServer, rule: string | null, hasSecrets: boolean): void {
  for (const key of OWN) put(server, key, valueOf(rule, !hasSecrets));
}

function connect(server: InProcessServer, framing: Framing): InProcessClient {
  const client = server.connect();
  const users: UserDirectory = server.shared.context.services.users;
  client.session.user = users.find("spy") ?? users.nobody;
  if (framing === "tagged") client.send("DIALECT tagged\n");
  if (framing === "resp3") client.send(respRequest("HELLO", "3"));
  client.read();
  return client;
}

/** Words that an attacker would try in the place of any argument. */
const WORDS = [KNOWN, "theirs:*", "*", "mine:1", "mine:2", "mine", "theirs", "0", "1", "-1", "100"];
const OPTIONS =
  "GET NX XX GT LT EX PX KEEPTTL PERSIST MATCH COUNT AFTER TYPE string LIST INFO STATUS READ DROP ROUND VIA".split(
    " ",
  );

function* requestsOf(command: Command, name: string, random: () => number): Generator<string[]> {
  const pick = (from: readonly string[]): string => from[Math.floor(random() * from.length)];
  const parts = Object.keys(command.subcommands ?? {});
  for (let i = 0; i < 25; i++) {
    const most = command.respMost ?? command.most;
    const room = most < 0 ? 4 : most - command.least;
    const count = command.least + Math.floor(random() * (Math.min(room, 4) + 1));
    const words = Array.from({ length: count }, () => pick(random() < 0.8 ? WORDS : OPTIONS));
    if (parts.length > 0 && words.length > 0 && random() < 0.9) words[0] = pick(parts);
    yield [name, ...words];
  }
  for (const key of ["mine:1", KNOWN]) {
    if (name === "SET") yield [name, key, "x", "GET"];
    if (name === "RENAME")
      yield* [
        [name, key, "mine:3"],
        [name, "mine:3", key],
      ];
  }
  // More keys than are looked at in one go, the forbidden one among them.
  const many = Array.from({ length: 200 }, (_, i) => (i === 150 ? KNOWN : "mine:1"));
  if (command.keys?.[1] === -1) yield [name, ...many];
}

const MARK = "no-such-command-42";

/** All that comes for what is sent, in chunks of so many bytes. */
async function hear(client: InProcessClient, sent: Buffer, chunkBytes: number): Promise<string> {
  const mark = Buffer.from(`*1\r\n$${MARK.length}\r\n${MARK}\r\n`);
  const all = Buffer.concat([sent, mark]);
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < all.length; at += chunkBytes)
    chunks.push(all.subarray(at, at + chunkBytes));
  await client.deliver(chunks);
  let heard = client.read();
  await eventually(
    "the last reply",
    () => (heard += client.read()).includes(MARK) || client.isShutDown,
  );
  return heard;
}

function encode(words: readonly string[], framing: Framing): Buffer {
  return framing.startsWith("resp") ? respRequest(...words) : Buffer.from(`${words.join(" ")}\n`);
}

/** What the node has beyond the attacker's patterns. */
function secretsOf(server: InProcessServer): unknown {
  const entry = new Entry();
  return [KNOWN, ...HIDDEN].map((key) => {
    const bytes = Buffer.from(key);
    const id = server.store.find(bytes, 0, bytes.length);
    if (id < 0) return null;
    server.store.readValue(id, entry);
    return [Buffer.from(entry.valueBytes()).toString(), entry.expiresAtMs];
  });
}

describe.each(Object.entries(ATTACKERS))("an attacker %s", (_, rule) => {
  test.each(FRAMINGS)("learns and changes nothing in %s", async (framing) => {
    const [full, empty] = [serverWith(rule, true), serverWith(rule, false)];
    const before = secretsOf(full);
    const random = seeded(7);
    const said: Buffer[] = [];
    for (const command of commandTable.commands) {
      for (const name of command.names) {
        if (LOGINS.has(name) || ENDING.has(name)) continue;
        for (const words of requestsOf(command, name, random)) {
          const sent = encode(words, framing);
          const chunkBytes = random() < 0.1 ? 1 : sent.length + 64;
          stock(full, rule, true);
          stock(empty, rule, false);
          const [theirs, others] = [connect(full, framing), connect(empty, framing)];
          const heard = await hear(theirs, sent, chunkBytes);
          const elsewhere = await hear(others, sent, chunkBytes);
          const what = words.join(" ").slice(0, 80);
          if (!TOTALS.has(name) && !BY_CHANCE.has(name)) {
            expect(`${what} → ${heard}`).toBe(`${what} → ${elsewhere}`);
          }
          expect([what, [...HIDDEN, SECRET].filter((it) => heard.includes(it))]).toEqual([
            what,
            [],
          ]);
          for (const client of [theirs, others]) client.connection.cut();
          said.push(sent);
        }
      }
    }
    expect(secretsOf(full)).toEqual(before);
    expect(secretsOf(empty)).toEqual([null, null, null, null]);
    // All of it once more, in one breath.
    const heard = await hear(connect(full, framing), Buffer.concat(said), 4_096);
    expect([...HIDDEN, SECRET].filter((it) => heard.includes(it))).toEqual([]);
    expect(secretsOf(full)).toEqual(before);
    expect(full.bugs).toEqual([]);
    const users = full.shared.context.services.users;
    expect(users.list().map(({ name, definition }) => `${name} ${definition.describe()}`)).toEqual(
      usersOf(rule === null ? ["user default off"] : [rule, "user default off"])
        .list()
        .map(({ name, definition }) => `${name} ${definition.describe()}`),
    );
  });
});

test("somebody who has not logged in is listened to no longer than a login takes", async () => {
  const server = serverWith(null, true);
  const many = server.connect().send(`*11\r\n$4\r\nAUTH\r\n`);
  expect(many.read()).toBe("-ERR Protocol error: unauthenticated multibulk length\r\n");
  const long = server.connect().send(`*2\r\n$4\r\nAUTH\r\n$16385\r\n`);
  expect(long.read()).toBe("-ERR Protocol error: unauthenticated bulk length\r\n");
  const line = server.connect().send(`AUTH ${"x".repeat(17_000)}`);
  expect(line.read()).toBe(
    "ERROR: Line too long - before a login a line has at most 16384 bytes\n",
  );
  expect(line.connection.chargedBytes).toBeLessThan(20_000);
});

test("every command has its categories, and says what it does to keys or to all there is", () => {
  const wrong: string[] = [];
  for (const { names, categories, keys, access, isWrite, wholeAccess } of commandTable.commands) {
    const words = categories.split(" ");
    if (words.includes("fast") === words.includes("slow")) wrong.push(`${names[0]}: fast or slow`);
    if ((keys === undefined) !== (access === undefined)) wrong.push(`${names[0]}: keys and access`);
    if (isWrite !== words.includes("write")) wrong.push(`${names[0]}: write`);
    if (isWrite && keys === undefined && wholeAccess === undefined)
      wrong.push(`${names[0]}: whole`);
    if (words.includes("admin") && !words.includes("dangerous")) wrong.push(`${names[0]}: admin`);
  }
  expect(wrong).toEqual([]);
});
