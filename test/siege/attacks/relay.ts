/** Attacks through the broker on the topics below `sync/`, to which whoever may publish can write. */
import { connectAsync, type MqttClient } from "mqtt";
import { Relay } from "../../../src/anti-entropy/relay.ts";
import { encodeCall } from "../../../src/anti-entropy/relay-messages.ts";
import { encodeDatagram } from "../../../src/core/link/datagram.ts";
import { silentLogger } from "../../../src/observability/log.ts";
import type { Link, LinkHandler, Messenger } from "../../../src/ports.ts";
import { eventLoop } from "../../../src/world.ts";
import { LineClient } from "../../support/line-client.ts";
import { SyncPeer } from "../../support/sync-peer.ts";
import type { Attack, Stage } from "../attack.ts";
import { heals } from "./neighbours.ts";

const PREFIX = "merkle-kv/sync/";
const GIANT_BYTES = 2_000_000;
/** Messages under way at once: the broker takes its time. */
const AT_ONCE = 100;

/** See the file header. */
export const relay: readonly Attack[] = [
  {
    name: "broker-calls",
    what: "30,000 calls through the broker, whose answers are followed up by nothing of sense",
    scene: "cluster",
    async run(stage) {
      await using stranger = await Stranger.enter(stage);
      const node = await nodeIdOf(stage);
      const receipt = { receivedUpTo: 0, ranges: [], credit: 0xffff_ffff, sentMs: 1, echoMs: 1 };
      const base = { ...receipt, offset: 0, isFinal: false, isProbe: true };
      const absurd = encodeDatagram({ ...base, payload: Buffer.alloc(4_000, "x") });
      const far = encodeDatagram({ ...base, offset: 2 ** 40, payload: Buffer.alloc(4_000, "x") });
      stranger.onMessage = (_topic, message) => {
        const box = /"box":"([0-9a-f]{16})"/.exec(message.toString())?.[1];
        if (box === undefined) return;
        for (const bytes of [absurd, far, absurd]) stranger.send(`${node}/${box}`, bytes);
      };
      for (let i = 0; i < stage.times(30_000); i++) {
        const box = i.toString(16).padStart(16, "0");
        const call = encodeCall({ from: `caller${i % 1_000}`, box, isRound: i % 2 === 0 });
        stranger.send(`${node}/open`, call);
        if (i % AT_ONCE === 0) await stranger.sent();
      }
      await stranger.sent();
      await heals(stage);
    },
  },
  {
    name: "broker-strays",
    what: "messages of 2 MB, and 50,000 short ones, for connections through the broker that are none",
    scene: "cluster",
    async run(stage) {
      await using stranger = await Stranger.enter(stage);
      const node = await nodeIdOf(stage);
      for (let i = 0; i < stage.times(50); i++) {
        const box = i % 2 === 0 ? "open" : "0123456789abcdef";
        stranger.send(`${node}/${box}`, Buffer.alloc(GIANT_BYTES * stage.scale, "{"));
        await stranger.sent();
      }
      for (let i = 0; i < stage.times(50_000); i++) {
        stranger.send(`${node}/${i.toString(16).padStart(16, "0")}`, Buffer.alloc(100));
        if (i % AT_ONCE === 0) await stranger.sent();
      }
      await stranger.sent();
      await heals(stage);
    },
  },
  {
    name: "broker-sessions",
    what: "sessions through the broker that are begun in good order, and then go on for ever",
    scene: "cluster",
    async run(stage) {
      await using stranger = await Stranger.enter(stage);
      const node = await nodeIdOf(stage);
      const links: Link[] = [];
      for (let i = 0; i < stage.times(100); i++) {
        const opening = new SyncPeer(`slow${i}`).opening("full").subarray("PEER\n".length);
        const handle = (link: Link): LinkHandler => {
          links.push(link);
          link.send(opening);
          link.pause();
          return { receive() {}, drained() {}, closed() {} };
        };
        await stranger
          .relay(`slow${i}`)
          .dial(node, "PEER", handle, () => {})
          .catch(() => {});
      }
      const timer = setInterval(() => {
        for (const link of links) link.send(Buffer.alloc(9));
      }, 1_000);
      await heals(stage);
      clearInterval(timer);
    },
  },
];

/** Whoever may publish, and hears everything below `sync/`. */
class Stranger implements AsyncDisposable {
  onMessage: (topic: string, message: Buffer) => void = () => {};
  private readonly messengers = new Map<string, Messenger>();
  private pending: Promise<unknown>[] = [];

  private constructor(private readonly client: MqttClient) {
    client.on("message", (topic, message) => {
      const [nodeId, box] = topic.slice(PREFIX.length).split("/") as [string, string];
      this.messengers.get(nodeId)?.onMessage(box, message);
      this.onMessage(topic, message);
    });
  }

  static async enter(stage: Stage): Promise<Stranger> {
    const client = await connectAsync(stage.broker.address);
    await client.subscribeAsync(`${PREFIX}#`);
    return new Stranger(client);
  }

  /** What a node of that name would call others with. */
  relay(nodeId: string): Relay {
    const messenger: Messenger = {
      isOpen: true,
      isCrowded: false,
      isPaced: false,
      pauseMs: () => 0,
      maxMessageBytes: 4_096,
      send: (to, box, message, taken) => {
        this.send(`${to}/${box}`, message);
        taken();
      },
      onMessage() {},
      onOpen() {},
    };
    this.messengers.set(nodeId, messenger);
    return new Relay({
      messenger,
      nodeId,
      timing: eventLoop,
      randomWords: (count) => crypto.getRandomValues(new Uint32Array(count)),
      bytesASecond: 1_000_000,
      refusal: () => "no",
      accept: () => "no",
      logger: silentLogger,
    });
  }

  send(topic: string, message: Uint8Array): void {
    if (this.client.disconnecting) return;
    this.pending.push(this.client.publishAsync(PREFIX + topic, message as Buffer));
  }

  /** Resolves when all has left. */
  async sent(): Promise<void> {
    await Promise.all(this.pending.splice(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.endAsync(true);
  }
}

async function nodeIdOf({ node }: Stage): Promise<string> {
  const client = await LineClient.connect(node.port);
  client.sendRaw("INFO\n");
  let nodeId = "";
  for (let line; (line = await client.readLine()) !== "";) {
    if (line.startsWith("node_id:")) nodeId = line.slice("node_id:".length);
  }
  await client.close();
  return nodeId;
}
