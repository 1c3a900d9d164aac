/** Where a node tells its peers to reach it. */
import { networkInterfaces } from "node:os";
import { formatHostPort, isLoopbackHost, NO_ADDRESS } from "./config/address.ts";
import type { Config } from "./config/schema.ts";

/**
 * Where peers reach this node in plain text: an address to bind to may mean every one there is.
 */
export function advertisedAddress({ network }: Config, port: number | null): string {
  if (network.advertise_address === NO_ADDRESS || port === null) return NO_ADDRESS;
  const host = advertisedHost(network);
  const isReached = network.plaintext === "on" || isLoopbackHost(host);
  return isReached ? formatHostPort(host, port) : NO_ADDRESS;
}

/** The same where TLS is spoken; empty without a port. */
export function advertisedTlsAddress({ network }: Config, port: number | null): string {
  if (network.advertise_address === NO_ADDRESS || port === null) return "";
  return formatHostPort(advertisedHost(network), port);
}

/** The host of both. */
export function advertisedHost(network: Config["network"]): string {
  const { advertise_address, bind_address } = network;
  if (advertise_address !== "") return advertise_address;
  if (bind_address !== "0.0.0.0" && bind_address !== "::") return bind_address;
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const reachable = own.filter(({ internal, scopeid }) => !internal && !scopeid);
  const best = reachable.find(({ family }) => family === "IPv4") ?? reachable[0];
  return best?.address ?? "127.0.0.1";
}
