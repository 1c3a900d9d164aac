/** The worked example of a sealed message in docs/protocol.md is what the program makes. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MessageSeal } from "../../../src/replication/message-seal.ts";
import { SealKeys } from "../../../src/replication/seal-keys.ts";
import { decodeHeader } from "../../../src/replication/sealed-message.ts";
import { secretOf, type Secret } from "../../../src/security/keys.ts";

const PAGE = readFileSync(join(import.meta.dir, "../../../docs/protocol.md"), "utf8");

test("key id, origin, key and message", () => {
  const current = secretOf(Buffer.from("not a secret: it is in the docs!\n")) as Secret;
  const secrets = { name: "merkle-kv", current, previous: [] };
  const randomWords = (count: number): Uint32Array => new Uint32Array(count);
  const seal = new MessageSeal({ secrets, nodeId: "node1", start: 1, randomWords });
  const message = seal.seal("updates", "merkle-kv/updates", Buffer.from("hello"));
  const keys = new SealKeys(secrets);
  const shown = {
    "key id": current.id,
    origin: seal.namesOf("node1")[0],
    key: keys.keyOf(keys.current, "updates", decodeHeader(message)!).toString("hex"),
    message: message.toString("hex"),
  };
  const lines = Object.entries(shown).map(([name, hex]) => `${name.padEnd(8)} ${hex}`);
  expect(PAGE).toContain(`\n${lines.join("\n")}\n`);
});
