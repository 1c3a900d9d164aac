/**
 * Telling by its first bytes whether a connection speaks TLS: then they are records (RFC 8446,
 * section 5.1) that hold the message ClientHello, and nothing else.
 */

/** Longest ClientHello that is taken, in bytes. Those of libraries have below 2 KiB. */
export const MAX_HELLO_BYTES = 16_384;

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER_BYTES = 5;
const MESSAGE_HEADER_BYTES = 4;
const MAX_RECORD_BYTES = 16_384;

/**
 * What the first bytes of a connection are: no TLS, the beginning of a hello, or a whole one.
 */
export function readHello(bytes: Uint8Array): "none" | "part" | "whole" {
  let wanted = MESSAGE_HEADER_BYTES;
  let gathered = 0;
  const header = new Uint8Array(MESSAGE_HEADER_BYTES);
  for (let at = 0; at < bytes.length;) {
    if (!mayBeRecord(bytes, at)) return "none";
    if (bytes.length - at < RECORD_HEADER_BYTES) return "part";
    const length = (bytes[at + 3] << 8) | bytes[at + 4];
    if (length === 0 || length > MAX_RECORD_BYTES) return "none";
    const start = at + RECORD_HEADER_BYTES;
    const end = Math.min(start + length, bytes.length);
    for (let i = start; i < end && gathered + i - start < MESSAGE_HEADER_BYTES; i++) {
      header[gathered + i - start] = bytes[i]!;
    }
    gathered += end - start;
    if (gathered > 0 && header[0] !== CLIENT_HELLO) return "none";
    if (gathered >= MESSAGE_HEADER_BYTES) {
      const message = (header[1] << 16) | (header[2] << 8) | header[3];
      if (message > MAX_HELLO_BYTES) return "none";
      wanted = MESSAGE_HEADER_BYTES + message;
      // TLS reads no record before it is there as a whole.
      if (gathered >= wanted) return end === start + length ? "whole" : "part";
    }
    at = start + length;
  }
  return "part";
}

/** Whether a record of a handshake may begin there, as far as there are bytes. */
function mayBeRecord(bytes: Uint8Array, at: number): boolean {
  if (bytes[at] !== HANDSHAKE) return false;
  // Every version of TLS calls itself 3.something, and those of the record are 3.1 to 3.3.
  return at + 1 >= bytes.length || bytes[at + 1] === 3;
}
