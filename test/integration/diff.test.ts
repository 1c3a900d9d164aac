/** `merklekv diff` between running nodes. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { ClusterNode } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { runToEnd } from "../support/process.ts";

let one: ClusterNode;
let two: ClusterNode;
const start = async (storage: Record<string, number> = {}): Promise<void> => {
  [one, two] = await Promise.all([
    ClusterNode.start("n1", { storage }),
    ClusterNode.start("n2", { storage }),
  ]);
};
const end = () => Promise.all([one.process.kill(), two.process.kill()]);
beforeEach(() => start());
afterEach(end);

/** Nodes that forget deletions within moments, in place of those that keep them for a day. */
async function startForgetful(): Promise<void> {
  await end();
  await start({ tombstone_grace_seconds: 1 });
}

const sync = () => one.ask(`SYNC 127.0.0.1 ${two.process.port}`);
const diff = (...options: string[]) => runToEnd(["diff", one.address, two.address, ...options]);
const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`;

/** Once it is over, what any node writes is newer than all there is. */
function nextMillisecond(): Promise<boolean> {
  const nowMs = Date.now();
  return eventually("time passes", () => Date.now() > nowMs);
}

test("equal nodes: exit code 0", async () => {
  await one.askAll(["SET a 1", "INCR count 2", "SET b 3", "DEL b"]);
  await sync();
  const { code, output } = await diff();
  expect(output).toBe(`n1 (${one.address}) and n2 (${two.address}) hold the same.\n`);
  expect(code).toBe(0);
});

test("an expiry alone, and a sync changes it alone", async () => {
  await one.askAll(["SET session data", "INCR count 2"]);
  await sync();
  await nextMillisecond();
  await two.askAll(["EXPIRE session 1000", "EXPIRE count 1000"]);
  const { code, output } = await diff();
  expect(code).toBe(1);
  for (const line of [
    `session: n1 has 4 bytes of ${time}, n2 has 4 bytes of ${time} \\(newer\\); a sync changes the expiry on n1`,
    `count: n1 counted at ${time}, n2 counted at ${time} \\(newer\\); a sync changes the expiry on n1`,
  ]) {
    expect(output).toMatch(new RegExp(`^${line}$`, "m"));
  }
  await sync();
  expect(await one.ask("GET session")).toBe("data");
  expect(await one.ask("TTL count")).toMatch(/^(1000|99\d)$/);
  expect((await diff()).code).toBe(0);
});

test("every way to differ, and a sync then does what was announced", async () => {
  await one.askAll(["SET same x", "SET replaced x", "SET deleted x", "INCR count 1"]);
  await sync();
  await one.askAll([
    "SET mine 12345",
    "INCR count 2",
    "SET replaced older",
    "SET gone x",
    "DEL gone",
  ]);
  await nextMillisecond();
  await two.askAll(["DEL deleted", "INCR count 4", "SET replaced newer", 'SET yours "a\\nb"']);
  const before = [await one.ask("HASH"), await two.ask("HASH")];

  const { code, output } = await diff();
  expect(code).toBe(1);
  const lines = output.trimEnd().split("\n");
  for (const line of [
    `mine: n1 has 5 bytes of ${time}, n2 has nothing; a sync copies it to n2`,
    `yours: n1 has nothing, n2 has 3 bytes of ${time}; a sync copies it to n1`,
    `gone: n1 deleted it at ${time}, n2 has nothing; a sync copies it to n2`,
    `deleted: n1 has 1 byte of ${time}, n2 deleted it at ${time} \\(newer\\); a sync deletes it on n1`,
    `replaced: n1 has 5 bytes of ${time}, n2 has 5 bytes of ${time} \\(newer\\); a sync replaces it on n1`,
    `count: n1 counted at ${time}, n2 counted at ${time} \\(newer\\); a sync merges the two`,
  ]) {
    expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^${line}$`)));
  }
  expect(lines.at(-1)).toBe(`n1 (${one.address}) and n2 (${two.address}) differ in 6 keys.`);
  expect(lines.length).toBe(7);
  expect([await one.ask("HASH"), await two.ask("HASH")]).toEqual(before);

  expect(await sync()).toBe("OK");
  expect((await diff()).code).toBe(0);
  expect(await one.askAll(["GET mine", "GET deleted", "GET replaced", "GET count"])).toEqual([
    "12345",
    "(null)",
    "newer",
    "7",
  ]);
});

test("counters: a sync goes by what they stand on, not by when they counted last", async () => {
  await one.askAll(["SET text 5", "SET deleted 5", "SET again 5", "SET number 5"]);
  await sync();
  await nextMillisecond();
  await two.askAll(["SET text hello", "DEL deleted", "INCR number", "SET again 100", "INCR again"]);
  await nextMillisecond();
  await one.askAll(["INCR text", "INCR deleted", "INCR again"]);

  const lines = (await diff()).output.trimEnd().split("\n");
  const counted = `counted at ${time} on from ${time}`;
  for (const line of [
    `text: n1 ${counted} \\(newer\\), n2 has 5 bytes of ${time}; a sync replaces it on n1`,
    `deleted: n1 ${counted} \\(newer\\), n2 deleted it at ${time}; a sync deletes it on n1`,
    `again: n1 ${counted} \\(newer\\), n2 ${counted}; a sync replaces it on n1`,
    `number: n1 has 1 byte of ${time}, n2 ${counted} \\(newer\\); a sync replaces it on n1`,
  ]) {
    expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^${line}$`)));
  }
  expect(lines.length).toBe(5);

  await sync();
  const gets = ["GET text", "GET deleted", "GET again", "GET number"];
  const values = ["hello", "(null)", "101", "6"];
  expect([await one.askAll(gets), await two.askAll(gets)]).toEqual([values, values]);
});

test("as JSON, one object a line", async () => {
  await one.askAll(["SET mine 12345", "EXPIRE mine 1000"]);
  const { code, output } = await diff("--json");
  expect(code).toBe(1);
  const at = expect.stringMatching(new RegExp(`^${time}$`));
  expect(
    output
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toEqual([
    {
      key: "mine",
      a: { kind: "string", time: at, value_bytes: 5, expires: at },
      b: null,
      newer: "a",
      sync: "copy",
      at: "b",
    },
    {
      nodes: [
        { address: one.address, node_id: "n1" },
        { address: two.address, node_id: "n2" },
      ],
      count: 1,
    },
  ]);
});

test("what a sync would set aside, or drop because of a FLUSH", async () => {
  await startForgetful();
  await one.ask("SET doomed x");
  await sync();
  await two.ask("DEL doomed");
  await eventually("it is forgotten", async () => (await two.fact("tombstones")) === 0);
  expect((await diff()).output).toMatch(/^doomed: .* a sync sets it aside on n1, which was away/);
  await two.ask("FLUSH");
  expect((await diff()).output).toMatch(/^doomed: .* a sync drops it on n1, because of a FLUSH/);
});

test("a counter is set aside by what it counts on from, however late it counted", async () => {
  await startForgetful();
  await one.ask("SET doomed 5");
  await sync();
  await two.ask("DEL doomed");
  await eventually("it is forgotten", async () => (await two.fact("tombstones")) === 0);
  await one.askAll(["INCR doomed", "INCR begun", "SET fresh 5", "INCR fresh"]);
  const { output } = await diff();
  expect(output).toMatch(/^doomed: n1 counted at .* a sync sets it aside on n1, /m);
  // What was begun from nothing is as old as its last increment.
  expect(output).toMatch(/^begun: n1 counted at .* a sync copies it to n2$/m);
  expect(output).toMatch(/^fresh: n1 counted at .* a sync copies it to n2$/m);
  await sync();
  const gets = ["GET doomed", "GET begun", "GET fresh"];
  const values = ["(null)", "1", "6"];
  expect([await one.askAll(gets), await two.askAll(gets)]).toEqual([values, values]);
});

test("the latest expiry there is, beyond the year 9999, is given as a date", async () => {
  await one.askAll(["SET late x", `PEXPIREAT late ${2 ** 48 - 1}`]);
  expect((await diff()).output).toMatch(/^late: n1 has 1 byte of /);
  const [line] = (await diff("--json")).output.split("\n");
  expect(JSON.parse(line).a.expires).toBe("+010889-08-02T05:31:50.655Z");
});

test("one node twice, and nodes of two clusters, are not compared: exit code 2", async () => {
  const stranger = await ClusterNode.start("n3", { mqtt: { topic_prefix: "other" } });
  const twice = await runToEnd(["diff", one.address, one.address]);
  const apart = await runToEnd(["diff", one.address, stranger.address]);
  await stranger.process.kill();
  expect([twice.code, apart.code]).toEqual([2, 2]);
  expect(twice.output).toContain(`merklekv: ${one.address} and ${one.address} are one node, "n1"`);
  expect(apart.output).toContain('"n1" belongs to the cluster "merkle-kv", "n3" to "other"');
});

test("thousands of differences", async () => {
  const lines = Array.from({ length: 5_000 }, (_, i) => `SET key:${i} ${i}`);
  await one.askAll(lines);
  await two.askAll(lines.slice(0, 1_000));
  const { output } = await diff("--json");
  // What takes long says how far it is.
  const found = output.split("\n").filter((line) => line.startsWith("{"));
  expect(found.length).toBe(5_001);
});

test.each([
  [["127.0.0.1:1", "127.0.0.1:2"], /^merklekv: cannot reach 127.0.0.1:1: connection refused\n$/],
  [["127.0.0.1:1"], /^merklekv: two nodes are compared; usage/],
  [["nonsense", "127.0.0.1:1"], /^merklekv: "nonsense" is not HOST:PORT\n$/],
  [["127.0.0.1:1", "no/id"], /^merklekv: "no\/id" is neither HOST:PORT nor a node id\n$/],
] as [string[], RegExp][])("trouble has exit code 2: %p", async (words, message) => {
  const { code, output } = await runToEnd(["diff", ...words]);
  expect(output).toMatch(message);
  expect(code).toBe(2);
});
