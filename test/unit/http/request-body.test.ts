/** Bodies in chunks, however they come. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { RequestBody } from "../../../src/http/request-body.ts";

function inChunks(chunks: readonly Uint8Array[]): Buffer {
  const lines = chunks.map((it) => [Buffer.from(`${it.length.toString(16)}\r\n`), it, CR_LF]);
  return Buffer.concat([...lines.flat(), Buffer.from("0\r\n\r\n")]);
}

const CR_LF = Buffer.from("\r\n");

test("is what the chunks hold, wherever they are cut, and takes nothing of what follows", () => {
  const chunk = fc.uint8Array({ minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 30 }), fc.array(fc.nat(1_000)), (chunks, cuts) => {
      const all = Buffer.concat([inChunks(chunks), Buffer.from("GET")]);
      const ends = [...cuts.filter((it) => it < all.length), all.length].sort((a, b) => a - b);
      const body = new RequestBody(null, 10_000);
      let at = 0;
      for (const end of ends) if (!body.isOver) at += body.take(all.subarray(at, end));
      expect(body.isOver).toBe(true);
      expect(Buffer.compare(body.bytes(), Buffer.concat(chunks))).toBe(0);
      expect(all.toString("latin1", at)).toBe("GET");
    }),
  );
});

test("takes of very many chunks some at a time", () => {
  const all = inChunks(Array.from({ length: 50_000 }, () => Buffer.from("x")));
  const body = new RequestBody(null, 100_000);
  const takes: number[] = [];
  for (let at = 0; !body.isOver; at += takes.at(-1)!) takes.push(body.take(all.subarray(at)));
  expect(Math.max(...takes)).toBeLessThanOrEqual(5_000);
  expect(Buffer.from(body.bytes()).toString()).toBe("x".repeat(50_000));
});
