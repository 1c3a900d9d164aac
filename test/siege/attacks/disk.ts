/** Attacks on the disk and the log, and on the memory of the broker in the node. */
import { readdirSync } from "node:fs";
import { connect as connectSocket, type Socket } from "node:net";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import { LineClient } from "../../support/line-client.ts";
import type { Attack, Stage } from "../attack.ts";
import { array, stillServes } from "./requests.ts";

const MIB = 1_048_576;
const EMBEDDED = {
  mqtt: { enabled: true, broker_address: "embedded" },
  "mqtt.embedded": { bind_port: 0 },
};

/** See the file header. */
export const disk: readonly Attack[] = [
  {
    name: "backup-reads",
    what: "40 connections that read two backups in turn, 50 pieces each, all at once",
    async run(stage) {
      const client = await LineClient.connect(stage.node.port);
      for (const name of ["one", "two"]) await client.send(`BACKUP ${name}`);
      const before = openFiles(stage);
      const readers = Array.from({ length: stage.times(40) }, () => readPieces(stage, 50));
      await Promise.all(readers);
      const left = openFiles(stage) - before;
      stage.demand(left <= readers.length + 10, `${left} files are open that were not before`);
      await client.close();
    },
  },
  {
    name: "backup-loop",
    what: "400 backups on command, each with a name of its own",
    async run(stage) {
      const client = await LineClient.connect(stage.node.port);
      let made = 0;
      for (let i = 0; i < stage.times(400); i++) {
        if (!(await client.send(`BACKUP n${i}`)).startsWith("ERROR")) made++;
      }
      stage.demand(made <= 100, `${made} backups were made`);
      await client.close();
    },
  },
  {
    name: "snapshot-loop",
    what: "2,000 SNAPSHOT of 20,000 keys of which hardly any changes",
    async run(stage) {
      const client = await LineClient.connect(stage.node.port);
      const value = "x".repeat(100);
      for (let i = 0; i < 20_000; i++) client.sendRaw(`SET k${i} ${value}\n`);
      await client.readLines(20_000);
      stage.dataBytes += 20_000 * 400;
      await client.send("SNAPSHOT");
      const before = await segmentOf(client);
      const times = stage.times(2_000);
      for (let i = 0; i < times; i++) await client.send("SNAPSHOT");
      const written = (await segmentOf(client)) - before;
      stage.demand(written <= 10 + times / 20, `${written} snapshots were written`);
      await client.close();
    },
  },
  {
    name: "failing-sessions",
    what: "10,000 sync sessions of nonsense, to fill the log",
    async run(stage) {
      for (let i = 0; i < stage.times(10_000); i++) {
        const socket = await stage.connect();
        socket.on("error", () => {});
        socket.end(`PEER\n${i.toString(36)} nonsense that is no frame of the protocol`);
        await new Promise((resolve) => socket.once("close", resolve).resume());
      }
      await stillServes(stage);
    },
  },
  {
    name: "broker-absent-subscriber",
    what: "2,000 messages of 512 KiB for a subscriber of the embedded broker that is away",
    settings: EMBEDDED,
    async run(stage) {
      const absent = await join(stage, { clientId: "absent", clean: false });
      await absent.subscribeAsync("flood", { qos: 1 });
      await absent.endAsync();
      const publisher = await join(stage);
      const payload = Buffer.alloc(MIB / 2, "x");
      for (let i = 0; i < stage.times(2_000); i++) {
        await publisher.publishAsync("flood", payload, { qos: 1 });
      }
      await publisher.endAsync();
    },
  },
  {
    name: "broker-retained",
    what: "50,000 retained messages of 4 KiB at the embedded broker",
    settings: EMBEDDED,
    async run(stage) {
      const publisher = await join(stage);
      const payload = Buffer.alloc(4_096, "x");
      for (let i = 0; i < stage.times(50_000); i++) {
        await publisher.publishAsync(`t/${i}`, payload, { qos: 1, retain: true });
      }
      await publisher.endAsync();
    },
  },
  {
    name: "broker-half-sent",
    what: "200 packets of 4 MiB at the embedded broker of which the last byte never comes",
    settings: EMBEDDED,
    async run(stage) {
      const half = Buffer.concat([Buffer.from([0x10, 0xf0, 0xff, 0xff, 0x01]), Buffer.alloc(4e6)]);
      const sockets: Socket[] = [];
      for (let i = 0; i < stage.times(200); i++) {
        const socket = connectSocket(await brokerPort(stage), "127.0.0.1");
        socket.on("error", () => {});
        sockets.push(socket);
        await new Promise<void>((resolve) => {
          socket.once("close", () => resolve());
          socket.write(half, () => resolve());
        });
      }
      const honest = await join(stage);
      await honest.endAsync();
      for (const socket of sockets) socket.destroy();
    },
  },
  {
    name: "broker-too-long",
    what: "1,000 packets at the embedded broker that say they are 256 MiB long",
    settings: EMBEDDED,
    async run(stage) {
      for (let i = 0; i < stage.times(1_000); i++) {
        const socket = connectSocket(await brokerPort(stage), "127.0.0.1");
        socket.on("error", () => {});
        const closed = new Promise((resolve) => socket.once("close", resolve));
        socket.write(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
        await closed;
      }
      const honest = await join(stage);
      await honest.endAsync();
    },
  },
];

async function readPieces(stage: Stage, count: number): Promise<void> {
  const socket = await stage.connect();
  let pieces = 0;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    pieces += chunk.toString("latin1").split("$16\r\n").length - 1;
    if (pieces >= count) resolve();
  });
  socket.once("close", () => reject(new Error(`cut off after ${pieces} of ${count} pieces`)));
  for (let i = 0; i < count; i++) {
    socket.write(array("BACKUP", "READ", i % 2 === 0 ? "one" : "two", "0", "16"));
  }
  await promise;
}

function openFiles({ node }: Stage): number {
  return readdirSync(`/proc/${node.pid}/fd`).length;
}

async function segmentOf(client: LineClient): Promise<number> {
  client.sendRaw("INFO\n");
  let segment = 0;
  await client.readLine();
  for (let line; (line = await client.readLine()) !== "";) {
    if (line.startsWith("log_segment:")) segment = Number(line.split(":")[1]);
  }
  return segment;
}

/** Where the embedded broker listens, by the log. */
async function brokerPort({ node }: Stage): Promise<number> {
  const [, port] = await node.waitFor(/Embedded broker listening address=\S+:(\d+)/);
  return Number(port);
}

async function join(stage: Stage, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${await brokerPort(stage)}`, {
    protocolVersion: 4,
    reconnectPeriod: 0,
    ...options,
  });
  client.on("error", () => {});
  return client;
}
