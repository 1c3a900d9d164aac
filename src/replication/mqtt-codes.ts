/**
 * What a broker's reason codes mean, in words that name the setting to look at (MQTT 5, section
 * 2.4; MQTT 3.1.1, section 3.2.2.3). The only file that imports mqtt-packet.
 */
import constants from "mqtt-packet/constants.js";

/** The codes that lead to more than a line in the log. */
export const CODES = {
  notAuthorized: 0x87,
  sessionTakenOver: 0x8e,
  receiveMaximumExceeded: 0x93,
  packetTooLarge: 0x95,
  retainNotSupported: 0x9a,
  qosNotSupported: 0x9b,
} as const;

/** Too many messages in a second, or beyond a quota. */
export const EXCESS_CODES: readonly number[] = [0x96, 0x97];
/** "Unacceptable protocol version", in the codes of 3.1.1 and of 5. */
export const REFUSED_VERSION_CODES: readonly number[] = [1, 0x84];
/** User name, password or rights, in the codes of 3.1.1 and of 5. */
export const REFUSED_USER_CODES: readonly number[] = [4, 5, 0x86, 0x87];

/** What a code means, and what to do about it. */
export interface Meaning {
  readonly reason: string;
  /** Empty when there is nothing to be set. */
  readonly advice: string;
}

const CREDENTIALS = "mqtt.username and mqtt.password";
const RIGHTS = "the broker's access rules for mqtt.username and mqtt.client_id";
const LENGTH = "lower mqtt.max_packet_bytes, or raise the broker's limit of a message";

const MEANINGS: Readonly<Record<number, readonly [string, string]>> = {
  1: ["it does not speak this version of MQTT", 'mqtt.protocol_version = "auto"'],
  2: ["it does not take this client id", "mqtt.client_id, and mqtt.keep_alive if it limits that"],
  3: ["it is not available", ""],
  4: ["the user name or the password is wrong", CREDENTIALS],
  5: ["this client is not authorized", `${CREDENTIALS}, or ${RIGHTS}`],
  0x80: ["it does not say why", "the broker's log, and its access rules"],
  0x83: ["something of its own is in the way", "the broker's log"],
  0x84: ["it does not speak this version of MQTT", 'mqtt.protocol_version = "auto"'],
  0x85: ["it does not take this client id", "mqtt.client_id"],
  0x86: ["the user name or the password is wrong", CREDENTIALS],
  0x87: ["not authorized", RIGHTS],
  0x88: ["it is not available", ""],
  0x89: ["it is busy", ""],
  0x8a: ["this client is banned", RIGHTS],
  0x8b: ["it shuts down", ""],
  0x8d: ["it heard nothing for too long", "mqtt.keep_alive"],
  0x8e: ["another client came with the same client id", "mqtt.client_id"],
  0x8f: ["it does not take this topic", "mqtt.topic_prefix"],
  0x90: ["it does not take this topic", "mqtt.topic_prefix"],
  0x93: [
    "more messages are under way than it takes",
    "the broker's limit of unacknowledged messages",
  ],
  0x95: ["the message is too large", LENGTH],
  0x96: ["messages come too fast for it", "the broker's limit of messages a second"],
  0x97: ["a quota is exceeded", "the broker's quotas"],
  0x98: ["an administrator ended it", "the broker's log"],
  0x9a: ["it keeps no retained messages", ""],
  0x9b: ["it does not offer this quality of service", ""],
  0x9c: ["another server is to be used", "mqtt.broker_address"],
  0x9d: ["it has moved", "mqtt.broker_address"],
  0x9f: ["connections come too fast for it", "the broker's limit of connections a second"],
  0xa2: ["it does not offer wildcards in subscriptions", "the broker's settings"],
};

/** What the code of a CONNACK, PUBACK, SUBACK or DISCONNECT means. */
export function meaningOf(code: number): Meaning {
  const [reason, advice] = MEANINGS[code] ?? ["it does not say why", "the broker's log"];
  return { reason, advice };
}

// The package takes a PUBACK of any other code for broken, "packet too large" among them: it throws
// away what came with it, and the message is never answered. Brokers do use codes of their own.
for (let code = 0x80; code <= 0xff; code++) {
  constants.MQTT5_PUBACK_PUBREC_CODES[code] ??= "Refused";
}
