/** The worked example of a sealed session in docs/protocol.md is what the program says. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PeerSeal } from "../../../src/anti-entropy/peer-seal.ts";
import { keyFor, secretOf, type Secret } from "../../../src/security/keys.ts";
import { Listener, RawEnd } from "../../support/sealed-pair.ts";

const PAGE = readFileSync(join(import.meta.dir, "../../../docs/protocol.md"), "utf8");
const secret = secretOf(Buffer.from("not a secret: it is in the docs!\n")) as Secret;

/** A side whose ephemeral key consists of one byte, again and again. */
function sealWith(byte: number): PeerSeal {
  const word = byte * 0x01_01_01_01;
  return new PeerSeal({ name: "example", current: secret, previous: [] }, (count) =>
    new Uint32Array(count).fill(word),
  );
}

test("key id, key, opening, answer and message", () => {
  const said: Record<string, string> = {};
  const caller = new RawEnd("callee:1", (bytes) => {
    said[said["opening"] === undefined ? "opening" : "message"] =
      Buffer.from(bytes).toString("hex");
  });
  const callee = new RawEnd("caller:1", (bytes) => {
    said["answer"] = Buffer.from(bytes).toString("hex");
  });
  const calling = sealWith(1).call(caller, false);
  const answering = sealWith(2).answer(callee, false);
  calling.handler = new Listener();
  const listener = (answering.handler = new Listener());
  listener.onReceive = () => answering.send(Buffer.from("and hello"));
  calling.send(Buffer.from("hello"));
  answering.receive(Buffer.from(said["opening"], "hex"));
  calling.receive(Buffer.from(said["answer"], "hex"));
  calling.send(Buffer.from("goodbye"));
  const shown = {
    "key id": secret.id,
    key: keyFor(secret, "sync session").toString("hex"),
    ...said,
  };
  for (const [name, hex] of Object.entries(shown)) {
    expect([name, PAGE.includes(hex), hex]).toEqual([name, true, hex]);
  }
});
