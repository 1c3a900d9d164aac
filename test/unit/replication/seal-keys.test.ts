/** Keys at the broker: one for each secret, cluster, purpose, sender and epoch. */
import { expect, test } from "bun:test";
import { originNameOf, SealKeys, topicNameOf } from "../../../src/replication/seal-keys.ts";
import type { SealPurpose } from "../../../src/replication/sealed-message.ts";
import { clusterSecrets, secretFor } from "../../support/secrets.ts";

const keys = new SealKeys(clusterSecrets("one", ["two"]));
const renamed = new SealKeys(clusterSecrets("one", [], "another name"));
const HEADER = {
  keyId: keys.current.keyId,
  origin: "origin-1",
  epoch: "epoch----------1",
  sequence: 1,
};

function keyOf(purpose: SealPurpose, change: object = {}, of = keys, place = 0): string {
  return of.keyOf(of.secrets[place], purpose, { ...HEADER, ...change }).toString("hex");
}

test("whatever differs, the key differs", () => {
  const all = [
    keyOf("updates"),
    keyOf("presence"),
    keyOf("sync"),
    keyOf("updates", { origin: "origin-2" }),
    keyOf("updates", { epoch: "epoch----------2" }),
    keyOf("updates", { origin: "origin-1e", epoch: "poch----------1" }),
    keyOf("updates", {}, renamed),
    keyOf("updates", { keyId: keys.secrets[1].keyId }, keys, 1),
  ];
  // Of origin and epoch one after the other only the lengths tell where one ends: they are fixed.
  expect(new Set(all).size).toBe(all.length - 1);
  expect(all[5]).toBe(all[0]);
  expect(keyOf("updates", { sequence: 2 })).toBe(all[0]);
});

test("a key id is the secret's, and names at the broker are others for each cluster, too", () => {
  const rings = [...keys.secrets, ...renamed.secrets];
  const ids = [secretFor("one").id, secretFor("two").id, secretFor("one").id];
  expect(rings.map(({ keyId }) => keyId.toString(16).padStart(8, "0"))).toEqual(ids);
  const names = rings.flatMap((ring) => [originNameOf(ring, "a"), originNameOf(ring, "b")]);
  expect(new Set(names).size).toBe(6);
  for (const name of names) expect(topicNameOf(name)).toMatch(/^[0-9a-f]{16}$/);
  expect(keys.find(keys.secrets[1].keyId)).toBe(keys.secrets[1]);
  expect(keys.find(1)).toBeUndefined();
});
