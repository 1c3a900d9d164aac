/** How the transport goes on after a client that failed: over clients that do as they are told. */
import { eventLoop } from "../../../src/world.ts";
import { EventEmitter } from "node:events";
import { expect, test } from "bun:test";
import type { IClientOptions, MqttClient } from "mqtt";
import { silentLogger } from "../../../src/observability/log.ts";
import { MqttTransport } from "../../../src/replication/mqtt-transport.ts";
import { eventually } from "../../support/eventually.ts";

/** Stands in for a client of the package. */
class FakeClient extends EventEmitter {
  constructor(readonly options: IClientOptions) {
    super();
  }

  end(): void {}
}

function create() {
  const clients: FakeClient[] = [];
  const transport = new MqttTransport(
    {
      broker: { protocol: "mqtt", host: "127.0.0.1", port: 1, path: "" },
      clientId: "n1",
      username: "",
      password: "",
      keepAliveSeconds: 60,
      cleanSession: true,
      protocol: "auto",
      maxPacketBytes: 1_000_000,
      maxSentBytes: 1_000_000,
      subscriptions: [],
      logger: silentLogger,
      random: () => 0,
      timing: eventLoop,
      will: () => ({ topic: "t", payload: Buffer.alloc(0) }),
      onUp() {},
      onDown() {},
      onMessage() {},
      onTakenOver() {},
    },
    (options) => {
      const client = new FakeClient(options);
      clients.push(client);
      return client as unknown as MqttClient;
    },
  );
  const next = (count: number) => eventually(`client ${count}`, () => clients[count - 1]);
  return { transport, next };
}

test("a broker that hangs up on MQTT 5 without a word is tried with 3.1.1", async () => {
  const { transport, next } = create();
  transport.open();
  (await next(1)).emit("close");
  expect((await next(2)).options.protocolVersion).toBe(4);
  await transport.close();
});

test.each([
  ["error", new Error("read ECONNRESET")],
  ["disconnect", { reasonCode: 139 }],
])("what a former client says late does not keep it from that: %s", async (event, what) => {
  const { transport, next } = create();
  transport.open();
  const former = await next(1);
  former.emit("error", new Error("connect ECONNREFUSED"));
  former.emit("close");
  const second = await next(2);
  expect(second.options.protocolVersion).toBe(5);
  former.emit(event, what);
  second.emit("close");
  expect((await next(3)).options.protocolVersion).toBe(4);
  await transport.close();
});
