/** The broker of a node: the one that it hosts, and how it speaks to whichever it has. */
import { formatHostPort, isLoopbackHost, plainAddresses } from "./config/address.ts";
import type { Config } from "./config/schema.ts";
import { advertisedHost } from "./node-address.ts";
import type { NodeCertificates } from "./node-certificates.ts";
import type { Logger } from "./observability/log.ts";
import { OperationalError } from "./operational-error.ts";
import {
  EmbeddedBroker,
  type BrokerAccess,
  type BrokerLimits,
} from "./replication/embedded-broker.ts";
import { maxMessageBytes } from "./replication/broker-connection.ts";
import type { BrokerTls } from "./replication/transport.ts";
import type { Timing } from "./timing.ts";

/** How the broker is spoken to. Nobody is on the way to this node's own. */
export function brokerTls({ mqtt }: Config, certificates: NodeCertificates): BrokerTls {
  const isOwn = mqtt.broker_address === "embedded";
  return {
    material: () => (isOwn ? certificates.own : certificates.broker)?.current ?? null,
    get serverName() {
      return mqtt.tls.server_name;
    },
    get alpn() {
      return mqtt.tls.alpn;
    },
    get isInsecure() {
      return mqtt.tls.insecure || isOwn;
    },
  };
}

/** Who may come in at the embedded broker, and how. */
function brokerAccess(
  { network, tls, mqtt }: Config,
  certificates: NodeCertificates,
): BrokerAccess {
  const { own } = certificates;
  const servesTls = own !== null && tls.cert_file !== "";
  return {
    plaintext: network.plaintext,
    account() {
      const { username, password } = mqtt;
      return username === "" ? null : { username, password };
    },
    tls: servesTls
      ? {
          port: mqtt.embedded.tls_port,
          material: () => certificates.own!.current,
          clientCertificates: tls.client_certificates,
        }
      : null,
  };
}

/** As they are whenever one is looked at. */
function brokerLimits({ mqtt }: Config): BrokerLimits {
  return Object.create(mqtt.embedded, {
    max_packet_bytes: {
      // The node's own messages must get through.
      get: () => Math.max(mqtt.embedded.max_packet_bytes, maxMessageBytes(mqtt)),
    },
  });
}

/** Starts the embedded broker; null where another is used. */
export async function startBroker(
  config: Config,
  logger: Logger,
  timing: Timing,
  certificates: NodeCertificates,
): Promise<EmbeddedBroker | null> {
  const { enabled, broker_address, embedded } = config.mqtt;
  if (!enabled || broker_address !== "embedded") return null;
  try {
    const { bind_address, bind_port } = embedded;
    const broker = await EmbeddedBroker.start(
      timing,
      bind_address,
      bind_port,
      brokerLimits(config),
      logger.child("broker"),
      brokerAccess(config, certificates),
    );
    const { plainPort, tlsPort } = broker;
    logger.info("Embedded broker listening", {
      address: plainPort === null ? undefined : formatHostPort(bind_address, plainPort),
      tls: tlsPort === null ? undefined : formatHostPort(bind_address, tlsPort),
    });
    const advertised = advertisedHost(config.network);
    if (isLoopbackHost(advertised) && !isLoopbackHost(bind_address)) {
      const set = "network.bind_address or network.advertise_address";
      const message = "Other machines reach this node's broker and not the node itself";
      logger.warn(message, { advertised, broker: bind_address, set });
    }
    return broker;
  } catch (error) {
    throw new OperationalError((error as Error).message);
  }
}

/** Where the node itself reaches its embedded broker. */
export function addressOfOwn({ port, plainPort }: EmbeddedBroker, config: Config): string {
  const { network, mqtt } = config;
  const { bind_address } = mqtt.embedded;
  const bound = plainAddresses(bind_address, network.plaintext)[0] ?? bind_address;
  const host = bound === "0.0.0.0" ? "127.0.0.1" : bound === "::" ? "::1" : bound;
  return `${plainPort === null ? "mqtts" : "mqtt"}://${formatHostPort(host, port)}`;
}
