/** How the transport goes on after a client that failed: over clients that do as they are told. */
import { EventEmitter } from "node:events";
import { expect, test } from "bun:test";
import type { IClientOptions, MqttClient } from "mqtt";
import { MqttTransport } from "../../../src/replication/mqtt-transport.ts";
import type { TlsMaterial } from "../../../src/security/tls-material.ts";
import type { Timing } from "../../../src/timing.ts";
import { eventLoop } from "../../../src/world.ts";
import { eventually } from "../../support/eventually.ts";
import { transportOptions, type TransportChanges } from "../../support/transport-options.ts";

/** Stands in for a client of the package. */
class FakeClient extends EventEmitter {
  constructor(readonly options: IClientOptions) {
    super();
  }

  end(): void {}
}

function create(address = "mqtt://127.0.0.1:1", changes: TransportChanges = {}) {
  const clients: FakeClient[] = [];
  const transport = new MqttTransport(transportOptions(address, changes), (options) => {
    const client = new FakeClient(options);
    clients.push(client);
    return client as unknown as MqttClient;
  });
  const next = (count: number) => eventually(`client ${count}`, () => clients[count - 1]);
  return { transport, clients, next };
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

test("who tries better terms after a while speaks TLS with the same certificates", async () => {
  const waiting: { readonly delayMs: number; readonly task: () => void }[] = [];
  const timing: Timing = {
    nowMs: () => 0,
    soon: (task) => eventLoop.soon(task),
    after(delayMs, task) {
      waiting.push({ delayMs, task });
      return () => {};
    },
  };
  const pem = { ca: "a certificate" };
  const material = () => ({ pem }) as unknown as TlsMaterial;
  const tls = { material, serverName: "broker", alpn: "", isInsecure: false };
  const { transport, clients } = create("mqtts://127.0.0.1:1", { timing, tls, password: "secret" });
  transport.open();
  clients[0].emit("close");
  waiting.at(-1)!.task();
  expect(clients[1].options).toMatchObject({ protocolVersion: 4, ca: pem.ca });
  clients[1].emit("connect", {});
  waiting.at(-1)!.task();
  const { will, ...trial } = clients[2].options;
  expect(will).toBeUndefined();
  expect(trial).toMatchObject({
    protocolVersion: 5,
    clientId: "n1-trial",
    password: "secret",
    ca: pem.ca,
    servername: "broker",
  });
  clients[1].emit("close");
  await transport.close();
});
