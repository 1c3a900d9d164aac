import { describe, expect, test } from "bun:test";
import { MAX_HELLO_BYTES, readHello } from "../../../src/protocol/tls-hello.ts";

/** A record of a handshake. */
function record(payload: Uint8Array, version = 1): Buffer {
  const { length } = payload;
  return Buffer.concat([Buffer.from([22, 3, version, length >> 8, length & 255]), payload]);
}

/** A ClientHello whose body is so long. */
function message(length: number, type = 1): Buffer {
  const head = [type, length >> 16, (length >> 8) & 255, length & 255];
  return Buffer.concat([Buffer.from(head), Buffer.alloc(length, 7)]);
}

test("a whole hello, and every part of it", () => {
  const hello = record(message(300));
  expect(readHello(hello)).toBe("whole");
  for (let end = 0; end < hello.length; end++) {
    expect([end, readHello(hello.subarray(0, end))]).toEqual([end, "part"]);
  }
});

test("in several records, down to single bytes", () => {
  const body = message(60);
  for (const size of [1, 3, 4, 5, 59, 63]) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < body.length; at += size)
      pieces.push(record(body.subarray(at, at + size)));
    const all = Buffer.concat(pieces);
    expect(readHello(all)).toBe("whole");
    expect(readHello(all.subarray(0, all.length - 1))).toBe("part");
  }
});

test("one that is there while its record is not is no whole one: TLS waits for the record", () => {
  const long = record(Buffer.concat([message(10), Buffer.alloc(20)]));
  expect(readHello(long.subarray(0, 25))).toBe("part");
  expect(readHello(long)).toBe("whole");
});

describe("no TLS", () => {
  test.each([
    ["a line", Buffer.from("PING\n")],
    ["a request", Buffer.from("*1\r\n$4\r\nPING\r\n")],
    ["another kind of record", Buffer.from([23, 3, 3, 0, 1, 0])],
    ["another protocol", Buffer.from([22, 4])],
    ["an empty record", Buffer.from([22, 3, 1, 0, 0])],
    ["a record beyond the bound", Buffer.from([22, 3, 1, 0x40, 1])],
    ["another message", record(message(10, 2))],
    ["a hello that is too long", record(message(MAX_HELLO_BYTES + 1).subarray(0, 100))],
    [
      "something after a part",
      Buffer.concat([record(message(50).subarray(0, 9)), Buffer.from("x")]),
    ],
  ])("%s", (_, bytes) => expect(readHello(bytes)).toBe("none"));
});
