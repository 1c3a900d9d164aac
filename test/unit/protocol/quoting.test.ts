/** The law of quoting, and what is quoted. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  SHAPE_KEY_VALUE,
  SHAPE_PAIRS,
  parseArguments,
  parseName,
} from "../../../src/protocol/line-parser.ts";
import { PLAIN, Reply } from "../../../src/protocol/reply.ts";
import { Request } from "../../../src/protocol/request.ts";

/** How `GET` prints a value, without the line's end. */
function print(value: Uint8Array): Buffer {
  const reply = new Reply();
  reply.dialect = PLAIN;
  reply.value(Buffer.concat([Buffer.from("??"), value, Buffer.from("?")]), 2, value.length);
  expect(reply.bytes[reply.length - 1]).toBe(10);
  return Buffer.from(reply.bytes.slice(0, reply.length - 1));
}

/** What `SET k` makes of a printed value. */
function parse(printed: Uint8Array): Buffer {
  const line = Buffer.concat([Buffer.from("xxSET k "), printed, Buffer.from("xx")]);
  const request = new Request();
  const end = line.length - 2;
  parseArguments(request, SHAPE_KEY_VALUE, true, parseName(request, line, 2, end, true), end);
  expect(request.count).toBe(2);
  return Buffer.from(line.subarray(request.start(1), request.start(1) + request.length(1)));
}

/** All bytes, mostly those that mean something. */
const value = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc
    .string({
      unit: fc.constantFrom(
        '"',
        "\\",
        "n",
        "x",
        "0",
        "f",
        " ",
        "\t",
        "\r",
        "\n",
        "\0",
        "\x7f",
        "é",
        "a",
      ),
      maxLength: 12,
    })
    .map((text) => Uint8Array.from(Buffer.from(text))),
  fc
    .tuple(fc.constantFrom("(null)", "ERROR", '"'), fc.string({ maxLength: 3 }))
    .map((parts) => Uint8Array.from(Buffer.from(parts.join("")))),
);

test("parse(print(v)) = v for every byte string v", () => {
  fc.assert(
    fc.property(value, (v) => {
      const printed = print(v);
      expect(printed.includes(10) || printed.includes(13)).toBeFalse();
      expect(Buffer.compare(parse(printed), v)).toBe(0);
    }),
    { numRuns: 20_000 },
  );
  for (let byte = 0; byte < 256; byte++) {
    for (const v of [[byte], [byte, 0x61], [0x61, byte], [0x22, byte, 0x22], [0x5c, byte]]) {
      const bytes = Uint8Array.from(v);
      expect([...parse(print(bytes))]).toEqual(v);
    }
  }
});

test("so for long values, wherever in them something is that has to be escaped", () => {
  const long = fc
    .record({
      length: fc.integer({ min: 4_000, max: 20_000 }),
      specials: fc.array(
        fc.record({
          at: fc.oneof(fc.nat(20_000), fc.constantFrom(4_095, 4_096, 4_097, 8_191, 8_192)),
          byte: fc.constantFrom(0, 9, 10, 13, 31, 127, 0x22, 0x5c),
        }),
        { maxLength: 4 },
      ),
    })
    .map(({ length, specials }) => {
      const bytes = new Uint8Array(length).fill(0x76);
      for (const { at, byte } of specials) bytes[at % length] = byte;
      return bytes;
    });
  fc.assert(
    fc.property(long, (v) => {
      const printed = print(v);
      const mustBeQuoted = v[0] === 0x22 || /[\0-\x08\x0a-\x1f\x7f]/.test(latin1(v));
      expect(printed[0] === 0x22).toBe(mustBeQuoted);
      expect(/[\0-\x08\x0a-\x1f\x7f]/.test(latin1(printed))).toBeFalse();
      expect(Buffer.compare(parse(printed), v)).toBe(0);
    }),
    { numRuns: 500 },
  );
});

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

test("a printed value is never taken for what it is not", () => {
  fc.assert(
    fc.property(value, (v) => {
      const printed = print(v).toString("latin1");
      expect(printed).not.toBe("");
      expect(printed).not.toBe("(null)");
      expect(printed.startsWith("ERROR")).toBeFalse();
      expect(/[\0-\x08\x0a-\x1f\x7f]/.test(printed)).toBeFalse();
    }),
    { numRuns: 5_000 },
  );
});

describe("printed", () => {
  test.each<[string, string]>([
    ["plain", "plain"],
    ["", '""'],
    ["(null)", '"(null)"'],
    ["(null) ", "(null) "],
    ["(nil)", "(nil)"],
    ['"', '"\\""'],
    ['say "hi"', 'say "hi"'],
    ["ERROR", '"ERROR"'],
    ["ERROR: x", '"ERROR: x"'],
    ["ERRORS", '"ERRORS"'],
    ["error", "error"],
    [" ERROR", " ERROR"],
    ["a\tb", "a\tb"],
    ["a\nb\rc", '"a\\nb\\rc"'],
    ["\0\x1f\x7f", '"\\x00\\x1f\\x7f"'],
    ["back\\slash", "back\\slash"],
    ["back\\slash\n", '"back\\\\slash\\n"'],
    ["a\t\n", '"a\t\\n"'],
    ["é", "é"],
    ["  spaces  ", "  spaces  "],
  ])("%j as %j", (v, printed) => {
    expect(print(Buffer.from(v)).toString()).toBe(printed);
  });
});

describe("read", () => {
  test.each<[string, string]>([
    ['""', ""],
    ['"a b"', "a b"],
    ['"\\"\\\\\\n\\r\\t\\x41\\xfF"', '"\\\n\r\tA\xff'],
    ['{"host":"x","port":1}', '{"host":"x","port":1}'],
    ['"a" and "b"', '"a" and "b"'],
    ['"a" ', '"a" '],
    [' "a"', ' "a"'],
    ['"unfinished', '"unfinished'],
    ['"unfinished\\"', '"unfinished\\"'],
    ['"\\', '"\\'],
    ['"\\q"', '"\\q"'],
    ['"\\x4"', '"\\x4"'],
    ['"\\xgg"', '"\\xgg"'],
    ['"', '"'],
    ["'a'", "'a'"],
    ["a\\n", "a\\n"],
    ["  a  ", "  a  "],
  ])("%j as %j", (text, v) => {
    expect(parse(Buffer.from(text)).toString("latin1")).toBe(v);
  });

  test("values of MSET, each by itself", () => {
    const line = Buffer.from('MSET a "x y" b "" c "un fin d "\\n"z e "\\"" ');
    const request = new Request();
    const at = parseName(request, line, 0, line.length, true);
    parseArguments(request, SHAPE_PAIRS, true, at, line.length);
    const parts = Array.from({ length: request.count }, (_, i) => request.text(i));
    expect(parts).toEqual(["a", "x y", "b", "", "c", '"un', "fin", "d", '"\\n"z', "e", '"\\""']);
  });
});
