/** How many connections a node takes, and what it keeps for itself when clients take all. */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { merklekvBinary } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { respRequest } from "../support/in-process.ts";
import { LineClient } from "../support/line-client.ts";
import { NodeOnDisk, type Sections } from "../siege/node-on-disk.ts";

async function withNode(
  network: Sections[string],
  use: (node: NodeOnDisk) => Promise<void>,
  openFiles?: number,
): Promise<void> {
  const sections = { network: { bind_port: 0, ...network }, mqtt: { enabled: false } };
  const command =
    openFiles === undefined
      ? undefined
      : ["sh", "-c", `ulimit -n ${openFiles}; exec "$0" "$@"`, await merklekvBinary()];
  const node = await NodeOnDisk.start("n", sections, command);
  try {
    await use(node);
  } finally {
    await node.remove();
  }
}

async function idle(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
    sockets.push(socket);
  }
  return sockets;
}

async function fact(client: LineClient, name: string): Promise<number> {
  client.sendRaw(respRequest("INFO"));
  const length = Number((await client.readLine()).slice(1));
  const text = (await client.readBytes(length + 2)).toString();
  return Number(new RegExp(`^${name}:(.*)$`, "m").exec(text)![1]);
}

/** The first line of what is answered to `first`, if anything is said at all. */
async function answerTo(port: number, first: string | Uint8Array): Promise<string> {
  const client = await LineClient.connect(port);
  client.sendRaw(first);
  try {
    return await client.readLine();
  } finally {
    await client.close();
  }
}

test("one too many is refused in its own words, whenever it speaks", async () => {
  await withNode({ max_connections: 2, dialect: "tagged" }, async ({ port }) => {
    const others = await idle(port, 2);
    expect(await answerTo(port, "GET k\r\n")).toBe("ERROR Too many connections");
    expect(await answerTo(port, respRequest("GET", "k"))).toBe(
      "-ERR max number of clients reached",
    );
    expect(await answerTo(port, "")).toBe("ERROR Too many connections");
    // Many at once that say nothing: each is told, and no more than a few may wait.
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => answerTo(port, "").catch(() => "")),
    );
    // Fewer than may wait: who was answered before may not have left yet.
    expect(answers.filter((answer) => answer.startsWith("ERROR Too many")).length).toBeGreaterThan(
      8,
    );
    others[0].destroy();
    await eventually("there is room", async () => (await answerTo(port, "PING\n")) === "PONG");
  });
});

test("peers, and administration from this machine, get in when clients have taken all", async () => {
  await withNode({ max_connections: 2 }, async ({ port }) => {
    await idle(port, 2);
    expect(await answerTo(port, "PING\n")).toBe("ERROR: Too many connections");
    expect(await answerTo(port, "STATS\n")).toStartWith("uptime_seconds:");
    expect(await answerTo(port, "peer nonsense\n")).toBe("ERROR: Too many connections");
    const peers = await Promise.all(
      Array.from({ length: 12 }, async () => {
        const peer = await LineClient.connect(port);
        peer.sendRaw("PEER\n");
        return peer;
      }),
    );
    const administrator = await LineClient.connect(port);
    await eventually("peers have taken all that is kept for them", async () => {
      return (await fact(administrator, "refused_connections")) >= 6;
    });
    expect(await fact(administrator, "connected_clients")).toBeLessThanOrEqual(2 + 8 + 1);
    const clients = await administrator.send("CLIENT LIST");
    expect(clients).toStartWith("id=");
    await Promise.all(peers.map((peer) => peer.close()));
  });
});

test.each([
  [128, 1_000],
  [512, 100_000],
  [512, 100],
])(
  "with %i open files and max_connections %i it never runs out of files",
  async (limit, wanted) => {
    await withNode(
      { max_connections: wanted },
      async (node) => {
        const writer = await LineClient.connect(node.port);
        const most = await fact(writer, "connection_limit");
        expect(most).toBeGreaterThan(10);
        expect(most).toBeLessThanOrEqual(Math.min(wanted, limit - 60));
        const isTooLow = (): boolean => node.output().includes("limit of open files is too low");
        if (wanted > limit) await eventually("it is said", isTooLow);
        else expect(most).toBe(wanted);
        await idle(node.port, limit + 100);
        expect(readdirSync(`/proc/${node.pid}/fd`).length).toBeLessThan(limit - 16);
        // Enough for the log to begin another segment, which takes a file.
        const value = "v".repeat(1_000_000);
        for (let i = 0; i < 80; i++)
          expect(await writer.send(`SET k${i % 10} ${value}`)).toBe("OK");
        expect(node.output()).not.toMatch(/ERROR/);
      },
      limit,
    );
  },
);

test("idle_timeout ends a silent client, and one that goes on stays", async () => {
  await withNode({ idle_timeout: 3 }, async ({ port }) => {
    const silent = await LineClient.connect(port);
    expect(await silent.send("PING")).toBe("PONG");
    const busy = await LineClient.connect(port);
    let isOver = false;
    void silent.closed.then(() => (isOver = true));
    await eventually("the silent one is ended", async () => {
      expect(await busy.send("PING")).toBe("PONG");
      return isOver;
    });
    expect(await fact(busy, "idle_connections_ended")).toBe(1);
    await busy.close();
  });
});
