/**
 * Telling other protocols from requests of ours. A web page can make a browser send an HTTP request
 * to any port, and choose its body; read as lines, that body would be commands
 * (https://en.wikipedia.org/wiki/Inter-protocol_exploitation). In the same way it can choose a part
 * of what a browser says first to speak TLS: the session ticket that it got from the page's server
 * (J. Maddux, "When TLS Hacks You", 2020). So neither is read at all.
 */

/** Every method that browsers and tools send, and the preface of HTTP/2. */
const REQUEST_LINE =
  /^\s*(GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI)\s+\S[^]*\sHTTP\/\d(\.\d)?$/i;
/** Any other method, which a page may make up where the browser takes this port for its own. */
const ODD_REQUEST_LINE = /^\s*\S+\s+([/*]|[a-z][a-z0-9+.-]*:\/\/)[^]*\sHTTP\/\d(\.\d)?$/i;
/** Lines of a request that never are a command, wherever they come. */
const TELLTALE = /^(POST |HOST:)/i;
const TELLTALE_BYTES = 5;
/** The longest part of a line that is looked at, from its beginning and its end. */
const LOOK_BYTES = 32;

/**
 * Whether the line `start` to `end` of `bytes`, its terminator not included, is part of an HTTP
 * request: one that begins with `POST ` or `Host:`, or any request line where `isFirst` says that
 * nothing came before it.
 */
export function isHttp(bytes: Uint8Array, start: number, end: number, isFirst: boolean): boolean {
  const first = bytes[start] | 0x20;
  if ((first === LOWER_P || first === LOWER_H) && end - start >= TELLTALE_BYTES) {
    if (TELLTALE.test(latin1(bytes, start, start + TELLTALE_BYTES))) return true;
  }
  if (!isFirst) return false;
  // A path may be long; what tells is at the ends.
  const isLong = end - start > 2 * LOOK_BYTES;
  const line = isLong
    ? latin1(bytes, start, start + LOOK_BYTES) + latin1(bytes, end - LOOK_BYTES, end)
    : latin1(bytes, start, end);
  return REQUEST_LINE.test(line) || ODD_REQUEST_LINE.test(line);
}

/** Whether a connection that begins so speaks TLS; undefined while too little of it has come. */
export function isTlsHello(bytes: Uint8Array, start: number, end: number): boolean | undefined {
  if (bytes[start] !== TLS_HANDSHAKE) return false;
  return end - start < 2 ? undefined : bytes[start + 1] === TLS_MAJOR_VERSION;
}

/** What somebody is told who speaks HTTP to this port. */
export function httpAnswer(): string {
  const body =
    "This is a port of MerkleKV, a key-value store. It speaks lines of text and Redis' protocol, " +
    "not HTTP.\nTry: merklekv cli, redis-cli, or: printf 'PING\\r\\n' | nc HOST PORT\n";
  return (
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
    `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`
  );
}

const TLS_HANDSHAKE = 0x16;
/** Of TLS 1.0 to 1.3 and of SSL 3. */
const TLS_MAJOR_VERSION = 0x03;
const LOWER_P = 0x70;
const LOWER_H = 0x68;

function latin1(bytes: Uint8Array, start: number, end: number): string {
  return String.fromCharCode(...bytes.subarray(start, end));
}
