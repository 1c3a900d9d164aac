/**
 * Clients of the package that speaks MQTT, for `mqtt-transport.ts`: what they are made with, and
 * made so that what arrives is parsed piece by piece.
 */
import type { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import { connect, type IClientOptions, type MqttClient } from "mqtt";
import type { BrokerAddress } from "../config/address.ts";
import { TLS_TERMS } from "../security/tls-material.ts";
import type { Timing } from "../timing.ts";
import { MQTT_3, MQTT_5, type Terms } from "./connection-terms.ts";
import { pipeInPieces } from "./pieces.ts";
import type { BrokerTls, TransportOptions } from "./transport.ts";

/**
 * How long the package waits for the broker to take a connection, in ms. Whoever connects waits
 * less long than that, and says what is wrong.
 */
const CONNECT_TIMEOUT_MS = 20_000;
/** How long the broker keeps a persistent session without us (MQTT 5), in seconds. */
const SESSION_EXPIRY_SECONDS = 86_400;

/** For a connection that lasts, on those terms. */
export function clientOptions(options: TransportOptions, terms: Terms): IClientOptions {
  const { hasWill, retains, qos, version } = terms;
  const made = commonOptions(options, version, options.cleanSession);
  if (hasWill) made.will = { ...options.will(), qos, retain: retains };
  return made;
}

/**
 * For one that only shows whether the broker takes it on the best terms, while another lasts: under
 * another name, and without a will, which would count as one of a connection that lasts.
 */
export function trialOptions(options: TransportOptions): IClientOptions {
  const version = options.protocol === "3.1.1" ? MQTT_3 : MQTT_5;
  return { ...commonOptions(options, version, true), clientId: `${options.clientId}-trial` };
}

/** Host and port, not a URL, and a new object each time: the package writes into it. */
function commonOptions(
  options: TransportOptions,
  version: 4 | 5,
  isClean: boolean,
): IClientOptions {
  const { broker } = options;
  const made: IClientOptions = {
    protocol: broker.protocol,
    host: broker.host,
    port: broker.port,
    path: broker.path,
    clientId: options.clientId,
    clean: isClean,
    keepalive: options.keepAliveSeconds,
    protocolVersion: version,
    connectTimeout: CONNECT_TIMEOUT_MS,
    reconnectPeriod: 0,
    resubscribe: false,
    timerVariant: "native",
  };
  if (isSecure(broker.protocol)) Object.assign(made, tlsOptions(broker, options.tls));
  if (options.username !== "") made.username = options.username;
  if (options.password !== "") made.password = options.password;
  if (version === MQTT_5) {
    made.properties = { maximumPacketSize: options.maxPacketBytes };
    if (!isClean) made.properties.sessionExpiryInterval = SESSION_EXPIRY_SECONDS;
  }
  return made;
}

function isSecure(protocol: BrokerAddress["protocol"]): boolean {
  return protocol === "mqtts" || protocol === "wss";
}

/** The package hands on what its types do not know of. */
type TlsOptions = IClientOptions & Pick<ConnectionOptions, "minVersion">;

/** For the runtime: over WebSockets it takes them by another name, and elsewhere. */
function tlsOptions({ protocol }: BrokerAddress, tls: BrokerTls | undefined): TlsOptions {
  const { serverName = "", alpn = "", isInsecure = false } = tls ?? {};
  const common = { ...tls?.material()?.pem, rejectUnauthorized: !isInsecure };
  if (protocol === "wss") {
    const inner = { ...common, ...(serverName !== "" && { serverName }) };
    return { wsOptions: { tls: inner } as object };
  }
  return {
    ...common,
    minVersion: TLS_TERMS.minVersion,
    ...(serverName !== "" && { servername: serverName }),
    ...(alpn !== "" && { ALPNProtocols: [alpn] }),
  };
}

/** `connect`, with a client that parses what arrives piece by piece. */
export function connectInPieces(timing: Timing): (options: IClientOptions) => MqttClient {
  return (options) => {
    const client = connect({ ...options, manualConnect: true });
    const inner = client as unknown as { streamBuilder: (client: MqttClient) => Duplex };
    const build = inner.streamBuilder;
    inner.streamBuilder = (it) => pipeInPieces(build(it), timing);
    client.connect();
    return client;
  };
}
