/** The Noise handshake and what follows: as published vectors have it, and never otherwise. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  HANDSHAKE_OVERHEAD_BYTES,
  HandshakeState,
  MAX_MESSAGE_BYTES,
  type HandshakeOptions,
} from "../../../src/security/noise.ts";
import { KeyPair } from "../../../src/security/x25519.ts";
import cacophony from "./vectors/cacophony.json";

const hex = (text: string): Buffer => Buffer.from(text, "hex");
const NOTHING = new Uint8Array(0);

function pair(changes: Partial<HandshakeOptions> = {}): [HandshakeState, HandshakeState] {
  const options = { prologue: Buffer.from("prologue"), psk: Buffer.alloc(32, 7) };
  const initiator = { role: "initiator", ephemeral: Buffer.alloc(32, 1), ...options } as const;
  const responder = { role: "responder", ephemeral: Buffer.alloc(32, 2), ...options } as const;
  return [new HandshakeState(initiator), new HandshakeState({ ...responder, ...changes })];
}

/** A finished handshake. */
function session() {
  const [initiator, responder] = pair();
  responder.readMessage(initiator.writeMessage(NOTHING)!);
  initiator.readMessage(responder.writeMessage(NOTHING)!);
  return { initiator: initiator.split(), responder: responder.split() };
}

// From the vectors that come with cacophony (Haskell), which snow (Rust) is tested with as well.
describe.each(cacophony.vectors)("a published vector of $protocol_name", (vector) => {
  const initiator = new HandshakeState({
    role: "initiator",
    prologue: hex(vector.init_prologue),
    psk: hex(vector.init_psks[0]),
    ephemeral: hex(vector.init_ephemeral),
  });
  const responder = new HandshakeState({
    role: "responder",
    prologue: hex(vector.resp_prologue),
    psk: hex(vector.resp_psks[0]),
    ephemeral: hex(vector.resp_ephemeral),
  });

  test("agrees in every message and in the hash", () => {
    const [first, second, ...rest] = vector.messages;
    const opening = initiator.writeMessage(hex(first.payload))!;
    expect(opening.toString("hex")).toBe(first.ciphertext);
    expect(responder.readMessage(opening)!.toString("hex")).toBe(first.payload);
    // What these vectors call so is the hash before the last message.
    for (const { hash } of [initiator, responder]) {
      expect(Buffer.from(hash).toString("hex")).toBe(vector.handshake_hash);
    }
    const answer = responder.writeMessage(hex(second.payload))!;
    expect(answer.toString("hex")).toBe(second.ciphertext);
    expect(initiator.readMessage(answer)!.toString("hex")).toBe(second.payload);
    const keys = [initiator.split(), responder.split()] as const;
    for (const [i, { payload, ciphertext }] of rest.entries()) {
      const [from, to] = i % 2 === 0 ? keys : [keys[1], keys[0]];
      const sealed = from.send.encrypt(NOTHING, hex(payload));
      expect(sealed.toString("hex")).toBe(ciphertext);
      expect(to.receive.decrypt(NOTHING, sealed)!.toString("hex")).toBe(payload);
    }
  });
});

// RFC 7748, 6.1.
test("X25519 agrees with its specification", () => {
  const alice = new KeyPair(
    hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
  );
  const bob = new KeyPair(hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
  expect(alice.publicBytes.toString("hex")).toBe(
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
  );
  const agreed = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
  expect(alice.agree(bob.publicBytes)!.toString("hex")).toBe(agreed);
  expect(bob.agree(alice.publicBytes)!.toString("hex")).toBe(agreed);
});

test("a key with which everybody agrees on the same is refused", () => {
  const own = new KeyPair(Buffer.alloc(32, 3));
  for (const low of [Buffer.alloc(32), Buffer.from([1, ...Buffer.alloc(31)])]) {
    expect(own.agree(low)).toBeNull();
    const [, responder] = pair();
    // Who has the shared key can say so; nothing is answered.
    const [initiator] = pair();
    const opening = initiator.writeMessage(NOTHING)!;
    expect(responder.readMessage(Buffer.concat([low, opening.subarray(32)]))).toBeNull();
  }
});

test.each([
  ["the key", { psk: Buffer.alloc(32, 8) }],
  ["what was said before", { prologue: Buffer.from("prologuf") }],
] as [string, Partial<HandshakeOptions>][])("who differs in %s opens nothing", (_what, other) => {
  const [initiator, responder] = pair(other);
  expect(responder.readMessage(initiator.writeMessage(Buffer.from("hello"))!)).toBeNull();
});

test("every bit of both messages counts", () => {
  const opening = pair()[0].writeMessage(Buffer.from("hello"))!;
  for (let bit = 0; bit < opening.length * 8; bit++) {
    const changed = Buffer.from(opening);
    changed[bit >> 3] ^= 1 << (bit & 7);
    expect(pair()[1].readMessage(changed)).toBeNull();
  }
  const [, responder] = pair();
  responder.readMessage(opening);
  const answer = responder.writeMessage(Buffer.from("hello"))!;
  for (let bit = 0; bit < answer.length * 8; bit++) {
    // X25519 does not look at the highest bit of a public key; the hash does.
    const changed = Buffer.from(answer);
    changed[bit >> 3] ^= 1 << (bit & 7);
    const [initiator] = pair();
    initiator.writeMessage(Buffer.from("hello"));
    expect(initiator.readMessage(changed)).toBeNull();
  }
});

test("a side's own messages, sent back to it, are none", () => {
  const [initiator] = pair();
  const opening = initiator.writeMessage(NOTHING)!;
  expect(initiator.readMessage(opening)).toBeNull();
  const { initiator: keys } = session();
  expect(keys.receive.decrypt(NOTHING, keys.send.encrypt(NOTHING, Buffer.from("x")))).toBeNull();
});

test("messages are opened once, in their order, and none after one that is not right", () => {
  const { initiator, responder } = session();
  const sealed = ["a", "b", "c"].map((it) => initiator.send.encrypt(NOTHING, Buffer.from(it)));
  expect(responder.receive.decrypt(NOTHING, sealed[0])!.toString()).toBe("a");
  expect(responder.receive.decrypt(NOTHING, sealed[0])).toBeNull();
  for (const it of sealed) expect(responder.receive.decrypt(NOTHING, it)).toBeNull();
  const other = session();
  for (const it of ["a", "b"]) other.initiator.send.encrypt(NOTHING, Buffer.from(it));
  expect(other.responder.receive.decrypt(NOTHING, sealed[1])).toBeNull();
});

test("equal bytes are sealed to others each time", () => {
  const { initiator } = session();
  const sealed = Array.from({ length: 100 }, () =>
    initiator.send.encrypt(NOTHING, NOTHING).toString("hex"),
  );
  expect(new Set(sealed).size).toBe(100);
});

test("anything at all is opened to itself, and what is no message to nothing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), fc.uint8Array({ maxLength: 500 }), (a, b) => {
      const [initiator, responder] = pair();
      expect(responder.readMessage(initiator.writeMessage(a)!)!.equals(a)).toBe(true);
      expect(initiator.readMessage(responder.writeMessage(b)!)!.equals(b)).toBe(true);
      expect(pair()[1].readMessage(a)).toBeNull();
    }),
  );
});

test("a handshake takes as much as a message holds, and no more", () => {
  const [initiator, responder] = pair();
  const most = Buffer.alloc(MAX_MESSAGE_BYTES - HANDSHAKE_OVERHEAD_BYTES, 5);
  const opening = initiator.writeMessage(most)!;
  expect(opening.length).toBe(MAX_MESSAGE_BYTES);
  expect(responder.readMessage(opening)!.equals(most)).toBe(true);
  expect(() => pair()[0].writeMessage(Buffer.alloc(most.length + 1))).toThrow();
  expect(pair()[1].readMessage(Buffer.alloc(MAX_MESSAGE_BYTES + 1))).toBeNull();
});

test("calls out of order are mistakes of the program", () => {
  expect(() => pair()[0].readMessage(NOTHING)).toThrow();
  expect(() => pair()[1].writeMessage(NOTHING)).toThrow();
  expect(() => pair()[0].split()).toThrow();
  const [initiator, responder] = pair();
  const opening = initiator.writeMessage(NOTHING)!;
  expect(() => initiator.writeMessage(NOTHING)).toThrow();
  opening[40] ^= 1;
  responder.readMessage(opening);
  expect(() => responder.writeMessage(NOTHING)).toThrow();
  expect(() => responder.readMessage(opening)).toThrow();
});
