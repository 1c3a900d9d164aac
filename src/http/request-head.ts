/**
 * The head of a request of HTTP/1.1 (RFC 9112), read strictly: whatever another program might read
 * in another way is refused, so that nobody hides one request in another. PURE.
 */

/** Most bytes of a head, and most fields in it. */
export const MAX_HEAD_BYTES = 16 * 1024;
const MAX_FIELDS = 100;

/** What a head says. */
export interface RequestHead {
  readonly method: string;
  /** With the host that it names. */
  readonly url: URL;
  readonly headers: Headers;
  /** Length of the body; null when it comes in chunks. */
  readonly bodyBytes: number | null;
  /** Whether the client speaks 1.1: else it knows no chunks. */
  readonly knowsChunks: boolean;
  /** Whether it means to ask more on this connection. */
  readonly keepsAlive: boolean;
  /** Whether it waits to be asked for the body. */
  readonly awaitsContinue: boolean;
}

/** Why a head is refused. */
export interface HeadProblem {
  readonly status: 400 | 431 | 501 | 505;
  readonly reason: string;
}

/** Where the head ends that `bytes` begin with; -1 when the end is not there yet. */
export function endOfHead(bytes: Uint8Array): number {
  const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf("\r\n\r\n");
  return at < 0 ? -1 : at + 4;
}

/** Reads a head, its last two line ends left off. */
export function parseHead(text: string): RequestHead | HeadProblem {
  const [first = "", ...lines] = text.split("\r\n");
  const found = /^([A-Z]+) ([\x21-\x7e]+) HTTP\/(\d)\.(\d)$/.exec(first);
  if (found === null) return bad("The first line is no request of HTTP/1.1");
  const [, method = "", target = "", major, minor] = found;
  if (major !== "1" || Number(minor) > 1) {
    return { status: 505, reason: "HTTP/1.1 is spoken here" };
  }
  if (lines.length > MAX_FIELDS) return { status: 431, reason: `A head has ${MAX_FIELDS} fields` };
  const headers = new Headers();
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).replace(/^[ \t]+/, "");
    if (!NAME.test(name) || !VALUE.test(value)) return bad("A line of the head is no field");
    if (SINGLE.has(name) && headers.has(name)) return bad(`There is more than one ${name}`);
    headers.append(name, value);
  }
  const body = bodyOf(headers, minor === "1");
  if (typeof body === "object" && body !== null) return body;
  const url = urlOf(target, headers.get("host"));
  if (url === null) return bad("The request names no host, or none that there could be");
  const wishes = (headers.get("connection") ?? "").toLowerCase().split(",");
  const wants = (wish: string): boolean => wishes.some((it) => it.trim() === wish);
  return {
    method,
    url,
    headers,
    bodyBytes: body,
    knowsChunks: minor === "1",
    keepsAlive: minor === "1" ? !wants("close") : wants("keep-alive"),
    awaitsContinue: /^100-continue$/i.test(headers.get("expect") ?? ""),
  };
}

/** Length of the body, null for chunks. Two ways to tell where it ends are one too many. */
function bodyOf(headers: Headers, knowsChunks: boolean): number | null | HeadProblem {
  const length = headers.get("content-length");
  const encoding = headers.get("transfer-encoding");
  if (encoding === null) {
    if (length === null) return 0;
    return /^\d{1,15}$/.test(length) ? Number(length) : bad("The content-length is no number");
  }
  if (length !== null || !knowsChunks) return bad("The end of the body is told in two ways");
  if (encoding.toLowerCase() === "chunked") return null;
  return { status: 501, reason: "A body comes as it is, or in chunks" };
}

/** Only the forms of a target that servers are asked for, and no name and password in it. */
function urlOf(target: string, host: string | null): URL | null {
  if (host === null) return null;
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/i.exec(target);
  const [authority, path] = absolute === null ? [host, target] : [absolute[1], absolute[2]];
  const isPath = path.startsWith("/") || (absolute !== null && !/^[^?]/.test(path));
  if (!isPath || !AUTHORITY.test(authority)) return null;
  return URL.parse(`http://${authority}${path}`);
}

function bad(reason: string): HeadProblem {
  return { status: 400, reason };
}

/** Fields of which a second one could be read in place of the first. */
const SINGLE = new Set([
  ...["host", "content-length", "transfer-encoding", "authorization", "origin"],
  ...["content-type", "expect", "sec-fetch-site"],
]);
const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
// No control characters; the bytes above ASCII mean something to nobody here.
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const AUTHORITY = /^(?:\[[0-9a-f:.]+\]|[\w.~%-]+)(?::\d{0,5})?$/i;
