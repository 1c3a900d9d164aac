/** How messages are taken from a broker that sends thousands in one piece. */
import { eventLoop } from "../../../src/world.ts";
import { expect, test } from "bun:test";
import { createServer, type AddressInfo } from "node:net";
import { PassThrough, Writable } from "node:stream";
import { silentLogger } from "../../../src/observability/log.ts";
import { MqttTransport } from "../../../src/replication/mqtt-transport.ts";
import { pipeInPieces } from "../../../src/replication/pieces.ts";
import { eventually } from "../../support/eventually.ts";

const MESSAGES = 300;
const CONNACK = Buffer.of(0x20, 3, 0, 0, 0);
/** QoS 0, topic "t", no properties, one byte. */
const PUBLISH = Buffer.of(0x30, 5, 0, 1, 0x74, 0, 0x78);

/** Lets anybody in, grants one subscription, and then sends all messages at once. */
async function startBroker() {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (packet: Buffer) => {
      if (packet[0] === 0x10) socket.write(CONNACK);
      if (packet[0] !== 0x82) return;
      const suback = Buffer.of(0x90, 4, packet[2], packet[3], 0, 1);
      socket.write(Buffer.concat([suback, ...Array<Buffer>(MESSAGES).fill(PUBLISH)]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port, stop: () => server.close() };
}

test("what came in one piece is parsed in many, a turn for each", async () => {
  const source = new PassThrough();
  const parsed: number[] = [];
  let parsedBytes = 0;
  let turns = 0;
  const look = (): void => {
    turns++;
    if (parsedBytes < 1_000_000) setImmediate(look);
  };
  setImmediate(look);
  pipeInPieces(source, eventLoop).pipe(
    new Writable({
      write(piece: Buffer, _encoding, done) {
        parsed.push(piece.length);
        parsedBytes += piece.length;
        done();
      },
    }),
  );
  source.write(Buffer.alloc(1_000_000));
  await eventually("all is parsed", () => parsedBytes === 1_000_000);
  expect(Math.max(...parsed)).toBeLessThanOrEqual(16_384);
  expect(turns).toBeGreaterThanOrEqual(parsed.length - 2);
});

test("others have their turn between messages, however many came at once", async () => {
  const broker = await startBroker();
  let taken = 0;
  const transport = new MqttTransport({
    broker: { protocol: "mqtt", host: "127.0.0.1", port: broker.port, path: "" },
    clientId: "test",
    username: "",
    password: "",
    keepAliveSeconds: 60,
    cleanSession: true,
    protocol: "auto",
    maxPacketBytes: 1_000_000,
    maxSentBytes: 1_000_000,
    maxMessagesPerSecond: 0,
    subscriptions: [{ topic: "t", ownToo: true }],
    logger: silentLogger,
    random: Math.random,
    timing: eventLoop,
    will: () => ({ topic: "w", payload: Buffer.from("gone") }),
    onUp() {},
    onDown() {},
    onMessage(_topic, _payload, _retained, done) {
      for (const start = performance.now(); performance.now() - start < 0.5;);
      taken++;
      done();
    },
    onTakenOver() {},
  });
  let most = 0;
  let before = 0;
  let isOver = false;
  const look = (): void => {
    most = Math.max(most, taken - before);
    before = taken;
    if (!isOver) setImmediate(look);
  };
  setImmediate(look);
  transport.open();
  await eventually("all are taken", () => taken === MESSAGES);
  isOver = true;
  await transport.close();
  broker.stop();
  // A slice is 1 ms, and each of them takes half of one.
  expect(most).toBeLessThan(10);
});
