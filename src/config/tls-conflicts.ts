/** The rules between the keys for TLS and for ports. */
import { isLoopbackHost, parseBrokerAddress } from "./address.ts";
import type { Config } from "./schema.ts";

/** What is wrong although each key is right by itself. */
export function* tlsConflicts(config: Config): Generator<string> {
  const { network, tls, mqtt } = config;
  yield* pairConflicts("tls", tls);
  yield* pairConflicts("mqtt.tls", mqtt.tls);
  if (network.plaintext === "off" && tls.cert_file === "") {
    yield 'tls.cert_file: missing; allowed: a certificate, because without TLS and with network.plaintext = "off" nobody could connect';
  }
  if (tls.client_certificates !== "none" && tls.cert_file === "") {
    yield "tls.cert_file: missing; allowed: a certificate, without which there is no TLS that tls.client_certificates is about";
  }
  if (tls.client_certificates !== "none" && tls.ca_file === "") {
    yield "tls.ca_file: missing; allowed: the authorities that clients' certificates come from (tls.client_certificates)";
  }
  const isSecure = /s$/.test(parseBrokerAddress(mqtt.broker_address)?.protocol ?? "");
  if (mqtt.enabled && usesTls(mqtt.tls) && !isSecure) {
    yield "mqtt.broker_address: does not speak TLS, which [mqtt.tls] is about; allowed: an address that begins with mqtts:// or wss://";
  }
  yield* httpConflicts(config);
  yield* portConflicts(config);
}

function* httpConflicts({ network, tls, http }: Config): Generator<string> {
  if (http.tls && tls.cert_file === "") {
    yield "tls.cert_file: missing; allowed: a certificate, which http.tls needs";
  }
  const isServed = http.bind_address !== "" || http.bind_port > 0;
  const isNear = http.bind_address === "" || isLoopbackHost(http.bind_address);
  const isPlainAllowed = network.plaintext === "on" || (network.plaintext === "loopback" && isNear);
  if (isServed && !http.tls && !isPlainAllowed) {
    yield `http.tls: found false; allowed: true, with network.plaintext = "${network.plaintext}"`;
  }
}

function* pairConflicts(
  section: string,
  { cert_file, key_file }: { readonly cert_file: string; readonly key_file: string },
): Generator<string> {
  if ((cert_file === "") === (key_file === "")) return;
  const missing = cert_file === "" ? "cert_file" : "key_file";
  yield `${section}.${missing}: missing; allowed: a certificate and its key, both or neither`;
}

function usesTls({ insecure, ...texts }: Config["mqtt"]["tls"]): boolean {
  return insecure || Object.values(texts).some((text) => text !== "");
}

/** One port, and who would listen there. */
interface Place {
  readonly key: string;
  readonly address: string;
  readonly port: number;
}

function* portConflicts({ network, tls, mqtt }: Config): Generator<string> {
  const servesTls = tls.cert_file !== "";
  const isPlain = network.plaintext !== "off";
  const hostsBroker = mqtt.enabled && mqtt.broker_address === "embedded";
  const places: Place[] = [];
  const add = (key: string, address: string, port: number): void => {
    if (port > 0) places.push({ key, address, port });
  };
  const { bind_address } = network;
  if (isPlain) add("network.bind_port", bind_address, network.bind_port);
  if (servesTls) add("network.tls_port", bind_address, network.tls_port);
  if (hostsBroker) {
    const { embedded } = mqtt;
    if (isPlain) add("mqtt.embedded.bind_port", embedded.bind_address, embedded.bind_port);
    if (servesTls) add("mqtt.embedded.tls_port", embedded.bind_address, embedded.tls_port);
  }
  for (const [i, { key, address, port }] of places.entries()) {
    const other = places.slice(0, i).find((it) => it.address === address && it.port === port);
    if (other !== undefined) yield `${key}: found ${port}; allowed: a port other than ${other.key}`;
  }
}
