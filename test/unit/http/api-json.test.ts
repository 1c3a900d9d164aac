/** JSON in pieces, and what of it is taken. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { AnswerTurns } from "../../../src/http/answer-turns.ts";
import { answerJson, streamOf } from "../../../src/http/api-json.ts";
import {
  bytesField,
  jsonText,
  LaterValue,
  LazyList,
  WrittenJson,
} from "../../../src/http/json-writer.ts";
import { bytesOfField } from "../../../src/http/api-keys.ts";
import { nextTurn } from "../../../src/timing.ts";
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

test("texts are escaped as usual, and the rest is base64", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.string({ unit: "binary" }), (bytes, text) => {
      const given = new Uint8Array(Buffer.from(text));
      expect(jsonText(bytesField("text", given))).toBe(JSON.stringify({ text }));
      const field = JSON.parse(jsonText(bytesField("value", bytes))) as Record<string, string>;
      expect(Buffer.from(bytesOfField(field, "value")!).equals(bytes)).toBe(true);
    }),
  );
});

test("what is known later is written when what is before it has been", async () => {
  let last = 0;
  const items = Array.from({ length: 50_000 }, (_, i) => i);
  const list = new LazyList(Iterator.from(items).map((item) => (last = item)));
  const body = { list, next: new LaterValue(() => String(last)) };
  const { response } = answerJson(body, new AnswerTurns(eventLoop), () => {});
  expect(await response.json()).toEqual({ list: items, next: "49999" });
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

test("what is written out already is sent between the rest", async () => {
  const results = [
    new WrittenJson(Buffer.from("1,2")),
    new WrittenJson(Buffer.from('{"é":3}')),
    { value: bytesField("value", LONG[1]).value },
    new WrittenJson(Buffer.from("4")),
  ];
  const { response } = answerJson({ results }, new AnswerTurns(eventLoop), () => {});
  const value = Buffer.from(LONG[1]).toString();
  expect(await response.json()).toEqual({ results: [1, 2, { é: 3 }, { value }, 4] });
});

test("nothing is made of an answer any more that was cut", async () => {
  let made = 0;
  const items = (function* () {
    for (; ; made++) yield made;
  })();
  const turns = new AnswerTurns(eventLoop);
  const { response, cut } = answerJson({ list: new LazyList(items) }, turns, () => {});
  const reader = response.body!.getReader();
  await reader.read();
  const before = made;
  // It waits for its turn when it is cut.
  const piece = reader.read();
  cut();
  expect(piece).rejects.toThrow("others needed the room");
  await nextTurn(eventLoop);
  await nextTurn(eventLoop);
  expect(made).toBe(before);
});
