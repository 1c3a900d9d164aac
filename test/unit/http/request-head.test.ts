/** What a request may look like, and what its body is, however it comes in pieces. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BodyProblem, RequestBody } from "../../../src/http/request-body.ts";
import { endOfHead, parseHead } from "../../../src/http/request-head.ts";

/** The status of a refusal; else what the head says. */
function read(text: string): unknown {
  const head = parseHead(text.replace(/\r\n\r\n$/, ""));
  if ("reason" in head) return head.status;
  const { method, url, bodyBytes, keepsAlive } = head;
  return [method, url.host, url.pathname + url.search, bodyBytes, keepsAlive];
}

describe("a head", () => {
  test.each([
    ["GET /a%20b?c=d HTTP/1.1\r\nHost: x:9", ["GET", "x:9", "/a%20b?c=d", 0, true]],
    ["GET / HTTP/1.1\r\nhOsT:x\r\nConnection: a, Close", ["GET", "x", "/", 0, false]],
    ["GET / HTTP/1.0\r\nHost: x", ["GET", "x", "/", 0, false]],
    ["GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive", ["GET", "x", "/", 0, true]],
    ["PUT /k HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 7", ["PUT", "[::1]", "/k", 7, true]],
    ["PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked", ["PUT", "x", "/k", null, true]],
    ["PUT /k HTTP/1.1\r\nHost: \tx \r\nContent-Length: 1 ", ["PUT", "x", "/k", 1, true]],
    // The target counts, as it says.
    ["GET http://y/p HTTP/1.1\r\nHost: x", ["GET", "y", "/p", 0, true]],
    ["GET //y/p HTTP/1.1\r\nHost: x", ["GET", "x", "//y/p", 0, true]],
  ])("%j is understood", (text, expected) => expect(read(text)).toEqual(expected));

  test.each([
    ["", 400],
    ["GET /", 400],
    ["get / HTTP/1.1\r\nHost: x", 400],
    ["GET  / HTTP/1.1\r\nHost: x", 400],
    ["GET / HTTP/1.1 \r\nHost: x", 400],
    ["GET /\t HTTP/1.1\r\nHost: x", 400],
    ["GET /\xff HTTP/1.1\r\nHost: x", 400],
    ["GET / HTTP/2.0\r\nHost: x", 505],
    ["GET / HTTP/1.2\r\nHost: x", 505],
    ["GET / HTTP/1.1", 400],
    ["GET / HTTP/1.1\r\nHost:", 400],
    ["GET / HTTP/1.1\r\nHost: a b", 400],
    ["GET / HTTP/1.1\r\nHost: [", 400],
    ["GET / HTTP/1.1\r\nHost: a@b", 400],
    ["GET / HTTP/1.1\r\nHost: a:99999", 400],
    ["GET / HTTP/1.1\r\nHost: a/b", 400],
    ["GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400],
    ["GET / HTTP/1.1\r\nHost : a", 400],
    ["GET / HTTP/1.1\r\nHost: a\r\n b: c", 400],
    ["GET / HTTP/1.1\r\nHost: a\r\nx", 400],
    ["GET / HTTP/1.1\r\nHost: a\r\nx\0: y", 400],
    ["GET / HTTP/1.1\r\nHost: a\r\nx: y\nz: w", 400],
    ["GET / HTTP/1.1\r\nHost: a\r\nx: \ry", 400],
    ["OPTIONS * HTTP/1.1\r\nHost: a", 400],
    ["CONNECT a:1 HTTP/1.1\r\nHost: a", 400],
    ["GET ftp://a/ HTTP/1.1\r\nHost: a", 400],
    ["PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1", 400],
    ["PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1", 400],
    ["PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1", 400],
    ["PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1", 400],
    ["PUT / HTTP/1.1\r\nHost: a\r\nContent-Length:", 400],
    ["PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400],
    ["PUT / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked", 400],
    ["PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked", 501],
    ["PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked", 501],
    [`GET / HTTP/1.1\r\n${"x: y\r\n".repeat(101)}Host: a`, 431],
  ])("%.80j is refused", (text, status) => expect(read(text)).toBe(status));

  test("ends with an empty line, and nothing else", () => {
    const end = (text: string): number => endOfHead(Buffer.from(`__${text}`).subarray(2));
    expect(end("GET / HTTP/1.1\r\n\r\nx")).toBe(18);
    expect(end("GET / HTTP/1.1\n\nx")).toBe(-1);
    expect(end("GET / HTTP/1.1\r\n\r")).toBe(-1);
  });
});

const MOST = 1_000;

/** What becomes of a body that comes in pieces of those lengths: its bytes and what is left. */
function take(announced: number | null, bytes: Buffer, lengths: readonly number[]): unknown {
  try {
    const body = new RequestBody(announced, MOST);
    let taken = 0;
    for (let at = 0, i = 0; at < bytes.length && !body.isOver; i++) {
      const piece = bytes.subarray(at, at + (lengths[i % lengths.length] ?? bytes.length));
      taken += body.take(piece);
      at += piece.length;
    }
    return [body.isOver ? Buffer.from(body.bytes()).toString("latin1") : null, taken];
  } catch (error) {
    if (error instanceof BodyProblem) return error.status;
    throw error;
  }
}

describe("a body", () => {
  const pieces = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 5 });

  test("is what was sent, of a length or in chunks, whatever it comes in", () => {
    const chunks = fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { maxLength: 8 });
    fc.assert(
      fc.property(chunks, pieces, fc.uint8Array({ maxLength: 30 }), (parts, lengths, next) => {
        const all = Buffer.concat(parts);
        const plain = [all.toString("latin1"), all.length];
        if (all.length > 0) {
          expect(take(all.length, Buffer.concat([all, next]), lengths)).toEqual(plain);
        }
        const lines = parts.flatMap((it, i) => [
          Buffer.from(`${it.length.toString(16)}${i % 2 === 0 ? "" : ";a=b"}\r\n`),
          it,
          Buffer.from("\r\n"),
        ]);
        const end = Buffer.from("0\r\nx: y\r\n\r\n");
        const chunked = Buffer.concat([...lines, end]);
        const expected = [all.toString("latin1"), chunked.length];
        expect(take(null, Buffer.concat([chunked, next]), lengths)).toEqual(expected);
      }),
    );
  });

  test.each([
    ["x\r\n", 400],
    ["-1\r\n", 400],
    ["0x1\r\na\r\n", 400],
    ["\r\n", 400],
    ["1\na\n", 400],
    ["1\ra\r\n", 400],
    ["1\r\nab\r\n", 400],
    ["1\r\na0\r\n\r\n", 400],
    ["ffffffff\r\n", 413],
    ["fffffffff\r\n", 400],
    ["3e8\r\n", [null, 5]],
    ["3e9\r\n", 413],
    [`1;${"x".repeat(300)}\r\n`, 400],
    [`0\r\n${`${"x".repeat(200)}\r\n`.repeat(30)}`, 400],
    ["0\r\n\r\n0\r\n", ["", 5]],
  ])("in chunks: %.40j", (text, expected) => {
    for (const lengths of [[1_000], [1], [2, 3]]) {
      expect(take(null, Buffer.from(text), lengths)).toEqual(expected);
    }
  });

  test("is refused when it is announced as too long", () => {
    expect(take(MOST + 1, Buffer.from("x"), [1])).toBe(413);
    expect(take(0, Buffer.from("x"), [1])).toEqual(["", 0]);
  });
});
