/** Replies read as values: what `reply.ts` writes is read back. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { RESP3, Reply } from "../../../src/protocol/reply.ts";
import { RespError, readRespReply, type RespReply } from "../../../src/protocol/resp-value.ts";
import { Int64 } from "../../../src/core/data/int64.ts";

const value = fc.letrec<{ any: RespReply }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    fc.constant(null),
    fc.constantFrom("OK", "PONG x"),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.uint8Array({ maxLength: 30 }),
    fc.constant(new RespError("ERR", "of some kind")),
    fc.array(tie("any"), { maxLength: 4 }),
  ),
})).any;

function write(it: RespReply, reply: Reply): void {
  if (it === null) reply.missing();
  else if (typeof it === "string") reply.simple(it);
  else if (typeof it === "bigint") {
    const number = new Int64();
    number.set(Number(it >> 32n), Number(it & 0xffff_ffffn));
    reply.integer(number);
  } else if (it instanceof Uint8Array) reply.bulk(it, 0, it.length);
  else if (it instanceof RespError) reply.respError(`${it.code} ${it.message}`);
  else {
    reply.array(it.length);
    for (const each of it) write(each, reply);
  }
}

test("every reply comes back, and a part of one is none", () => {
  fc.assert(
    fc.property(value, fc.nat(), (it, cut) => {
      const reply = new Reply();
      reply.dialect = RESP3;
      write(it, reply);
      const bytes = reply.handOver();
      expect(readRespReply(bytes)).toEqual(it);
      expect(() => readRespReply(bytes.subarray(0, cut % (bytes.length - 1)))).toThrow();
    }),
  );
});

test("a map is a list of its keys and values", () => {
  expect(readRespReply(Buffer.from("%1\r\n+a\r\n:1\r\n"))).toEqual(["a", 1n]);
});
