/**
 * Rights, judged by redis-server: the same rules are given to a user of both, and both are asked
 * whether that user may do the same things. The verdicts, the errors of wrong rules and the refusals
 * of commands are Redis' own, word for word.
 *
 * What differs on purpose is not here: what touches all there is needs rights on all keys
 * (FLUSHALL), and a password is not repeated in an error.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { redisPath, startRedis, type Server } from "../bench/servers.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const REDIS_MISSING = "redis-server is not installed (Debian: apt-get install redis-server)";
if (redisPath === null) console.warn(`skipped: ${REDIS_MISSING}`);

/** Commands that are in both, with arguments that keep their counts. */
const COMMANDS =
  "GET a;SET a v;SET a v GET;SET a v NX GET;SETNX a v;SETEX a 1 v;PSETEX a 1 v;GETSET a v;GETDEL a;" +
  "APPEND a v;STRLEN a;GETRANGE a 0 1;SUBSTR a 0 1;SETRANGE a 0 v;TYPE a;INCR a;DECR a;INCRBY a 1;" +
  "DECRBY a 1;MGET a b c;MSET a v b v;MSETNX a v b v;DEL a b;UNLINK a;EXISTS a b;RANDOMKEY;" +
  "RENAME a b;DBSIZE;SCAN 0;KEYS *;TTL a;PTTL a;EXPIRETIME a;PEXPIRETIME a;EXPIRE a 1;PEXPIRE a 1;" +
  "EXPIREAT a 1;PEXPIREAT a 1;PERSIST a;GETEX a;GETEX a EX 1;PING;ECHO x;SELECT 0;SELECT 1;AUTH x;" +
  "HELLO 3;CLIENT LIST;CLIENT ID;CLIENT INFO;CLIENT GETNAME;CLIENT SETNAME x;CLIENT KILL x;" +
  "CLIENT NO-EVICT on;INFO;TIME;CONFIG GET x;CONFIG RESETSTAT;SHUTDOWN;BGREWRITEAOF;COMMAND;" +
  "COMMAND COUNT;COMMAND LIST;COMMAND INFO;COMMAND GETKEYS GET a;ACL WHOAMI;ACL LIST;ACL USERS;" +
  "ACL CAT;ACL GETUSER x;ACL SETUSER x;ACL DELUSER x;ACL LOG;ACL GENPASS;ACL SAVE;ACL LOAD;ACL HELP";
const commands = COMMANDS.split(";").map((text) => text.split(" "));
const names = [...new Set(commands.map(([name]) => name.toLowerCase()))];
const CATEGORIES =
  "all keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub " +
  "admin fast slow blocking dangerous connection transaction scripting";

const keyWord = fc.constantFrom("a", "ab", "site:1:temp", "b*", "*", "x[y", "ä", "a?b", "~");
const pattern = fc.constantFrom(
  ..."a a* *b ? ?? [ab]* [^a]* site:*:temp a\\* \\* * x[[]y [a-c] [z-a]? [ * ä* \\ **a** a*b*c".split(
    " ",
  ),
);
const named = fc.constantFrom(
  ...names,
  ..."config|get config|resetstat client|list client|kill acl|whoami acl|list command|count".split(
    " ",
  ),
);
const rule = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom("+", "-"), named).map((it) => it.join("")) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom("+@", "-@"), fc.constantFrom(...CATEGORIES.split(" ")))
      .map((it) => it.join("")),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom("~", "~", "%R~", "%W~", "%RW~", "%r~"), pattern)
      .map((it) => it.join("")),
  },
  fc.constantFrom("allkeys", "resetkeys", "allcommands", "nocommands", "on", "off", "nopass"),
  fc.constantFrom("reset", "resetpass", "clearselectors", "+select|0", "+select|1", "+get|a"),
);
const selector = fc
  .array(
    rule.filter((it) => /^[-+~%]|^(all|no|reset)(keys|commands)$/.test(it)),
    { maxLength: 4 },
  )
  .map((rules) => `(${rules.join(" ")})`);
const rules = fc.array(fc.oneof({ weight: 6, arbitrary: rule }, selector), { maxLength: 8 });

const asked = fc
  .tuple(fc.constantFrom(...commands), fc.array(keyWord, { minLength: 3, maxLength: 3 }))
  .map(([words, keys]) => {
    let next = 0;
    // In the place of every key one by chance.
    return words.map((word, i) => (i > 0 && /^[abc]$/.test(word) ? keys[next++ % 3] : word));
  });

const WRONG = [
  ..."+foo +@foo -foo -@foo %X~a %~a %RR~a %RWR~a foo +config|foo +config| +config|get|x".split(
    " ",
  ),
  ..."-get|a #abc +get| +| - + @ % ~* (foo) (on) (+foo) ((+get)) ON NoPass +@ALL -@Read".split(" "),
  `#${"A".repeat(64)}`,
  `#${"a".repeat(63)}`,
  `!${"a".repeat(64)}`,
  "~a b",
  "(+get",
  "(~* ~b)",
  "",
  " ",
];

describe.skipIf(redisPath === null)("rights are Redis' own", () => {
  let node: NodeProcess;
  let redis: Server;
  let clients: LineClient[] = [];

  const send = (client: LineClient, words: readonly (string | Buffer)[]): Promise<string> => {
    client.sendRaw(respRequest(...words.map((word) => Buffer.from(word as string))));
    return reply(client);
  };

  const both = (words: readonly string[]): Promise<string[]> =>
    Promise.all(clients.map((client) => send(client, words)));

  beforeAll(async () => {
    redis = await startRedis();
    node = await startNodeProcess();
    const ports = [redis.port, node.port];
    clients = await Promise.all(ports.map((port) => LineClient.connect(port)));
  });

  afterAll(async () => {
    for (const client of clients) await client.close();
    await node.stop();
    await redis[Symbol.asyncDispose]();
  });

  test("random rules, random commands, the same verdict", async () => {
    await fc.assert(
      fc.asyncProperty(
        rules,
        fc.array(asked, { minLength: 1, maxLength: 12 }),
        async (given, those) => {
          await both(["ACL", "DELUSER", "u"]);
          const [theirs, ours] = await both(["ACL", "SETUSER", "u", ...given]);
          expect(ours).toBe(theirs);
          if (ours.startsWith("-")) return;
          for (const words of those) {
            const [redisSays, weSay] = await both(["ACL", "DRYRUN", "u", ...words]);
            expect(`${words.join(" ")}: ${weSay}`).toBe(`${words.join(" ")}: ${redisSays}`);
          }
          // What is written down is read back as the same.
          const line = await send(clients[1], ["ACL", "LIST"]);
          const own = /user u (.*)\r\n/.exec(line)![1];
          await send(clients[1], ["ACL", "DELUSER", "again"]);
          expect(await send(clients[1], ["ACL", "SETUSER", "again", ...wordsOf(own)])).toBe(
            "+OK\r\n",
          );
          for (const words of those) {
            const before = await send(clients[1], ["ACL", "DRYRUN", "u", ...words]);
            expect(await send(clients[1], ["ACL", "DRYRUN", "again", ...words])).toBe(before);
          }
        },
      ),
      { numRuns: Number(process.env["RIGHTS_RUNS"] ?? 150) },
    );
  });

  test("every command of both is in the same categories", async () => {
    const ownWords = new Set(["config", "client", "acl", "command", "memory"]);
    for (const name of names.filter((it) => !ownWords.has(it))) {
      for (const category of CATEGORIES.split(" ").slice(1)) {
        await both(["ACL", "SETUSER", "c", "reset", "allkeys", `+@${category}`]);
        const words = commands.find(([it]) => it.toLowerCase() === name)!;
        const [theirs, ours] = await both(["ACL", "DRYRUN", "c", ...words]);
        expect(`${name} @${category}: ${ours}`).toBe(`${name} @${category}: ${theirs}`);
      }
    }
  });

  test("what is wrong is said in the same words, and changes nothing", async () => {
    for (const wrong of WRONG) {
      await both(["ACL", "SETUSER", "w", "reset", "on", "+get", "~k"]);
      const [theirs, ours] = await both(["ACL", "SETUSER", "w", "+set", ...wrong.split("\n")]);
      expect(`${wrong}: ${ours}`).toBe(`${wrong}: ${theirs}`);
      const [theirSet, ourSet] = await both(["ACL", "DRYRUN", "w", "SET", "k", "v"]);
      expect(`${wrong}: ${ourSet}`).toBe(`${wrong}: ${theirSet}`);
    }
  });

  test.each([
    "ACL|FOO",
    "ACL|WHOAMI|x",
    "ACL|WHOAMI",
    "ACL|SETUSER",
    "ACL|SETUSER|a b|on",
    "ACL|DELUSER|default",
    "ACL|DELUSER",
    "ACL|GETUSER|nobody",
    "ACL|CAT|nonsense",
    "ACL|CAT",
    "ACL|GENPASS|0",
    "ACL|GENPASS|4097",
    "ACL|GENPASS|x",
    "ACL|LOG|x",
    "ACL|LOG|RESET",
    "ACL|LOG",
    "ACL|DRYRUN|nobody|GET|x",
    "ACL|DRYRUN|default|NOPE|x",
    "ACL|DRYRUN|default|GET",
    "ACL|DRYRUN|default|GET|a|b",
    "ACL|DRYRUN|default|GET|a",
    "ACL|DRYRUN|default",
    "AUTH|x",
    "AUTH|default|anything",
    "AUTH|a|b",
    "AUTH|a|b|c",
    "AUTH",
    "HELLO|2|AUTH|a|b",
    "COMMAND|GETKEYS|SET|a|b",
    "COMMAND|GETKEYS|MSET|a|b|c|d",
    "COMMAND|GETKEYS|NOPE|a",
    "COMMAND|GETKEYSANDFLAGS|GET|a",
    "COMMAND|GETKEYSANDFLAGS|SETEX|a|1|b",
    "COMMAND|LIST|FILTERBY|PATTERN|getra*",
  ])("%s", async (text) => {
    const [theirs, ours] = await both(text.split("|"));
    expect(ours).toBe(theirs);
  });

  test("clients that are denied something hear Redis' words", async () => {
    await both([
      "ACL",
      "SETUSER",
      "bob",
      "reset",
      "on",
      ">b",
      "+get",
      "+mget",
      "+acl|whoami",
      "~k*",
    ]);
    await both(["ACL", "SETUSER", "default", "resetpass", ">pw"]);
    const others = await Promise.all(
      [redis.port, node.port].map((port) => LineClient.connect(port)),
    );
    try {
      const lines =
        "GET x;HELLO;HELLO 3;PING;SET a b;AUTH bob x;AUTH x;AUTH bob b;GET x;GET k;SET k v;MGET k x;" +
        "CONFIG GET x;CLIENT LIST;ACL LOG;ACL WHOAMI;FLUSHALL;AUTH default pw;ACL WHOAMI;GET x";
      for (const line of lines.split(";")) {
        const words = line.split(" ");
        const [theirs, ours] = await Promise.all(others.map((client) => send(client, words)));
        expect(`${line}: ${ours}`).toBe(`${line}: ${theirs}`);
      }
    } finally {
      for (const client of others) await client.close();
      await both(["ACL", "SETUSER", "default", "nopass"]);
    }
  });
});

/** The words of a line that came as latin1, for another request. */
function wordsOf(line: string): Buffer[] {
  return line.split(" ").map((word) => Buffer.from(word, "latin1"));
}

/** One RESP reply as it came; of an array, all of it. */
async function reply(client: LineClient): Promise<string> {
  const line = await client.readRawLine();
  const count = Number(line.slice(1));
  if (line[0] === "$" && count >= 0) {
    return line + (await client.readBytes(count + 2)).toString("latin1");
  }
  let all = line;
  if (line[0] === "*") for (let i = 0; i < count; i++) all += await reply(client);
  return all;
}
