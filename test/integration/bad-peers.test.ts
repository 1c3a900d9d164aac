/** Peers that misbehave: each costs a node one counted session and one line in its log. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { CURRENT } from "../../src/core/data/capabilities.ts";
import { ClusterNode } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { LineClient } from "../support/line-client.ts";
import { SyncPeer } from "../support/sync-peer.ts";

const FAILED = /WARN .*A sync that a peer began failed/;

let node: ClusterNode;
/** One that gives up who is silent for a second. */
let hasty: ClusterNode;
beforeAll(async () => {
  node = await ClusterNode.start("n1");
  hasty = await ClusterNode.start("n1", { network: { connection_timeout: 1 } });
  // A client that says nothing for that long is cut, too.
  expect(await hasty.ask("PING")).toBe("PONG");
  await node.askAll(Array.from({ length: 50 }, (_, i) => `SET key:${i} ${i}`));
});
afterAll(() => Promise.all([node.stop(), hasty.stop()]));

const greeting = Buffer.from("PEER\n");
const opening = () => new SyncPeer("bad").opening();

/** A frame with a right checksum. */
function frame(payload: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(payload.length);
  header.writeUInt32BE(Bun.hash.crc32(payload), 4);
  return Buffer.concat([header, payload]);
}

/** The opening of a peer whose HELLO has this byte changed. */
function changed(at: number, ...values: number[]): Buffer {
  const payload = opening().subarray(greeting.length + 8);
  payload.set(values, at);
  return Buffer.concat([greeting, frame(payload)]);
}

/** Sends bytes; resolves when the node has ended the connection. */
async function send(bytes: Uint8Array, to = node): Promise<void> {
  const client = await LineClient.connect(to.process.port);
  client.sendRaw(bytes);
  await client.closed;
}

async function expectOneFailure(
  reason: RegExp,
  misbehave: () => Promise<void>,
  at = node,
): Promise<void> {
  const [hash, failed, lines] = [
    await at.ask("HASH"),
    await at.fact("sync_failed"),
    at.logged(FAILED),
  ];
  await misbehave();
  await eventually("it is counted", async () => (await at.fact("sync_failed")) === failed + 1);
  await eventually("it is logged", () => at.logged(FAILED) === lines + 1);
  const line = at.process
    .output()
    .split("\n")
    .findLast((it) => FAILED.test(it))!;
  expect(line).toMatch(reason);
  expect(await at.fact("sync_active")).toBe(0);
  expect(await at.ask("HASH")).toBe(hash);
}

describe("a peer that", () => {
  const word = (text: string) => Buffer.concat([greeting, Buffer.from(text)]);
  test.each([
    ["talks nonsense", () => word("GET key:1\nGET key:2\n"), /a frame of \d+ bytes/],
    ["announces a huge frame", () => word("\x7f\xff\xff\xff 12345"), /a frame of \d+ bytes/],
    [
      "sends a damaged frame",
      () => {
        const bytes = opening();
        bytes[bytes.length - 1] ^= 1;
        return bytes;
      },
      /a damaged frame/,
    ],
    ["sends an empty frame", () => Buffer.concat([greeting, Buffer.alloc(8)]), /an empty frame/],
    [
      "sends an unknown item",
      () => Buffer.concat([greeting, frame(Buffer.from([99]))]),
      /does not keep to/,
    ],
    [
      "does not introduce itself",
      () => Buffer.concat([greeting, frame(Buffer.from([3]))]),
      /does not keep to/,
    ],
    [
      "introduces itself with half a HELLO",
      () => {
        const payload = opening().subarray(greeting.length + 8);
        return Buffer.concat([greeting, frame(payload.subarray(0, 20))]);
      },
      /does not keep to/,
    ],
    [
      "speaks another version",
      () => changed(5, CURRENT.highest + 1, CURRENT.highest + 1),
      new RegExp(`version ${CURRENT.highest + 1} of the protocol between nodes.*upgrade this node`),
    ],
    ["wants what nobody knows", () => changed(8, 200), /does not keep to/],
    ["belongs to another cluster", () => new SyncPeer("bad", "other").opening(), /cluster/],
    [
      "says HELLO twice",
      () => {
        const bytes = opening();
        return Buffer.concat([bytes, bytes.subarray(greeting.length)]);
      },
      /./,
    ],
  ] as [string, () => Buffer, RegExp][])("%s", async (_what, bytes, reason) => {
    await expectOneFailure(reason, () => send(bytes()));
  });

  const SILENT = /nothing came .* for 1 s/;

  test.each([
    ["sends half a frame and falls silent", () => opening().subarray(0, 60)],
    ["says PEER and falls silent", () => greeting],
  ])("%s", async (_what, bytes) => {
    await expectOneFailure(SILENT, () => send(bytes(), hasty), hasty);
  });

  test("sends a byte now and then", async () => {
    const misbehave = async (): Promise<void> => {
      const client = await LineClient.connect(hasty.process.port);
      client.sendRaw(greeting);
      const bytes = Buffer.concat([opening().subarray(greeting.length), Buffer.alloc(100_000)]);
      bytes.writeUInt32BE(100_000, 0);
      let sent = 0;
      const isOver = client.closed.then(() => true);
      await eventually("it is cut off", () => {
        client.sendRaw(bytes.subarray(sent, ++sent));
        return Promise.race([isOver, Promise.resolve(false)]);
      });
    };
    await expectOneFailure(SILENT, misbehave, hasty);
  });

  test("asks for much and reads nothing", async () => {
    const keys = Array.from({ length: 60 }, (_, i) => `large:${i}`);
    await hasty.askAll(keys.map((key) => `SET ${key} ${"v".repeat(500_000)}`));
    const misbehave = async (): Promise<void> => {
      const failed = await hasty.fact("sync_failed");
      const socket = connect(hasty.process.port, "127.0.0.1");
      socket.on("error", () => {}).pause();
      const fetched = keys.map((key) => Buffer.from(key));
      socket.write(new SyncPeer("deaf").opening("fetch", fetched));
      // So that it is not silent: a frame of which some comes, and never the end.
      const start = Buffer.alloc(8);
      start.writeUInt32BE(4_000_000);
      socket.write(start);
      const timer = setInterval(() => socket.write(Buffer.alloc(8_192)), 100);
      await eventually("it is cut off", async () => (await hasty.fact("sync_failed")) > failed);
      clearInterval(timer);
      socket.destroy();
    };
    await expectOneFailure(/read nothing for 1 s/, misbehave, hasty);
    await hasty.askAll(keys.map((key) => `DEL ${key}`));
  });

  test("comes and goes", async () => {
    await expectOneFailure(/connection was lost/, async () => {
      const client = await LineClient.connect(node.process.port);
      client.sendRaw(greeting);
      await eventually("it is in", async () => (await node.fact("sync_active")) === 1);
      await client.close();
    });
  });

  test("sends random frames", async () => {
    const failed = await node.fact("sync_failed");
    const hash = await node.ask("HASH");
    for (let i = 0; i < 50; i++) {
      const hello = opening();
      const payload = crypto.getRandomValues(new Uint8Array(1 + (i % 40)));
      payload[0] = i % 20;
      const client = await LineClient.connect(node.process.port);
      client.sendRaw(Buffer.concat([hello, frame(payload)]));
      await client.close();
    }
    await eventually("all are over", async () => (await node.fact("sync_active")) === 0);
    expect(await node.fact("sync_failed")).toBeGreaterThan(failed);
    expect(await node.ask("HASH")).toBe(hash);
  });
});

test("a peer may go at any byte of its opening", async () => {
  const bytes = opening();
  const before = await node.fact("sync_failed");
  const hash = await node.ask("HASH");
  const cuts = Array.from(
    { length: bytes.length - greeting.length },
    (_, i) => i + greeting.length,
  );
  for (const cut of cuts) {
    const client = await LineClient.connect(node.process.port);
    client.sendRaw(bytes.subarray(0, cut));
    // Leaves once the node has read it: it takes sessions in the order in which they came.
    await eventually("it is in", async () => (await node.fact("sync_active")) === 1);
    await client.close();
  }
  const failed = before + cuts.length;
  await eventually("all are counted", async () => (await node.fact("sync_failed")) === failed);
  expect(await node.ask("HASH")).toBe(hash);
});

describe("peers that keep their sessions going with nine bytes now and then", () => {
  const PIECE = frame(Buffer.from([99]));

  /** Sessions in which the other side says who it is and then sends a byte at a time. */
  async function trickle(target: ClusterNode, count: number): Promise<() => Promise<void>> {
    const clients = await Promise.all(
      Array.from({ length: count }, () => LineClient.connect(target.process.port)),
    );
    for (const [i, client] of clients.entries()) client.sendRaw(new SyncPeer(`slow${i}`).opening());
    const timer = setInterval(() => {
      for (const client of clients) client.sendRaw(PIECE.subarray(0, 1));
    }, 100);
    return async () => {
      clearInterval(timer);
      await Promise.all(clients.map((client) => client.close()));
    };
  }

  test("keep nobody else out, whoever begins", async () => {
    const target = await ClusterNode.start("n2");
    const stop = await trickle(target, 3);
    const guest = new SyncPeer("guest");
    guest.set("from", "guest");
    await eventually("a guest is served", async () => (await guest.visit(target.process.port)).ok);
    expect(await target.ask("GET from")).toBe("guest");
    const other = new SyncPeer("other");
    const { port, result } = await other.receive();
    expect(await target.ask(`SYNC 127.0.0.1 ${port}`)).toBe("OK");
    expect((await result).ok).toBe(true);
    await stop();
    await target.stop();
  });

  test("keep no purges waiting", async () => {
    const target = await ClusterNode.start("n2", { storage: { tombstone_grace_seconds: 1 } });
    await target.ask("SET key value");
    await target.ask("DEL key");
    const stop = await trickle(target, 3);
    await eventually("deletions are purged", async () => (await target.fact("tombstones")) === 0);
    await stop();
    await target.stop();
  });

  test("or say PEER and no more, are bounded in number", async () => {
    const target = await ClusterNode.start("n2");
    const clients: LineClient[] = [];
    for (let i = 0; i < 100; i++) {
      const client = await LineClient.connect(target.process.port);
      client.sendRaw(greeting);
      clients.push(client);
    }
    await eventually("most were sent away", async () => (await target.fact("sync_failed")) === 68);
    expect(await target.fact("sync_active")).toBe(32);
    expect((await new SyncPeer("guest").visit(target.process.port)).ok).toBe(true);
    await Promise.all(clients.map((client) => client.close()));
    await target.stop();
  });
});

describe("a connection that breaks anywhere in a session", () => {
  const KEYS = 300;
  const value = (i: number) => String(i).padStart(50, ".");

  test.each(["comes", "is visited"])(
    "with a peer that %s, leaves both stores correct",
    async (how) => {
      const target = await ClusterNode.start("n2");
      await target.askAll(Array.from({ length: KEYS }, (_, i) => `SET node:${i} ${value(i)}`));
      const peer = new SyncPeer("cut");
      for (let i = 0; i < KEYS; i++) peer.set(`peer:${i}`, value(i));

      const meet = async (cutAfterBytes: number): Promise<boolean> => {
        if (how === "comes") return (await peer.visit(target.process.port, cutAfterBytes)).ok;
        const { port, result } = await peer.receive(cutAfterBytes);
        const reply = await target.ask(`SYNC 127.0.0.1 ${port}`);
        expect(reply).toMatch(/^(OK$|ERROR: Connection failed - )/);
        return (await result).ok && reply === "OK";
      };
      let broken = 0;
      for (let cut = 6; cut < 100_000; cut = Math.ceil(cut * 1.3)) if (!(await meet(cut))) broken++;
      expect(broken).toBeGreaterThan(10);
      expect(await meet(Infinity)).toBe(true);

      expect(await target.ask("DBSIZE")).toBe(String(2 * KEYS));
      expect(peer.store.size).toBe(2 * KEYS);
      const values = await target.askAll(Array.from({ length: KEYS }, (_, i) => `GET peer:${i}`));
      expect(values).toEqual(Array.from({ length: KEYS }, (_, i) => value(i)));
      await eventually("nothing is left", async () => (await target.fact("sync_active")) === 0);
      await target.stop();
    },
  );
});
