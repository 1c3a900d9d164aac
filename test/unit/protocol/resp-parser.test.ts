/** RESP requests: what is one, what is none, and what is too large to be one. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Request } from "../../../src/protocol/request.ts";
import {
  COMPLETE,
  INCOMPLETE,
  MALFORMED,
  RespParser,
  TOO_LARGE,
} from "../../../src/protocol/resp-parser.ts";
import { respRequest } from "../../support/in-process.ts";

const LIMITS = [100, 150] as const;

function parse(bytes: Uint8Array | string, parser = new RespParser(...LIMITS)) {
  const input = Buffer.from(bytes as string, "latin1");
  const request = new Request();
  const status = parser.parse(request, input, input.length);
  const parts = Array.from({ length: request.parts }, (_, i) =>
    input.toString("latin1", request.start(i - 1), request.start(i - 1) + request.length(i - 1)),
  );
  return { status, parts, read: request.readBytes, problem: parser.problem };
}

test("what was asked is what is read, whatever the bytes", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 20 }), { minLength: 1, maxLength: 5 }),
      fc.uint8Array(),
      (parts, rest) => {
        const request = respRequest(...parts);
        const found = parse(Buffer.concat([request, rest]), new RespParser(1_000, 10_000));
        expect(found.status).toBe(COMPLETE);
        expect(found.read).toBe(request.length);
        expect(found.parts).toEqual(parts.map((part) => Buffer.from(part).toString("latin1")));
      },
    ),
  );
});

test("nothing less than the whole is a request", () => {
  const whole = respRequest("SET", "key", "x".repeat(20), "");
  for (let length = 1; length < whole.length; length++) {
    expect(parse(whole.subarray(0, length)).status).toBe(INCOMPLETE);
  }
  expect(parse(whole).status).toBe(COMPLETE);
});

test("an empty array asks nothing", () => {
  for (const empty of ["*0\r\n", "*-1\r\n", "*-999\r\n"]) {
    expect(parse(empty)).toMatchObject({ status: COMPLETE, parts: [], read: empty.length });
  }
});

describe("not RESP", () => {
  test.each<[string, string]>([
    ["*\r\n", "invalid multibulk length"],
    ["*x\r\n", "invalid multibulk length"],
    ["*1x\r\n", "invalid multibulk length"],
    ["*-\r\n", "invalid multibulk length"],
    ["*+1\r\n", "invalid multibulk length"],
    ["*1\rx", "invalid multibulk length"],
    ["*1\n$1\r\n", "invalid multibulk length"],
    ["*1048577\r\n", "invalid multibulk length"],
    ["*" + "1".repeat(40), "invalid multibulk length"],
    ["*1\r\n:1\r\n", "expected '$', got ':'"],
    ["*1\r\n\r\n", "expected '$', got ' '"],
    ["*1\r\n\xff", "expected '$', got ' '"],
    ["*1\r\n$\r\n", "invalid bulk length"],
    ["*1\r\n$-1\r\n", "invalid bulk length"],
    ["*1\r\n$1a\r\n", "invalid bulk length"],
    ["*1\r\n$536870913\r\n", "invalid bulk length"],
    ["*1\r\n$" + "9".repeat(40), "invalid bulk length"],
  ])("%j", (bytes, problem) => {
    expect(parse(bytes)).toMatchObject({ status: MALFORMED, problem });
  });
});

describe("too large", () => {
  test("a part within the limit is read, one above refuses the whole, read to its end", () => {
    expect(parse(respRequest("SET", "k", "v".repeat(100))).status).toBe(COMPLETE);
    for (const parts of [
      ["SET", "k", "v".repeat(101)],
      ["v".repeat(101)],
      ["SET", "v".repeat(101), "b"],
      ["a".repeat(90), "b".repeat(90)],
    ]) {
      const request = respRequest(...parts);
      const found = parse(Buffer.concat([request, Buffer.from("PING\n")]));
      expect(found).toMatchObject({ status: TOO_LARGE, read: request.length });
    }
  });

  test("what is skipped is not waited for", () => {
    const request = respRequest("SET", "k", "v".repeat(5_000), "w");
    const parser = new RespParser(...LIMITS);
    const state = new Request();
    // Each chunk is thrown away once it was looked at, but for headers cut in two.
    let kept = Buffer.alloc(0);
    let status: number = INCOMPLETE;
    let most = 0;
    for (let at = 0; at < request.length; at += 50) {
      const input = Buffer.concat([kept, request.subarray(at, at + 50)]);
      most = Math.max(most, input.length);
      state.base = state.isRefused ? -state.readBytes : 0;
      status = parser.parse(state, input, input.length);
      kept = state.isRefused ? input.subarray(state.base + state.readBytes) : input;
    }
    expect(status).toBe(TOO_LARGE);
    expect(most).toBeLessThan(LIMITS[1] + 100);
  });
});
