/** Attacks on sealed sessions of a cluster with a secret, by whoever reaches the client port. */
import { PeerSeal } from "../../../src/anti-entropy/peer-seal.ts";
import { openingHeader } from "../../../src/anti-entropy/sealed-format.ts";
import { loadClusterSecrets } from "../../../src/security/cluster-secrets.ts";
import { RawEnd } from "../../support/sealed-pair.ts";
import { secretFileNamed } from "../../support/secret-files.ts";
import { SyncPeer } from "../../support/sync-peer.ts";
import type { Attack, Stage } from "../attack.ts";
import { heals } from "./neighbours.ts";

const GREETING = "PEER\n";
const LARGEST = 65_535;

const settings = (): NonNullable<Attack["settings"]> => ({
  cluster: { secret_file: secretFileNamed("siege") },
});

/** What a member would begin a session with, in the name of any node; new each time. */
function openingOf(nodeId: string, mode: "now" | "full"): Buffer {
  const secrets = loadClusterSecrets({
    name: "siege",
    secret: "",
    secret_file: secretFileNamed("siege"),
    previous_secret_files: [],
  });
  const seal = new PeerSeal(secrets, (count) => crypto.getRandomValues(new Uint32Array(count)));
  const said: Buffer[] = [Buffer.from(GREETING)];
  const link = seal.call(
    new RawEnd("victim:1", (bytes) => void said.push(Buffer.from(bytes))),
    false,
  );
  link.send(new SyncPeer(nodeId).opening(mode).subarray(GREETING.length));
  return Buffer.concat(said);
}

/** The beginning of an opening that names the right secret, whose id everybody sees. */
function forgedHeader(messageBytes: number): Buffer {
  const keyId = openingOf("x", "now").subarray(6, 10).toString("hex");
  return Buffer.concat([Buffer.from(GREETING), openingHeader(false, keyId, messageBytes)]);
}

async function say(stage: Stage, bytes: Uint8Array, isLeaving: boolean): Promise<void> {
  // So many come that some are turned away: that is what the node is to do.
  const socket = await stage.connect().catch(() => null);
  if (socket === null) return;
  socket.write(bytes);
  if (isLeaving) socket.end();
}

/** See the file header. */
export const openings: readonly Attack[] = [
  {
    name: "forged-openings",
    what: "3,000 openings of the greatest length that name the right secret and are made without it",
    scene: "cluster",
    get settings() {
      return settings();
    },
    async run(stage) {
      const forged = Buffer.concat([forgedHeader(LARGEST), Buffer.alloc(LARGEST, "x")]);
      for (let i = 0; i < stage.times(3_000); i++) await say(stage, forged, true);
      await heals(stage);
    },
  },
  {
    name: "half-openings",
    what: "2,000 openings of which all but the last byte comes",
    scene: "cluster",
    get settings() {
      return settings();
    },
    async run(stage) {
      const half = Buffer.concat([forgedHeader(LARGEST), Buffer.alloc(LARGEST - 1, "x")]);
      for (let i = 0; i < stage.times(2_000); i++) await say(stage, half, false);
      await heals(stage);
    },
  },
  {
    name: "replayed-openings",
    what: "a member's opening 5,000 times, and 300 that the node does not know yet, in all names",
    scene: "cluster",
    get settings() {
      return settings();
    },
    async run(stage) {
      const heard = openingOf("honest", "full");
      for (let i = 0; i < stage.times(5_000); i++) await say(stage, heard, true);
      for (let i = 0; i < stage.times(300); i++) {
        await say(stage, openingOf(i % 2 === 0 ? "honest" : `member${i}`, "full"), false);
      }
      await heals(stage);
    },
  },
];
