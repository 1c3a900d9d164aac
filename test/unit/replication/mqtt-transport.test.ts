/** How the transport goes on after a client that failed: over clients that do as they are told. */
import { EventEmitter } from "node:events";
import { expect, test } from "bun:test";
import type { IClientOptions, MqttClient } from "mqtt";
import { MqttTransport } from "../../../src/replication/mqtt-transport.ts";
import { eventually } from "../../support/eventually.ts";
import { transportOptions } from "../../support/transport-options.ts";

/** Stands in for a client of the package. */
class FakeClient extends EventEmitter {
  constructor(readonly options: IClientOptions) {
    super();
  }

  end(): void {}
}

function create() {
  const clients: FakeClient[] = [];
  const transport = new MqttTransport(transportOptions("mqtt://127.0.0.1:1"), (options) => {
    const client = new FakeClient(options);
    clients.push(client);
    return client as unknown as MqttClient;
  });
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
