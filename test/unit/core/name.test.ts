/** What names may look like, and how text from outside is printed. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isClusterName, isNodeId, printable } from "../../../src/core/data/name.ts";

const BAD = ["", "a\r\nloading:1", "a\u0000", "a+", "#", "\ud800", "a\u2028b", "\u009b31m"];

test.each(BAD)("%j is the name of no node and of no cluster", (name) => {
  expect([isNodeId(name), isClusterName(name)]).toEqual([false, false]);
});

test("names have their lengths and characters", () => {
  for (const name of ["node-1", "ünode", "n:1", "x".repeat(128), "🐝"])
    expect(isNodeId(name)).toBe(true);
  for (const name of ["a b", "a/b", "x".repeat(129)]) expect(isNodeId(name)).toBe(false);
  for (const name of ["a", "a/b", "a b", "x".repeat(256)]) expect(isClusterName(name)).toBe(true);
  for (const name of ["/a", "a/", "$a", "x".repeat(257)]) expect(isClusterName(name)).toBe(false);
});

describe("text from outside", () => {
  test("keeps to its line, whatever it holds, and to its length", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const printed = printable(text, 20);
        expect(printed).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\p{Bidi_C}]/u);
        expect(printed.length).toBeLessThanOrEqual(20 * 6 + 1);
      }),
    );
  });

  test("is readable where it can be", () => {
    expect(printable("a\r\nb \u001b[31m ü 🐝")).toBe("a\\u000d\\u000ab \\u001b[31m ü 🐝");
    expect(printable("x".repeat(30), 10)).toBe(`${"x".repeat(10)}…`);
  });
});
