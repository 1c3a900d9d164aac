/** JSON in pieces, and what of it is taken. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { AnswerTurns } from "../../../src/http/answer-turns.ts";
import {
  answerJson,
  bytesField,
  jsonText,
  LazyList,
  parseObject,
  streamOf,
} from "../../../src/http/api-json.ts";
import { bytesOfField } from "../../../src/http/api-keys.ts";
import { eventLoop } from "../../../src/world.ts";

const LONG = [
  "\x01".repeat(50_000),
  'é€😀"\\'.repeat(9_999),
  `${"x".repeat(12_287)}€${"x".repeat(12_288)}😀`,
  "\ufefflong".repeat(5_000),
].map((text) => new Uint8Array(Buffer.from(text)));
const BROKEN = Uint8Array.from({ length: 40_001 }, (_, i) => i & 0xff);

test.each([...LONG, BROKEN])("long bytes come back from JSON", (given) => {
  const field = JSON.parse(jsonText(bytesField("value", given))) as Record<string, string>;
  expect(Object.keys(field)).toEqual([given === BROKEN ? "value_base64" : "value"]);
  expect(Buffer.from(bytesOfField(field, "value")!).equals(given)).toBe(true);
});

test("whatever JSON there is is written as usual", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(JSON.parse(jsonText(value))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});

test("a long answer is made as it is read, and is over when it is read or cut", async () => {
  let made = 0;
  let ends = 0;
  const items = (function* () {
    for (; made < 100_000; made++) yield made;
  })();
  const answer = (list: Iterable<unknown>) =>
    answerJson({ list: new LazyList(list) }, new AnswerTurns(eventLoop), () => void ends++);
  const { response } = answer(items);
  expect(made).toBeLessThan(100_000);
  expect(ends).toBe(0);
  const { list } = (await response.json()) as { list: number[] };
  expect(list).toEqual(Array.from({ length: 100_000 }, (_, i) => i));
  expect(ends).toBe(1);

  made = 0;
  const { response: other, cut } = answer(Array.from({ length: 100_000 }, (_, i) => i));
  const reader = other.body!.getReader();
  await reader.read();
  cut();
  cut();
  expect(ends).toBe(2);
  expect(reader.read()).rejects.toThrow("others needed the room");
});

test("who hangs up ends a stream", async () => {
  let ends = 0;
  const next = async () => ({ bytes: new Uint8Array(10), isAll: false });
  const { stream, cut } = streamOf(() => void ends++, next);
  const reader = stream.getReader();
  await reader.read();
  await reader.cancel();
  cut();
  expect(ends).toBe(1);
});

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
