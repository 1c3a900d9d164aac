/**
 * The address forms the configuration accepts: a host, `host:port`, and the
 * URL of an MQTT broker. What is accepted here is what the rest may rely on.
 */
import { isIP } from "node:net";

/** A host and its TCP port. An IPv6 host carries no brackets. */
export interface HostPort {
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** Where clients and peers reach a node. */
export interface NodeAddress extends HostPort {
  /** Whether TLS is spoken there. */
  readonly isSecure: boolean;
}

/** In the place of an address: nobody reaches this node at its client port. */
export const NO_ADDRESS = "none";

/** How the MQTT connection is carried: plain TCP, TLS, WebSocket, WebSocket over TLS. */
export type BrokerProtocol = "mqtt" | "mqtts" | "ws" | "wss";

/** Where an MQTT broker is reached. */
export interface BrokerAddress extends HostPort {
  readonly protocol: BrokerProtocol;
  /** Path and query of a WebSocket address, starting with "/"; "" for the other protocols. */
  readonly path: string;
}

const PROTOCOLS: Record<string, { protocol: BrokerProtocol; port: number }> = {
  tcp: { protocol: "mqtt", port: 1883 },
  mqtt: { protocol: "mqtt", port: 1883 },
  mqtts: { protocol: "mqtts", port: 8883 },
  ws: { protocol: "ws", port: 80 },
  wss: { protocol: "wss", port: 443 },
};

/**
 * Whether the text is an IPv4 address, an IPv6 address without brackets, or a host
 * name (RFC 1123, underscores allowed because container names have them). A name
 * whose last label is a number is none: it is an IPv4 address mistyped or in disguise, which the
 * system would understand all the same (`0xa9fea9fe`).
 */
export function isHost(text: string): boolean {
  if (isIP(text) !== 0) return true;
  if (text.length === 0 || text.length > 253) return false;
  const labels = text.replace(/\.$/, "").split(".");
  if (/^(\d+|0x[\da-f]*)$/i.test(labels[labels.length - 1])) return false;
  return labels.every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label));
}

/** Reads `host:port` or `[ipv6]:port`, port 1 to 65535; undefined when it is neither. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  if (!match) return undefined;
  const [, bracketed, bare] = match;
  const port = Number(match[3]);
  if (port < 1 || port > 65_535) return undefined;
  if (bracketed !== undefined) {
    return isIP(bracketed) === 6 ? { host: bracketed, port } : undefined;
  }
  return bare !== undefined && isHost(bare) ? { host: bare, port } : undefined;
}

/** The opposite of `parseHostPort`: brackets go around an IPv6 host. */
export function formatHostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Who may speak without TLS: everybody, this machine, or nobody. */
export type Plaintext = "on" | "loopback" | "off";

/** A name such as `127.example.org` may lead anywhere. */
const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost\.?)$/i;

/** Where to listen for plain text on behalf of an address to bind to. */
export function plainAddresses(address: string, plaintext: Plaintext): string[] {
  if (plaintext === "off") return [];
  if (plaintext === "on" || isLoopbackHost(address)) return [address];
  if (address === "::") return ["127.0.0.1", "::1"];
  return [address.includes(":") ? "::1" : "127.0.0.1"];
}

/** Whether a host is this machine, by the way that never leaves it. */
export function isLoopbackHost(host: string): boolean {
  return LOOPBACK.test(host.replace(/^::ffff:/i, ""));
}

const SECURE = "tls://";

/** Reads `host:port`, or `tls://host:port` for a port at which TLS is spoken. */
export function parseNodeAddress(text: string): NodeAddress | undefined {
  const isSecure = text.startsWith(SECURE);
  const hostPort = parseHostPort(isSecure ? text.slice(SECURE.length) : text);
  return hostPort && { ...hostPort, isSecure };
}

/** The opposite. */
export function formatNodeAddress({ host, port, isSecure }: NodeAddress): string {
  return `${isSecure ? SECURE : ""}${formatHostPort(host, port)}`;
}

/**
 * Reads `scheme://host[:port]`, with a path for WebSockets only; undefined when it is
 * not such an address. A user name or password in it is not accepted: they have keys
 * of their own and would end up in logs. ("embedded" is no address: see `mqtt.broker_address`.)
 */
export function parseBrokerAddress(text: string): BrokerAddress | undefined {
  const match = /^([a-z]+):\/\/([^/?#\s]+)(\/[^#\s\p{Cc}]*)?$/u.exec(text);
  if (!match) return undefined;
  const [, scheme, authority, path = ""] = match;
  if (!Object.hasOwn(PROTOCOLS, scheme)) return undefined;
  const { protocol, port } = PROTOCOLS[scheme];
  const overWebSocket = protocol === "ws" || protocol === "wss";
  if (!overWebSocket && path !== "" && path !== "/") return undefined;
  const address = parseHostPort(authority) ?? parseHostPort(`${authority}:${port}`);
  return address && { protocol, ...address, path: overWebSocket ? path || "/" : "" };
}

/** Whether a text is the address of something that speaks HTTP, with nobody's name in it. */
export function isWebAddress(text: string): boolean {
  if (!/^https?:\/\/[!-~]+$/i.test(text) || !URL.canParse(text)) return false;
  const { username, password } = new URL(text);
  return username === "" && password === "";
}
