/** A connection of the HTTP port without a socket: what becomes of the memory that comes. */
import { expect, test } from "bun:test";
import type { Socket } from "bun";
import { HttpConnection } from "../../../src/http/http-connection.ts";
import { ReadingTurns } from "../../../src/reading-turns.ts";
import { nextTurn } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";

const socket = {
  write: (bytes: Uint8Array) => bytes.length,
  pause() {},
  resume() {},
  shutdown() {},
  terminate() {},
} as unknown as Socket<HttpConnection | null>;

/** A connection, and the body of the request that came. */
function receive(): { connection: HttpConnection; body(): Uint8Array | null } {
  let body: Uint8Array | null = null;
  const connection = new HttpConnection(socket, {
    timing: eventLoop,
    readingTurns: new ReadingTurns(eventLoop),
    date: () => null,
    onSent() {},
    async answer(request) {
      body = await request.bytes(1_000_000);
      return new Response("");
    },
    onBug(error) {
      throw error;
    },
  });
  return { connection, body: () => body };
}

test("memory is given back as soon as what came in it is used", async () => {
  const { connection, body } = receive();
  const head = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
  const first = Uint8Array.from(Buffer.from(head + "x".repeat(50_000)));
  const second = new Uint8Array(50_000).fill(120);
  connection.onData(first);
  connection.onData(second);
  await eventually("the body is there", () => body() !== null);
  expect(Buffer.from(body()!).toString()).toBe("x".repeat(100_000));
  expect(first.buffer.byteLength).toBe(0);
  expect(second.buffer.byteLength).toBe(0);
});

test("of a body in very many chunks some are read at a time", async () => {
  const { connection, body } = receive();
  const head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  connection.onData(Buffer.from(head));
  await nextTurn(eventLoop);
  connection.onData(Uint8Array.from(Buffer.from(`${"1\r\nx\r\n".repeat(50_000)}0\r\n\r\n`)));
  let turns = 0;
  for (; body() === null && turns < 10_000; turns++) await nextTurn(eventLoop);
  expect(turns).toBeGreaterThan(20);
  expect(Buffer.from(body()!).toString()).toBe("x".repeat(50_000));
});

test("no more is read than is answered, and what was answered is given back", async () => {
  const request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  const requests = 3_000;
  let isPaused = false;
  let answered = 0;
  const reading = { pause: () => (isPaused = true), resume: () => (isPaused = false) };
  const connection = new HttpConnection(Object.assign(Object.create(socket), reading), {
    timing: eventLoop,
    readingTurns: new ReadingTurns(eventLoop),
    date: () => null,
    onSent() {},
    async answer() {
      answered++;
      await nextTurn(eventLoop);
      return new Response("");
    },
    onBug(error) {
      throw error;
    },
  });
  const chunk = (): Uint8Array => Uint8Array.from(Buffer.from(request.repeat(requests)));
  const chunks = [chunk()];
  connection.onData(chunks[0]);
  let sent = requests;
  let mostAhead = 0;
  for (let turns = 0; turns < 200; turns++) {
    await nextTurn(eventLoop);
    if (isPaused) continue;
    chunks.push(chunk());
    connection.onData(chunks.at(-1)!);
    sent += requests;
    mostAhead = Math.max(mostAhead, sent - answered);
  }
  expect(answered).toBeGreaterThan(0);
  expect(mostAhead).toBeLessThan(3 * requests);
  isPaused = true;
  await eventually("all is answered", () => answered === sent);
  expect(chunks.filter(({ buffer }) => buffer.byteLength > 0)).toEqual([]);
  connection.onClose();
});
