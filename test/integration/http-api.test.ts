/** Keys over HTTP, with the real binary. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { startNodeProcess, type NodeProcess } from "../support/process.ts";
import { settings, startWithUsers, usersFile } from "../support/users-node.ts";

const HTTP = '[http]\nbind_address = "127.0.0.1"';
let node: NodeProcess;
let base: string;

function baseOf(it: NodeProcess): string {
  return `http://${/HTTP on (\S+)/.exec(it.output())![1]}`;
}

beforeAll(async () => {
  const limits = "max_value_bytes = 65536\nmax_line_bytes = 65536\nmax_output_bytes = 65536";
  node = await startNodeProcess({ config: settings(HTTP, limits) });
  base = baseOf(node);
});
afterAll(async () => void (await node.stop()));

type Init = NonNullable<Parameters<typeof fetch>[1]>;

function send(path: string, method = "GET", init: Init = {}): Promise<Response> {
  return fetch(base + path, { method, ...init });
}

function post(path: string, body: unknown): Promise<Response> {
  const headers = { "content-type": "application/json" };
  return send(path, "POST", { headers, body: JSON.stringify(body) });
}

/** Status and code of a refusal. */
async function refusal(answer: Promise<Response>): Promise<[number, string]> {
  const response = await answer;
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  expect(error.message).not.toBe("");
  return [response.status, error.code];
}

describe("a key", () => {
  test("is written, read, and deleted, whatever its bytes", async () => {
    const path = "/v1/keys/dir/a%20b%00%FF%2F%25:increment";
    const value = new Uint8Array([0, 1, 255, 13, 10]);
    expect((await send(path, "PUT", { body: value })).status).toBe(201);
    expect((await send(path, "PUT", { body: value })).status).toBe(204);
    const response = await send(path);
    expect(response.headers.get("content-type")).toBe("application/octet-stream");
    expect(await response.bytes()).toEqual(value);
    expect((await send(path, "HEAD")).headers.get("etag")).toBe(response.headers.get("etag"));
    const json = await send(path, "GET", { headers: { accept: "application/json" } });
    expect(await json.json()).toMatchObject({
      key_base64: Buffer.from("dir/a b\0\xff/%:increment", "latin1").toString("base64"),
      value_base64: Buffer.from(value).toString("base64"),
      kind: "string",
      expires_at_ms: null,
    });
    expect((await send(path, "DELETE")).status).toBe(204);
    expect(await refusal(send(path, "DELETE"))).toEqual([404, "not_found"]);
    expect(await refusal(send(path))).toEqual([404, "not_found"]);
  });

  test("may be empty, and is seen by clients of the client port", async () => {
    await send("/v1/keys/empty", "PUT");
    const client = await LineClient.connect(node.port);
    expect(await client.send("GET empty")).toBe('""');
    expect(await client.send("SET other text")).toBe("OK");
    await client.close();
    expect(await (await send("/v1/keys/other")).text()).toBe("text");
  });

  test("expires when it is told to", async () => {
    const written = await send("/v1/keys/lease?ttl_ms=60000", "PUT", { body: "x" });
    const expiresMs = Number(written.headers.get("merklekv-expires-ms"));
    expect(expiresMs).toBe(Number(written.headers.get("merklekv-written-ms")) + 60_000);
    expect(await refusal(send("/v1/keys/lease?ttl_ms=0", "PUT"))).toEqual([400, "invalid"]);
  });

  test("is changed only if it is what it is thought to be", async () => {
    const put = (headers: Record<string, string>): Promise<Response> =>
      send("/v1/keys/guarded", "PUT", { headers, body: "x" });
    expect(await refusal(put({ "if-match": "*" }))).toEqual([412, "changed"]);
    const first = (await put({ "if-none-match": "*" })).headers.get("etag")!;
    expect(await refusal(put({ "if-none-match": "*" }))).toEqual([412, "changed"]);
    const second = await put({ "if-match": `"other", ${first}` });
    expect(second.status).toBe(204);
    expect(await refusal(put({ "if-match": first }))).toEqual([412, "changed"]);
    // A weak tag is equal to none.
    expect(await refusal(put({ "if-match": `W/${first}` }))).toEqual([412, "changed"]);
    const tag = second.headers.get("etag")!;
    const known = await send("/v1/keys/guarded", "GET", { headers: { "if-none-match": tag } });
    expect([known.status, await known.text()]).toEqual([304, ""]);
    const gone = send("/v1/keys/guarded", "DELETE", { headers: { "if-match": first } });
    expect(await refusal(gone)).toEqual([412, "changed"]);
    const right = await send("/v1/keys/guarded", "DELETE", { headers: { "if-match": tag } });
    expect(right.status).toBe(204);
  });

  test("counts, exactly", async () => {
    const add = async (body: unknown): Promise<unknown> =>
      ((await (await post("/v1/keys/n:increment", body)).json()) as { value: unknown }).value;
    expect(await add({})).toBe("1");
    expect(await add({ by: -3 })).toBe("-2");
    expect(await add({ by: "9223372036854775807" })).toBe("9223372036854775805");
    expect(await refusal(post("/v1/keys/n:increment", { by: 5 }))).toEqual([409, "not_a_number"]);
    expect(await refusal(post("/v1/keys/n:increment", { by: 0.5 }))).toEqual([400, "invalid"]);
    expect(await refusal(post("/v1/keys/other:increment", {}))).toEqual([409, "not_a_number"]);
    expect((await send("/v1/keys/n")).headers.get("merklekv-kind")).toBe("counter");
  });

  test("is refused when it or its value cannot be", async () => {
    const large = new Uint8Array(65_537);
    expect(await refusal(send("/v1/keys/k", "PUT", { body: large }))).toEqual([413, "too_large"]);
    expect(await refusal(send("/v1/keys/%zz"))).toEqual([400, "invalid"]);
    expect(await refusal(send("/v1/keys/"))).toEqual([400, "invalid"]);
    expect(await refusal(send("/v1/keys/k", "PATCH"))).toEqual([405, "no_such_method"]);
    expect(await refusal(send("/v1/keys/k", "POST"))).toEqual([405, "no_such_method"]);
    expect(await refusal(send("/v1/elsewhere"))).toEqual([404, "not_found"]);
  });
});

describe("a long value", () => {
  const path = "/v1/keys/long";
  const value = Buffer.from("long €".repeat(300_000));
  let other: NodeProcess;
  const ask = (at: string, init: Init = {}): Promise<Response> => fetch(baseOf(other) + at, init);
  beforeAll(async () => {
    other = await startNodeProcess({ config: settings(HTTP) });
    expect((await ask(path, { method: "PUT", body: value })).status).toBe(201);
  });
  afterAll(async () => void (await other.stop()));

  test("is read, as it is and in JSON", async () => {
    const response = await ask(path);
    expect(Buffer.from(await response.bytes()).equals(value)).toBe(true);
    const json = await ask(path, { headers: { accept: "application/json" } });
    expect(((await json.json()) as { value: string }).value).toBe(value.toString());
    const head = await ask(path, { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe(String(value.length));
    expect((await head.bytes()).length).toBe(0);
  });

  test("is read as it was, whatever is written meanwhile", async () => {
    const response = await ask(path);
    const reader = response.body!.getReader();
    const pieces = [(await reader.read()).value!];
    expect((await ask(path, { method: "PUT", body: Buffer.alloc(value.length) })).status).toBe(204);
    for (let it = await reader.read(); !it.done; it = await reader.read()) pieces.push(it.value);
    expect(Buffer.concat(pieces).equals(value)).toBe(true);
    expect((await ask(path, { method: "PUT", body: value })).status).toBe(204);
  });

  test("is read and changed on conditions, in a batch, and by a command", async () => {
    const headers = { "content-type": "application/json" };
    const asked = async (at: string, body: unknown): Promise<unknown> =>
      (await ask(at, { method: "POST", headers, body: JSON.stringify(body) })).json();
    const get = { op: "get", key: "long" };
    const { results } = (await asked("/v1/keys:batch", { operations: Array(30).fill(get) })) as {
      results: { status: number; value?: string }[];
    };
    expect(results[0]).toMatchObject({ status: 200, value: value.toString() });
    // All of them would be too much.
    expect(results.at(-1)).toMatchObject({ status: 413, error: { code: "too_large" } });
    const reply = await asked("/v1/command", { words: ["GET", "long"] });
    expect(reply).toEqual({ reply: { value: value.toString() } });
    const etag = (await ask(path, { method: "HEAD" })).headers.get("etag")!;
    const remove = (tag: string) => ask(path, { method: "DELETE", headers: { "if-match": tag } });
    expect((await remove('"other"')).status).toBe(412);
    expect((await remove(etag)).status).toBe(204);
  });
});

describe("keys", () => {
  test("are listed in order, a page at a time", async () => {
    for (let i = 0; i < 25; i++) await send(`/v1/keys/list%FF${i + 10}`, "PUT", { body: "x" });
    const found: string[] = [];
    let next: string | null = "";
    while (next !== null) {
      const after: string = next === "" ? "" : `&after=${next}`;
      const page = await send(`/v1/keys?prefix=list%FF&limit=10${after}`);
      const body = (await page.json()) as { keys: { key_base64: string }[]; next: string | null };
      found.push(...body.keys.map((it) => Buffer.from(it.key_base64, "base64").toString("latin1")));
      ({ next } = body);
    }
    expect(found).toEqual(Array.from({ length: 25 }, (_, i) => `list\xff${i + 10}`));
    expect(await refusal(send("/v1/keys?limit=0"))).toEqual([400, "invalid"]);
    expect(await refusal(send("/v1/keys?prefix=%"))).toEqual([400, "invalid"]);
  });

  test("are changed together, each by itself", async () => {
    const response = await post("/v1/keys:batch", {
      operations: [
        { op: "put", key: "..", value: "dots" },
        { op: "put", key: "b", value_base64: "AP8=", ttl_ms: 60_000 },
        { op: "get", key: ".." },
        { op: "get", key: "b" },
        { op: "delete", key: ".." },
        { op: "delete", key: ".." },
        { op: "put", key: "c" },
        { op: "burn", key: "c" },
        { op: "get", key: "" },
        null,
      ],
    });
    const { results } = (await response.json()) as { results: { status: number }[] };
    const statuses = [201, 201, 200, 200, 204, 404, 400, 400, 400, 400];
    expect(results.map(({ status }) => status)).toEqual(statuses);
    expect(results[2]).toMatchObject({ value: "dots", kind: "string" });
    expect(results[3]).toMatchObject({ value_base64: "AP8=" });
    expect(await refusal(post("/v1/keys:batch", { operations: 5 }))).toEqual([400, "invalid"]);
    expect(await refusal(post("/v1/keys:batch", []))).toEqual([400, "invalid"]);
    const form = send("/v1/keys:batch", "POST", { body: "{}" });
    expect(await refusal(form)).toEqual([415, "not_json"]);
  });
});

/** What a watcher has been told so far; `stop` ends it. */
async function watch(
  prefix: string,
  init: Init = {},
): Promise<{ told: () => string; stop: () => void }> {
  const abort = new AbortController();
  const response = await send(`/v1/watch?prefix=${prefix}`, "GET", {
    ...init,
    signal: abort.signal,
  });
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  let text = "";
  const read = async (): Promise<void> => {
    for await (const piece of response.body!) text += Buffer.from(piece).toString();
    text += "(over)";
  };
  void read().catch(() => {});
  return { told: () => text, stop: () => abort.abort() };
}

describe("who watches", () => {
  test("is told what changes below a prefix, and of nothing else", async () => {
    const { told, stop } = await watch("seen%3A");
    await send("/v1/keys/seen:1", "PUT", { body: "x" });
    await send("/v1/keys/unseen", "PUT", { body: "x" });
    await eventually("the key is told of", () => told().includes('"seen:1"'));
    await send("/v1/keys/seen:1", "DELETE");
    await eventually("its end, too", () => told().includes('{"key":"seen:1","deleted":true}'));
    const client = await LineClient.connect(node.port);
    await client.send("FLUSH");
    await client.close();
    await eventually("a flush is told of", () => told().includes("event: lost"));
    expect(told()).not.toContain("unseen");
    stop();
  });

  test("is told that keys expire", async () => {
    const { told, stop } = await watch("short");
    await send("/v1/keys/short?ttl_ms=300", "PUT", { body: "x" });
    await eventually("its end is told", () => told().includes('{"key":"short","deleted":true}'));
    stop();
  });
});

describe("a web page from elsewhere", () => {
  test.each([
    { origin: "https://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
  ])("is refused: %j", async (headers) => {
    await send("/v1/keys/page", "PUT", { body: "before" });
    for (const method of ["GET", "PUT", "DELETE"]) {
      expect((await send("/v1/keys/page", method, { headers })).status).toBe(403);
    }
    expect(await (await send("/v1/keys/page")).text()).toBe("before");
  });

  test("whose name was made to lead here is refused", async () => {
    const headers = { host: "evil.example", origin: "http://evil.example" };
    expect((await send("/v1/keys/page", "GET", { headers })).status).toBe(403);
  });

  test("is answered when it is the node's own", async () => {
    const headers = { origin: base, "sec-fetch-site": "same-origin" };
    expect((await send("/v1/keys", "GET", { headers })).status).toBe(200);
    expect((await send("/v1/keys", "OPTIONS", { headers })).status).toBe(405);
  });
});

test("a body that does not come ends the request, and makes room for others", async () => {
  const hasty = await startNodeProcess({ config: settings(HTTP, "connection_timeout = 1") });
  const { hostname, port } = new URL(baseOf(hasty));
  const client = await LineClient.connect(Number(port), hostname);
  client.sendRaw(`PUT /v1/keys/k HTTP/1.1\r\nHost: ${hostname}\r\nContent-Length: 9\r\n\r\nhalf`);
  expect(await client.readLine()).toStartWith("HTTP/1.1 408");
  await client.close();
  await hasty.stop();
});

describe("the node", () => {
  test("tells its facts, who is there, and its tree", async () => {
    const { sections } = (await (await send("/v1/facts")).json()) as {
      sections: { facts: { name: string; value: unknown }[] }[];
    };
    const facts = new Map(sections.flatMap((it) => it.facts).map((it) => [it.name, it.value]));
    expect(facts.get("node_id")).toBe("n");
    const { members } = (await (await send("/v1/cluster")).json()) as { members: unknown[] };
    expect(members).toMatchObject([{ node_id: "n", online: true, seen_ms_ago: 0 }]);
    const tree = (await (await send("/v1/tree")).json()) as { cells_base64: string };
    expect(Buffer.from(tree.cells_base64, "base64").length).toBe(4 * 4_096);
  });

  test("runs commands, but none that needs a connection", async () => {
    const run = async (...words: unknown[]): Promise<unknown> =>
      ((await (await post("/v1/command", { words })).json()) as { reply: unknown }).reply;
    expect(await run("SET", { word_base64: "/w==" }, "v")).toEqual({ status: "OK" });
    expect(await run("GET", { word_base64: "/w==" })).toEqual({ value: "v" });
    expect(await run("GET", "nothing")).toBeNull();
    expect(await run("INCR", "counted")).toEqual({ integer: "1" });
    expect(await run("MGET", "counted", "nothing")).toEqual({ items: [{ value: "1" }, null] });
    expect(await run("HELLO", "2")).toHaveProperty("items");
    for (const name of ["PEER", "monitor"]) {
      const message = "this command needs a connection of the client port";
      expect(await run(name)).toEqual({ error: { code: "ERR", message } });
    }
    expect(await run("NONSENSE")).toMatchObject({ error: { code: "ERR" } });
    expect(await refusal(post("/v1/command", { words: [] }))).toEqual([400, "invalid"]);
    expect(await refusal(post("/v1/command", { words: [5] }))).toEqual([400, "invalid"]);
  });
});

test("the description names what there is", async () => {
  const document = (await (await send("/v1/openapi.json")).json()) as {
    paths: Record<string, Record<string, unknown>>;
  };
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const method of Object.keys(methods).filter((it) => it !== "parameters")) {
      const abort = new AbortController();
      const init = { headers: { "content-type": "application/json" }, signal: abort.signal };
      const { status } = await send(path.replace("{key}", "some"), method.toUpperCase(), init);
      abort.abort();
      expect([path, method, status]).not.toContain(405);
      expect([path, method, path.includes("{") ? 0 : status]).not.toContain(404);
    }
  }
});

describe("with users", () => {
  const users = usersFile([
    "user default off",
    "user all on >p ~* +@all",
    "user reader on >p %R~own:* +get +scan",
  ]);
  let guarded: NodeProcess;
  beforeAll(async () => {
    guarded = await startWithUsers(users, HTTP);
    base = baseOf(guarded);
  });
  afterAll(async () => {
    base = baseOf(node);
    await guarded.stop();
  });
  const as = (name: string, init: Init = {}): Init => ({
    ...init,
    headers: { ...init.headers, authorization: `Basic ${btoa(`${name}:p`)}` },
  });

  test("nobody does anything without a login", async () => {
    expect(await refusal(send("/v1/keys"))).toEqual([401, "login_needed"]);
    expect(await refusal(send("/v1/keys/k", "PUT"))).toEqual([401, "login_needed"]);
    expect(await refusal(send("/v1/watch"))).toEqual([401, "login_needed"]);
    expect(await refusal(send("/v1/keys", "GET", as("nobody")))).toEqual([401, "login_failed"]);
  });

  test("each does what it may", async () => {
    for (const key of ["own:1", "other"]) {
      expect((await send(`/v1/keys/${key}`, "PUT", as("all", { body: "x" }))).status).toBe(201);
    }
    const page = await send("/v1/keys", "GET", as("reader"));
    expect(await page.json()).toMatchObject({ keys: [{ key: "own:1" }], next: null });
    expect((await send("/v1/keys/own:1", "GET", as("reader"))).status).toBe(200);
    const denied = (path: string, method = "GET", headers = {}): Promise<[number, string]> =>
      refusal(send(path, method, as("reader", { headers })));
    expect(await denied("/v1/keys/other")).toEqual([403, "not_permitted"]);
    expect(await denied("/v1/keys/own:1", "PUT")).toEqual([403, "not_permitted"]);
    // A condition tells nobody what they may not know.
    const condition = { "if-match": '"x"' };
    expect(await denied("/v1/keys/other", "PUT", condition)).toEqual([403, "not_permitted"]);
  });

  test("who watches is told of what it may read, until the user is gone", async () => {
    const { told } = await watch("", as("reader"));
    await send("/v1/keys/other", "PUT", as("all", { body: "y" }));
    await send("/v1/keys/own:2", "PUT", as("all", { body: "y" }));
    await eventually("what it may read is told", () => told().includes("own:2"));
    expect(told()).not.toContain("other");
    const client = await LineClient.connect(guarded.port);
    await client.send("AUTH all p");
    await client.send("ACL DELUSER reader");
    await client.close();
    await eventually("it is over", () => told().includes("(over)"));
  });

  test("those who guess, and wait for that, take nobody's place", async () => {
    const guesses = Array.from({ length: 100 }, () => send("/v1/keys", "GET", as("nobody")));
    const answers = await Promise.all([...guesses, send("/v1/keys", "GET", as("all"))]);
    expect(answers.map((it) => it.status)).toEqual([...guesses.map(() => 401), 200]);
  });
});
