/** Nodes of the real binary that drift apart and heal: by themselves, on demand, after crashes. */
import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Encoder } from "cbor-x/index-no-eval";
import { connect } from "mqtt";
import { timeHighOf, timeLowOf } from "../../src/core/data/clock.ts";
import { respRequest } from "../support/in-process.ts";
import { ClusterNode, type ClusterNodeOptions } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { Link } from "../support/link.ts";
import { SyncPeer } from "../support/sync-peer.ts";
import { LineClient } from "../support/line-client.ts";
import { Mosquitto, mosquittoPath } from "../support/mosquitto.ts";

const encoder = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });

let nodes: ClusterNode[] = [];
let broker: Mosquitto | null = null;
/** A node's way to the broker, or to another. */
let link: Link | null = null;
afterEach(async () => {
  await Promise.all(nodes.map(({ process }) => process.kill()));
  nodes = [];
  link?.close();
  link = null;
  await broker?.stop();
  broker = null;
});

async function start(id: string, options: ClusterNodeOptions = {}): Promise<ClusterNode> {
  const node = await ClusterNode.start(id, options);
  nodes.push(node);
  return node;
}

async function startThree(options: ClusterNodeOptions = {}): Promise<ClusterNode[]> {
  broker = await Mosquitto.start();
  link = await Link.to(broker.port);
  const { address } = broker;
  const addresses = [address, address, `mqtt://127.0.0.1:${link.port}`];
  const three = await Promise.all(
    addresses.map((it, i) => start(`n${i + 1}`, { broker: it, ...options })),
  );
  await eventually("they see each other", async () => {
    const statuses = await Promise.all(three.map((node) => node.ask("REPLICATE status")));
    return statuses.every((status) => status === "REPLICATION enabled 3 nodes");
  });
  return three;
}

/** Waits until all hold the same data, and then the same tree. */
async function healed(all: ClusterNode[]): Promise<void> {
  await eventually("all hold the same", async () => {
    const hashes = await Promise.all(all.map((node) => node.ask("HASH")));
    return new Set(hashes).size === 1;
  });
  await eventually("their roots are equal", async () => {
    const roots = await Promise.all(
      all.map(async (node) => (await node.info()).get("merkle_root")),
    );
    return new Set(roots).size === 1 && !/^0+$/.test(roots[0]!);
  });
}

const everyone = (line: string) => Promise.all(nodes.map((node) => node.ask(line)));
const sets = (count: number, prefix = "key", value = "value") =>
  Array.from({ length: count }, (_, i) => `SET ${prefix}:${i} ${value} ${i}`);

describe.skipIf(mosquittoPath === null)("three nodes and mosquitto", () => {
  test.each([
    [
      "by REPLICATE disable",
      async (three: ClusterNode) => expect(await three.ask("REPLICATE disable")).toBe("OK"),
      async (three: ClusterNode) => expect(await three.ask("REPLICATE enable")).toBe("OK"),
    ],
    [
      "by a broken link",
      async (three: ClusterNode) => {
        link!.cut();
        const isCut = async () => (await three.fact("replication_connected")) === 0;
        await eventually("it has noticed", isCut);
      },
      async () => link!.restore(),
    ],
  ])(
    "a node cut off %s and written to on both sides heals, and so do the others",
    async (_how, cut, restore) => {
      const [one, two, three] = (await startThree()) as [ClusterNode, ClusterNode, ClusterNode];
      await one.askAll([...sets(500), "SET both first", "SET doomed x", "SET revived x"]);
      await one.askAll(["INCR count 100", "SET number 7", "SET list a"]);
      await healed(nodes);

      await cut(three);
      await one.askAll(["SET both from 1", "DEL doomed", "DEL key:1", "DEL revived"]);
      await one.askAll(["INCR count 5", "INCR number 3", ...sets(20, "side1")]);
      await two.askAll(["INCR count 20", "DECR number 1", "SET list b"]);
      await eventually(
        "two has it all",
        async () => (await two.ask("GET side1:19")) === "value 19",
      );
      await three.askAll(["INCR count 1000", "INCR number 50", ...sets(20, "side3")]);
      await three.askAll(["DEL key:2", "SET revived again", "SET both from 3"]);
      expect(await three.ask("GET doomed")).toBe("x");

      await restore(three);
      await healed(nodes);
      expect(await everyone("GET count")).toEqual(["1125", "1125", "1125"]);
      expect(await everyone("GET number")).toEqual(["59", "59", "59"]);
      expect(await everyone("GET both")).toEqual(["from 3", "from 3", "from 3"]);
      expect(await everyone("GET revived")).toEqual(["again", "again", "again"]);
      expect(await everyone("GET list")).toEqual(["b", "b", "b"]);
      for (const key of ["doomed", "key:1", "key:2"]) {
        expect(await everyone(`GET ${key}`)).toEqual(["(null)", "(null)", "(null)"]);
      }
      expect(await everyone("DBSIZE")).toEqual(["543", "543", "543"]);
      // The tree led to what differed: not every key was looked at.
      expect(await three.fact("sync_last_heal_keys_compared")).toBeLessThan(200);
    },
  );

  test("what an outbox had no room for is healed when the broker is back", async () => {
    const all = await startThree({ mqtt: { max_outbox_events: 10 } });
    await broker!.pause();
    await eventually("all noticed", async () => {
      const connected = await Promise.all(all.map((n) => n.fact("replication_connected")));
      return connected.every((it) => it === 0);
    });
    for (const [i, node] of all.entries()) {
      await node.askAll([...sets(200, `from${i}`), `INCR count ${10 ** i}`]);
    }
    await broker!.resume();
    await healed(all);
    expect(await everyone("GET count")).toEqual(["111", "111", "111"]);
    expect(await everyone("DBSIZE")).toEqual(["601", "601", "601"]);
  });

  test("a value too large to be published is fetched at once", async () => {
    // No comparison can bring it instead.
    const [one, ...others] = await startThree({
      mqtt: { max_event_bytes: 1_000 },
      antiEntropy: { enabled: false },
    });
    const large = "x".repeat(100_000);
    await one.askAll([`SET large ${large}`, "SET small x"]);
    for (const node of others) {
      await eventually("it is there", async () => (await node.ask("GET large")) === large);
      // The session is counted a moment after its entry came.
      await eventually("it is counted", async () => (await node.fact("sync_completed")) === 1);
      expect(await node.fact("sync_entries_received")).toBe(1);
    }
  });

  test.each(["stop", "kill"] as const)(
    "a node that is started again is not taken for a second one: %s",
    async (how) => {
      const [one, two] = (await startThree()) as [ClusterNode, ClusterNode];
      await one.process[how]();
      const again = await start("n1", { broker: broker!.address });
      for (const node of [again, two]) {
        await eventually("all are there", async () => (await node.fact("replication_nodes")) === 3);
        expect(await node.fact("replication_duplicate_node_id")).toBe(0);
      }
    },
  );

  test("an event dated too far ahead is set aside, once", async () => {
    const [one] = await startThree();
    const client = connect(broker!.address);
    const text = (value: string) => [...Buffer.from(value)];
    const event = (key: string, ts: bigint) =>
      encoder.encode({
        v: 1,
        op: "set",
        key,
        val: text("v"),
        ts,
        src: "elsewhere",
        op_id: [...crypto.getRandomValues(new Uint8Array(16))],
        prev: null,
        ttl: null,
      });
    const now = BigInt(Date.now()) * 1_000_000n;
    const hour = 3_600_000_000_000n;
    for (const message of [
      event("late", now + hour),
      event("late", now + hour),
      event("ok", now),
    ]) {
      await client.publishAsync("merkle-kv/events", message, { qos: 1 });
    }
    await client.endAsync();
    await eventually("the last arrived", async () => (await one.ask("GET ok")) === "v");
    expect(await one.ask("GET late")).toBe("(null)");
    const entries = async () => await one.fact("set_aside_entries");
    await eventually("it is in the file", async () => (await entries()) > 0);
    expect(await entries()).toBe(1);
    const file = join(one.process.directory, "data/set-aside-n1.jsonl");
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ reason: "future", key: "late" });
  });

  test("a FLUSH that a node missed reaches it, and what came after stays", async () => {
    const [one, , three] = await startThree();
    await one.askAll(sets(100));
    await healed(nodes);
    await three.ask("REPLICATE disable");
    await one.askAll(["FLUSH", "SET after flush"]);
    await three.ask("REPLICATE enable");
    await healed(nodes);
    expect(await everyone("DBSIZE")).toEqual(["1", "1", "1"]);
    expect(await three.ask("GET after")).toBe("flush");
  });

  test("a node that is gone for good is forgotten by all when one is told so", async () => {
    const [one, two, three] = await startThree({ antiEntropy: { interval_seconds: 1 } });
    expect(await one.ask("FORGET n1")).toBe("ERROR: Invalid command - this is the node itself");
    const online = "ERROR: Invalid command - the node is online; stop it first";
    expect(await one.ask("FORGET n3")).toBe(online);
    const nobody = "ERROR: Invalid command - no node of that id is known here";
    expect(await one.ask("FORGET nobody")).toBe(nobody);
    expect(await one.ask("FORGET a/b")).toMatch(/^ERROR: Invalid command - not a node id/);
    const members = (of: ClusterNode) =>
      of.info().then((info) => `${info.get("sync_members")} ${info.get("sync_members_gone")}`);
    await eventually("all know all", async () => {
      const all = await Promise.all([one, two].map(members));
      return all.every((it) => it === "3 0");
    });
    await three.process.kill();
    await eventually("it is gone", async () => (await one.ask("FORGET n3")) === "OK");
    await eventually("both have forgotten it", async () => {
      const all = await Promise.all([one, two].map(members));
      return all.every((it) => it === "2 1");
    });
    // Nor does the broker tell who comes that it was ever there.
    const client = connect(broker!.address);
    const retained: string[] = [];
    client.on("message", (topic) => void retained.push(topic.split("/").at(-1)!));
    await new Promise<void>((resolve) => client.on("connect", () => resolve()));
    client.subscribe("+/nodes/+");
    await eventually(
      "the others are there",
      () => retained.includes("n1") && retained.includes("n2"),
    );
    expect(retained).not.toContain("n3");
    client.end(true);
    await one.process.kill();
    nodes = nodes.filter((it) => it !== three);
    const again = await start("n3", {
      broker: broker!.address,
      antiEntropy: { interval_seconds: 1 },
    });
    await eventually("it is a member again", async () => (await members(two)) === "3 0");
    expect(await again.ask("PING")).toBe("PONG");
  });

  test("REPLICATE disable ends what is under way with other nodes", async () => {
    broker = await Mosquitto.start();
    const one = await start("n1", { broker: broker.address });
    using silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const asking = await LineClient.connect(one.process.port);
    asking.sendRaw(`SYNC 127.0.0.1 ${silent.port}\n`);
    const guest = await LineClient.connect(one.process.port);
    guest.sendRaw("PEER ROUND\n");
    await eventually("both are under way", async () => (await one.fact("sync_active")) === 2);
    expect(await one.ask("REPLICATE disable")).toBe("OK");
    expect(await one.fact("sync_active")).toBe(0);
    expect(await asking.readLine()).toMatch(/^ERROR: Connection failed - .*leaves the cluster$/);
  });
});

test("a node has what its peer holds when it says that it is ready", async () => {
  const one = await start("n1");
  await one.askAll([...sets(2_000), "INCR count 7"]);
  const two = await start("n2", { antiEntropy: { peer_list: [one.address] } });
  expect(await two.ask("DBSIZE")).toBe("2001");
  expect(await two.ask("GET count")).toBe("7");
  expect(await two.ask("HASH")).toBe(await one.ask("HASH"));
});

test("a node that is starting asks a busy peer again before it says that it is ready", async () => {
  const one = await start("n1", { antiEntropy: { max_concurrent_syncs: 1 } });
  await one.ask("SET a 1");
  const guest = await LineClient.connect(one.process.port);
  guest.sendRaw(new SyncPeer("guest").opening());
  await eventually("the only place is taken", async () => (await one.fact("sync_active")) === 1);
  const starting = start("n2", { antiEntropy: { peer_list: [one.address] } });
  // On a machine so slow that the guest counts as slow by then, it has to make room.
  await eventually("n2 came", async () => {
    const facts = await one.info();
    return Number(facts.get("sync_turned_away")) + Number(facts.get("sync_failed")) > 0;
  });
  await guest.close();
  expect(await (await starting).ask("GET a")).toBe("1");
});

test("rounds find what nobody noticed, with peers from the configuration", async () => {
  const one = await start("n1");
  const two = await start("n2", {
    antiEntropy: { peer_list: [one.address], interval_seconds: 1 },
  });
  await one.askAll(["SET a 1", "INCR count 2"]);
  await two.askAll(["SET b 2", "INCR count 3"]);
  await healed([one, two]);
  expect(await one.ask("GET count")).toBe("5");
  expect(await two.ask("DBSIZE")).toBe("3");
});

test("a node that stops hands over what it could not publish", async () => {
  const one = await start("n1");
  const two = await start("n2", { antiEntropy: { peer_list: [one.address] } });
  await two.ask("SET last words");
  await two.stop();
  expect(await one.ask("GET last")).toBe("words");
});

describe("SYNC", () => {
  test("answers in every dialect", async () => {
    const [one, two] = [await start("n1"), await start("n2")];
    await one.ask("SET a 1");
    await two.ask("SET b 2");
    const { port } = two.process;
    for (const options of ["", " --full", " --verify", " --full --verify"]) {
      expect(await one.ask(`SYNC 127.0.0.1 ${port}${options}`)).toBe("OK");
    }
    expect(await one.ask(`SYNC localhost ${port}`)).toBe("OK");
    const client = await LineClient.connect(one.process.port);
    await client.send("DIALECT tagged");
    expect(await client.send(`SYNC 127.0.0.1 ${port}`)).toBe("OK");
    client.sendRaw(respRequest("SYNC", "127.0.0.1", String(port)));
    expect(await client.readLine()).toBe("+OK");
    await client.close();
    expect(await two.ask("GET a")).toBe("1");
    expect(await one.ask("GET b")).toBe("2");
    expect(await one.ask("HASH")).toBe(await two.ask("HASH"));
    const stats = await eventually(
      "it is counted",
      async () => (await one.fact("sync_completed")) === 7,
    );
    expect(stats).toBe(true);
  });

  const NO_NODE = "ERROR: Connection failed - what answers there is no MerkleKV node";

  test("reveals nothing of what answers at an address that is no node's", async () => {
    const one = await start("n1");
    for (const answer of [
      "HTTP/1.1 200 OK\r\n\r\nsecret",
      "-ERR secret\r\n",
      "ERROR secret\n",
      "ERROR: Connection failed - secret\n",
      "ERROR: \u001b[31mToo many connections\n",
      "ERRORsecret".repeat(200),
      "SSH-2.0-secret\r\n",
      "+PONG\r\n",
      "\0\0\0\u0004secret-frame",
    ]) {
      const socket = { data: (socket: Bun.Socket) => void socket.write(answer) };
      using service = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
      expect(await one.ask(`SYNC 127.0.0.1 ${service.port}`)).toBe(NO_NODE);
    }
    expect(await one.fact("sync_active")).toBe(0);
    expect(one.logged(/secret|HTTP|PONG|SSH/)).toBe(0);
  });

  test("says what is wrong: itself, another cluster, no node, no answer", async () => {
    const one = await start("n1", { network: { connection_timeout: 1 } });
    const sync = (port: number) => one.ask(`SYNC 127.0.0.1 ${port}`);
    expect(await sync(one.process.port)).toMatch(/^ERROR: Connection failed - .*this node itself/);

    const text = {
      data: (socket: Bun.Socket) => void socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"),
    };
    using web = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: text });
    expect(await sync(web.port)).toBe(NO_NODE);

    const refusal = {
      data: (socket: Bun.Socket) => void socket.write("ERROR: Too many connections\n"),
    };
    using full = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: refusal });
    expect(await sync(full.port)).toBe(
      'ERROR: Connection failed - the node there answered "Too many connections"',
    );

    using silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    expect(await sync(silent.port)).toMatch(
      // Both are true, and which is noticed first is chance.
      /^ERROR: Connection failed - (nothing came from .* for|.* did not say who it is within) 1 s$/,
    );
    expect(await one.fact("sync_active")).toBe(0);
    expect(await one.ask("PING")).toBe("PONG");
  });

  test("works in both directions at once and waits for its turn", async () => {
    const options = { antiEntropy: { max_concurrent_syncs: 1 } };
    const [one, two] = [await start("n1", options), await start("n2", options)];
    await one.askAll(sets(5_000, "one"));
    await two.askAll(sets(5_000, "two"));
    const clients = await Promise.all(
      [one, two, one, two].map(({ process }) => LineClient.connect(process.port)),
    );
    const replies = await Promise.all(
      clients.map((client, i) => {
        const peer = i % 2 === 0 ? two : one;
        return client.send(`SYNC 127.0.0.1 ${peer.process.port}`);
      }),
    );
    expect(replies).toEqual(["OK", "OK", "OK", "OK"]);
    expect(await one.ask("DBSIZE")).toBe("10000");
    expect(await one.ask("HASH")).toBe(await two.ask("HASH"));
    await Promise.all(clients.map((client) => client.close()));
  });

  test("tells how long the longest slice took, until it is told to forget that", async () => {
    const [one, two] = [await start("n1"), await start("n2")];
    await one.askAll(sets(1_000));
    expect(await one.ask(`SYNC 127.0.0.1 ${two.process.port}`)).toBe("OK");
    for (const node of [one, two]) {
      await eventually("the session is over", async () => (await node.fact("sync_active")) === 0);
      for (const slice of ["sync_longest_slice", "tree_longest_slice"]) {
        expect(await node.fact(`${slice}_ms`)).toBeGreaterThan(0);
        expect(await node.fact(`${slice}_cpu_ms`)).toBeGreaterThanOrEqual(0);
      }
      expect(await node.ask("CONFIG RESETSTAT")).toBe("OK");
      expect(await node.fact("sync_longest_slice_ms")).toBe(0);
    }
  });
});

test("two live nodes with one id are reported by both", async () => {
  const [one, two] = [await start("twin"), await start("twin")];
  expect(await one.ask(`SYNC 127.0.0.1 ${two.process.port}`)).toMatch(
    /^ERROR: Connection failed - /,
  );
  for (const node of [one, two]) {
    await eventually("it is known", async () => (await node.fact("sync_duplicate_node_id")) === 1);
    await eventually("it is logged", () => node.logged(/ERROR .*node's id/) === 1);
  }
});

test("what a node alone held from before a forgotten deletion is set aside, not brought back", async () => {
  const storage = { tombstone_grace_seconds: 1 };
  const [one, two] = [await start("n1", { storage }), await start("n2", { storage })];
  await one.askAll(["SET doomed x", "SET kept x"]);
  expect(await one.ask(`SYNC 127.0.0.1 ${two.process.port}`)).toBe("OK");
  await one.ask("DEL doomed");
  await eventually("the deletion is forgotten", async () => (await one.fact("tombstones")) === 0);
  await two.ask("SET fresh y");

  expect(await two.ask("GET doomed")).toBe("x");
  expect(await one.ask(`SYNC 127.0.0.1 ${two.process.port}`)).toBe("OK");
  for (const node of [one, two]) {
    expect(await node.ask("GET doomed")).toBe("(null)");
    expect(await node.ask("GET fresh")).toBe("y");
    expect(await node.ask("DBSIZE")).toBe("2");
  }
  expect(await two.fact("set_aside_entries")).toBe(1);
  const file = join(two.process.directory, "data/set-aside-n2.jsonl");
  expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({
    reason: "stale",
    kind: "string",
    key: "doomed",
    value: "x",
  });
  expect(existsSync(join(one.process.directory, "data/set-aside-n1.jsonl"))).toBe(false);
});

describe("kill -9 in the middle of a session", () => {
  const COUNT = 100_000;
  /** So that a session takes some seconds: nobody need be quick to meet its middle. */
  const LINE_BYTES_A_SECOND = 2_000_000;

  async function fill(node: ClusterNode): Promise<void> {
    for (let i = 0; i < COUNT; i += 10_000) {
      const lines = Array.from({ length: 10_000 }, (_, j) => `SET key:${i + j} ${"v".repeat(200)}`);
      await node.askAll(lines);
    }
  }

  test("of the one that asked: the other is unharmed, and the next try succeeds", async () => {
    const one = await start("n1");
    await fill(one);
    const hash = await one.ask("HASH");
    const two = await start("n2");
    link = await Link.to(one.process.port, LINE_BYTES_A_SECOND);
    const asking = await LineClient.connect(two.process.port);
    asking.sendRaw(`SYNC 127.0.0.1 ${link.port}\n`);
    await eventually("entries arrive", async () => Number(await two.ask("DBSIZE")) > 100);
    await two.process.kill();
    await eventually("the session ended", async () => (await one.fact("sync_active")) === 0);
    expect(await one.fact("sync_failed")).toBe(1);
    await eventually(
      "it is logged",
      () => one.logged(/WARN .*A sync that a peer began failed/) === 1,
    );
    expect(await one.ask("HASH")).toBe(hash);

    const again = await start("n2", { antiEntropy: { peer_list: [one.address] } });
    await eventually("it has all", async () => (await again.ask("DBSIZE")) === String(COUNT));
    expect(await again.ask("HASH")).toBe(hash);
  });

  test("of the one that was asked: what came before stays, and SYNC says what happened", async () => {
    const one = await start("n1");
    await fill(one);
    const two = await start("n2");
    await two.ask("SET own x");
    link = await Link.to(one.process.port, LINE_BYTES_A_SECOND);
    const asking = await LineClient.connect(two.process.port);
    asking.sendRaw(`SYNC 127.0.0.1 ${link.port}\n`);
    await eventually("entries arrive", async () => Number(await two.ask("DBSIZE")) > 100);
    await one.process.kill();
    expect(await asking.readLine()).toMatch(/^ERROR: Connection failed - /);
    expect(await two.ask("GET own")).toBe("x");
    const third = await start("n3");
    expect(await third.ask(`SYNC 127.0.0.1 ${two.process.port} --verify`)).toBe("OK");
    expect(await third.ask("HASH")).toBe(await two.ask("HASH"));
  });
});

test("what is dated too far ahead is kept where it is, and asked for when its time has come", async () => {
  const one = await start("n1");
  const two = await start("n2", {
    storage: { max_clock_skew_ms: 1_000 },
    antiEntropy: { peer_list: [one.address] },
  });
  const ahead = new SyncPeer("ahead");
  const edgeMs = Date.now() + 8_000;
  ahead.store.clock.observe(timeHighOf(edgeMs), timeLowOf(edgeMs));
  ahead.set("edge", "x");
  expect((await ahead.visit(one.process.port)).ok).toBe(true);
  // Whatever is written there is now dated as far ahead.
  await one.ask("SET mine y");
  expect(await two.ask(`SYNC 127.0.0.1 ${one.process.port}`)).toBe("OK");
  expect(await two.fact("sync_entries_postponed")).toBe(2);
  expect(await two.ask("GET mine")).toBe("(null)");
  await eventually("its time has come", async () => (await two.ask("GET mine")) === "y");
  expect(await two.ask("GET edge")).toBe("x");
  expect(await two.fact("set_aside_entries")).toBe(0);
});

test("a peer that cannot have forgotten what it says is refused, and both logs name the other", async () => {
  const one = await start("n1");
  const hasty = await start("n2", { storage: { tombstone_grace_seconds: 1 } });
  await hasty.askAll(["SET doomed x", "DEL doomed"]);
  await eventually("it is forgotten", async () => (await hasty.fact("tombstones")) === 0);
  await one.ask("SET kept y");
  const reply = await one.ask(`SYNC 127.0.0.1 ${hasty.process.port}`);
  expect(reply).toContain("it claims to have forgotten deletions of ");
  expect(await one.ask("GET kept")).toBe("y");
  for (const [node, other] of [
    [one, "n2"],
    [hasty, "n1"],
  ] as const) {
    await eventually("it is in the log", async () =>
      node.process
        .output()
        .split("\n")
        .some((line) => line.includes(other) && line.includes("it claims to have forgotten")),
    );
  }
});
