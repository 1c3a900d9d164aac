/**
 * Attacks on what nodes compare: buckets filled on purpose, and peers that want more than there is.
 */
import { once } from "node:events";
import { OPEN_PEERS } from "../../../src/anti-entropy/peer-security.ts";
import { PeerSeal } from "../../../src/anti-entropy/peer-seal.ts";
import { Inspection } from "../../../src/cli/inspection.ts";
import { wholeBucket } from "../../../src/core/tree/bucket-part.ts";
import { writePart } from "../../../src/core/sync/part-frames.ts";
import { Entry } from "../../../src/core/data/entry.ts";
import { MAX_CHAIN_ENTRIES } from "../../../src/core/tree/merkle-buckets.ts";
import { DIGEST_BYTES, RecordDigester, treeKeyOf } from "../../../src/core/tree/record-digest.ts";
import { FrameWriter } from "../../../src/core/sync/frames.ts";
import { Hello, writeHello } from "../../../src/core/sync/hello.ts";
import { TURN, WANT } from "../../../src/core/sync/items.ts";
import { MODES } from "../../../src/core/sync/options.ts";
import { loadClusterSecrets } from "../../../src/security/cluster-secrets.ts";
import { realWorld } from "../../../src/world.ts";
import { LineClient } from "../../support/line-client.ts";
import { secretFileNamed } from "../../support/secret-files.ts";
import { SyncPeer } from "../../support/sync-peer.ts";
import type { Attack, Stage } from "../attack.ts";

const CLUSTER = "merkle-kv";
const WANTS = 200_000;
/** What it costs at most to find and fetch a small key that differs among others that do. */
const BYTES_A_DIFFERENCE = 150;

/** See the file header. */
export const digests: readonly Attack[] = [
  {
    name: "filled-bucket",
    what: "a peer that has made up keys that lie in one bucket, and changes one at a time",
    async run(stage) {
      const keys = await keysOfOneBucket(stage.times(2 * MAX_CHAIN_ENTRIES));
      const peer = new SyncPeer("crowding", CLUSTER);
      for (const key of keys) peer.set(key, "v");
      const { reason } = await peer.visit(stage.node.port);
      stage.demand(reason === "", `the keys do not go over: ${reason}`);
      for (let i = 0; i < stage.times(20); i++) {
        peer.set(keys[i % keys.length], String(i));
        const result = await peer.visit(stage.node.port);
        // What the polite client wrote meanwhile goes over as well.
        const others = result.entriesReceived * BYTES_A_DIFFERENCE;
        const bytes = result.bytesSent + result.bytesReceived - others;
        stage.demand(bytes < 20_000, `one changed key costs ${bytes} bytes`);
        stage.demand(result.reason === "", `a changed key does not go over: ${result.reason}`);
      }
    },
  },
  {
    name: "filled-bucket-of-a-secret",
    what: "a client that writes such keys to a node whose cluster has a secret",
    get settings() {
      return { cluster: { secret_file: secretFileNamed("siege") } };
    },
    async run(stage) {
      const keys = await keysOfOneBucket(stage.times(2 * MAX_CHAIN_ENTRIES));
      const client = await LineClient.connect(stage.node.port);
      client.sendRaw(keys.map((key) => `SET ${key} v\n`).join(""));
      const refused = (await client.readLines(keys.length)).filter((line) => line !== "OK");
      await client.close();
      stage.demand(refused.length === 0, `a key is not taken: ${refused[0]}`);
      const filled = await countBuckets(stage.node.port);
      const least = 0.9 * keys.length;
      stage.demand(filled >= least, `${keys.length} keys lie in ${filled} buckets`);
    },
  },
  {
    name: "wants-without-end",
    what: "peers that want all of every bucket, over and over in one turn",
    async run(stage) {
      for (let i = 0; i < stage.times(20); i++) await wantAll(stage);
    },
  },
];

/** In how many buckets a node has anything, as a member that looks into it sees. */
async function countBuckets(port: number): Promise<number> {
  const seal = new PeerSeal(
    loadClusterSecrets({
      ...{ name: CLUSTER, secret: "", previous_secret_files: [] },
      secret_file: secretFileNamed("siege"),
    }),
    realWorld.randomWords,
  );
  const hostPort = { host: "127.0.0.1", port, isSecure: false };
  const place = { hostPort, nodeId: "", security: OPEN_PEERS, login: null };
  const inspection = await Inspection.open(place, { high: 1, low: 2 }, seal);
  inspection.close();
  return inspection.digests.filter((digest) => digest !== 0).length;
}

/**
 * Keys that share a bucket where its choice follows from the cluster's name, which everybody may
 * know. Lets others run meanwhile. They are found once.
 */
async function keysOfOneBucket(count: number): Promise<readonly string[]> {
  if (found.length >= count) return found.slice(0, count);
  found = await findKeys(count);
  return found;
}

let found: readonly string[] = [];

async function findKeys(count: number): Promise<string[]> {
  const digester = new RecordDigester(treeKeyOf(CLUSTER));
  const [entry, digest] = [new Entry(), new Uint8Array(DIGEST_BYTES)];
  const bytes = new Uint8Array(16);
  const encoder = new TextEncoder();
  const keys: string[] = [];
  for (let i = 0; keys.length < count; i++) {
    const key = `c${i}`;
    digester.ofKey(entry.setKey(bytes, 0, encoder.encodeInto(key, bytes).written), digest);
    if (digest[0] === 0xab && digest[1] === 0xcd) keys.push(key);
    if (i % 4_096 === 0) await Bun.sleep(0);
  }
  return keys;
}

/** One session of a peer that says who it is, and then wants and wants. */
async function wantAll({ connect }: Stage): Promise<void> {
  const socket = await connect();
  socket.resume();
  const closed = once(socket, "close");
  socket.write("PEER\n");
  const writer = new FrameWriter((frame) => socket.write(frame.slice()));
  const hello = new Hello();
  Object.assign(hello, { cluster: CLUSTER, nodeId: "wanting", maxFrameBytes: 1_000_000 });
  hello.mode = MODES.indexOf("full");
  hello.clockMs = Date.now();
  hello.watermarkMs = hello.clockMs - 2_000;
  writeHello(writer, hello);
  const say = (...bytes: number[]): void => bytes.forEach((byte) => writer.u8(byte));
  say(TURN, 0);
  for (let i = 0; i < WANTS; i++) {
    writer.reserve(8);
    writer.u8(WANT);
    writePart(writer, wholeBucket(i % 65_536));
    writer.varint(0);
  }
  writer.flush();
  await closed;
}
