/**
 * The attacker is a web page that somebody opens who can reach a node: what it makes the browser
 * send changes nothing and tells it nothing.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { browse, chromium } from "../support/chromium.ts";
import { LineClient } from "../support/line-client.ts";
import { freePort } from "../support/mosquitto.ts";
import { soloConfig, startNodeProcess, type NodeProcess } from "../support/process.ts";

/** What the page would have the node do, in every form that the node understands. */
const COMMANDS = [
  "SET planted 1",
  "FLUSHDB",
  "DEL kept",
  "REPLICATE disable",
  "SHUTDOWN",
  "*3\r\n$3\r\nSET\r\n$7\r\nplanted\r\n$1\r\n1\r\n*1\r\n$8\r\nFLUSHALL\r\n",
  "PEER",
].join("\r\n");
const BODY = `\r\n${COMMANDS}\r\n`;

let node: NodeProcess;
let own: LineClient;
beforeEach(async () => {
  node = await startNodeProcess();
  own = await LineClient.connect(node.port);
  expect(await own.send("SET kept secret-value")).toBe("OK");
});
afterEach(async () => {
  await own.close();
  await node.stop();
});

async function expectUntouched(): Promise<void> {
  expect(await own.send("GET kept")).toBe("secret-value");
  expect(await own.send("DBSIZE")).toBe("1");
}

/** All that the node says to somebody who sends these pieces, each by itself, and never ends. */
async function answerTo(pieces: readonly (string | Uint8Array)[]): Promise<string> {
  const socket = Promise.withResolvers<string>();
  let answer = "";
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: node.port,
    socket: {
      data: (_, chunk) => void (answer += chunk.toString("latin1")),
      end: (it) => void it.end(),
      close: () => socket.resolve(answer),
      error: () => socket.resolve(answer),
    },
  });
  client.setNoDelay(true);
  for (const piece of pieces) {
    client.write(piece);
    client.flush();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return socket.promise;
}

const head = (line: string, ...headers: string[]) =>
  [line, ...headers, `Content-Length: ${BODY.length}`].join("\r\n") + "\r\n\r\n";
const HOST = "Host: 127.0.0.1:7379";

/** Requests as browsers send them. */
const REQUESTS: Record<string, string> = {
  "a fetch without CORS": head("POST / HTTP/1.1", HOST, "Content-Type: text/plain;charset=UTF-8"),
  "a form": head("POST / HTTP/1.1", HOST, "Content-Type: multipart/form-data; boundary=x"),
  "a form by GET": `GET /?x=${encodeURIComponent(COMMANDS)} HTTP/1.1\r\n${HOST}\r\n\r\n`,
  "a beacon": head("POST / HTTP/1.1", HOST, "Sec-Fetch-Mode: no-cors"),
  "a rebound name": head("PUT /kept HTTP/1.1", "Host: evil.example:7379"),
  "a method made up at a rebound name": head("SET /planted HTTP/1.1", "Host: evil.example:7379"),
  "FLUSHDB as a method": head("FLUSHDB / HTTP/1.1", "Host: evil.example:7379"),
  "a WebSocket": head(
    "GET / HTTP/1.1",
    HOST,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Origin: http://evil.example",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  ),
  "a preflight": head("OPTIONS / HTTP/1.1", HOST, "Access-Control-Request-Method: FLUSHDB"),
  "a proxy's request": head("GET http://evil.example/ HTTP/1.1", "Host: evil.example"),
  "a proxy's tunnel": head("CONNECT 127.0.0.1:7379 HTTP/1.1", HOST),
  "HTTP/2 without TLS": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "an old client": "POST / HTTP/1.0\r\n\r\n",
  "lower case": head("post / http/1.1", HOST.toLowerCase()),
  "empty lines first": `\r\n\r\n${head("GET / HTTP/1.1", HOST)}`,
  "LF alone": head("POST / HTTP/1.1", HOST).replaceAll("\r\n", "\n"),
  "a method that no command has": head("BREW", HOST),
  "a header first": `Host: 127.0.0.1\r\n`,
  "a line without end": `POST /${"x".repeat(2 * 1024 * 1024)}`,
};

test.each(Object.entries(REQUESTS))("%s is answered once and closed", async (_name, request) => {
  const bytes = Buffer.from(request + BODY, "latin1");
  const inPieces = [1, 3, 17].map((at) => [bytes.subarray(0, at), bytes.subarray(at)]);
  const ways = [[bytes], ...inPieces, [bytes.subarray(0, request.length), BODY]];
  for (const pieces of ways) {
    const answer = await answerTo(pieces);
    expect(answer.match(/HTTP\/1.1 400 |this is HTTP; closing/g)).toHaveLength(1);
    expect(answer).not.toContain("secret-value");
    expect(answer).not.toMatch(/^(\+?OK|\+?PONG|:1)$/m);
  }
  await expectUntouched();
});

test.each(["POST / HTTP/1.1", "Host: 127.0.0.1"])("%s behind a command, too", async (line) => {
  const answer = await answerTo([`PING\r\n${line}\r\n`, BODY]);
  expect(answer).toMatch(/^PONG\nERROR: .*this is HTTP; closing the connection\n$/);
  await expectUntouched();
});

test("a TLS hello with commands in its session ticket is closed, and the log says why", async () => {
  const ticket = Buffer.from(BODY, "latin1");
  const record = Buffer.concat([Buffer.from("1603010200010001fc0303", "hex"), ticket]);
  for (const pieces of [[record], [record.subarray(0, 1), record.subarray(1)]]) {
    const answer = await answerTo(pieces);
    expect(answer).toMatch(/^ERROR: .*TLS.*\n$/);
  }
  await expectUntouched();
  await node.waitFor(/Closed a connection that speaks TLS.*network\.tls_port/);
});

test("the port for watching tells nothing to a page whose name leads there", async () => {
  const config = `${soloConfig("watched")}\n[http]\nbind_port = ${await freePort()}\n`;
  const watched = await startNodeProcess({ config });
  const port = /bind_port = (\d+)\n$/.exec(config)![1];
  const ask = async (host: string, path: string) => {
    const url = `http://127.0.0.1:${port}${path}`;
    const response = await fetch(url, { headers: { Host: `${host}:${port}` } });
    return { status: response.status, body: await response.text() };
  };
  for (const path of ["/metrics", "/version", "/readyz", "/healthz", "/"]) {
    for (const host of ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]) {
      const { status, body } = await ask(host, path);
      expect(status).toBe(403);
      expect(body).not.toContain("watched");
    }
  }
  for (const host of ["127.0.0.1", "localhost", "[::1]", "10.0.0.1"]) {
    expect((await ask(host, "/version")).body).toContain("watched");
  }
  await watched.stop();
});

/** What the page does; `PORT` is the node's. It tells its own server of every answer it could read. */
const PAGE = `<!doctype html><form method=post enctype=text/plain target=frame>
<textarea name=x></textarea></form><iframe name=frame></iframe><script>
const body = ${JSON.stringify(BODY)};
const told = [];
const tell = (what) => (answer) => told.push(what + ": " + answer);
const text = async (promise) => (await promise).text();
const tries = [];
for (const host of ["127.0.0.1", "rebound.example"]) {
  const url = "http://" + host + ":PORT/";
  const request = (name, url, options) =>
    tries.push(text(fetch(url, options)).then(tell(name), () => {}));
  request("no-cors", url, { method: "POST", mode: "no-cors", body });
  request("cors", url, { method: "POST", body });
  request("get", url + "?" + encodeURIComponent(body));
  request("method", url, { method: "FLUSHDB" });
  request("secure", url.replace("http", "https"), { mode: "no-cors" });
  navigator.sendBeacon(url, body);
  tries.push(new Promise((done) => {
    const socket = new WebSocket(url.replace("http", "ws"), ["x"]);
    socket.onopen = () => { tell("socket")("open"); socket.send(body); done(); };
    socket.onerror = done;
  }));
  for (const kind of ["script", "img", "link"]) {
    tries.push(new Promise((done) => {
      const element = document.createElement(kind);
      element.onload = element.onerror = done;
      if (kind === "link") { element.rel = "stylesheet"; element.href = url; }
      else element.src = url;
      document.body.append(element);
    }));
  }
}
const form = document.forms[0];
form.action = "http://127.0.0.1:PORT/";
form.x.value = body;
tries.push(new Promise((done) => { document.querySelector("iframe").onload = done; }));
form.submit();
Promise.allSettled(tries).then(() =>
  fetch("/told", { method: "POST", body: JSON.stringify(told) }));
</script>`;

test.skipIf(chromium === null)("a real browser does no harm, whatever the page tries", async () => {
  const told = Promise.withResolvers<string[]>();
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      if (new URL(request.url).pathname === "/told")
        told.resolve((await request.json()) as string[]);
      const page = PAGE.replaceAll("PORT", String(node.port));
      return new Response(page, { headers: { "Content-Type": "text/html" } });
    },
  });
  try {
    const url = `http://rebound.example:${server.port}/`;
    await browse(url, ["rebound.example"], told.promise);
    // Nothing of what the node said reached the page, but for "opaque" and therefore empty texts.
    for (const answer of await told.promise) expect(answer).toMatch(/^(no-cors|secure): $/);
  } finally {
    await server.stop(true);
  }
  await expectUntouched();
  // All of that did reach the node.
  await node.waitFor(/Closed a connection that speaks HTTP/);
  await node.waitFor(/Closed a connection that speaks TLS/);
});
