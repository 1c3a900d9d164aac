/**
 * Odd arguments, to this project and to redis-server side by side: numbers at the edges of 64 bits,
 * empty words, options that are wrong, doubled or do not go together. The replies are the same, byte
 * for byte. What differs on purpose is not here: empty keys, expiries beyond the year 10889, other
 * databases, the order of SCAN, and the wording of unknown commands.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { redisPath, startRedis, type Server } from "../bench/servers.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";

const REDIS_MISSING = "redis-server is not installed (Debian: apt-get install redis-server)";
if (redisPath === null) console.warn(`skipped: ${REDIS_MISSING}`);

const HIGHEST = "9223372036854775807";
const LOWEST = "-9223372036854775808";
const NUMBERS = `0 1 -1 01 +1 1.5 abc 1e3 -0 -3 ${HIGHEST} ${LOWEST} 9223372036854775808`
  .split(" ")
  .concat("", " 1", "1 ", "18446744073709551616", "99999999999999999999999");

/** What is there before each request. */
const DATA = [
  ["FLUSHALL"],
  ["MSET", "s", "Hello World", "n", "10", "max", HIGHEST, "min", LOWEST, "e", ""],
  ["SET", "t", "v", "EX", "1000"],
];

const REQUESTS: Record<string, () => string[][]> = {
  "numbers that are added": () =>
    over(["INCRBY", "DECRBY"], ["n", "max", "min", "s", "e", "new"], NUMBERS).filter(
      // Redis has other words for this one.
      ([name, , by]) => name !== "DECRBY" || by !== LOWEST,
    ),
  offsets: () => [
    ...over(["GETRANGE"], ["s", "e", "new"], NUMBERS, ["-1", "5"]),
    ...over(["GETRANGE"], ["s", "e", "new"], ["0", "-3", "5", "-100"], [...NUMBERS, "-100"]),
    ...over(["SETRANGE"], ["s", "new"], NUMBERS, [""]),
    ...over(
      ["SETRANGE"],
      ["s", "new"],
      NUMBERS.filter((it) => it !== HIGHEST),
      ["x"],
    ),
  ],
  expiries: () => [
    ...over(["EXPIRE", "EXPIREAT"], ["s", "t", "new"], NUMBERS),
    // One millisecond is over for one of the two before it is looked at.
    ...over(
      ["PEXPIRE"],
      ["s", "t", "new"],
      NUMBERS.filter((it) => it !== "1"),
    ),
    ...over(
      ["PEXPIREAT"],
      ["s", "t", "new"],
      NUMBERS.filter((it) => it !== HIGHEST),
    ),
    ...over(["EXPIRE"], ["s", "t", "new"], ["100"], ["NX", "XX", "GT", "LT", "FOO", ""]),
    ...over(
      ["EXPIRE"],
      ["s", "t"],
      ["100", "x"],
      ["NX", "XX", "GT", "LT"],
      ["NX", "XX", "GT", "LT", "x"],
    ),
    ...over(["SETEX"], ["s"], NUMBERS, ["v"]),
    ...over(["GETEX"], ["s", "new"], ["EX", "EXAT"], NUMBERS),
    ...over(["GETEX"], ["s", "t", "new"], ["PERSIST", "NX", "EX", ""]),
    ...over(["GETEX"], ["s"], ["PERSIST", "EX", "NX"], ["10", "x", "EX"], ["EX", "PERSIST"]),
  ],
  "options of SET": () => {
    const options = ["NX", "XX", "GET", "KEEPTTL", "EX", "PX", "10000", "FOO", ""];
    return [
      ...over(["SET"], ["s", "new"], ["v"], options),
      ...over(["SET"], ["s", "new"], ["v"], options, options),
      ...over(["SET"], ["t"], ["v"], options, options, ["NX", "10000", "GET", "EX"]),
      ...over(["SET"], ["s"], ["v"], ["EX", "EXAT"], NUMBERS),
    ];
  },
  patterns: () =>
    over(["KEYS"], "|[|[a|[a-|[^|\\|[s-]|*\\|[]|[]]|[a-\\]|nosuch*|[^a-z]|[]-a]".split("|")),
  "wrong numbers of arguments": () => {
    const names =
      `GET SET DEL MGET MSET MSETNX INCR INCRBY DECR APPEND STRLEN GETRANGE SETRANGE TYPE
      KEYS SCAN RENAME TTL PTTL EXPIRETIME PERSIST GETSET GETDEL GETEX SETNX SETEX EXISTS UNLINK
      PING ECHO`.split(/\s+/);
    const words = [[], ["a", "b", "c", "d", "e", "f"]];
    return names.flatMap((name) => words.map((rest) => [name, ...rest]));
  },
  "what SCAN takes": () => [
    ...over(["SCAN"], ["0"], ["COUNT"], ["0", "-1", "x", "", LOWEST, "1.5"]),
    ...over(["SCAN"], ["0"], ["MATCH", "COUNT", "TYPE", "FOO"]),
    ...over(["SCAN"], ["0"], ["TYPE"], ["list", "hash", "nosuch"]),
    ["SCAN", "abc"],
    ["SCAN", "0", "FOO", "1"],
  ],
  "keys named twice": () => [
    ["DEL", "s", "s", "new"],
    ["EXISTS", "s", "s", "new"],
    ["UNLINK", "s", "s"],
    ["MGET", "s", "s", "new"],
    ["MSET", "a", "1", "a", "2"],
    ["MSETNX", "a", "1", "a", "2"],
    ["MSETNX", "a", "1", "s", "2"],
    ["MSETNX", "a", "1", "b"],
    ["MSET", "a", "1", "b"],
    ["RENAME", "s", "s"],
    ["RENAME", "new", "new"],
    ["RENAME", "t", "s"],
  ],
  connections: () => [
    ["CLIENT", "SETNAME", "a b"],
    ["CLIENT", "SETNAME", "a\nb"],
    ["CLIENT", "SETNAME", ""],
    ["CLIENT", "KILL", "1.2.3.4:5"],
    ["CLIENT", "KILL", "ID", "0"],
    ["CLIENT", "KILL", "ID", "-1"],
    ["CLIENT", "KILL", "FOO", "1"],
    ["CLIENT", "NO-EVICT", "on"],
    ["CLIENT", "NO-EVICT", "foo"],
    ["CLIENT", "REPLY"],
    ["CLIENT", "REPLY", "foo"],
    ["CLIENT", "REPLY", "ON", "x"],
    ["AUTH", "x"],
    ["AUTH", "default", "x"],
    ["AUTH", "u", "x"],
    ["HELLO", "4"],
    ["HELLO", "x"],
    ["HELLO", "2", "FOO"],
    ["HELLO", "2", "SETNAME"],
    ["HELLO", "2", "AUTH", "u", "x"],
    ["FLUSHDB", "FOO"],
    ["CONFIG", "GET", "nosuch"],
    ["COMMAND", "INFO", "nosuch"],
    ["SHUTDOWN", "FOO"],
    ["PING", ""],
    ["ECHO", ""],
  ],
  "what SLOWLOG takes": () => [
    ["SLOWLOG", "len", "1"],
    ["SLOWLOG", "RESET"],
    ["SLOWLOG", "HELP"],
    ["SLOWLOG", "FOO"],
    ["SLOWLOG"],
    ...over(["SLOWLOG"], ["GET"], ["0", "-2", "x", "", "99999999999999999999999"]),
    ["SLOWLOG", "GET", "1", "2"],
    ["MONITOR", "x"],
  ],
};

/** Every combination of one of each, in order. */
function over(...choices: string[][]): string[][] {
  return choices.reduce<string[][]>(
    (all, some) => all.flatMap((words) => some.map((word) => [...words, word])),
    [[]],
  );
}

/** The same whatever the order of KEYS, and if a time to live ticks between two replies. */
function steady(reply: string): string {
  const text = reply.replace(/^:(99|999|9|100|1000|10)$/gm, ":ticking");
  return text.startsWith("*") ? text.split("\n").sort().join("\n") : text;
}

const MARK = "-- end of the replies --";

/** The reply to a request over the data, and what the key is then. */
async function replyTo(client: LineClient, request: string[]): Promise<string> {
  const key = request[1] ?? "s";
  const then = [
    ["EXISTS", key],
    ["TTL", key],
    ["GET", key],
  ].filter(() => key !== "");
  const mark = ["ECHO", MARK];
  const all = [...DATA, mark, request, ...then, mark];
  client.sendRaw(Buffer.concat(all.map((words) => respRequest(...words))));
  for (let line = ""; line !== MARK;) line = await client.readLine();
  const lines: string[] = [];
  for (let line = ""; line !== MARK;) lines.push((line = await client.readLine()));
  return lines.join("\n");
}

describe.skipIf(redisPath === null)("the same reply as Redis'", () => {
  let redis: Server;
  let node: NodeProcess;
  let clients: LineClient[];
  beforeAll(async () => {
    redis = await startRedis();
    node = await startNodeProcess();
    clients = [await LineClient.connect(redis.port), await LineClient.connect(node.port)];
  });
  afterAll(async () => {
    for (const client of clients) await client.close();
    await node.stop();
    await redis[Symbol.asyncDispose]();
  });

  /** Both replies, where they are not the same. */
  async function differenceOf(request: string[]): Promise<string | null> {
    const [theirs, ours] = await Promise.all(clients.map((client) => replyTo(client, request)));
    const isSame = steady(theirs) === steady(ours);
    return isSame ? null : JSON.stringify({ request, theirs, ours });
  }

  test.each(Object.keys(REQUESTS))("%s", async (theme) => {
    const differing: string[] = [];
    for (const request of REQUESTS[theme]()) {
      const difference = await differenceOf(request);
      // Between a key's expiry and a look at it time may have passed for one of the two.
      if (difference !== null && (await differenceOf(request)) !== null) differing.push(difference);
    }
    expect(differing).toEqual([]);
  });

  test("requests that are not to be answered, in every order", async () => {
    const words = ["ON", "OFF", "SKIP", "FOO"].map((word) => ["CLIENT", "REPLY", word]);
    const requests = [...words, ["SET", "s", "1"], ["GET", "s"], ["GET"]];
    const orders = requests.flatMap((one) =>
      requests.flatMap((two) => requests.map((three) => [one, two, three, words[0]])),
    );
    const all = orders.flatMap((order, i) => [...order, ["ECHO", `${i}`]]);
    const bytes = Buffer.concat([...all, ["ECHO", MARK]].map((it) => respRequest(...it)));
    const replies = await Promise.all(
      clients.map(async (client) => {
        client.sendRaw(bytes);
        const lines: string[] = [];
        for (let line = ""; line !== MARK;) lines.push((line = await client.readLine()));
        return lines;
      }),
    );
    expect(replies[1]).toEqual(replies[0]);
  });
});
