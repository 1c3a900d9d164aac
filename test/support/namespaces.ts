/**
 * Network namespaces: machines of their own for processes of a test, each behind a router of its
 * own. From inside one reaches the test's machine and nothing else; every one of them has the same
 * private address, as machines in different homes have. Takes Linux, root, and iproute2.
 */
import { spawnSync } from "node:child_process";

/** The address that every one has, and that leads nowhere but to itself. */
export const PRIVATE_ADDRESS = "192.168.177.2";

/** One namespace. */
export interface Namespace {
  readonly name: string;
  /** The end of the way to it that is outside. */
  readonly link: string;
  /** Where the test reaches what listens inside. */
  readonly address: string;
  /** Where the test's own machine is reached from inside. */
  readonly gateway: string;
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr.trim()}`);
}

/** Why there can be none; null when there can. */
export function whyNoNamespaces(): string | null {
  const name = `mkvp${process.pid}`;
  try {
    ip("netns", "add", name);
    ip("netns", "del", name);
    return null;
  } catch (error) {
    return `no network namespaces here: ${(error as Error).message}`;
  }
}

/** Makes one; `number` is from 0 to 15, and another for each that is there at a time. */
export function createNamespace(number: number): Namespace {
  const block = (process.pid % 1_000) * 16 + number;
  const [third, fourth] = [Math.floor(block / 64), (block % 64) * 4];
  const inside = `10.203.${third}.${fourth + 2}`;
  const outside = `10.203.${third}.${fourth + 1}`;
  const name = `mkv${process.pid}n${number}`;
  const [near, far] = [`mkv${process.pid}a${number}`, `mkv${process.pid}b${number}`];
  ip("netns", "add", name);
  ip("link", "add", near, "type", "veth", "peer", "name", far);
  ip("link", "set", far, "netns", name);
  ip("addr", "add", `${outside}/30`, "dev", near);
  ip("link", "set", near, "up");
  ip("-n", name, "addr", "add", `${inside}/30`, "dev", far);
  ip("-n", name, "addr", "add", `${PRIVATE_ADDRESS}/32`, "dev", "lo");
  ip("-n", name, "link", "set", far, "up");
  ip("-n", name, "link", "set", "lo", "up");
  return { name, link: near, address: inside, gateway: outside };
}

/** Removes it, and the ways to it. */
export function removeNamespace({ name, link }: Namespace): void {
  // With the namespace alone the link would go as well, but some time later, and meanwhile there
  // could be no other of its name.
  ip("link", "del", link);
  ip("netns", "del", name);
}
