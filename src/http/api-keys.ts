/**
 * Keys and values on their way through URLs and JSON. A key is bytes: in a URL they are
 * percent-encoded, in JSON a text where they are UTF-8 and base64 under another name where not.
 */

/** Bytes as fields of a JSON object: `name`, or `name_base64` when they are no UTF-8. */
export function bytesField(name: string, bytes: Uint8Array): Record<string, string> {
  try {
    return { [name]: strict.decode(bytes) };
  } catch {
    return { [`${name}_base64`]: Buffer.from(bytes).toString("base64") };
  }
}

/** What `bytesField` wrote; undefined when there is neither field, or not as text. */
export function bytesOfField(
  object: Readonly<Record<string, unknown>>,
  name: string,
): Uint8Array | undefined {
  const text = object[name];
  const encoded = object[`${name}_base64`];
  if (typeof text === "string" && encoded === undefined) return Buffer.from(text);
  if (typeof encoded !== "string" || text !== undefined || !BASE64.test(encoded)) return undefined;
  return Buffer.from(encoded, "base64");
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

// Without a byte order mark taken off: it is data.
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/;
const UNRESERVED = /[A-Za-z0-9\-._~]/;
const PERCENT = 0x25;
