/** Attacks by a member that keeps to the sync protocol and says what is not so. */
import { timeHighOf, timeLowOf } from "../../../src/core/data/clock.ts";
import { UNCHANGED } from "../../../src/core/store/outcome.ts";
import { lyingStore } from "../../support/lying-store.ts";
import { LineClient } from "../../support/line-client.ts";
import { SyncPeer } from "../../support/sync-peer.ts";
import type { Attack, Stage } from "../attack.ts";

const GRACE_MS = 86_400_000;
const KEYS = 22;

/** See the file header. */
export const lies: readonly Attack[] = [
  {
    name: "purge-from-the-future",
    what: "a peer that has forgotten deletions up to now, and refuses all it is sent",
    scene: "cluster",
    async run(stage) {
      const client = await write(stage);
      for (const aheadMs of [58_000, 0, -1_000, -GRACE_MS / 2, 3_600_000]) {
        for (let i = 0; i < stage.times(10); i++) {
          const { failure, reason } = await visit(stage, Date.now() + aheadMs);
          stage.demand(
            failure === "untrue",
            `a purge ${aheadMs} ms from now: ${reason || "taken"}`,
          );
        }
      }
      await expectAll(stage, client);
    },
  },
  {
    name: "purge-of-a-grace-ago",
    what: "a peer that has forgotten deletions as late as can be, and refuses all it is sent",
    scene: "cluster",
    async run(stage) {
      const client = await write(stage);
      for (let i = 0; i < stage.times(50); i++) await visit(stage, Date.now() - GRACE_MS);
      await expectAll(stage, client);
    },
  },
  {
    name: "stamps-at-the-edge",
    what: "a peer whose writes are dated as far ahead as is taken, again and again",
    scene: "cluster",
    async run(stage) {
      const client = await write(stage);
      const peer = new SyncPeer("ahead");
      for (let i = 0; i < stage.times(20); i++) {
        const edgeMs = Date.now() + 59_990;
        peer.store.clock.observe(timeHighOf(edgeMs), timeLowOf(edgeMs));
        peer.set("edge", String(i));
        await peer.visit(stage.node.port);
      }
      await expectAll(stage, client);
    },
  },
];

async function write(stage: Stage): Promise<LineClient> {
  const client = await LineClient.connect(stage.node.port);
  for (let i = 0; i < KEYS; i++) await client.send(`SET mine:${i} v`);
  return client;
}

async function expectAll(stage: Stage, client: LineClient): Promise<void> {
  for (let i = 0; i < KEYS; i++) {
    const reply = await client.send(`GET mine:${i}`);
    stage.demand(reply === "v", `mine:${i}: ${reply}`);
  }
  await client.close();
}

/** A session with a peer that has forgotten all up to then, has nothing and takes nothing. */
function visit({ node }: Stage, purgedUpToMs: number): ReturnType<SyncPeer["visit"]> {
  const liar = new SyncPeer("liar");
  const purges = { purgedUpToMs, refusedUpToMs: purgedUpToMs };
  const store = lyingStore(liar.store, purges, { apply: () => UNCHANGED });
  return Object.assign(liar, { store }).visit(node.port);
}
