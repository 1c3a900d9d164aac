/**
 * `bun test/bench/micro/seal.ts`: what sealing and opening one message takes of this thread's
 * processor time, by its length.
 */
import { MessageSeal } from "../../../src/replication/message-seal.ts";
import { realWorld } from "../../../src/world.ts";
import { clusterSecrets } from "../../support/secrets.ts";

const LENGTHS = [50, 200, 1_000, 4_096, 16_384, 65_536];
const ROUNDS = 7;
const MESSAGES = 2_000;
const TOPIC = "merkle-kv/updates";

const { randomWords } = realWorld;
const made = { secrets: clusterSecrets("bench"), start: 1, randomWords };
const from = new MessageSeal({ ...made, nodeId: "from" });
const to = new MessageSeal({ ...made, nodeId: "to" });

for (const length of LENGTHS) {
  const payload = Buffer.alloc(length, 7);
  const [sealing, opening]: number[][] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    let startedMs = realWorld.threadCpuMs();
    const messages = Array.from({ length: MESSAGES }, () => from.seal("updates", TOPIC, payload));
    sealing.push(realWorld.threadCpuMs() - startedMs);
    startedMs = realWorld.threadCpuMs();
    for (const message of messages) {
      if (typeof to.open("updates", TOPIC, message, false) === "string") throw new Error("refused");
    }
    opening.push(realWorld.threadCpuMs() - startedMs);
  }
  const us = (ms: number[]): string =>
    ((ms.toSorted((a, b) => a - b)[ROUNDS >> 1] * 1_000) / MESSAGES).toFixed(1);
  console.log(`${length} B: seal ${us(sealing)} µs, open ${us(opening)} µs`);
}
