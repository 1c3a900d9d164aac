/**
 * Redis' glob patterns on bytes: `*`, `?`, `[abc]`, `[^a-z]`, `\` to escape.
 *
 * One saved position for the last star is enough (Kirk Krauss, "Matching Wildcards",
 * 2008), so time is bounded by pattern times key, whatever the pattern; Redis' own recursive
 * matcher takes exponential time on patterns of many stars.
 */
export function matchesGlob(
  pattern: Uint8Array,
  key: Uint8Array,
  keyOffset: number,
  keyLength: number,
): boolean {
  const keyEnd = keyOffset + keyLength;
  let p = 0;
  let k = keyOffset;
  let starAt = -1;
  let starKey = 0;
  while (k < keyEnd) {
    if (pattern[p] === STAR) {
      starAt = p++;
      starKey = k;
      continue;
    }
    const next = p < pattern.length ? matchOne(pattern, p, key[k]!) : -1;
    if (next >= 0) {
      p = next;
      k++;
    } else if (starAt >= 0) {
      p = starAt + 1;
      k = ++starKey;
    } else {
      return false;
    }
  }
  while (pattern[p] === STAR) p++;
  return p >= pattern.length;
}

const STAR = 0x2a;
const QUESTION = 0x3f;
const OPEN = 0x5b;
const CLOSE = 0x5d;
const CARET = 0x5e;
const BACKSLASH = 0x5c;
const DASH = 0x2d;

/** Where the pattern goes on after matching `byte` at `p`, or -1 when it does not match. */
function matchOne(pattern: Uint8Array, p: number, byte: number): number {
  switch (pattern[p]) {
    case QUESTION:
      return p + 1;
    case OPEN:
      return matchClass(pattern, p + 1, byte);
    case BACKSLASH:
      if (p + 1 < pattern.length) return pattern[p + 1] === byte ? p + 2 : -1;
  }
  return pattern[p] === byte ? p + 1 : -1;
}

function matchClass(pattern: Uint8Array, p: number, byte: number): number {
  const isNegated = pattern[p] === CARET;
  if (isNegated) p++;
  let isFound = false;
  for (; p < pattern.length && pattern[p] !== CLOSE; p++) {
    if (pattern[p] === BACKSLASH && p + 1 < pattern.length) {
      if (pattern[++p] === byte) isFound = true;
    } else if (pattern[p + 1] === DASH && p + 2 < pattern.length && pattern[p + 2] !== CLOSE) {
      const from = Math.min(pattern[p]!, pattern[p + 2]!);
      const to = Math.max(pattern[p]!, pattern[p + 2]!);
      if (byte >= from && byte <= to) isFound = true;
      p += 2;
    } else if (pattern[p] === byte) {
      isFound = true;
    }
  }
  return isFound !== isNegated ? p + 1 : -1;
}
