/** CLIENT REPLY: requests that are run and not answered, however they come, and come to their end. */
import { expect, test } from "bun:test";
import { PLAIN, RESP2 } from "../../../src/protocol/reply.ts";
import { nextTurn } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { InProcessServer, respRequest } from "../../support/in-process.ts";

const ON = respRequest("CLIENT", "REPLY", "ON");
const OFF = respRequest("CLIENT", "REPLY", "OFF");
const SKIP = respRequest("CLIENT", "REPLY", "SKIP");
const INCR = respRequest("INCR", "n");

test("in one chunk, and byte by byte", () => {
  const all = Buffer.concat([INCR, SKIP, INCR, INCR, OFF, INCR, SKIP, INCR, ON, INCR]);
  const server = new InProcessServer();
  const whole = server.connect(RESP2).send(all).read();
  expect(whole).toBe(":1\r\n:3\r\n+OK\r\n:6\r\n");
  const client = server.connect(RESP2).send(respRequest("DEL", "n"));
  client.read();
  for (const byte of all) client.send(Uint8Array.of(byte));
  expect(client.read()).toBe(whole);
});

test("of lines, and of one that is too long", () => {
  const server = new InProcessServer({ maxLineBytes: 50 });
  const client = server.connect(PLAIN);
  client.send("CLIENT REPLY SKIP\nPING\nPING a\nCLIENT REPLY SKIP\n");
  for (let i = 0; i < 10; i++) client.send("a long line");
  client.send("\nPING b\nclient reply off\nPING\nnonsense\nclient reply on\n");
  expect(client.read()).toBe("PONG a\nPONG b\nOK\n");
});

/** A server whose CONFIG SET is answered later. */
function slowServer(): { server: InProcessServer; isOver: () => boolean } {
  let count = 0;
  const set = async () => {
    await nextTurn(eventLoop);
    count++;
    return { ok: true, changed: [], needRestart: [], notices: [] } as const;
  };
  const settings = { values: () => new Map(), set, unset: set, reload: set };
  const server = new InProcessServer({ services: { settings } });
  return { server, isOver: () => count === 2 };
}

test("of requests whose replies come later", async () => {
  const { server, isOver } = slowServer();
  const client = server.connect(RESP2);
  const slow = respRequest("CONFIG", "SET", "network.idle_timeout", "5");
  client.send(Buffer.concat([SKIP, slow, INCR, OFF, slow, INCR, ON]));
  let text = "";
  while (!text.endsWith("+OK\r\n")) {
    await nextTurn(eventLoop);
    text += client.read();
  }
  expect([text, isOver(), server.bugs]).toEqual([":1\r\n+OK\r\n", true, []]);
});

test("nor are a protocol error, and what MONITOR would say", async () => {
  const server = new InProcessServer();
  const monitor = server.connect(RESP2).send(respRequest("MONITOR"));
  monitor.send(OFF);
  expect(monitor.read()).toBe("+OK\r\n");
  server.connect(RESP2).send(respRequest("GET", "seen"));
  await nextTurn(eventLoop);
  await nextTurn(eventLoop);
  expect(monitor.read()).toBe("");
  monitor.send("*1\r\n!\r\n");
  expect([monitor.read(), monitor.isShutDown]).toEqual(["", true]);
});
