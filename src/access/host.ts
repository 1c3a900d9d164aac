/** What of a client's address, `host:port`, tells who it is. */

const LOOPBACK = /^(127\.|::1$|::ffff:127\.)/;

/** Whether the client is on this machine. */
export function isLocal(address: string): boolean {
  return LOOPBACK.test(bare(address));
}

/**
 * The host, whatever the port; of IPv6 the network, for one machine has as many addresses in its
 * own (/64) as it likes.
 */
export function hostOf(address: string): string {
  const host = bare(address);
  if (!host.includes(":")) return host;
  if (host.startsWith("::ffff:")) return host.slice("::ffff:".length);
  const [head, tail] = host.split("::");
  const before = head === "" ? [] : head.split(":");
  const missing = tail === undefined ? 0 : 8 - before.length - tail.split(":").length;
  const groups = [...before, ...Array<string>(Math.max(0, missing)).fill("0"), "0", "0", "0", "0"];
  return `${groups.slice(0, 4).join(":")}::`;
}

function bare(address: string): string {
  const host = address.slice(0, address.lastIndexOf(":"));
  return host.startsWith("[") ? host.slice(1, -1) : host;
}
