/**
 * Talks to the node that serves this page. A name and password, once given, go with each request
 * and are kept in this page alone; closing it forgets them.
 */

let authorization = null;
/** Told when the node asks who this is. */
export const events = new EventTarget();

/** An answer that is none: what the node says is wrong. */
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Uses that name and password from now on; null for none. */
export function signIn(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  authorization = name === null ? null : `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

/** A response that is well. Throws a Refusal otherwise, or an Error when nobody answers. */
export async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  const own = authorization === null ? {} : { authorization };
  const response = await fetch(path, { method, body, signal, headers: { ...headers, ...own } });
  if (response.ok) return response;
  let told = { code: "unknown", message: `${response.status} ${response.statusText}` };
  try {
    told = (await response.json()).error ?? told;
  } catch {
    // Not from the API: the status says enough.
  }
  if (response.status === 401) events.dispatchEvent(new Event("login"));
  throw new Refusal(response.status, told.code, told.message);
}

/** What a path answers in JSON. */
export async function ask(path, options) {
  return (await send(path, options)).json();
}

/** Sends an object; what is answered. */
export function post(path, object) {
  const headers = { "content-type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(object) });
}

/** The path of a key given by its bytes. */
export function keyPath(bytes) {
  return `/v1/keys/${percent(bytes)}`;
}

/** Bytes as they may stand in a URL. */
export function percent(bytes) {
  let text = "";
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    text += /[\w~-]/.test(character)
      ? character
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return text;
}

/** Bytes in a field of JSON: `name`, or `name_base64`. */
export function bytesOf(object, name) {
  if (object[name] !== undefined) return new TextEncoder().encode(object[name]);
  return Uint8Array.from(atob(object[`${name}_base64`]), (character) => character.charCodeAt(0));
}

/** Bytes as people read them: text, or with escapes where they are none. */
export function shown(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    // eslint-disable-next-line no-control-regex
    if (!/[\u0000-\u0008\u000b-\u001f\u007f]/.test(text)) return text;
  } catch {
    // Shown with escapes.
  }
  const escaped = (byte) =>
    byte >= 0x20 && byte < 0x7f && byte !== 0x5c
      ? String.fromCharCode(byte)
      : `\\x${byte.toString(16).padStart(2, "0")}`;
  return Array.from(bytes, escaped).join("");
}

/** Calls `onEvent(name, data)` for each of a stream of server-sent events until it ends. */
export async function stream(path, signal, onEvent) {
  const response = await send(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split("\n\n");
    rest = pieces.pop();
    for (const piece of pieces) {
      const name = /^event: (.*)$/m.exec(piece)?.[1];
      const data = /^data: (.*)$/m.exec(piece)?.[1];
      if (name !== undefined) onEvent(name, JSON.parse(data ?? "{}"));
    }
  }
}
