/** Long values, and long lists, are answered in pieces, from where they lie. */
import { describe, expect, test } from "bun:test";
import { answerInSlices } from "../../../src/commands/slices.ts";
import { PLAIN, Reply, RESP2, TAGGED, type Dialect } from "../../../src/protocol/reply.ts";
import { RunQueue } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import { InProcessServer, respRequest, type InProcessClient } from "../../support/in-process.ts";

const MIB = 1_048_576;
const LONG = "v".repeat(3 * MIB);
/** Most that is gathered for one client: a piece of a value, in a buffer that is kept. */
const MOST_GATHERED_BYTES = MIB;

function serverWith(value: string): InProcessServer {
  const server = new InProcessServer();
  server.connect().send(respRequest("SET", "long", value));
  return server;
}

/** Says it in the words of a dialect. */
function say(client: InProcessClient, dialect: Dialect, ...words: string[]): void {
  client.send(dialect === RESP2 ? respRequest(...words) : `${words.join(" ")}\n`);
}

async function answer(client: InProcessClient, bytes: number): Promise<string> {
  let text = "";
  await eventually("all of the reply is there", () => {
    text += client.read();
    return text.length >= bytes;
  });
  return text;
}

describe("a long value", () => {
  const bulk = `$${LONG.length}\r\n${LONG}\r\n`;
  const quoted = `"${LONG}\\n"\n`;
  const cases: [string, Dialect, string[], string][] = [
    ["GET in plain lines", PLAIN, ["GET", "long"], `${LONG}\n`],
    ["GET in tagged lines", TAGGED, ["GET", "long"], `VALUE ${LONG}\r\n`],
    ["GET in RESP", RESP2, ["GET", "long"], bulk],
    ["MGET in plain lines", PLAIN, ["MGET", "long", "no", "long"], `${LONG}\n(null)\n${LONG}\n`],
    [
      "MGET in tagged lines",
      TAGGED,
      ["MGET", "long", "no"],
      `VALUES 1\r\nlong ${LONG}\r\nno NOT_FOUND\r\n`,
    ],
    ["MGET in RESP", RESP2, ["MGET", "no", "long", "long"], `*3\r\n$-1\r\n${bulk}${bulk}`],
  ];
  test.each(cases)("is answered whole: %s", async (_, dialect, words, expected) => {
    const server = serverWith(LONG);
    const client = server.connect(dialect === RESP2 ? PLAIN : dialect);
    say(client, dialect, ...words);
    say(client, dialect, "PING");
    const pong = { [PLAIN]: "PONG\n", [TAGGED]: "PONG\r\n" }[dialect as 0 | 1] ?? "+PONG\r\n";
    expect((await answer(client, expected.length + pong.length)) === expected + pong).toBe(true);
    expect(server.shared.reply.bytes.length).toBeLessThanOrEqual(MOST_GATHERED_BYTES);
    expect(client.session.heldBytes).toBe(0);
  });

  test("that has to be printed quoted is answered whole, too", async () => {
    const client = serverWith(`${LONG}\n`).connect();
    say(client, PLAIN, "GET", "long");
    expect((await answer(client, quoted.length)) === quoted).toBe(true);
  });

  test("is the one that was asked for, whatever becomes of it while the client reads", async () => {
    for (const words of [
      ["SET", "long", "w".repeat(LONG.length)],
      ["SETRANGE", "long", "2000000", "www"],
      ["APPEND", "long", "w"],
      ["DEL", "long"],
      ["FLUSHALL"],
    ]) {
      const server = serverWith(LONG);
      const readers = [server.connect(), server.connect()];
      readers[0].capacity = readers[1].capacity = MIB;
      say(readers[0], RESP2, "GET", "long");
      say(readers[1], RESP2, "MGET", "long");
      await eventually("some was sent", () => readers.every((it) => it.capacity === 0));
      server.connect().send(respRequest(...words));
      const expected = [bulk, `*1\r\n${bulk}`];
      let texts = ["", ""];
      await eventually("all of the reply is there", () => {
        for (const reader of readers) reader.drain(MIB);
        texts = texts.map((text, i) => text + readers[i].read());
        return texts.every((text, i) => text.length >= expected[i].length);
      });
      expect(texts.map((text, i) => text === expected[i])).toEqual([true, true]);
      expect(server.bugs).toEqual([]);
    }
  });

  test.each([
    ["GET", "long"],
    ["MGET", ...Array<string>(10).fill("long")],
  ])("is not gathered for a client that does not read: %s", async (...words) => {
    const client = serverWith(LONG).connect();
    client.capacity = 10;
    say(client, RESP2, ...words);
    await eventually("some was sent", () => client.capacity === 0);
    expect(client.connection.output.heldBytes).toBeLessThanOrEqual(MOST_GATHERED_BYTES);
  });

  test("is held for the client until it is sent, and no longer than the connection lives", async () => {
    const server = serverWith(LONG);
    const client = server.connect();
    client.capacity = MIB;
    say(client, RESP2, "GET", "long");
    await eventually("some was sent", () => client.capacity === 0);
    expect(client.session.heldBytes).toBe(LONG.length);
    client.connection.cut();
    expect(client.session.heldBytes).toBe(0);
  });

  test("larger than a reply may be is an error", async () => {
    const server = new InProcessServer({ maxOutputBytes: MIB });
    server.connect().send(respRequest("SET", "long", LONG));
    const client = server.connect();
    say(client, RESP2, "GET", "long");
    await eventually("there is an answer", () => client.writes > 0);
    expect(client.read()).toContain("exceeds network.max_output_bytes");
    expect(client.isTerminated).toBe(false);
  });
});

test("what is long is sent in pieces, however soon it is found", async () => {
  const reply = new Reply();
  let pieces = 0;
  const write = (it: Reply): boolean => {
    it.raw("piece");
    return ++pieces < 3;
  };
  const more = answerInSlices(() => true, write, reply, { runQueue: new RunQueue(eventLoop) });
  expect(pieces).toBe(1);
  expect(await more).toBe(write);
  reply.reset();
  expect(
    answerInSlices(
      () => true,
      () => {},
      reply,
      { runQueue: new RunQueue(eventLoop) },
    ),
  ).toBe(undefined);
});
