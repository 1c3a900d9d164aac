/** What is taken for HTTP or TLS, and what is not. */
import { expect, test } from "bun:test";
import { httpAnswer, isHttp, isTlsHello } from "../../../src/protocol/other-protocols.ts";

function looksAt(line: string, isFirst: boolean): boolean {
  const bytes = Buffer.from(`before\n${line}\nafter`);
  return isHttp(bytes, 7, bytes.length - 6, isFirst);
}

test.each([
  "GET / HTTP/1.1",
  "get /index.html?x=1 HTTP/1.0",
  "PUT /k HTTP/2",
  "OPTIONS * HTTP/1.1",
  "PRI * HTTP/2.0",
  " GET  /  HTTP/1.1",
  `GET /${"x".repeat(10_000)} HTTP/1.1`,
  "CONNECT 127.0.0.1:7379 HTTP/1.1",
  "QUERY / HTTP/1.1",
  // Methods made up by a page that a browser takes to be this port's own.
  "SET /key HTTP/1.1",
  "flushdb / HTTP/1.1",
  "DEL http://evil.example/key HTTP/1.1",
  "SHUTDOWN * HTTP/1.1",
])("a request line that comes first: %p", (line) => {
  expect(looksAt(line, true)).toBe(true);
  expect(looksAt(line, false)).toBe(false);
});

test.each(["POST / HTTP/1.1", "post x", "PoSt /", "Host: localhost", "HOST:", "hOsT: x"])(
  "a line that no command begins like, wherever it is: %p",
  (line) => expect([looksAt(line, true), looksAt(line, false)]).toEqual([true, true]),
);

test.each([
  "",
  "P",
  "POST",
  "Host",
  "HOSTS: x",
  "POSTS a",
  "PING",
  "GET k",
  "SET proto HTTP/1.1",
  "SET log GET /x HTTP/1.1",
  "HTTP/1.1",
  "SET /path HTTP",
  "SET page HTTP/1.1",
  "SET k GET / HTTP/1.1",
  "GET / HTTP/1.1 ",
  `SET k ${"v".repeat(100)} HTTP/1.1`,
])("no HTTP: %p", (line) => expect(looksAt(line, true)).toBe(false));

test("the answer is one that HTTP clients understand", () => {
  const [head, body] = httpAnswer().split("\r\n\r\n");
  expect(head).toStartWith("HTTP/1.1 400 ");
  expect(head).toContain(`Content-Length: ${Buffer.byteLength(body)}\r\n`);
});

test("a TLS hello is known by two bytes", () => {
  const looksLikeTls = (...bytes: number[]) => {
    const all = Uint8Array.of(0x2a, ...bytes, 0x03);
    return isTlsHello(all, 1, 1 + bytes.length);
  };
  expect(looksLikeTls(0x16, 0x03, 0x01)).toBe(true);
  expect(looksLikeTls(0x16, 0x03)).toBe(true);
  expect(looksLikeTls(0x16)).toBeUndefined();
  expect(looksLikeTls(0x16, 0x16)).toBe(false);
  expect(looksLikeTls(0x50, 0x03)).toBe(false);
});
