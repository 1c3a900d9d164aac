/** Clusters of three over the brokers that Debian and this program bring; `bun run brokers` has all. */
import { expect, test } from "bun:test";
import { brokerKinds } from "../brokers/broker-kinds.ts";
import { STEPS, tryBroker } from "../brokers/trial.ts";

const HERE = ["mosquitto", "two mosquittos, bridged", "embedded (aedes)"];

for (const kind of brokerKinds.filter(({ name }) => HERE.includes(name))) {
  test.skipIf(kind.version() === null)(`${kind.name}: three nodes do all they do`, async () => {
    const { findings } = await tryBroker(kind);
    expect([...findings]).toEqual(STEPS.map((step) => [step, "yes"]));
  });
}
