/** Connections of the HTTP port, by sockets: in what order answers come, and who is cut off. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { HttpListener } from "../../../src/http/http-listener.ts";
import type { HttpRequest } from "../../../src/http/http-connection.ts";
import { streamOf } from "../../../src/http/api-json.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";

let listener: HttpListener;
let asked: string[];
let ended: string[];
let sockets: Socket[];
let nowMs: number | null;

async function answer(request: HttpRequest): Promise<Response> {
  const { pathname } = request.url;
  asked.push(pathname);
  request.signal.addEventListener("abort", () => ended.push(pathname));
  if (pathname === "/slow") await new Promise((resolve) => setImmediate(resolve));
  if (pathname === "/held-up") await new Promise<never>(() => {});
  if (pathname === "/echo") {
    const body = await request.bytes(1_000_000).catch((error: Error) => error);
    if (body instanceof Error) return new Response(null, { status: 400 });
    return new Response(body);
  }
  if (pathname !== "/stream") return new Response(pathname);
  const next = async () => ({ bytes: new Uint8Array(65_536), isAll: false });
  return new Response(streamOf(() => ended.push("stream"), next).stream);
}

function onBug(error: unknown): void {
  throw error;
}

beforeEach(() => {
  [asked, ended, sockets] = [[], [], []];
  nowMs = 784_111_777_999;
  listener = new HttpListener(
    {
      host: "127.0.0.1",
      timing: eventLoop,
      mostConnections: 3,
      mostAheadBytes: 500_000,
      wallMs: () => nowMs,
      tls: () => null,
      answer,
      onBug,
    },
    0,
  );
});
afterEach(() => {
  listener.stop();
  for (const socket of sockets) socket.destroy();
});

class Client {
  text = "";
  isClosed = false;

  constructor(readonly socket: Socket) {
    socket.on("data", (chunk: Buffer) => (this.text += chunk.toString("latin1")));
    socket.on("close", () => (this.isClosed = true));
    socket.on("error", () => {});
  }

  static async connect(allowHalfOpen = false): Promise<Client> {
    const socket = connect({ port: listener.port, host: "127.0.0.1", allowHalfOpen });
    sockets.push(socket);
    const client = new Client(socket);
    await new Promise((resolve) => socket.once("connect", resolve));
    return client;
  }

  says(text: string): void {
    this.socket.write(text);
  }

  /** Waits for an answer whose body ends so. */
  async hears(end: string): Promise<void> {
    await eventually(`it hears ${end}`, () => this.text.endsWith(end));
  }

  get statuses(): string[] {
    return [...this.text.matchAll(/HTTP\/1.1 (\d+)/g)].map((it) => it[1]);
  }
}

const get = (path: string, more = ""): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
const post = (path: string, body: string, more = ""): string =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`;

test("requests are answered one after the other, in order, however they come", async () => {
  const client = await Client.connect();
  const all = get("/slow") + post("/echo", "hello") + get("/a") + post("/b", "unread") + get("/c");
  for (const byte of all) client.says(byte);
  await client.hears("/c");
  expect(client.statuses).toEqual(["200", "200", "200", "200", "200"]);
  expect(client.text.replace(/HTTP[^]*?\r\n\r\n/g, " ")).toBe(" /slow hello /a /b /c");
  client.says(get("/d", "Connection: close\r\n"));
  await eventually("it is closed", () => client.isClosed);
  expect(client.text).toEndWith("/d");
});

test("HEAD has no body, and a client of 1.0 is answered once", async () => {
  const client = await Client.connect();
  client.says(`HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n${get("/b")}`);
  await client.hears("/b");
  client.says("GET /c HTTP/1.0\r\nHost: x\r\n\r\n");
  await eventually("it is closed", () => client.isClosed);
  expect(client.text.replace(/HTTP[^]*?\r\n\r\n/g, " ")).toBe("  /b /c");
});

test("each answer says what time it is, or nothing of it where nobody knows", async () => {
  const client = await Client.connect();
  const times = [nowMs, 784_111_778_000, null, 784_111_779_000];
  for (const [i, ms] of times.entries()) {
    nowMs = ms;
    client.says(get(`/${i}`));
    await client.hears(`/${i}`);
  }
  client.says("nonsense\r\n\r\n");
  await eventually("it is closed", () => client.isClosed);
  const answers = client.text.split("HTTP/1.1 ").slice(1);
  expect(answers.map((text) => /^date: (.*)\r$/m.exec(text)?.[1])).toEqual([
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:38 GMT",
    undefined,
    "Sun, 06 Nov 1994 08:49:39 GMT",
    "Sun, 06 Nov 1994 08:49:39 GMT",
  ]);
});

test("a body is asked for, if the client waits for that", async () => {
  const client = await Client.connect();
  client.says(
    "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
  );
  await client.hears("HTTP/1.1 100 Continue\r\n\r\n");
  client.says("ok");
  await client.hears("ok");
});

test("who says no more is answered what it asked", async () => {
  const client = await Client.connect(true);
  client.socket.end(get("/slow") + get("/last"));
  await eventually("it is closed", () => client.isClosed);
  expect(client.text).toEndWith("/last");
});

test("a body that nobody wants is not read, and the answer arrives all the same", async () => {
  const client = await Client.connect();
  client.says(`POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: ${10 ** 9}\r\n\r\n`);
  client.says("x".repeat(300_000));
  await eventually("it is told", () => client.text.endsWith("/no"));
  expect(client.text).toContain("connection: close");
});

describe("what makes no sense is told, and ends the connection", () => {
  test.each([
    ["nonsense\r\n\r\n", "400"],
    [`GET / HTTP/1.1\r\nX: ${"y".repeat(20_000)}`, "431"],
    [
      post("/echo", "").replace("Content-Length: 0", "Transfer-Encoding: chunked") + "zz\r\n",
      "400",
    ],
  ])("%.40j", async (text, status) => {
    const client = await Client.connect();
    client.says(text + get("/hidden"));
    await eventually("it is closed", () => client.isClosed);
    expect(client.statuses).toEqual([status]);
    expect(asked).not.toContain("/hidden");
  });
});

test("who does not read what it asked for is waited for, and costs nothing", async () => {
  const client = await Client.connect();
  client.socket.pause();
  client.says(get("/stream"));
  await eventually("it is answered", () => asked.length === 1);
  client.socket.destroy();
  await eventually("the stream is over", () => ended.includes("stream"));
  expect(ended).toContain("/stream");
});

test("where there are many, the one that waits for its client the longest makes room", async () => {
  const [first, second, third] = [
    await Client.connect(),
    await Client.connect(),
    await Client.connect(),
  ];
  second.says(get("/slow"));
  await second.hears("/slow");
  first.says("GET /half");
  const fourth = await Client.connect();
  fourth.says(get("/a"));
  await fourth.hears("/a");
  await eventually("one is cut", () => [first, second, third].some(({ isClosed }) => isClosed));
  expect([first, second, third, fourth].filter(({ isClosed }) => isClosed).length).toBe(1);
  expect(second.isClosed).toBe(false);
});

test("where the answers of all are held up, the one that was asked for first makes room", async () => {
  const held = [await Client.connect(), await Client.connect(), await Client.connect()];
  for (const [i, client] of held.entries()) {
    client.says(get("/held-up"));
    await eventually("it is asked", () => asked.length === i + 1);
  }
  // Answers that may still come in good time are not given up for others.
  await eventually("another is let in", async () => {
    const other = await Client.connect();
    other.says(get("/a"));
    await eventually("it is answered or refused", () => other.isClosed || other.text !== "");
    return other.text.includes("/a");
  });
  expect(held.map(({ isClosed }) => isClosed)).toEqual([true, false, false]);
});

test("who hangs up is not answered to the end of what it has asked for", async () => {
  const { socket } = await Client.connect();
  const requests = 20_000;
  const sent = "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n".repeat(requests);
  socket.write(sent);
  await eventually("some are answered", () => asked.length > 10);
  socket.destroy();
  await eventually("it is known to be gone", () => ended.length > 0);
  const answered = asked.length;
  expect(answered).toBeLessThan(requests / 2);
  await new Promise((resolve) => setImmediate(resolve));
  expect(asked.length).toBe(answered);
});

test("of those who ask for more and read nothing, some go when too much lies there", async () => {
  const requests = "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n".repeat(60_000);
  const clients: Client[] = [];
  for (let i = 0; i < 3; i++) {
    const client = await Client.connect();
    client.socket.pause();
    client.socket.write(requests);
    await eventually("it is answered", () => asked.length > i);
    clients.push(client);
  }
  await eventually("one has gone", () => ended.length > 0);
  for (const { socket } of clients) socket.resume();
  await eventually("it sees it", () => clients.some(({ isClosed }) => isClosed));
  expect(clients.every(({ isClosed }) => isClosed)).toBe(false);
});
