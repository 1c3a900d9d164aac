/** Patterns against a naive matcher that follows Redis' own, and however often matching is interrupted. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Glob } from "../../../src/core/glob.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

/** `stringmatchlen` of Redis 7, with its exponential recursion. */
function naive(pattern: string, key: string): boolean {
  let p = 0;
  let k = 0;
  while (p < pattern.length && k < key.length) {
    switch (pattern[p]) {
      case "*":
        while (pattern[p + 1] === "*") p++;
        if (p + 1 === pattern.length) return true;
        for (; k < key.length; k++) if (naive(pattern.slice(p + 1), key.slice(k))) return true;
        return false;
      case "?":
        break;
      case "[": {
        p++;
        const isNegated = pattern[p] === "^";
        if (isNegated) p++;
        let isFound = false;
        for (; ; p++) {
          const left = pattern.length - p;
          if (pattern[p] === "\\" && left >= 2) isFound = pattern[++p] === key[k] || isFound;
          else if (pattern[p] === "]" || left <= 0) break;
          else if (left >= 3 && pattern[p + 1] === "-") {
            const [from, to] = [pattern[p], pattern[p + 2]].sort();
            p += 2;
            isFound ||= key[k] >= from && key[k] <= to;
          } else isFound ||= pattern[p] === key[k];
        }
        if (isFound === isNegated) return false;
        break;
      }
      case "\\":
        if (pattern.length - p >= 2) p++;
        if (pattern[p] !== key[k]) return false;
        break;
      default:
        if (pattern[p] !== key[k]) return false;
    }
    p++;
    k++;
  }
  if (k === key.length) while (pattern[p] === "*") p++;
  return p >= pattern.length && k === key.length;
}

const patterns = fc
  .array(
    fc.constantFrom("*", "?", "[", "]", "^", "-", "\\", "a", "b", "c", "[ab]", "[^a]", "[a-b]"),
  )
  .map((parts) => parts.join(""));
const keys = fc.string({ unit: fc.constantFrom("a", "b", "c", "]", "-", "\\", "^") });

test("a pattern matches what Redis says it matches", () => {
  fc.assert(
    fc.property(patterns, keys, (pattern, key) => {
      const glob = new Glob(bytes(pattern));
      expect(glob.matches(bytes(key), 0, key.length)).toBe(naive(pattern, key));
    }),
    { numRuns: 5_000 },
  );
});

test("interrupted at any place, over a key that moved, the answer is the same", () => {
  fc.assert(
    fc.property(patterns, keys, fc.integer({ min: 1, max: 5 }), (pattern, key, work) => {
      const glob = new Glob(bytes(pattern));
      const stored = Uint8Array.from(bytes(`xx${key}`));
      glob.begin(stored, 2, key.length);
      if (glob.advance(work) < 0) {
        glob.keepKey();
        stored.fill(0);
        while (glob.advance(work) < 0);
      }
      expect(glob.isMatch).toBe(naive(pattern, key));
    }),
    { numRuns: 2_000 },
  );
});

test("plain segments take work in proportion to the key, whatever they are", () => {
  const key = bytes("a".repeat(65_536));
  for (const pattern of [
    "*a".repeat(1_000) + "*b",
    `*${"a".repeat(32_768)}b*`,
    "*ab*".repeat(99),
  ]) {
    const glob = new Glob(bytes(pattern));
    glob.begin(key, 0, key.length);
    expect(glob.advance(3 * key.length)).toBeGreaterThanOrEqual(0);
    expect(glob.isMatch).toBe(false);
  }
});

test("segments that may take long stop when the work is used up", () => {
  const key = bytes("a".repeat(65_536));
  const glob = new Glob(bytes(`*${"a?".repeat(16_384)}b*`));
  glob.begin(key, 0, key.length);
  expect(glob.advance(10_000)).toBe(-1);
});
