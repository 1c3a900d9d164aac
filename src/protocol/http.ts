/**
 * Telling HTTP from requests of ours. A web page can make a browser send an HTTP request to
 * any port, and choose its body; read as lines, that body would be commands
 * (https://en.wikipedia.org/wiki/Inter-protocol_exploitation). So HTTP is not read at all.
 */

/** Every method that browsers and tools send, and the preface of HTTP/2. */
const REQUEST_LINE =
  /^\s*(GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI)\s+\S[^]*\sHTTP\/\d(\.\d)?$/i;
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
  if (end - start <= 2 * LOOK_BYTES) return REQUEST_LINE.test(latin1(bytes, start, end));
  const ends = [latin1(bytes, start, start + LOOK_BYTES), latin1(bytes, end - LOOK_BYTES, end)];
  return REQUEST_LINE.test(ends.join(""));
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

const LOWER_P = 0x70;
const LOWER_H = 0x68;

function latin1(bytes: Uint8Array, start: number, end: number): string {
  return String.fromCharCode(...bytes.subarray(start, end));
}
