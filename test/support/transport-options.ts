/** What a transport is made with in tests: a broker's address, and whatever the test is about. */
import { parseBrokerAddress } from "../../src/config/address.ts";
import { silentLogger, type Fields } from "../../src/observability/log.ts";
import type { TransportOptions } from "../../src/replication/transport.ts";
import { eventLoop } from "../../src/world.ts";

/** `onWarning` hears what is said to operators. */
export function transportOptions(
  address: string,
  { onWarning, ...changes }: TransportChanges = {},
): TransportOptions {
  const warn = (message: string, fields: Fields = {}): void => onWarning?.(message, fields);
  return {
    broker: parseBrokerAddress(address)!,
    clientId: "n1",
    username: "",
    password: "",
    keepAliveSeconds: 60,
    cleanSession: true,
    protocol: "auto",
    maxPacketBytes: 1_000_000,
    maxSentBytes: 1_000_000,
    maxMessagesPerSecond: 0,
    subscriptions: [],
    logger: { ...silentLogger, warn, error: warn },
    random: () => 0,
    timing: eventLoop,
    will: () => ({ topic: "t", payload: Buffer.alloc(0) }),
    onUp() {},
    onDown() {},
    onMessage() {},
    onTakenOver() {},
    ...changes,
  };
}

/** What a test changes. */
export interface TransportChanges extends Partial<TransportOptions> {
  readonly onWarning?: (message: string, fields: Fields) => void;
}
