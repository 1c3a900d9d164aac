/**
 * Keys and values on their way in through URLs and JSON. A key is bytes: in a URL they are
 * percent-encoded, in JSON a text where they are UTF-8 and base64 under another name where not.
 */

/** What `bytesField` wrote; undefined when there is neither field, or not as text. */
export function bytesOfField(
  object: Readonly<Record<string, unknown>>,
  name: string,
): Uint8Array | undefined {
  const text = object[name];
  const encoded = object[`${name}_base64`];
  if (typeof text === "string" && encoded === undefined) return Buffer.from(text);
  return typeof encoded === "string" && text === undefined ? bytesOfBase64(encoded) : undefined;
}

/** Undefined unless every character counts. */
function bytesOfBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, "base64");
  const padding = /={0,2}$/.exec(text.slice(-2))![0].length;
  const characters = text.length - padding;
  const isPadded = padding === 0 || text.length % 4 === 0;
  // What is no base64 is skipped by whoever decodes, and leaves fewer bytes.
  const isAll = bytes.length === Math.floor((characters * 3) / 4) && characters % 4 !== 1;
  return isAll && isPadded && !/[-_\s]/.test(text) ? bytes : undefined;
}

/** Percent-encoded bytes; undefined when a `%` is not followed by two hexadecimal digits. */
export function decodePercent(text: string): Uint8Array | undefined {
  if (/%(?![0-9a-f]{2})/i.test(text)) return undefined;
  const bytes = Buffer.from(text);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    const isEncoded = bytes[i] === PERCENT;
    bytes[length++] = isEncoded ? parseInt(bytes.toString("latin1", i + 1, i + 3), 16) : bytes[i];
    if (isEncoded) i += 2;
  }
  return bytes.subarray(0, length);
}

/** Bytes as they may stand in a query, and in a path. */
export function encodePercent(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    text += UNRESERVED.test(character)
      ? character
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return text;
}

const UNRESERVED = /[A-Za-z0-9\-._~]/;
const PERCENT = 0x25;
