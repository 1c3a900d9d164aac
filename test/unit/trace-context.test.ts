/** `traceparent` as W3C Trace Context has it, and its form between nodes. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeContext,
  encodeContext,
  formatTraceparent,
  parseTraceparent,
  type TraceContext,
} from "../../src/trace-context.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

const hex = (digits: number) =>
  fc
    .string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: digits, maxLength: digits })
    .filter((text) => /[^0]/.test(text));
const contexts: fc.Arbitrary<TraceContext> = fc.record({
  traceId: hex(32),
  spanId: hex(16),
  isSampled: fc.boolean(),
  state: fc.string({ unit: "grapheme-ascii", maxLength: 512 }),
});

describe("a traceparent", () => {
  test.each([
    [`00-${TRACE}-${SPAN}-01`, true],
    [`00-${TRACE}-${SPAN}-00`, false],
    // Other flags mean something to others, and later versions may say more.
    [`00-${TRACE}-${SPAN}-ff`, true],
    [`00-${TRACE}-${SPAN}-02`, false],
    [`cc-${TRACE}-${SPAN}-01`, true],
    [`cc-${TRACE}-${SPAN}-01-what the future brings`, true],
  ])("%s is understood", (text, isSampled) => {
    const context = { traceId: TRACE, spanId: SPAN, isSampled, state: "" };
    expect(parseTraceparent(text)).toEqual(context);
  });

  test.each([
    "",
    "00",
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-1`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE}-${SPAN}-01-`,
    `cc-${TRACE}-${SPAN}-01.`,
    `ff-${TRACE}-${SPAN}-01`,
    `0-${TRACE}-${SPAN}-01`,
    `00-${"0".repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${TRACE.slice(1)}-${SPAN}-01`,
    `00-${TRACE}a-${SPAN}-01`,
    `00-${TRACE}-${SPAN}g-01`,
    ` 00-${TRACE}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01\n`,
  ])("%j is none", (text) => expect(parseTraceparent(text)).toBeNull());

  test("comes back as it was written", () => {
    fc.assert(
      fc.property(contexts, (context) => {
        expect(parseTraceparent(formatTraceparent(context), context.state)).toEqual(context);
      }),
    );
  });

  test("a state that is too long, or no text, is left out", () => {
    const text = `00-${TRACE}-${SPAN}-01`;
    expect(parseTraceparent(text, "a=1,b=2")!.state).toBe("a=1,b=2");
    for (const state of ["x".repeat(513), "a=\n", "a=é"]) {
      expect(parseTraceparent(text, state)!.state).toBe("");
    }
  });
});

describe("between nodes", () => {
  test("a context comes back as it was", () => {
    fc.assert(
      fc.property(contexts, (context) => {
        expect(decodeContext(encodeContext(context))).toEqual(context);
      }),
    );
  });

  test("whatever comes is a context or none", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        const context = decodeContext(bytes);
        if (context === null) return;
        expect(parseTraceparent(formatTraceparent(context), context.state)).toEqual(context);
      }),
    );
  });
});
