/** Connections: every split of the input, what waits, what is bounded, and how they end. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Entry } from "../../../src/core/data/entry.ts";
import { TAGGED } from "../../../src/protocol/reply.ts";
import {
  InProcessServer,
  respRequest,
  type InProcessClient,
  type ServerOptions,
  noSynchronization,
} from "../../support/in-process.ts";
import { eventually } from "../../support/eventually.ts";
import { ManualDurability } from "../../support/manual-durability.ts";

const LIMITS = { maxLineBytes: 64, maxValueBytes: 100 } as const;

/** All a client sends, then its goodbye; returns all it gets. */
async function transcript(chunks: Buffer[], options: ServerOptions = LIMITS): Promise<string> {
  const server = new InProcessServer(options);
  const client = server.connect();
  await client.deliver(chunks);
  expect(server.bugs).toEqual([]);
  return client.read() + (client.isShutDown ? "<end>" : "");
}

function splitAt(bytes: Buffer, cuts: number[]): Buffer[] {
  const sorted = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])];
  sorted.sort((a, b) => a - b);
  return sorted.slice(1).map((end, i) => bytes.subarray(sorted[i], end));
}

/** Requests of every shape, and much that is none. None of them depends on time or memory. */
const request = fc.oneof(
  fc.constantFrom(
    "SET a 1\n",
    "SET a 1\r\n",
    'set b "x\\ny"\n',
    "GET a\n",
    "GET b\r\n",
    "GET\n",
    "\n",
    "\r\n",
    " \t\n",
    "\r\r\n",
    "INCR n\n",
    "INCR b\n",
    "APPEND a tail \n",
    "MGET a b c\n",
    "SCAN\n",
    "SCAN a COUNT 1\n",
    "nonsense\n",
    "DIALECT tagged\n",
    "DIALECT plain\n",
    "DEL a\n",
    "EXISTS a b\n",
    "PING hello\n",
    "\0\xff\n",
    "FLUSH\n",
  ),
  // About the longest line, with either end.
  fc
    .tuple(fc.integer({ min: 55, max: 70 }), fc.constantFrom("\n", "\r\n", "\r\r\n"))
    .map(([length, end]) => "PING ".padEnd(length, "x") + end),
  fc.integer({ min: 100, max: 400 }).map((length) => "*SET a ".slice(1).padEnd(length, "*") + "\n"),
  fc
    .constantFrom(
      ["SET", "a", "1"],
      ["GET", "a"],
      ["MGET", "a", "b"],
      ["SET", "b", "\r\n*1\r\n"],
      ["INCR", "n"],
      ["SCAN", "0"],
      ["KEYS", "*"],
      ["HELLO", "3"],
      ["HELLO", "2"],
      ["PING"],
      ["NONSENSE", "x"],
      ["SET", "a", "v".repeat(100)],
      ["SET", "a", "v".repeat(101)],
      ["v".repeat(300), "a"],
      ["MSET", "a", "v".repeat(90), "b", "v".repeat(90)],
      ["SET", "", "x"],
      [""],
    )
    .map((parts) => respRequest(...parts).toString("latin1")),
  fc.constantFrom("*0\r\n", "*-1\r\n"),
);

/** The last words, for most conversations. */
const ending = fc.oneof(
  fc.constant(""),
  fc.constantFrom(
    "QUIT\nGET a\n",
    "*1\r\n$x\r\nGET a\n",
    "*x\r\n",
    "*1\r\n:1\r\n",
    "GET a",
    "*2\r\n$3\r\nGE",
  ),
);

describe("replies do not depend on how the input is split", () => {
  const conversation = fc
    .tuple(fc.array(request, { minLength: 1, maxLength: 12 }), ending)
    .map(([requests, last]) => Buffer.from(requests.join("") + last, "latin1"));

  test("at any places", async () => {
    await fc.assert(
      fc.asyncProperty(conversation, fc.array(fc.nat(), { maxLength: 30 }), async (bytes, cuts) => {
        const whole = await transcript([bytes]);
        expect(await transcript(splitAt(bytes, cuts))).toBe(whole);
      }),
      { numRuns: 600 },
    );
  });

  test("into single bytes", async () => {
    await fc.assert(
      fc.asyncProperty(conversation, async (bytes) => {
        const whole = await transcript([bytes]);
        const each = Array.from(bytes, (_, at) => at + 1);
        expect(await transcript(splitAt(bytes, each))).toBe(whole);
      }),
      { numRuns: 200 },
    );
  });

  test("nor on when the client reads", async () => {
    await fc.assert(
      fc.asyncProperty(
        conversation,
        fc.array(fc.nat(), { maxLength: 10 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 }),
        async (bytes, cuts, reads) => {
          const whole = await transcript([bytes]);
          const server = new InProcessServer(LIMITS);
          const client = server.connect();
          client.capacity = 0;
          const chunks = splitAt(bytes, cuts);
          let text = "";
          for (let turn = 0, idle = 0; idle < 3; turn++) {
            if (!client.isPaused && chunks.length > 0) client.send(chunks.shift()!);
            await new Promise((resolve) => setImmediate(resolve));
            client.drain(reads[turn % reads.length]);
            const more = client.read();
            text += more;
            idle = more === "" && chunks.length === 0 ? idle + 1 : 0;
          }
          expect(text + (client.isShutDown ? "<end>" : "")).toBe(whole);
          expect(server.bugs).toEqual([]);
        },
      ),
      { numRuns: 200 },
    );
  });
});

test("lines and RESP mix, each answered in kind", () => {
  const client = new InProcessServer().connect();
  client.send(
    Buffer.concat([
      Buffer.from("SET a 1\n"),
      respRequest("GET", "a"),
      Buffer.from("DIALECT tagged\nGET a\n"),
      respRequest("HELLO", "3").subarray(0, 5),
    ]),
  );
  client.send(respRequest("HELLO", "3").subarray(5)).read();
  client.send(respRequest("GET", "missing")).send("GET missing\n");
  expect(client.read()).toBe("_\r\nNOT_FOUND\r\n");
});

describe("HTTP", () => {
  const post = "POST / HTTP/1.1\r\nHost: 127.0.0.1:7379\r\nContent-Length: 9\r\n\r\nSET a 1\r\n";

  test("ends the connection, and nothing of it runs, however it is split", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(), { maxLength: 5 }), async (cuts) => {
        const server = new InProcessServer(LIMITS);
        const client = server.connect();
        await client.deliver(splitAt(Buffer.from(post), cuts));
        expect(client.read()).toStartWith("HTTP/1.1 400 Bad Request\r\n");
        expect(client.isShutDown).toBeTrue();
        expect(server.store.size).toBe(0);
        expect(server.warnings).toMatchObject([{ address: client.session.address }]);
      }),
      { numRuns: 50 },
    );
  });

  test.each(["POST /", "hOST: x"])("later on is an error and the end: %s", (line) => {
    const server = new InProcessServer();
    const client = server.connect(TAGGED).send(`PING\r\n${line}\r\nSET a 1\r\n`);
    expect(client.read()).toBe(
      "PONG\r\nERROR Invalid command - this is HTTP; closing the connection\r\n",
    );
    expect(client.isShutDown).toBeTrue();
    expect(server.store.size).toBe(0);
  });

  test("with a line too long, or a header before the tell-tale one", () => {
    for (const begin of [`POST /${"x".repeat(200)}`, `BREW /${"x".repeat(200)}`, "BREW /"]) {
      const server = new InProcessServer(LIMITS);
      const client = server.connect();
      client.send(begin).send(` HTTP/1.1\r\nhost: x\r\n\r\nSET a 1\r\n`);
      expect(client.isShutDown).toBeTrue();
      expect(server.store.size).toBe(0);
    }
  });

  test("is said in the log once in a while, with how often it was not", () => {
    const server = new InProcessServer();
    for (let i = 0; i < 100; i++) server.connect().send("Host: x\n");
    expect(server.warnings).toHaveLength(1);
    server.nowMs += 60_000;
    server.connect().send("Host: x\n");
    expect(server.warnings).toMatchObject([{}, { omitted: 99 }]);
  });
});

test("a byte order mark at the start is skipped, and nowhere else", () => {
  const mark = "\xef\xbb\xbf";
  const client = new InProcessServer().connect();
  for (const byte of `${mark}PING\n`) client.send(byte);
  expect(client.read()).toBe("PONG\n");
  expect(client.send(`${mark}PING\n`).read()).toStartWith("ERROR: Invalid command");
  const other = new InProcessServer().connect();
  expect(other.send(mark.slice(0, 2)).send("x PING\n").read()).toStartWith("ERROR: Invalid");
  expect(new InProcessServer().connect().send(`${mark}*1\r\n$4\r\nPING\r\n`).read()).toBe(
    "+PONG\r\n",
  );
});

describe("a line too long", () => {
  test("is refused while it arrives, once, and the next line is served", () => {
    const server = new InProcessServer(LIMITS);
    const client = server.connect();
    client.send("SET a " + "x".repeat(50));
    expect(client.read()).toBe("");
    client.send("x".repeat(50));
    expect(client.read()).toBe("ERROR: Line too long - network.max_line_bytes is 64\n");
    for (let i = 0; i < 50; i++) client.send("*".repeat(1_000));
    expect(client.read()).toBe("");
    client.send("tail\nEXISTS a\n");
    expect(client.read()).toBe("0\n");
    expect(server.statistics.protocolErrors).toBe(1);
  });

  test("takes no memory, and what is thrown away is told", () => {
    const server = new InProcessServer(LIMITS);
    const client = server.connect();
    for (let i = 0; i < 200; i++) client.send("x".repeat(100_000));
    expect(bytesHeld(client)).toBeLessThan(10_000);
    expect(server.discardedBytes).toBe(20_000_000);
    client.send("\nPING\n");
    expect(client.read()).toEndWith("PONG\n");
  });

  test("is as long with CRLF as with LF", () => {
    for (const [end, pieces] of [
      ["\n", [64, 1]],
      ["\r\n", [64, 1, 1]],
      ["\r\n", [65, 1]],
    ] as const) {
      const client = new InProcessServer(LIMITS).connect();
      const bytes = Buffer.from("PING ".padEnd(64, "x") + end);
      let at = 0;
      for (const length of pieces) client.send(bytes.subarray(at, (at += length)));
      expect(client.read()).toBe("PONG ".padEnd(64, "x") + "\n");
    }
  });
});

/** Lets what waits in the run queue have a turn. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("a long run of requests", () => {
  test("leaves the rest for another turn, in which others come first", async () => {
    const server = new InProcessServer();
    server.lookMs = 0.1;
    const greedy = server.connect().send("INCR n\n".repeat(1_000));
    const seen = greedy.read().split("\n").length - 1;
    expect(seen).toBeGreaterThan(10);
    expect(seen).toBeLessThan(100);
    expect(server.connect().send("GET n\n").read()).toBe(`${seen}\n`);
    await eventually("all is answered", () => server.store.size > 0 && valueOf(server) === "1000");
    expect(greedy.read().split("\n").length - 1).toBe(1_000 - seen);
  });

  test("takes turns with others that are as long", async () => {
    const server = new InProcessServer();
    server.lookMs = 0.1;
    const clients = [1, 2, 3].map((i) => server.connect().send(`INCR n${i}\n`.repeat(2_000)));
    const counts = clients.map(() => 0);
    for (let i = 0; i < 1_000 && counts.some((count) => count < 2_000); i++) {
      for (const [j, client] of clients.entries())
        counts[j] += client.read().split("\n").length - 1;
      // None is more than a slice ahead of another.
      if (counts.every((count) => count < 2_000)) {
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(64);
      }
      await turn();
    }
    expect(counts).toEqual([2_000, 2_000, 2_000]);
  });

  test("makes others that come in the same turn wait for the next, the modest first", async () => {
    const server = new InProcessServer({ isPatient: true });
    server.lookMs = 0.1;
    const modest = server.connect().send("PING\n");
    expect(modest.read()).toBe("PONG\n");
    const greedy = [1, 2, 3].map((i) => server.connect().send(`INCR n${i}\n`.repeat(1_000)));
    expect(greedy[0].read()).not.toBe("");
    expect(greedy[1].read()).toBe("");
    modest.send("GET n2\n");
    expect(modest.read()).toBe("");
    await turn();
    expect(modest.read()).toBe("(null)\n");
    await eventually("the others come, too", () => greedy.every((client) => client.read() !== ""));
  });

  test("ends soon where each request copies much, whatever the clock says", () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.send(respRequest("SET", "big", "v".repeat(2_000_000))).read();
    client.send(Buffer.concat(new Array(5).fill(respRequest("APPEND", "big", "x"))));
    expect(client.read()).toBe(":2000001\r\n");
  });

  test("holds back reading while much of it waits", async () => {
    const server = new InProcessServer();
    server.lookMs = 0.1;
    const client = server.connect().send("PING\n".repeat(40_000));
    expect(client.isPaused).toBeTrue();
    await client.whenReading();
    client.connection.onEnd();
    await eventually("the end", () => client.isShutDown);
    expect(client.read()).toBe("PONG\n".repeat(40_000));
  });
});

function valueOf(server: InProcessServer): string {
  return server.connect().send("GET n\n").read().trim();
}

/** What a connection holds on to, in bytes. */
function bytesHeld({ connection }: InProcessClient): number {
  const { runner, output } = connection as unknown as {
    runner: { input: { bytes: Uint8Array } };
    output: { queue: { pieces: Uint8Array[] } };
  };
  const queued = output.queue.pieces.map((bytes) => bytes.buffer);
  const buffers = new Set([runner.input.bytes.buffer, ...queued]);
  return [...buffers].reduce((sum, buffer) => sum + buffer.byteLength, 0);
}

describe("memory held for a connection", () => {
  test("is nothing between requests", () => {
    const client = new InProcessServer().connect();
    client.send("PING\n".repeat(50_000));
    expect(bytesHeld(client)).toBe(0);
  });

  test("is little for the little that is left of a large chunk", () => {
    const client = new InProcessServer().connect();
    client.send("PING\n".repeat(50_000) + "PI");
    expect(bytesHeld(client)).toBeLessThan(100);
    client.send(Buffer.concat([Buffer.from("NG\n"), respRequest("PING").subarray(0, 7)]));
    expect(bytesHeld(client)).toBeLessThan(2_000);
  });

  test("is bounded while a refused value is skipped", () => {
    const client = new InProcessServer(LIMITS).connect();
    client.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$300000000\r\n");
    for (let i = 0; i < 300; i++) client.send("x".repeat(100_000));
    expect(bytesHeld(client)).toBeLessThan(10_000);
    expect(client.read()).toBe("");
  });

  test("is bounded while a line or a value arrives that is within its limit", () => {
    const client = new InProcessServer({ maxLineBytes: 1_000_000 }).connect();
    for (let i = 0; i < 900; i++) client.send("x".repeat(1_000));
    expect(bytesHeld(client)).toBeLessThan(2_000_000);
  });
});

describe("a value too large", () => {
  test("is skipped to its end and answered as RESP", () => {
    const server = new InProcessServer(LIMITS);
    const client = server.connect();
    client.send(respRequest("SET", "k", "v".repeat(1_000))).send(respRequest("EXISTS", "k"));
    expect(client.read()).toBe("-ERR Value too large - see network.max_value_bytes\r\n:0\r\n");
  });
});

describe("a client that does not read", () => {
  test("is held back: no further request runs until it has read", () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.capacity = 3;
    client.send("INCR a\nINCR a\nINCR a\n");
    expect(client.isPaused).toBeTrue();
    expect(client.read()).toBe("1\n2");
    // What was on its way still arrives.
    client.send("INCR a\n");
    const other = server.connect();
    other.send("GET a\n");
    expect(other.read()).toBe("3\n");
    client.drain(2);
    expect(client.isPaused).toBeTrue();
    client.drain(100);
    expect(client.read()).toBe("\n3\n4\n");
    expect(client.isPaused).toBeFalse();
  });

  test("a few large replies are held, and no more are made", async () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.send(respRequest("SET", "k", "v".repeat(1_000_000))).read();
    client.capacity = 0;
    client.send("GET k\n".repeat(1_000));
    expect(bytesHeld(client)).toBeLessThan(4_000_000);
    let length = 0;
    for (let i = 0; i < 2_000 && length < 1_000 * 1_000_001; i++) {
      client.drain(1_000_000);
      await turn();
      length += client.read().length;
    }
    expect(length).toBe(1_000 * 1_000_001);
  });

  test("is cut when one reply exceeds max_output_bytes", () => {
    const server = new InProcessServer({ maxOutputBytes: 100_000 });
    const client = server.connect();
    client.send(respRequest("SET", "k", "v".repeat(150_000))).read();
    client.capacity = 10;
    client.send("GET k\n");
    expect(client.isTerminated).toBeTrue();
    expect(bytesHeld(client)).toBe(0);
    expect(server.statistics.cutConnections).toBe(1);
  });

  test("a reply just within the limit is written, one above is not", async () => {
    const maxOutputBytes = 1_000_000;
    const server = new InProcessServer({ maxOutputBytes });
    const client = server.connect();
    client.send(respRequest("SET", "k", "v".repeat(99_999))).read();
    await client.deliver([Buffer.from(`MGET${" k".repeat(10)}\n`)]);
    expect(client.read().length).toBe(maxOutputBytes);
    await client.deliver([Buffer.from(`MGET${" k".repeat(11)}\n`)]);
    expect(client.read()).toStartWith("ERROR: Value too large");
  });

  test("one that does, is told when a reply would be larger than any may be", async () => {
    const server = new InProcessServer({ maxOutputBytes: 100_000 });
    const client = server.connect();
    client.send(respRequest("SET", "k", "v".repeat(90_000))).read();
    await client.deliver([Buffer.from(`MGET ${"k ".repeat(100)}\nPING\n`)]);
    expect(client.read()).toBe(
      "ERROR: Value too large - the reply exceeds network.max_output_bytes; ask for fewer keys\nPONG\n",
    );
    expect(server.bugs).toEqual([]);
  });
});

describe("a client that reads very slowly", () => {
  /** One with a large reply of which it has read nothing, at the time 0. */
  function slow(): { server: InProcessServer; client: InProcessClient } {
    const server = new InProcessServer();
    server.nowMs = 0;
    const client = server.connect();
    client.send(respRequest("SET", "k", "v".repeat(100_000))).read();
    client.capacity = 0;
    client.send("GET k\n");
    return { server, client };
  }

  /** The kernel takes so much, which is too little for it to tell; then it is looked at. */
  function look({ server, client }: ReturnType<typeof slow>, atMs: number, capacity: number): void {
    server.nowMs = atMs;
    client.capacity += capacity;
    server.shared.deadlines.tick();
  }

  test("is served on as long as it reads at all, and cut when it does not", () => {
    const pair = slow();
    for (let i = 1; i <= 10; i++) look(pair, 30_000 * i, 10);
    expect(pair.client.read()).toBe("v".repeat(100));
    expect(pair.client.isTerminated).toBeFalse();
    look(pair, 30_000 * 11 - 1, 0);
    expect(pair.client.isTerminated).toBeFalse();
    look(pair, 30_000 * 11, 0);
    expect(pair.client.isTerminated).toBeTrue();
    expect(pair.server.statistics.cutConnections).toBe(1);
  });

  test("gets what is on its way when its connection is ended", () => {
    const pair = slow();
    pair.client.connection.end();
    for (let i = 1; i <= 10; i++) look(pair, 5_000 * i, 10_000);
    expect(pair.client.isTerminated).toBeFalse();
    look(pair, 5_000 * 11, 10_000);
    expect(pair.client.isShutDown).toBeTrue();
    expect(pair.client.read()).toStartWith("v".repeat(100_000));
  });

  test("has its time and no more when the node stops", () => {
    const pair = slow();
    pair.server.shared.deadlines.isLast = true;
    pair.client.connection.end();
    look(pair, 4_999, 10);
    expect(pair.client.isTerminated).toBeFalse();
    look(pair, 5_000, 10);
    expect(pair.client.isTerminated).toBeTrue();
  });
});

describe("a connection on which nothing was asked", () => {
  const tickAt = (server: InProcessServer, ms: number): void => {
    server.nowMs = ms;
    server.shared.deadlines.tick();
  };

  test("is ended after the time for a request; one that has asked may be silent", () => {
    const server = new InProcessServer();
    server.nowMs = 0;
    const [mute, half, client, late] = [1, 2, 3, 4].map(() => server.connect());
    client.send("PING\n");
    late.send("SCAN\n");
    tickAt(server, 10_000);
    half.send("PIN");
    tickAt(server, 29_999);
    expect([mute, half].map((it) => it.isShutDown)).toEqual([false, false]);
    tickAt(server, 30_000);
    expect([mute.isShutDown, mute.read()]).toEqual([true, ""]);
    expect(half.read()).toBe("ERROR: Invalid command - not completed within 30 s; closing\n");
    tickAt(server, 3_600_000);
    expect([client, late].map((it) => it.isShutDown)).toEqual([false, false]);
    expect(server.shared.deadlines.mute.size).toBe(0);
  });

  test("a peer's is the peer's", () => {
    const accept = () => () => ({ receive() {}, drained() {}, closed() {} });
    const synchronization = { ...noSynchronization, accept };
    const server = new InProcessServer({ services: { synchronization } });
    server.nowMs = 0;
    const peer = server.connect();
    peer.send("PEER\n");
    tickAt(server, 3_600_000);
    expect(peer.isShutDown).toBeFalse();
  });
});

describe("a reply that comes later", () => {
  test("keeps its place among the others", async () => {
    const client = new InProcessServer().connect();
    await client.deliver([Buffer.from("SET a 1\nSCAN\nGET a\n"), respRequest("KEYS", "*")]);
    expect(client.read()).toBe("OK\nKEYS 1\na\n1\n*1\r\n$1\r\na\r\n");
  });

  test("is in the dialect of its request", async () => {
    const client = new InProcessServer().connect(TAGGED);
    await client.deliver([Buffer.concat([respRequest("KEYS", "x"), Buffer.from("SCAN\nPING\n")])]);
    expect(client.read()).toBe("*0\r\nKEYS 0\r\nPONG\r\n");
  });

  test("is refused when it would be too large", async () => {
    const server = new InProcessServer({ maxOutputBytes: 3_000_000 });
    const client = server.connect();
    // Every byte of these keys is printed as four.
    for (let i = 0; i < 40; i++) {
      const key = Buffer.alloc(60_000, 1);
      key[0] = i + 65;
      client.send(respRequest("SET", key, "x"));
    }
    client.read();
    await client.deliver([Buffer.from("SCAN\nPING\n")]);
    expect(client.read()).toBe(
      "ERROR: Value too large - the list exceeds network.max_output_bytes; use SCAN with COUNT and AFTER\nPONG\n",
    );
    expect(server.bugs).toEqual([]);
  });
});

describe("a bug in a command", () => {
  const boom = () => {
    throw new Error("boom");
  };

  test("is reported and answered, and everybody is served on", () => {
    const server = new InProcessServer({ services: { memoryBytes: boom } });
    const client = server.connect();
    client.send("MEMORY\nPING\n").send(respRequest("MEMORY"));
    expect(client.read()).toBe(
      "ERROR: Internal error - see the node's log\nPONG\n-ERR Internal error - see the node's log\r\n",
    );
    expect(server.bugs).toHaveLength(2);
  });
});

describe("a half-sent request", () => {
  const halves: [string, string][] = [
    ["a line", "SET a"],
    ["a RESP header", "*3\r"],
    ["a RESP request", "*3\r\n$3\r\nSET\r\n$1\r\nk"],
    ["a line being skipped", "x".repeat(200)],
    ["a value being skipped", "*2\r\n$3\r\nGET\r\n$500\r\nxxx"],
  ];

  test.each(halves)("%s is timed from its beginning until it is whole", (_, half) => {
    const server = new InProcessServer(LIMITS);
    const client = server.connect();
    const { halfSent } = server.shared.deadlines;
    client.send("PING\n");
    expect(halfSent.size).toBe(0);
    server.nowMs = 1_000;
    client.send(half.slice(0, 2));
    server.nowMs = 2_000;
    client.send(half.slice(2));
    expect([...halfSent.keys()]).toEqual([client.connection]);
    expect(server.shared.deadlines.halfSent.get(client.connection)).toBe(1_000);
  });

  test("is timed anew after each that was completed, so that a long stream is no crime", () => {
    const server = new InProcessServer();
    const client = server.connect();
    for (let i = 0; i < 10; i++) {
      server.nowMs = i * 1_000;
      client.send(i === 0 ? "SET a" : " 1\nSET a");
      expect(server.shared.deadlines.halfSent.get(client.connection)).toBe(i * 1_000);
      const other = server.connect().send("GET");
      // Oldest first, which is what the listener goes by.
      expect([...server.shared.deadlines.halfSent.keys()].at(-1)).toBe(other.connection);
      expect([...server.shared.deadlines.halfSent.keys()].at(-2)).toBe(client.connection);
      other.connection.onClose();
    }
    client.send(" 1\n");
    expect(server.shared.deadlines.halfSent.size).toBe(0);
  });

  test("is not timed while the server is what takes long", () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.capacity = 0;
    client.send("PING\nSET a");
    expect(server.shared.deadlines.halfSent.size).toBe(0);
    client.drain(100);
    expect(server.shared.deadlines.halfSent.size).toBe(1);
  });

  test.each<[string, string]>([
    ["SET a", "ERROR: Invalid command - late\n"],
    ["*2\r\n$3\r\nGET", "-ERR Invalid command - late\r\n"],
  ])("%j ends with a reply in kind", (half, reply) => {
    const server = new InProcessServer();
    const client = server.connect();
    client.send(half);
    client.connection.end((words) => words.error("Invalid command", "late"));
    expect(client.read()).toBe(reply);
    expect(client.isShutDown).toBeTrue();
    expect(server.shared.deadlines.halfSent.size).toBe(0);
  });
});

describe("the end", () => {
  test("QUIT is answered, nothing after it is", () => {
    const client = new InProcessServer().connect();
    client.send("SET a 1\nQUIT\nSET a 2\n").send("SET a 3\n");
    expect(client.read()).toBe("OK\nOK\n");
    expect(client.isShutDown).toBeTrue();
  });

  test("comes after everything is sent", () => {
    const client = new InProcessServer().connect();
    client.capacity = 1;
    client.send("PING\nQUIT\n");
    expect(client.isShutDown).toBeFalse();
    client.drain(1_000);
    expect(client.read()).toBe("PONG\nOK\n");
    expect(client.isShutDown).toBeTrue();
  });

  test("of the client's side lets it read its replies", () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.capacity = 1;
    client.send("PING\nPING\nGET");
    client.connection.onEnd();
    expect(client.isShutDown).toBeFalse();
    client.drain(1_000);
    expect(client.read()).toBe("PONG\nPONG\n");
    expect(client.isShutDown).toBeTrue();
    expect([...server.shared.deadlines.closing.keys()]).toEqual([client.connection]);
  });

  test("of the client's side waits for a reply that comes later", async () => {
    const client = new InProcessServer().connect();
    client.send("SET a 1\nSCAN\nPING\n");
    client.connection.onEnd();
    await client.deliver([]);
    expect(client.read()).toBe("OK\nKEYS 1\na\nPONG\n");
    expect(client.isShutDown).toBeTrue();
  });

  test.each(["SHUTDOWN", "CLIENT KILL 1", "CLIENT KILL 127.0.0.1:1"])(
    "that a request brings about itself comes after its reply: %s",
    (request) => {
      const client = new InProcessServer().connect();
      client.send(`PING\n${request}\nPING\n`);
      expect(client.read()).toBe("PONG\nOK\n");
      expect(client.isShutDown).toBeTrue();
    },
  );

  test("waits for a reply that comes later", async () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.send("SET a 1\nSYNC h 1\nPING\n");
    client.connection.end();
    expect(client.isShutDown).toBeFalse();
    await client.deliver([]);
    expect(client.read()).toBe("OK\nERROR: Connection failed - there is no network\n");
    expect(client.isShutDown).toBeTrue();
    expect([...server.shared.deadlines.closing.keys()]).toEqual([client.connection]);
  });

  test("of one that waits and does not read is timed like any other", async () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.send("SET a 1\n").read();
    client.capacity = 0;
    client.send("SCAN\n");
    client.connection.end();
    await new Promise((resolve) => setImmediate(resolve));
    expect([...server.shared.deadlines.closing.keys()]).toEqual([client.connection]);
    client.drain(100);
    expect(client.read()).toBe("KEYS 1\na\n");
    expect(client.isShutDown).toBeTrue();
  });

  test("what arrives after it is dropped, and after a close nothing is sent", async () => {
    const server = new InProcessServer();
    const client = server.connect();
    client.connection.end();
    client.send("SET a 1\n");
    expect(server.store.size).toBe(0);
    const gone = server.connect();
    gone.send("SYNC 127.0.0.1 1\n");
    gone.connection.onClose();
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(gone.read()).toBe("");
  });
});

describe("a reply waits until what it may show is safe from a crash", () => {
  function serverWithJournal() {
    const durability = new ManualDurability();
    const server = new InProcessServer({ services: { durability } });
    server.store.observers.push({
      changed: () => void (durability.position += 10),
      removed() {},
      flushed() {},
    });
    return { durability, server };
  }

  test("to a write, and to a read of what another connection wrote", () => {
    const { durability, server } = serverWithJournal();
    const writer = server.connect().send("SET key value\n");
    const reader = server.connect().send("GET key\n");
    expect([writer.read(), reader.read()]).toEqual(["", ""]);
    durability.reach(10);
    expect([writer.read(), reader.read()]).toEqual(["OK\n", "value\n"]);
    expect(reader.send("GET key\n").read()).toBe("value\n");
  });

  test("meanwhile more is run, and each reply waits for its own", () => {
    const { durability, server } = serverWithJournal();
    const client = server.connect().send("INCR n\n").send("INCR n\n").send("INCR n\n");
    expect(server.store.size).toBe(1);
    durability.reach(10);
    expect(client.read()).toBe("1\n");
    durability.reach(25);
    expect(client.read()).toBe("2\n");
    durability.reach(30);
    expect(client.read()).toBe("3\n");
  });

  test("up to a bound of replies", async () => {
    const { durability, server } = serverWithJournal();
    const client = server.connect().send(respRequest("SET", "k", "v".repeat(100_000)));
    for (let i = 0; i < 10; i++) client.send("GET k\n".repeat(10));
    expect(bytesHeld(client)).toBeLessThan(2_000_000);
    durability.reach(10);
    let length = 0;
    const expected = 5 + 100 * 100_001;
    await eventually("all is read", () => (length += client.read().length) >= expected);
    expect(length).toBe(expected);
  });

  test("while the journal is far behind nobody's requests are run, and none is lost", async () => {
    const { durability, server } = serverWithJournal();
    const writer = server.connect().send("SET key value\n");
    durability.position += 40_000_000;
    const other = server.connect();
    for (let i = 0; i < 40; i++) other.send("INCR n\n".repeat(1_000));
    expect(other.isPaused).toBeTrue();
    expect(server.store.size).toBe(1);
    durability.reach(durability.position);
    let text = "";
    await eventually("all is run and safe", () => {
      durability.reach(durability.position);
      text += other.read();
      return text.endsWith("\n40000\n");
    });
    expect(writer.read()).toBe("OK\n");
    expect(other.isPaused).toBeFalse();
  });

  test("and who writes much does not shut out who came later", async () => {
    const durability = new ManualDurability();
    const server = new InProcessServer({ services: { durability } });
    server.store.observers.push({
      changed: () => void (durability.position += 8_000_000),
      removed() {},
      flushed() {},
    });
    const greedy = server.connect().send("INCR n\n".repeat(1_000));
    const polite = server.connect().send("GET n\n");
    let text = "";
    await eventually("an answer", () => {
      durability.reach(durability.position);
      return (text += polite.read()) !== "";
    });
    // Every look lets in one of each at most.
    expect(Number(text)).toBeLessThan(4);
    greedy.connection.onClose();
  });

  test("and who has used little comes before the many that have used much", async () => {
    const { durability, server } = serverWithJournal();
    const modest = server.connect().send("PING\n");
    modest.read();
    durability.position += 40_000_000;
    const newcomers = [1, 2, 3, 4].map((i) => server.connect().send(`SET k${i} v\n`));
    modest.send("SET m v\n");
    const order: string[] = [];
    const entry = new Entry();
    const changed = (id: number) => {
      server.store.read(id, entry);
      order.push(Buffer.from(entry.keyBytes()).toString());
    };
    server.store.observers.push({ changed, removed() {}, flushed() {} });
    durability.reach(durability.position);
    await eventually("all are let in", () => order.length === newcomers.length + 1);
    expect(order.indexOf("m")).toBeLessThanOrEqual(1);
  });

  test("a failure while the journal is far behind lets reads go on", async () => {
    const { durability, server } = serverWithJournal();
    server.connect().send("SET key value\n");
    durability.position += 40_000_000;
    const other = server.connect().send("GET key\nSET key other\n");
    durability.failure = { kind: "full", message: "the disk is full" };
    for (const { connection } of server.clients) connection.onFailure();
    server.shared.journalGate.onSafe();
    let text = "";
    await eventually("both are answered", () => (text += other.read()).includes("ERROR"));
    expect(text).toBe("value\nERROR: Storage full - the disk is full\n");
  });

  test("but reads go on while nothing can be kept", () => {
    const { durability, server } = serverWithJournal();
    server.connect().send("SET key value\n");
    durability.failure = { kind: "full", message: "the disk is full" };
    expect(server.connect().send("GET key\n").read()).toBe("value\n");
  });
});
