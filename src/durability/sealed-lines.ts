/**
 * Lines of text that are sealed one by one, for a file that is appended to and read by people: what
 * was set aside. A sealed line is {"sealed":"…"} around base64 of
 *
 *   0   key id           4 bytes: which secret the key follows from
 *   4   opening          16 bytes: drawn when the file is opened for appending
 *   20  nonce            12 bytes: counts the lines since then
 *   32  line, sealed, and a tag of 16 bytes
 *
 * The key follows from the secret and the opening, so no nonce is used twice with one. Where in the
 * file the line begins is sealed with it: elsewhere it does not open.
 */
import { writeU32, writeU64 } from "../core/bytes.ts";
import { NONCE_BYTES, open, seal, TAG_BYTES } from "../security/aead.ts";
import { KEY_ID_BYTES, keyFor, type Secret } from "../security/keys.ts";
import { MissingKey, type DiskKeys } from "./sealing.ts";

const PURPOSE = "storage line";
const OPENING_BYTES = 16;
const NONCE_AT = KEY_ID_BYTES + OPENING_BYTES;
const CLEAR_BYTES = NONCE_AT + NONCE_BYTES;
const POSITION_BYTES = 8;
const BEFORE = '{"sealed":"';
const AFTER = '"}\n';
const SEALED_LINE = /^\{"sealed":"([A-Za-z0-9+/]+={0,2})"\}$/;

/** Seals lines for one opening of a file. */
export class LineSealer {
  private readonly key: Buffer;
  private readonly clear = Buffer.alloc(CLEAR_BYTES);
  private count = 0;

  constructor(secret: Secret, randomWords: DiskKeys["randomWords"]) {
    const words = randomWords(OPENING_BYTES / 4);
    const opening = Buffer.from(words.buffer, words.byteOffset, OPENING_BYTES);
    this.clear.write(secret.id, 0, "hex");
    this.clear.set(opening, KEY_ID_BYTES);
    this.key = keyFor(secret, PURPOSE, opening);
  }

  /** How long a line of so many bytes is when it is sealed; its end counts in both. */
  static lengthOf(bytes: number): number {
    const sealedBytes = CLEAR_BYTES + bytes - 1 + TAG_BYTES;
    return BEFORE.length + 4 * Math.ceil(sealedBytes / 3) + AFTER.length;
  }

  /** Seals a line, its end included, that is to begin at that byte of the file. */
  seal(line: Uint8Array, position: number): Buffer {
    const { clear, key } = this;
    writeU32(clear, CLEAR_BYTES - 4, this.count++);
    const plain = line.subarray(0, line.length - 1);
    const sealed = seal(key, clear.subarray(NONCE_AT), withPosition(clear, position), plain);
    return Buffer.from(BEFORE + Buffer.concat([clear, sealed]).toString("base64") + AFTER);
  }
}

/**
 * A line, without its end, that begins at that byte of the file, as it was before it was sealed;
 * the line itself when it is not sealed. Null when its seal is wrong. Throws a MissingKey.
 */
export function unsealedLine(
  line: string,
  position: number,
  path: string,
  keys: DiskKeys,
): string | null {
  const match = SEALED_LINE.exec(line);
  if (match === null) return line;
  const bytes = Buffer.from(match[1], "base64");
  if (bytes.length < CLEAR_BYTES + TAG_BYTES) return null;
  const keyId = bytes.toString("hex", 0, KEY_ID_BYTES);
  const secrets = keys.current === null ? keys.previous : [keys.current, ...keys.previous];
  const secret = secrets.find(({ id }) => id === keyId);
  if (secret === undefined) throw new MissingKey(path, keyId);
  const clear = bytes.subarray(0, CLEAR_BYTES);
  const key = keyFor(secret, PURPOSE, clear.subarray(KEY_ID_BYTES, NONCE_AT));
  const sealed = bytes.subarray(CLEAR_BYTES);
  const plain = open(key, clear.subarray(NONCE_AT), withPosition(clear, position), sealed);
  return plain === null ? null : plain.toString();
}

function withPosition(clear: Uint8Array, position: number): Uint8Array {
  const all = new Uint8Array(CLEAR_BYTES + POSITION_BYTES);
  all.set(clear);
  writeU64(all, CLEAR_BYTES, position);
  return all;
}
