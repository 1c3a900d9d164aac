/** JSON on its way in: what of it is taken, and lists that are read an item at a time. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { listIn, parseObject } from "../../../src/http/json-body.ts";

describe("what comes in", () => {
  const parse = (text: string): unknown => parseObject(Buffer.from(text));

  test.each([
    '{"words":["a","[[[[[[[[[[[[[[[[[[[[\\"[[[[[[["]}',
    '{"a":[[{"b":1}]],"c":"\\\\"}',
    JSON.stringify({ operations: Array(1_000).fill({ op: "put", key: "k", value: ",:[" }) }),
    " {} ",
  ])("%.60s is taken", (text) => expect(parse(text)).toEqual(JSON.parse(text)));

  test.each([
    "[]",
    "null",
    "{",
    '{"a":"',
    '{"a":"\\',
    `{"a":${"[".repeat(17)}${"]".repeat(17)}}`,
    `{"a":[${"0,".repeat(40_000)}0]}`,
    `{"a":[${"{},".repeat(20_000)}0]}`,
    "[".repeat(1_000_000),
  ])("%.60s is not", (text) => expect(parse(text)).toBeUndefined());
});

/** As it is read whole: undefined for no JSON object, null without that list. */
function wholeList(text: string): unknown[] | null | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { list } = value as { list?: unknown };
  return Array.isArray(list) ? list : null;
}

/** The same an item at a time. */
function itemsOf(text: string): unknown[] | null | undefined {
  const list = listIn(Buffer.from(text), "list");
  if (list === null || list === undefined) return list;
  try {
    return Array.from({ length: list.length }, (_, i) => list.at(i));
  } catch {
    return undefined;
  }
}

test.each([
  "{}",
  '{"list":[]}',
  '{"list":[ \n\t\r]}',
  '{"list":[1, "a,]\\"[" ,{"list":[2,3]},[[4],5]],"x":{"list":[6]}}',
  '{"a":1,"l\\u0069st" : [1]}',
  '{"a":"list","b":[1]}',
  '{"list":[1],"list":[2,3]}',
  '{"list":[1],"list":7}',
  '{"list":7,"list":[1]}',
  '{"list":{"0":[1]}}',
  '{"list":[1,]}',
  '{"list":[,1]}',
  '{"list":[1}',
  '{"list":[1}]',
  '{"list":[1',
  '{"list":["1]}',
  '{"list":[{"a":1]},2]}',
  '{"list":[1]]}',
  '{"list":5[1]}',
  '{"list"::[1]}',
  '{"list" 1:[1]}',
  "{list:[1]}",
  '{"list":[1]} x',
  '{"list":[1 2]}',
  '["list",[1]]',
  '[{"list":[1]}]',
  '{"é":"\ud83d","list":["é😀"]}',
  "",
])("%s is read an item at a time as it is whole", (text) => {
  expect(itemsOf(text)).toEqual(wholeList(text));
});

test("whatever comes is read an item at a time as it is whole", () => {
  const part = fc.constantFrom(
    ...["{", "}", "[", "]", ",", ":", '"list"', '"x"', "1", " ", '"\\""', "null", '{"list":['],
  );
  const broken = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(""));
  const sound = fc
    .record({ list: fc.array(fc.jsonValue({ maxDepth: 2 })), other: fc.jsonValue({ maxDepth: 2 }) })
    .map((value) => JSON.stringify(value));
  const cut = fc.tuple(sound, fc.nat(100), part).map(([text, at, more]) => {
    const place = at % (text.length + 1);
    return text.slice(0, place) + more + text.slice(place);
  });
  fc.assert(
    fc.property(fc.oneof(broken, sound, cut), (text) => {
      expect(itemsOf(text)).toEqual(wholeList(text));
    }),
  );
});
