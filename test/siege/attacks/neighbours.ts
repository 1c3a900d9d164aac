/** Attacks by peers that come, and by what is published in the name of peers that are none. */
import { readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { connectAsync, type MqttClient } from "mqtt";
import { Encoder } from "cbor-x/index-no-eval";
import { eventually } from "../../support/eventually.ts";
import { LineClient } from "../../support/line-client.ts";
import { SyncPeer } from "../../support/sync-peer.ts";
import type { Attack, Stage } from "../attack.ts";
import type { NodeOnDisk } from "../node-on-disk.ts";

const PREFIX = "merkle-kv";
const GREETING = Buffer.from("PEER\n");
/** A core is not to be taken: so much processor time in each second at most. */
const MOST_CPU = 0.5;

/** See the file header. */
export const neighbours: readonly Attack[] = [
  {
    name: "peer-only",
    what: "2,000 connections, a few at a time, that say PEER and no more",
    scene: "cluster",
    async run(stage) {
      for (let i = 0; i < stage.times(2_000); i++) {
        // When all places are taken some are turned away: that is what the node is to do.
        const socket = await stage.connect().catch(() => null);
        socket?.write(GREETING);
        if (i % 2 === 0) socket?.destroy();
      }
      await heals(stage);
    },
  },
  {
    name: "slow-sessions",
    what: "sessions of nine bytes now and then, as many as the nodes take",
    scene: "cluster",
    async run(stage) {
      const stop = await trickle(stage, 6);
      await heals(stage);
      stop();
    },
  },
  {
    name: "peer-reads-nothing",
    what: "peers that ask for all there is and read nothing",
    async run(stage) {
      await fill(stage.node, stage.times(20_000));
      for (let i = 0; i < 6; i++) {
        const socket = await stage.connect();
        socket.pause();
        socket.write(new SyncPeer(`deaf${i}`).opening("full"));
      }
      await stillServes(stage);
    },
  },
  {
    name: "forged-presence",
    what: "3,000 forged retained presences, 200 of them with a tarpit",
    scene: "cluster",
    async run(stage) {
      await using publisher = await publish(stage);
      const tarpit = await startTarpit();
      const count = stage.times(3_000);
      for (let i = 0; i < count; i++) {
        const port = i < count / 15 ? tarpit.port : 1 + (i % 900);
        publisher.announce(`forged${i}`, `127.0.0.1:${port}`);
      }
      await publisher.flushed();
      await heals(stage);
      if (stage.scale === 1) {
        const cpu = await cpuShare(stage.node, 3_000);
        stage.demand(cpu < MOST_CPU, `it takes ${Math.round(cpu * 100)} % of a core afterwards`);
      }
      tarpit.close();
    },
  },
  {
    name: "presence-flood",
    what: "live presences of ever new nodes, and in the names of those that are there",
    scene: "cluster",
    async run(stage) {
      await using publisher = await publish(stage);
      const tarpit = await startTarpit();
      for (let i = 0; i < stage.times(20_000); i++) {
        publisher.announce(`new${i}`, `127.0.0.1:${i % 2 === 0 ? tarpit.port : 9}`, false);
        if (i % 100 === 0) publisher.announce("honest", `127.0.0.1:${tarpit.port}`, false);
        if (i % 500 === 0) await publisher.flushed();
      }
      await publisher.flushed();
      await heals(stage);
      tarpit.close();
    },
  },
  {
    name: "forged-gaps",
    what: "50,000 batches of nodes that nobody knows, and of one that is known, with gaps between",
    scene: "cluster",
    async run(stage) {
      await using publisher = await publish(stage);
      const ts = (BigInt(Date.now()) << 16n) - 1n;
      for (let i = 0; i < stage.times(50_000); i++) {
        const src = i % 2 === 0 ? "honest" : `nobody${i}`;
        const events = [{ op: "ref", key: Buffer.from(`no${i}`), ts }];
        publisher.batch({ v: 1, src, epoch: 1, seq: 2 * i + 2, events });
        if (i % 500 === 0) await publisher.flushed();
      }
      await publisher.flushed();
      await heals(stage);
    },
  },
  {
    name: "names",
    what: "names with line breaks, and of 3 MB, in presence, batches, events and HELLO",
    scene: "cluster",
    async run(stage) {
      await using publisher = await publish(stage);
      for (const name of ["n\r\nloading:1", "x".repeat(3_000_000 * stage.scale), "\u001b[2J"]) {
        publisher.announce(name, "127.0.0.1:9");
        publisher.announce("n", `127.0.0.1:9\r\nloading:1`);
        for (let i = 0; i < 20; i++) {
          publisher.batch({ v: 1, src: `${name}${i}`, epoch: 1, seq: 9, events: [] });
        }
        const result = await new SyncPeer(name).visit(stage.node.port).catch(() => null);
        stage.demand(
          result === null || !result.ok,
          `it talks to ${JSON.stringify(name.slice(0, 20))}`,
        );
      }
      await publisher.flushed();
      await heals(stage);
      const facts = await info(stage.node);
      stage.demand(!facts.includes("loading:1"), "INFO has a line that somebody else wrote");
    },
  },
];

/** A node that lost touch has, some time after it is back, what the other wrote meanwhile. */
export async function heals(stage: Stage): Promise<void> {
  const { node, peer } = stage;
  // An attack that took all places has just ended: they are given back within moments.
  const here = await newcomer(node);
  const there = await LineClient.connect(peer.port);
  await there.send("REPLICATE disable");
  const round = crypto.randomUUID();
  const lines = Array.from({ length: 1_000 }, (_, i) => `SET heal:${round}:${i} ${i}\n`).join("");
  here.sendRaw(lines);
  await here.readLines(1_000);
  await there.send("REPLICATE enable");
  const isThere = async () => (await there.send(`GET heal:${round}:999`)) === "999";
  await eventually("the peer is healed", isThere);
  await Promise.all([here.close(), there.close()]);
}

/** A client that got a place and an answer. */
async function newcomer(node: NodeOnDisk): Promise<LineClient> {
  let client: LineClient | null = null;
  await eventually("there is room for a client", async () => {
    const tried = await LineClient.connect(node.port);
    if ((await tried.send("PING").catch(() => "")) === "PONG") client = tried;
    else await tried.close();
    return client !== null;
  });
  return client!;
}

async function stillServes(stage: Stage): Promise<void> {
  const client = await LineClient.connect(stage.node.port);
  stage.demand((await client.send("PING")) === "PONG", "it does not answer any more");
  await client.close();
}

async function fill(node: NodeOnDisk, keys: number): Promise<void> {
  const client = await LineClient.connect(node.port);
  const value = "v".repeat(500);
  client.sendRaw(Array.from({ length: keys }, (_, i) => `SET fill:${i} ${value}\n`).join(""));
  await client.readLines(keys);
  await client.close();
}

/** All of INFO. */
async function info(node: NodeOnDisk): Promise<string[]> {
  const client = await LineClient.connect(node.port);
  client.sendRaw("INFO\n");
  const lines: string[] = [];
  for (let line; (line = await client.readLine()) !== "";) lines.push(line);
  await client.close();
  return lines;
}

/** Sessions in which the other side says who it is, and then sends a few bytes now and then. */
async function trickle(stage: Stage, count: number): Promise<() => void> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = await stage.connect();
    socket.write(new SyncPeer(`slow${i % 4}`).opening());
    sockets.push(socket);
  }
  const timer = setInterval(() => {
    for (const socket of sockets) socket.write(Buffer.alloc(9));
  }, 1_000);
  return () => clearInterval(timer);
}

/** Accepts connections and never says a word. */
async function startTarpit(): Promise<{ port: number; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    port: (server.address() as { port: number }).port,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Whoever may publish. */
class Publisher implements AsyncDisposable {
  private readonly encoder = new Encoder({ useRecords: false, variableMapSize: true });
  private pending: Promise<unknown>[] = [];

  constructor(private readonly client: MqttClient) {}

  /** Announces a node that is none. */
  announce(nodeId: string, address: string, retain = true): void {
    const rest = {
      epoch: Date.now() * 1_024,
      connection: 1,
      version: "1",
      root: null,
      online: true,
    };
    const payload = JSON.stringify({ v: 1, node_id: nodeId, address, ...rest });
    const topic = encodeURIComponent(nodeId.slice(0, 1_000));
    this.send(`${PREFIX}/nodes/${topic}`, Buffer.from(payload), retain);
  }

  /** Publishes a batch. */
  batch(batch: object): void {
    this.send(`${PREFIX}/updates`, this.encoder.encode(batch), false);
  }

  /** Resolves when the broker has all that was published. */
  async flushed(): Promise<void> {
    await Promise.all(this.pending.splice(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.endAsync(true);
  }

  private send(topic: string, payload: Buffer, retain: boolean): void {
    this.pending.push(this.client.publishAsync(topic, payload, { qos: 1, retain }));
  }
}

async function publish(stage: Stage): Promise<Publisher> {
  return new Publisher(await connectAsync(stage.broker.address));
}

/** Processor time per time, over so many ms. */
async function cpuShare(node: NodeOnDisk, ms: number): Promise<number> {
  const startedMs = performance.now();
  const before = cpuSeconds(node.pid);
  await Bun.sleep(ms);
  return ((cpuSeconds(node.pid) - before) * 1000) / (performance.now() - startedMs);
}

function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
