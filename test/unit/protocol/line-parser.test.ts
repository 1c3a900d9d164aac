/** How lines fall into name and arguments, in both dialects. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  SHAPE_KEY_VALUE,
  SHAPE_PAIRS,
  SHAPE_VALUE,
  SHAPE_WORDS,
  parseArguments,
  parseName,
  type LineShape,
} from "../../../src/protocol/line-parser.ts";
import { Request } from "../../../src/protocol/request.ts";

/** Name and arguments of a line as text; null for a line without a name. */
function parse(line: string, shape: LineShape, isPlain: boolean): string[] | null {
  // The line lies in the middle of a buffer, between other lines.
  const bytes = Buffer.from(`GET "x\n${line}\n"y z`, "latin1");
  const end = bytes.length - 5;
  const request = new Request();
  const at = parseName(request, bytes, 7, end, isPlain);
  if (at < 0) return null;
  parseArguments(request, shape, isPlain, at, end);
  return Array.from({ length: request.parts }, (_, i) =>
    bytes.toString("latin1", request.start(i - 1), request.start(i - 1) + request.length(i - 1)),
  );
}

const both = (line: string, shape: LineShape, parts: string[] | null) => {
  test(JSON.stringify(line), () => {
    expect(parse(line, shape, true)).toEqual(parts);
    expect(parse(line, shape, false)).toEqual(parts);
  });
};

describe("words", () => {
  both("", SHAPE_WORDS, null);
  both(" \t ", SHAPE_WORDS, null);
  both("GET", SHAPE_WORDS, ["GET"]);
  both("  GET\t", SHAPE_WORDS, ["GET"]);
  both("GET a", SHAPE_WORDS, ["GET", "a"]);
  both("\tGET  a   b  ", SHAPE_WORDS, ["GET", "a", "b"]);
  both('EXISTS "a b" c', SHAPE_WORDS, ["EXISTS", '"a', 'b"', "c"]);
  // A tab is no space: it makes the key invalid instead of making two of it.
  both("GET a\tb", SHAPE_WORDS, ["GET", "a\tb"]);
});

describe("a key and a value", () => {
  both("SET", SHAPE_KEY_VALUE, ["SET"]);
  both("SET k", SHAPE_KEY_VALUE, ["SET", "k"]);
  both("SET k v", SHAPE_KEY_VALUE, ["SET", "k", "v"]);
  both("SET   k v", SHAPE_KEY_VALUE, ["SET", "k", "v"]);
  both("SET k  two  words", SHAPE_KEY_VALUE, ["SET", "k", " two  words"]);
  both("SET k \ttab\tin it", SHAPE_KEY_VALUE, ["SET", "k", "\ttab\tin it"]);
  both("SET k\tx v", SHAPE_KEY_VALUE, ["SET", "k\tx", "v"]);
  both('SET "k" v', SHAPE_KEY_VALUE, ["SET", '"k"', "v"]);

  test("in plain, trailing white space is data and a quoted string is unquoted", () => {
    expect(parse("SET k v \t", SHAPE_KEY_VALUE, true)).toEqual(["SET", "k", "v \t"]);
    expect(parse("SET k  ", SHAPE_KEY_VALUE, true)).toEqual(["SET", "k", " "]);
    expect(parse("SET k ", SHAPE_KEY_VALUE, true)).toEqual(["SET", "k"]);
    expect(parse('SET k "a\\n"', SHAPE_KEY_VALUE, true)).toEqual(["SET", "k", "a\n"]);
    expect(parse('SET k ""', SHAPE_KEY_VALUE, true)).toEqual(["SET", "k", ""]);
    expect(parse('SET k "a" ', SHAPE_KEY_VALUE, true)).toEqual(["SET", "k", '"a" ']);
    // The quote that would close it belongs to the next line.
    expect(parse('SET k "a', SHAPE_KEY_VALUE, true)).toEqual(["SET", "k", '"a']);
  });

  test("in tagged, it is trimmed and quotes are data", () => {
    expect(parse("SET k v \t", SHAPE_KEY_VALUE, false)).toEqual(["SET", "k", "v"]);
    expect(parse("SET k  ", SHAPE_KEY_VALUE, false)).toEqual(["SET", "k"]);
    expect(parse('SET k "a\\n"', SHAPE_KEY_VALUE, false)).toEqual(["SET", "k", '"a\\n"']);
  });
});

describe("one value", () => {
  both("PING", SHAPE_VALUE, ["PING"]);
  both("PING ", SHAPE_VALUE, ["PING"]);
  both("ECHO two  words", SHAPE_VALUE, ["ECHO", "two  words"]);
  both("ECHO  x", SHAPE_VALUE, ["ECHO", " x"]);

  test("dialects differ as with keys", () => {
    expect(parse('ECHO "a b" ', SHAPE_VALUE, true)).toEqual(["ECHO", '"a b" ']);
    expect(parse('ECHO "a b"', SHAPE_VALUE, true)).toEqual(["ECHO", "a b"]);
    expect(parse('ECHO "a b" ', SHAPE_VALUE, false)).toEqual(["ECHO", '"a b"']);
  });
});

describe("pairs", () => {
  both("MSET a 1 b 2", SHAPE_PAIRS, ["MSET", "a", "1", "b", "2"]);
  both("MSET a 1 b", SHAPE_PAIRS, ["MSET", "a", "1", "b"]);

  test("values may be quoted in plain, keys not", () => {
    const line = 'MSET a "x y" "b c" d "" ';
    expect(parse(line, SHAPE_PAIRS, true)).toEqual(["MSET", "a", "x y", '"b', 'c"', "d", ""]);
    expect(parse('MSET a "" b "1 2"', SHAPE_PAIRS, true)).toEqual(["MSET", "a", "", "b", "1 2"]);
    expect(parse('MSET a "" b "1 2"', SHAPE_PAIRS, false)).toEqual([
      "MSET",
      "a",
      '""',
      "b",
      '"1',
      '2"',
    ]);
  });
});

test("any line of any bytes is taken apart without looking beyond it", () => {
  const line = fc.string({
    unit: fc.oneof(
      fc.constantFrom(" ", "\t", '"', "\\", "x", "k"),
      fc.nat(255).map((byte) => String.fromCharCode(byte === 10 ? 0 : byte)),
    ),
    maxLength: 40,
  });
  fc.assert(
    fc.property(
      line,
      fc.constantFrom<LineShape>(0, 1, 2, 3),
      fc.boolean(),
      (text, shape, plain) => {
        const parts = parse(text, shape, plain);
        // In `tagged` only spaces end the name; blanks around the line are dropped in both.
        const trimmed = text.replace(/^[ \t]+|[ \t]+$/g, "");
        const words = trimmed.split(plain ? /[ \t]+/ : / +/);
        if (trimmed === "") return expect(parts).toBeNull();
        expect(parts![0]).toBe(words[0]);
        // Unquoting only ever shortens.
        expect(parts!.join("").length).toBeLessThanOrEqual(text.length);
        if (!plain && shape === SHAPE_WORDS) {
          const name = text.indexOf(words[0]) + words[0].length;
          const rest = text.slice(name + 1).replace(/[ \t]+$/, "");
          expect(parts!.slice(1)).toEqual(rest.split(" ").filter((word) => word !== ""));
        }
      },
    ),
    { numRuns: 5_000 },
  );
});
