/**
 * What a sealed message looks like. Everything is big-endian:
 *
 *   "MKS" · u8 version · u32 key · u64 origin · epoch 16 bytes · u48 sequence · 6 bytes of chance
 *   · the payload, sealed with AES-256-GCM · tag 16 bytes
 *
 * `key` names the cluster's secret, and `origin` the sender, to nobody who does not have the secret
 * (`seal-keys.ts`). An epoch is a connection of the sender's to the broker: a later one is greater,
 * byte by byte. `sequence` counts what the sender sealed for one purpose in one epoch.
 *
 * All that is in clear, and the topic, is additional data: a message whose header was changed, or
 * that was moved to another topic, does not open.
 */
import { readU32, readU64, writeU32, writeU64 } from "../core/bytes.ts";
import { TAG_BYTES } from "../security/aead.ts";

/** What messages are for; each purpose has keys of its own. */
export type SealPurpose = "updates" | "presence" | "sync";

/** Bytes of an epoch. */
export const EPOCH_BYTES = 16;
/** Bytes of an origin. */
export const ORIGIN_BYTES = 8;
/** Of a header. */
export const HEADER_BYTES = 44;
/** By how much a sealed message is longer than what it holds. */
export const SEAL_BYTES = HEADER_BYTES + TAG_BYTES;
/** The greatest sequence. */
export const MAX_SEQUENCE = 2 ** 48 - 1;

const MAGIC = [0x4d, 0x4b, 0x53, 1];
const KEY_AT = 4;
const ORIGIN_AT = 8;
const EPOCH_AT = 16;
const SEQUENCE_AT = 32;
const CHANCE_AT = 38;
const LENGTH_BYTES = 2;

/** What is said in clear. */
export interface SealHeader {
  readonly keyId: number;
  /** ORIGIN_BYTES and EPOCH_BYTES as they are, in text of characters below 256. */
  readonly origin: string;
  readonly epoch: string;
  readonly sequence: number;
}

/** Whether this is a sealed message, of whatever version: no other begins like it. */
export function isSealed(message: Uint8Array): boolean {
  return message[0] === MAGIC[0] && message[1] === MAGIC[1] && message[2] === MAGIC[2];
}

/** The header as bytes; `chance` is two words, of which 48 bits are used. */
export function encodeHeader(header: SealHeader, chance: Uint32Array): Buffer {
  const { keyId, origin, epoch, sequence } = header;
  const bytes = Buffer.allocUnsafe(HEADER_BYTES);
  bytes.set(MAGIC);
  writeU32(bytes, KEY_AT, keyId);
  bytes.write(origin, ORIGIN_AT, "latin1");
  bytes.write(epoch, EPOCH_AT, "latin1");
  bytes.writeUIntBE(sequence, SEQUENCE_AT, 6);
  bytes.writeUIntBE(chance[0] + (chance[1] & 0xffff) * 2 ** 32, CHANCE_AT, 6);
  return bytes;
}

/** Reads the header of a sealed message; null when it is cut short or of another version. */
export function decodeHeader(message: Buffer): SealHeader | null {
  if (message.length < SEAL_BYTES || message[3] !== MAGIC[3]) return null;
  return {
    keyId: readU32(message, KEY_AT),
    origin: message.toString("latin1", ORIGIN_AT, EPOCH_AT),
    epoch: message.toString("latin1", EPOCH_AT, SEQUENCE_AT),
    sequence: message.readUIntBE(SEQUENCE_AT, 6),
  };
}

/** The nonce that a header holds, the counter first. */
export function nonceOf(message: Uint8Array): Uint8Array {
  return message.subarray(SEQUENCE_AT, HEADER_BYTES);
}

/** An epoch from the start of its node, the number of its connection since then, and chance. */
export function epochOf(start: number, connection: number, chance: number): string {
  const bytes = Buffer.alloc(EPOCH_BYTES);
  writeU64(bytes, 0, start);
  bytes.writeUInt32BE(connection, 8);
  bytes.writeUInt32BE(chance, 12);
  return bytes.toString("latin1");
}

/** The start that an epoch tells. */
export function startOf(epoch: string): number {
  return readU64(Buffer.from(epoch, "latin1"), 0);
}

/** Presence with the node's name in front of it: the broker is not to read whose it is. */
export function withName(name: string, presence: Uint8Array): Buffer {
  const bytes = Buffer.from(name);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes, presence]);
}

/** The opposite; null when it is none. */
export function takeName(payload: Buffer): { name: string; presence: Buffer } | null {
  if (payload.length < LENGTH_BYTES) return null;
  const end = LENGTH_BYTES + payload.readUInt16BE(0);
  if (payload.length < end) return null;
  return { name: payload.toString("utf8", LENGTH_BYTES, end), presence: payload.subarray(end) };
}
