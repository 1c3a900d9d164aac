/** Topics of a connection: each is granted or refused by itself, and what is sent needs no answer. */
import { afterEach, expect, test } from "bun:test";
import { MqttTransport } from "../../../src/replication/mqtt-transport.ts";
import { eventually } from "../../support/eventually.ts";
import { OddBroker, type Oddities } from "../../support/odd-broker.ts";
import { transportOptions } from "../../support/transport-options.ts";

const closing: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((it) => it.close()));
});

async function open(oddities: Oddities, topics: string[]) {
  const broker = await OddBroker.start(oddities);
  const warnings: string[] = [];
  const received: string[] = [];
  const transport = new MqttTransport(
    transportOptions(broker.address, {
      subscriptions: topics.map((topic) => ({ topic, ownToo: true, qos: 0 as const })),
      onWarning: (message, fields) => warnings.push(`${message}: ${String(fields["topic"])}`),
      onMessage(topic, payload, _retained, done) {
        received.push(`${topic} ${payload.toString()}`);
        done();
      },
    }),
  );
  closing.push(transport, { close: () => broker.stop() });
  transport.open();
  await eventually("it is connected", () => transport.connected);
  return { broker, transport, warnings, received };
}

test("one topic that is refused takes nothing from the others, and is named", async () => {
  const onSubscribe = (topic: string) => (topic === "b" ? 0x87 : undefined);
  const { transport, warnings } = await open({ onSubscribe }, ["a", "b", "c"]);
  expect(["a", "b", "c"].map((topic) => transport.isGranted(topic))).toEqual([true, false, true]);
  expect(warnings).toEqual(["The broker refused a subscription: b"]);
});

test("what is sent arrives, and the sender hears when it has left", async () => {
  const { broker, transport, received } = await open({}, ["a/+"]);
  const sent = new Promise<void>((resolve) => transport.send("a/1", Buffer.from("x"), resolve));
  await sent;
  await eventually("it arrives", () => received.includes("a/1 x"));
  expect(broker.publishes).toMatchObject([{ topic: "a/1", qos: 0, retain: false }]);
});
