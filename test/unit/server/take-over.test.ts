/** A connection that PEER takes out of the client protocol. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Link, LinkHandler } from "../../../src/ports.ts";
import { InProcessServer, type InProcessClient } from "../../support/in-process.ts";

/** Takes a connection over and notes what happens to it. */
class Recorder implements LinkHandler {
  link!: Link;
  received = Buffer.alloc(0);
  drains = 0;
  ends = 0;
  isRound: boolean | null = null;

  receive(bytes: Uint8Array): void {
    this.received = Buffer.concat([this.received, bytes]);
  }
  drained(): void {
    this.drains++;
  }
  closed(): void {
    this.ends++;
  }
}

function connect(): { recorder: Recorder; client: InProcessClient; server: InProcessServer } {
  const recorder = new Recorder();
  const server = new InProcessServer({
    services: {
      synchronization: {
        sync: async () => ({ ok: true, reason: "", rootsEqual: null, hasSetAside: false }),
        isPeer: () => false,
        passOn: () => "nowhere",
        forget: () => null,
        resetPeaks() {},
        accept(isRound) {
          recorder.isRound = isRound;
          return (link) => {
            recorder.link = link;
            return recorder;
          };
        },
      },
    },
  });
  return { recorder, client: server.connect(), server };
}

const PAYLOAD = Buffer.from("GET a\n*1\r\n\0\xff\r\nPEER\nSET a", "latin1");

test("what follows the request reaches the handler untouched, however it is cut", async () => {
  const bytes = Buffer.concat([Buffer.from("SET a 1\nGET a\nPEER\n"), PAYLOAD]);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(bytes.length), { maxLength: 6 }), async (cuts) => {
      const { recorder, client, server } = connect();
      const ends = [...cuts, bytes.length].sort((a, b) => a - b);
      const chunks = ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
      await client.deliver(chunks.filter((chunk) => chunk.length > 0));
      expect(client.read()).toBe("OK\n1\n");
      expect(recorder.received.equals(PAYLOAD)).toBe(true);
      expect(recorder.isRound).toBe(false);
      expect(server.shared.deadlines.halfSent.size).toBe(0);
    }),
  );
});

test("it says whether the peer came by itself, in RESP too", () => {
  const { recorder, client } = connect();
  client.send("*2\r\n$4\r\nPEER\r\n$5\r\nround\r\nrest");
  expect(recorder.isRound).toBe(true);
  expect(recorder.received.toString()).toBe("rest");
});

describe("a handler", () => {
  test("sees what waits to be sent, and when it is gone", () => {
    const { recorder, client } = connect();
    client.send("PEER\n");
    client.capacity = 4;
    const bytes = Buffer.from("0123456789");
    recorder.link.send(bytes);
    bytes.fill(0x78); // it was copied
    recorder.link.send(Buffer.from("abc"));
    expect(recorder.link.queuedBytes).toBe(9);
    client.drain(3);
    expect(recorder.link.queuedBytes).toBe(6);
    expect(recorder.drains).toBe(0);
    client.drain(100);
    expect(recorder.link.queuedBytes).toBe(0);
    expect(recorder.drains).toBe(1);
    expect(client.read()).toBe("0123456789abc");
  });

  test("is shown what comes, whose memory is given back then", () => {
    const { recorder, client } = connect();
    client.send("PEER\n");
    const chunk = new Uint8Array(100_000).fill(120);
    client.connection.onData(chunk);
    expect(recorder.received.length).toBe(100_000);
    expect(chunk.buffer.byteLength).toBe(0);
  });

  test("holds the other side back", () => {
    const { recorder, client } = connect();
    client.send("PEER\n");
    recorder.link.pause();
    expect(client.isPaused).toBe(true);
    recorder.link.resume();
    expect(client.isPaused).toBe(false);
  });

  test("ends the connection when all is sent", () => {
    const { recorder, client } = connect();
    client.send("PEER\n");
    client.capacity = 0;
    recorder.link.send(Buffer.from("last"));
    recorder.link.end();
    expect(recorder.ends).toBe(1);
    expect(client.isShutDown).toBe(false);
    client.send("more");
    recorder.link.send(Buffer.from("too late"));
    client.drain(100);
    expect(client.read()).toBe("last");
    expect(client.isShutDown).toBe(true);
    expect(recorder.received.length).toBe(0);
    recorder.link.send(Buffer.from("too late"));
    expect(client.read()).toBe("");
  });

  test.each([
    ["the other side ends it", ({ connection }: InProcessClient) => connection.onEnd()],
    ["it breaks", ({ connection }: InProcessClient) => connection.onClose()],
    ["the node stops", ({ connection }: InProcessClient) => connection.end()],
  ] as const)("hears once that it is over: %s", (_how, finish) => {
    const { recorder, client } = connect();
    client.send("PEER\nbytes");
    finish(client);
    finish(client);
    client.connection.onClose();
    expect(recorder.ends).toBe(1);
    expect(recorder.received.toString()).toBe("bytes");
  });
});

test("a refusal is an error in the client's dialect and the end", () => {
  const server = new InProcessServer();
  const client = server.connect();
  client.send("PEER\nGET a\n");
  expect(client.read()).toBe("ERROR: Connection failed - there is no network\n");
  expect(client.isShutDown).toBe(true);
});
