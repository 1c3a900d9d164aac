/** The table of facts, and how one is printed. */
import { describe, expect, test } from "bun:test";
import { factLines } from "../../src/commands/fact-line.ts";
import { statsFacts } from "../../src/commands/facts.ts";
import { counter, flag, gauge, text, within, type Fact } from "../../src/fact.ts";
import { infoTable } from "../../src/node-facts.ts";
import { PLAIN, RESP2, TAGGED } from "../../src/protocol/reply.ts";

const lists: [string, readonly Pick<Fact<never>, "name" | "kind" | "unit" | "help">[]][] = [
  ["INFO", infoTable.flatMap(({ facts }) => facts)],
  ["STATS", statsFacts],
];

describe.each(lists)("the facts of %s", (_, facts) => {
  test("each has a name of its own", () => {
    const names = facts.map(({ name }) => name);
    expect(names.filter((name) => !/^[a-z][a-z0-9_]*$/.test(name))).toEqual([]);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  test("each says in one sentence what it is", () => {
    const isSentence = (help: string) => /^[A-Z`][^\n]*\.$/.test(help) && !/\. /.test(help);
    expect(facts.filter(({ help }) => !isSentence(help)).map(({ help }) => help)).toEqual([]);
  });

  test("only a number has a unit", () => {
    expect(facts.filter(({ kind, unit }) => kind === "text" && unit !== "")).toEqual([]);
  });
});

interface Part {
  readonly name: string;
  readonly count: number;
  readonly isOpen: boolean;
}

const rows: readonly Fact<Part>[] = [
  text("name", "A name.", (it) => it.name),
  gauge("share", "", "A share.", (it) => it.count / 3, { digits: 2 }),
  counter("count", "", "A count.", (it) => it.count),
  flag("open", "Whether it is.", (it) => it.isOpen),
  text("nothing", "What is left out.", () => null),
  text("resp", "Only there.", () => "r", { only: "resp" }),
  text("tagged", "Only there.", () => "t", { only: "tagged" }),
];
const inPlain = { isResp: false, dialect: PLAIN } as const;
const part: Part = { name: "n\r\nloading:1", count: 2, isOpen: true };
const everywhere = ["name:n\\u000d\\u000aloading:1", "share:0.67", "count:2", "open:1"];

test.each([
  ["plain", false, PLAIN, []],
  ["tagged", false, TAGGED, ["tagged:t"]],
  ["RESP", true, RESP2, ["resp:r"]],
] as const)(
  "a fact is one line whatever it says, and some are for one protocol: %s",
  (_, isResp, dialect, more) => {
    expect([...factLines(rows, part, { isResp, dialect })]).toEqual([...everywhere, ...more]);
  },
);

test("without the part its facts say nothing", () => {
  const facts = within((whole: { part: Part | null }) => whole.part, rows);
  expect([...factLines(facts, { part: null }, inPlain)]).toEqual([]);
  expect([...factLines(facts, { part }, inPlain)]).toEqual(everywhere);
});

test("nothing is read before somebody asks, and then once", () => {
  let reads = 0;
  const facts = within(() => part, [counter("c", "", "Counted.", () => ++reads)]);
  expect(reads).toBe(0);
  expect([...factLines(facts, undefined, inPlain)]).toEqual(["c:1"]);
  expect(reads).toBe(1);
});
