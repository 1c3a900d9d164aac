/**
 * How two members of a cluster with a secret begin to talk, right behind the line `PEER`, and what
 * they say then. Integers are big-endian; a message is one of Noise_NNpsk0_25519_AESGCM_SHA256:
 *
 *   initiator   opening   0xc1 (0xc2 for PEER ROUND) · key id 4 bytes · length u16 · message
 *   responder   answer    0xc3 · length u16 · message
 *        or     refusal   0xc4 · reason u8
 *   both        then      length u16 · message, without end
 *
 * The first bytes of the session ride in the messages of opening and answer, so that no round trip
 * is lost. The key id names the secret, as there may be several while it is being changed. It and
 * the first byte are part of the prologue: a change of them fails the handshake.
 *
 * A frame of a session that is not sealed begins with 0, so that each side can tell what the other
 * does. What is not sealed is refused in a frame, and what is by a node without a secret by a
 * refusal: then both know why. Neither can be relied upon, for anybody in between may have said it;
 * all it does is end this one connection, which he could do anyway.
 */
import { failureFrame } from "../core/sync/ending.ts";
import { KEY_ID_BYTES } from "../security/keys.ts";

/** First byte of an opening, for PEER and for PEER ROUND. */
const OPENING = 0xc1;
/** See `OPENING`. */
export const OPENING_OF_ROUND = 0xc2;
/** First byte of an answer. */
export const ANSWER = 0xc3;
/** First byte of a refusal. */
export const REFUSAL = 0xc4;

/** What an opening begins with that is part of the prologue. */
export const OPENING_CLEAR_BYTES = 1 + KEY_ID_BYTES;
/** Length of the length of a message. */
export const LENGTH_BYTES = 2;
/** What stands before the message of an opening. */
export const OPENING_HEADER_BYTES = OPENING_CLEAR_BYTES + LENGTH_BYTES;
/** What stands before the message of an answer. */
export const ANSWER_HEADER_BYTES = 1 + LENGTH_BYTES;
/** Length of a refusal. */
export const REFUSAL_BYTES = 2;

const PROLOGUE = Buffer.from("MerkleKV sync session");

/** Why something that came was not taken: what is counted. */
export type Objection =
  "unsealed" | "no_secret" | "other_secret" | "forged" | "replayed" | "damaged";

/** What is wrong with what came, in words for the log, and what the other side is told. */
export interface Rejection {
  readonly objection: Objection;
  readonly problem: string;
  /** Empty when it is told nothing. */
  readonly reply: Uint8Array;
}

const REFUSED_NO_SECRET = 1;
const REFUSED_SECRET = 2;
const REFUSED_FORGED = 3;
const NOTHING = new Uint8Array(0);

const SET_SECRET = "set cluster.secret_file to the same secret on both";
const CHANGED =
  "was changed on the way, or comes from somebody who does not have the cluster secret";

/** The prologue of the handshake, given how the opening begins. */
export function prologueOf(openingStart: Uint8Array): Uint8Array {
  return Buffer.concat([PROLOGUE, openingStart.subarray(0, OPENING_CLEAR_BYTES)]);
}

/** An opening without its message. */
export function openingHeader(isRound: boolean, keyId: string, messageBytes: number): Buffer {
  const header = Buffer.alloc(OPENING_HEADER_BYTES);
  header[0] = isRound ? OPENING_OF_ROUND : OPENING;
  header.write(keyId, 1, "hex");
  header.writeUInt16BE(messageBytes, OPENING_CLEAR_BYTES);
  return header;
}

/** An answer without its message. */
export function answerHeader(messageBytes: number): Buffer {
  const header = Buffer.alloc(ANSWER_HEADER_BYTES);
  header[0] = ANSWER;
  header.writeUInt16BE(messageBytes, 1);
  return header;
}

/** An integer of 16 bits. */
export function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

/** Whether an opening begins with that byte. */
export function isOpening(firstByte: number): boolean {
  return firstByte === OPENING || firstByte === OPENING_OF_ROUND;
}

/** Somebody without a secret came to a node that has one. */
export function rejectUnsealed(): Rejection {
  const told = `this cluster has a secret, and the node that came has none; ${SET_SECRET}`;
  return {
    objection: "unsealed",
    problem: `it has no cluster secret, and this node has one; ${SET_SECRET}`,
    reply: failureFrame("incompatible", told),
  };
}

/** Somebody with a secret came to a node that has none. */
export function rejectSealed(): Rejection {
  return {
    objection: "no_secret",
    problem: `it has a cluster secret, and this node has none; ${SET_SECRET}`,
    reply: Uint8Array.of(REFUSAL, REFUSED_NO_SECRET),
  };
}

/** Somebody came with a secret that this node does not know; the ids are those of the secrets. */
export function rejectSecret(theirs: string, own: string): Rejection {
  return {
    objection: "other_secret",
    problem: describeOtherSecret(`with the id ${theirs}`, own),
    reply: Uint8Array.of(REFUSAL, REFUSED_SECRET),
  };
}

/** An opening names a secret that this node has, and was not made with it as it is. */
export function rejectForged(): Rejection {
  return {
    objection: "forged",
    problem: `what it said first ${CHANGED}`,
    reply: Uint8Array.of(REFUSAL, REFUSED_FORGED),
  };
}

/** An opening was used before. Whoever repeats it learns nothing. */
export function rejectReplayed(): Rejection {
  const problem = "what it said first was said before: somebody repeats what he heard";
  return { objection: "replayed", problem, reply: NOTHING };
}

/** What was wrong with an answer that is no refusal: it is not sealed. */
export function rejectUnsealedAnswer(): Rejection {
  return {
    objection: "unsealed",
    problem: `it has no cluster secret, or is older than those; ${SET_SECRET}`,
    reply: NOTHING,
  };
}

/** A refusal came, for that reason. */
export function rejectRefusal(reason: number, own: string): Rejection {
  if (reason === REFUSED_NO_SECRET) {
    const problem = `it has no cluster secret, and this node has one; ${SET_SECRET}`;
    return { objection: "unsealed", problem, reply: NOTHING };
  }
  if (reason === REFUSED_SECRET) {
    return { objection: "other_secret", problem: describeOtherSecret("", own), reply: NOTHING };
  }
  const problem = "it says that what this node said first was changed on the way";
  return { objection: "forged", problem, reply: NOTHING };
}

/** A message that is not what it has to be. */
export function rejectMessage(what: string): Rejection {
  return { objection: "forged", problem: `${what} ${CHANGED}`, reply: NOTHING };
}

/** What came can be no message. */
export function rejectDamaged(): Rejection {
  const problem = "what came is no sealed message: it is too short to be one";
  return { objection: "damaged", problem, reply: NOTHING };
}

function describeOtherSecret(theirs: string, own: string): string {
  return (
    `it has another cluster secret ${theirs}`.trimEnd() +
    ` than this node, whose secret has the id ${own}; ${SET_SECRET}, ` +
    "or list the other in cluster.previous_secret_files while it is changed"
  );
}
