/**
 * Somebody owns the network between two nodes: he reads, drops, cuts, doubles, reorders and edits
 * what they say to each other, repeats single frames and whole sessions, gives a node back what it
 * said, and speaks to both as if he were the other. With a cluster secret he gets nothing out and
 * changes nothing, and the nodes hold the same as soon as he lets things through.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { CURRENT } from "../../src/core/data/capabilities.ts";
import { ClusterNode, type ClusterNodeOptions } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { HostileNetwork, type Meddling, type Unit } from "../support/hostile-network.ts";
import { LineClient } from "../support/line-client.ts";
import { seeded } from "../support/random.ts";
import { secretFileNamed } from "../support/secret-files.ts";
import { SyncPeer } from "../support/sync-peer.ts";

const SECRET = { cluster: { secret_file: secretFileNamed("one"), name: "plant-in-hanoi" } };
/** What is silent for two seconds is given up. */
const NETWORK = { network: { connection_timeout: 2, max_line_bytes: 2_000_000 } };

/** A node whose client has said something: one that says nothing for that long is cut. */
async function start(id: string, options: ClusterNodeOptions): Promise<ClusterNode> {
  const node = await ClusterNode.start(id, options);
  expect(await node.ask("PING")).toBe("PONG");
  return node;
}

let north: ClusterNode;
let south: ClusterNode;
/** The way from the first to the second. */
let network: HostileNetwork;
/** What clients wrote, by key: nothing else may ever be anywhere. */
const written = new Map<string, string>();

beforeAll(async () => {
  // Sessions begin when the test says so.
  const options = { ...SECRET, ...NETWORK, antiEntropy: { enabled: false } };
  south = await start("turbine-south", options);
  network = await HostileNetwork.to(south.process.port);
  const antiEntropy = { enabled: false, peer_list: [`127.0.0.1:${network.port}`] };
  north = await start("turbine-north", { ...options, antiEntropy });
});
afterAll(async () => {
  network.close();
  await Promise.all([north.process.kill(), south.process.kill()]);
});
beforeEach(() => network.relent());
afterEach(() => expectOnlyWhatWasWritten());

async function write(node: ClusterNode, key: string, value: string): Promise<void> {
  expect(await node.ask(`SET ${key} ${value}`)).toBe("OK");
  written.set(key, value);
}

let count = 0;
/** Something to say on both sides. */
async function writeOnBoth(): Promise<void> {
  count++;
  await write(north, `pressure:${count}`, `confidential-north-${count}`);
  await write(south, `pump:${count}`, `confidential-south-${count}`);
}

const sync = (): Promise<string> => north.ask(`SYNC 127.0.0.1 ${network.port}`);

async function expectOnlyWhatWasWritten(): Promise<void> {
  for (const node of [north, south]) {
    const keys = (await node.ask("DBSIZE")) === "0" ? [] : await keysOf(node);
    for (const key of keys) {
      if (!written.has(key)) throw new Error(`${node.id} has ${key}, which nobody wrote`);
      expect(await node.ask(`GET ${key}`)).toBe(written.get(key)!);
    }
  }
}

async function keysOf(node: ClusterNode): Promise<string[]> {
  const client = await LineClient.connect(node.process.port);
  const header = await client.send("SCAN");
  const keys = await client.readLines(Number(header.slice("KEYS ".length)));
  await client.close();
  return keys;
}

/** As soon as he lets things through. */
async function expectConverged(): Promise<void> {
  network.relent();
  await eventually("they can sync", async () => (await sync()) === "OK");
  const hashes = await Promise.all([north.ask("HASH"), south.ask("HASH")]);
  expect(hashes[0]).toBe(hashes[1]);
  expect(await north.ask("DBSIZE")).toBe(String(written.size));
}

/** One session as it goes when nobody meddles. */
async function listen(): Promise<readonly Unit[]> {
  network.relent();
  await writeOnBoth();
  expect(await sync()).toBe("OK");
  return network.lastHeard;
}

describe("who reads everything", () => {
  test("finds no key, no value and no name", async () => {
    await writeOnBoth();
    await write(north, "large-secret-key", "LARGE-CONFIDENTIAL ".repeat(40_000).trim());
    expect(await sync()).toBe("OK");
    expect(await north.ask(`SYNC 127.0.0.1 ${network.port} --full --verify`)).toBe("OK");
    const wire = network.everything();
    expect(wire.length).toBeGreaterThan(1_000);
    // None so short that sealed bytes would hold it by chance.
    for (const word of ["confidential", "CONFIDENTIAL", "pressure", "pump:", "large-secret"]) {
      expect([word, wire.includes(word)]).toEqual([word, false]);
    }
    const hello = `MKVS${String.fromCharCode(CURRENT.lowest, CURRENT.highest)}`;
    for (const word of ["turbine", "hanoi", "merkle", hello]) {
      expect([word, wire.includes(word)]).toEqual([word, false]);
    }
    const kinds = new Set(network.heard.flat().map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual(["answer", "line", "message", "opening"]);
  });

  test("does not see the same twice, though the same is said twice", async () => {
    await listen();
    await sync();
    const first = network.lastHeard.map(({ bytes }) => bytes.toString("hex"));
    await sync();
    const again = network.lastHeard.map(({ bytes }) => bytes.toString("hex"));
    expect(first.filter((it) => again.includes(it))).toEqual([
      Buffer.from("PEER\n").toString("hex"),
    ]);
  });
});

/** Whether a change there may make the other side wait for what never comes. */
function isLength({ kind, bytes }: Unit, at: number): boolean {
  if (kind === "line") return at === bytes.length - 1;
  if (kind === "message") return at < 2;
  return kind === "answer" ? at === 1 || at === 2 : at === 5 || at === 6;
}

describe("who changes what is said", () => {
  test("byte by byte, is noticed each time", async () => {
    const units = await listen();
    const places = units.flatMap(({ bytes, index }) =>
      Array.from(bytes, (_, at) => ({ index, at })),
    );
    let noticed = 0;
    for (const [n, { index, at }] of places.entries()) {
      await writeOnBoth();
      let isChanged = false;
      network.meddle = (unit) => {
        if (isChanged && isLength(units[index], at)) return null;
        if (unit.index !== index || at >= unit.bytes.length) return [unit.bytes];
        isChanged = true;
        const changed = Buffer.from(unit.bytes);
        changed[at] ^= 1 << (n % 8);
        return [changed];
      };
      const reply = await sync();
      // A session may have had fewer units than the one before.
      if (isChanged && reply !== "OK") noticed++;
      else if (isChanged) throw new Error(`a change of byte ${at} of unit ${index} is not noticed`);
    }
    expect(noticed).toBeGreaterThan(500);
    await expectConverged();
  });

  test("or leaves out, doubles, cuts or exchanges it", async () => {
    const units = await listen();
    const former = units.filter(({ kind }) => kind === "message");
    const at = (index: number, act: (unit: Unit) => readonly Uint8Array[] | null): Meddling => {
      return (unit) => (unit.index === index ? act(unit) : [unit.bytes]);
    };
    for (const { index, kind } of units.slice(1)) {
      const half = (bytes: Buffer): Buffer => bytes.subarray(0, bytes.length >> 1);
      const meddlings: Record<string, Meddling> = {
        "ends the connection before": at(index, () => null),
        "cuts and ends the connection": (unit) => {
          if (unit.index > index) return null;
          return [unit.index === index ? half(unit.bytes) : unit.bytes];
        },
        doubles: at(index, ({ bytes }) => [bytes, bytes]),
        "puts in what was said before": at(index, ({ bytes }) => [former.at(-1)!.bytes, bytes]),
        "replaces by what was said before": at(index, ({ fromCaller }) => {
          const other = units.find((it) => it.kind === kind && it.fromCaller === fromCaller);
          return [other!.bytes];
        }),
      };
      for (const [what, meddle] of Object.entries(meddlings)) {
        await writeOnBoth();
        network.meddle = meddle;
        const reply = await sync();
        // The last words of a session add nothing to what both have by then.
        const isLate = index >= network.lastHeard.length - 3;
        if (reply === "OK") expect([what, isLate]).toEqual([what, true]);
      }
    }
    await expectConverged();
  });

  test("turns one around", async () => {
    await writeOnBoth();
    const held: Buffer[] = [];
    network.meddle = ({ kind, fromCaller, bytes }) => {
      if (kind !== "message" || fromCaller || held.length >= 2) return [bytes];
      held.push(bytes);
      // Who waits for the first gets none: so the second is made of it.
      return [Buffer.concat([bytes.subarray(0, 2), Buffer.from(bytes.subarray(2)).reverse()])];
    };
    expect(await sync()).toMatch(/was changed on the way/);
    await expectConverged();
  });
});

describe("who repeats what he heard", () => {
  test("to the node it was said to, is refused without a word", async () => {
    const units = await listen();
    const said = Buffer.concat(units.filter((it) => it.fromCaller).map(({ bytes }) => bytes));
    const before = await south.fact("sync_refused_replayed");
    const hash = await south.ask("HASH");
    for (let i = 0; i < 3; i++) {
      const thief = await LineClient.connect(south.process.port);
      thief.sendRaw(said);
      await thief.closed;
      expect(thief.unread()).toBe("");
    }
    expect(await south.fact("sync_refused_replayed")).toBe(before + 3);
    expect(await south.ask("HASH")).toBe(hash);
    await eventually(
      "it is logged",
      () => south.logged(/A sync that a peer began failed.*somebody repeats what he heard/) >= 3,
    );
  });

  test("to another node, changes nothing there and gets nothing he can read", async () => {
    const units = await listen();
    const said = Buffer.concat(units.filter((it) => it.fromCaller).map(({ bytes }) => bytes));
    const third = await start("turbine-west", { ...SECRET, ...NETWORK });
    await third.ask("SET flow:1 confidential-west");
    const hash = await third.ask("HASH");
    const thief = await LineClient.connect(third.process.port);
    thief.sendRaw(said);
    await thief.closed;
    expect(thief.unread()).not.toContain("confidential");
    expect(thief.unread()).not.toContain("flow");
    expect(await third.ask("HASH")).toBe(hash);
    await third.process.kill();
  });
});

/** Answers whoever dials as it likes; its port. */
async function impostor(answer: (socket: Socket) => void): Promise<[number, () => void]> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    answer(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return [(server.address() as AddressInfo).port, () => void server.close()];
}

describe("who speaks in the other's place", () => {
  test("with what the node itself says, is not believed", async () => {
    const echo = (from: number): ((socket: Socket) => void) => {
      return (socket) => socket.on("data", (chunk: Buffer) => socket.write(chunk.subarray(from)));
    };
    const dressed = (socket: Socket): void => {
      socket.on("data", (chunk: Buffer) => {
        const opening = chunk.subarray(chunk.indexOf(10) + 1);
        socket.write(Buffer.concat([Buffer.of(0xc3), opening.subarray(5)]));
      });
    };
    for (const answer of [echo(0), echo(5), dressed]) {
      const [port, close] = await impostor(answer);
      expect(await north.ask(`SYNC 127.0.0.1 ${port}`)).toStartWith("ERROR: Connection failed - ");
      close();
    }
    // Led back to itself, it finds out who that is.
    const own = await HostileNetwork.to(north.process.port);
    expect(await north.ask(`SYNC 127.0.0.1 ${own.port}`)).toMatch(/leads back to this node itself/);
    own.close();
  });

  test("without the secret, is told nothing by either and changes nothing", async () => {
    const peer = new SyncPeer("turbine-south", "plant-in-hanoi");
    peer.set("forged", "by the attacker");
    const { port, result } = await peer.receive();
    expect(await north.ask(`SYNC 127.0.0.1 ${port}`)).toMatch(/it has no cluster secret/);
    expect((await result).ok).toBe(false);
    const visit = await new SyncPeer("turbine-north", "plant-in-hanoi").visit(south.process.port);
    expect([visit.ok, visit.entriesReceived]).toEqual([false, 0]);
    expect(visit.reason).toMatch(/this cluster has a secret/);
    expect(await north.ask("GET forged")).toBe("(null)");
  });

  test("makes each believe that the other has no secret: they say so, and no more", async () => {
    await writeOnBoth();
    const unsealed = new SyncPeer("turbine-north", "plant-in-hanoi").opening();
    network.meddle = ({ kind, bytes }) => {
      if (kind === "opening") return [unsealed.subarray(unsealed.indexOf(10) + 1)];
      return [bytes];
    };
    expect(await sync()).toMatch(/it has no cluster secret, or is older/);
    network.meddle = ({ fromCaller, bytes }) => [fromCaller ? bytes : Buffer.of(0xc4, 1)];
    expect(await sync()).toMatch(/it has no cluster secret, and this node has one/);
    await expectConverged();
  });
});

/** Whatever comes to his mind. */
function whims(): Meddling {
  const random = seeded(20_261_126);
  const below = (n: number): number => Math.floor(random() * n);
  let former: Buffer = Buffer.from("\0");
  return ({ bytes }) => {
    const act = below(12);
    if (act === 0) return null;
    if (act === 1) return [];
    if (act === 2) return [bytes, bytes];
    if (act === 3) return [former, bytes];
    if (act === 4) return [bytes.subarray(0, below(bytes.length))];
    const changed = Buffer.from(bytes);
    if (act === 5) changed[below(changed.length)] = below(256);
    if (below(4) === 0) former = changed;
    return [changed];
  };
}

test("who does whatever comes to his mind for a while, has changed nothing", async () => {
  network.meddle = whims();
  for (let i = 0; i < 25; i++) {
    await writeOnBoth();
    await sync();
  }
  await expectOnlyWhatWasWritten();
  await expectConverged();
});

test("nodes that sync by themselves hold the same soon after he lets things through", async () => {
  const options = { ...SECRET, ...NETWORK };
  const first = await start("pump-east", options);
  const way = await HostileNetwork.to(first.process.port);
  const antiEntropy = { interval_seconds: 1, peer_list: [`127.0.0.1:${way.port}`] };
  way.meddle = whims();
  const second = await start("pump-west", { ...options, antiEntropy });
  await first.ask("SET city Hanoi");
  await second.ask("SET river Mekong");
  const same = async (): Promise<boolean> =>
    (await first.ask("HASH")) === (await second.ask("HASH"));
  await eventually("he has had his fun", () => way.heard.length >= 3);
  way.meddle = () => null;
  const before = way.heard.length;
  await first.ask("SET city Hue");
  await eventually("he cuts what they say", () => way.heard.length > before);
  way.relent();
  await eventually("they hold the same", same);
  expect([await first.ask("DBSIZE"), await second.ask("GET city")]).toEqual(["2", "Hue"]);
  way.close();
  await Promise.all([first.process.kill(), second.process.kill()]);
});
