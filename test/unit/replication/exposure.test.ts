/** Where nodes can be listened to, which a node without a secret warns of. */
import { expect, test } from "bun:test";
import { loadConfig } from "../../../src/config/load.ts";
import { placesBeyondLoopback } from "../../../src/replication/exposure.ts";

function placesOf(mqtt: string, peers = "[]"): string[] {
  const toml = `node_id = "n"\n[anti_entropy]\npeer_list = ${peers}\n[mqtt]\n${mqtt}`;
  const loaded = loadConfig({
    path: "n.toml",
    env: {},
    readFile: () => toml,
    randomHex: () => "0",
  });
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  return placesBeyondLoopback(loaded.config);
}

test("the broker and the peers that are on other machines are named", () => {
  expect(placesOf('broker_address = "mqtt://10.0.0.5:1883"')).toEqual(["broker 10.0.0.5"]);
  expect(placesOf('broker_address = "mqtts://broker.example"')).toEqual(["broker broker.example"]);
  const embedded = 'broker_address = "embedded"\n[mqtt.embedded]\nbind_address';
  expect(placesOf(`${embedded} = "0.0.0.0"`)).toEqual(["broker 0.0.0.0"]);
  const peers = '["127.0.0.1:7379", "10.0.0.6:7379", "[fd00::1]:7379"]';
  expect(placesOf("enabled = false", peers)).toEqual(["peer 10.0.0.6", "peer fd00::1"]);
});

test("on this machine there is nothing to warn of, nor where there is no other node", () => {
  for (const host of ["127.0.0.1", "localhost", "[::1]"]) {
    expect(placesOf(`broker_address = "mqtt://${host}:1883"`, '["[::1]:7380"]')).toEqual([]);
  }
  expect(placesOf('broker_address = "embedded"')).toEqual([]);
  expect(placesOf('enabled = false\nbroker_address = "mqtt://10.0.0.5:1883"')).toEqual([]);
});
