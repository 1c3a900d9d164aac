/** What the replica of a node is made with, by the settings and by what the node has beside it. */
import type { Config } from "./config/schema.ts";
import { BASE_BYTES, MAX_ENTRY_PARTS, PART_BYTES } from "./core/data/counter.ts";
import { MAX_KEY_BYTES } from "./core/data/entry.ts";
import { advertisedAddress, advertisedTlsAddress } from "./node-address.ts";
import { brokerTls } from "./node-broker.ts";
import type { Companions } from "./node-companions.ts";
import type { Logger } from "./observability/log.ts";
import type { ReplicaOptions } from "./replica.ts";
import { version } from "./version.ts";
import type { World } from "./world.ts";

/** The largest counter in one piece; one that is larger travels in several. */
const MAX_COUNTER_BYTES = MAX_ENTRY_PARTS * PART_BYTES + BASE_BYTES;
/** A frame's own fields and the key beside the value. */
const FRAME_MARGIN_BYTES = MAX_KEY_BYTES + 1_024;

/** The ports at which clients and peers are served; null where none of that kind is. */
export interface ClientPorts {
  readonly plainPort: number | null;
  readonly tlsPort: number | null;
}

/** What it is made with. `ports` is asked once the replica has started. */
export function replicaOptions(
  config: Config,
  logger: Logger,
  world: World,
  companions: Companions,
  ports: () => ClientPorts,
): ReplicaOptions {
  const { network, tls } = config;
  const { certificates, secrets, keys, tracing } = companions;
  return {
    world,
    nodeId: config.node_id,
    clusterName: config.cluster.name,
    secrets: secrets.current,
    storage: config.storage,
    keys,
    mqtt: config.mqtt,
    brokerTls: brokerTls(config, certificates),
    brokerAddress: () => companions.startBroker(),
    antiEntropy: config.anti_entropy,
    address: () => advertisedAddress(config, ports().plainPort),
    tlsAddress: () => advertisedTlsAddress(config, ports().tlsPort),
    peerSecurity: {
      material: () => certificates.own?.current ?? null,
      get serverName() {
        return tls.server_name;
      },
      plaintext: network.plaintext,
      isInsecure: false,
    },
    version,
    get maxFrameBytes() {
      return Math.max(network.max_value_bytes, MAX_COUNTER_BYTES) + FRAME_MARGIN_BYTES;
    },
    get silenceMs() {
      return network.connection_timeout * 1_000;
    },
    onRecovery: (progress) => companions.noteRecovery(progress),
    tracer: tracing,
    logger,
  };
}
