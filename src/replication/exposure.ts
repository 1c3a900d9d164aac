/** Where what nodes tell each other can be read and forged, as the configuration has it. */
import { isLoopbackHost, parseBrokerAddress, parseHostPort } from "../config/address.ts";
import type { Config } from "../config/schema.ts";

/** Most places that are named. */
const MAX_NAMED = 8;

/** The broker and the peers that are not on this machine: `"broker 10.0.0.5"`, … */
export function placesBeyondLoopback({ mqtt, anti_entropy }: Config): string[] {
  const places: string[] = [];
  const note = (what: string, host: string | undefined): void => {
    if (host !== undefined && !isLoopbackHost(host)) places.push(`${what} ${host}`);
  };
  if (mqtt.enabled) {
    const { broker_address, embedded } = mqtt;
    const isEmbedded = broker_address === "embedded";
    note("broker", isEmbedded ? embedded.bind_address : parseBrokerAddress(broker_address)?.host);
  }
  for (const peer of anti_entropy.peer_list) note("peer", parseHostPort(peer)?.host);
  return places.slice(0, MAX_NAMED);
}
