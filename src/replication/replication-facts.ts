/** What replication says of itself, for INFO and for metrics. */
import {
  counter,
  flag,
  gauge,
  seriesWithin,
  text,
  within,
  type Fact,
  type Series,
} from "../fact.ts";
import type { BrokerConnection } from "./broker-connection.ts";
import { BrokerSeal } from "./broker-seal.ts";
import { Membership } from "./membership.ts";
import { Publisher } from "./publisher.ts";
import { Receiver } from "./receiver.ts";
import type { WriteDelivery } from "./write-delivery.ts";

/** The parts of a replicator that facts are about. */
export interface ReplicationParts {
  readonly connection: BrokerConnection;
  readonly delivery: WriteDelivery;
  readonly receiver: Receiver;
  readonly membership: Membership;
  readonly seal: BrokerSeal;
  /** Whether another live node was heard of with this one's id in the last few minutes. */
  hasTwin(): boolean;
}

/** For INFO, in its order. */
export const replicationFacts: readonly Fact<ReplicationParts>[] = [
  flag(
    "replication_connected",
    "Whether the broker is reached.",
    (it) => it.connection.transport.connected,
  ),
  gauge(
    "replication_waiting",
    "keys",
    "Keys whose writes have yet to be sent.",
    (it) => it.delivery.publisher.waiting,
  ),
  gauge(
    "replication_unacknowledged",
    "batches",
    "Batches that the broker has yet to acknowledge.",
    (it) => it.delivery.publisher.unacknowledged,
  ),
  flag(
    "replication_duplicate_node_id",
    "Whether another live node was heard of with this one's id in the last few minutes.",
    (it) => it.hasTwin(),
  ),
  flag(
    "replication_heard",
    "Whether this node's own messages come back from the broker; without, it is compared with its peers.",
    (it) => !it.delivery.isUnheard,
  ),
  gauge(
    "replication_max_packet_bytes",
    "bytes",
    "Longest packet sent to the broker, as far as its limits are known.",
    (it) => it.connection.transport.maxPacketBytes,
  ),
  text(
    "replication_broker_lacks",
    "What the broker does without, of what nodes use; left out when it is nothing.",
    (it) => it.connection.transport.lacks?.join(", ") || null,
  ),
  gauge(
    "replication_max_messages_per_second",
    "",
    "Most messages sent to the broker in a second, as far as its limit is known; 0 for none.",
    ({
      connection: {
        transport: { messagesPerSecond },
      },
    }) => (messagesPerSecond === Infinity ? 0 : messagesPerSecond),
  ),
  ...within((it: ReplicationParts) => it.delivery.publisher, Publisher.facts),
  ...within((it: ReplicationParts) => it.receiver, Receiver.facts),
  counter(
    "replication_impossible_presences",
    "messages",
    "Messages in this node's name that say a start no clock can have shown.",
    (it) => it.membership.impossible,
  ),
  counter(
    "replication_outbox_dropped_events",
    "events",
    "Writes not sent because `mqtt.max_outbox_events` waited; peers get them by comparing.",
    (it) => it.delivery.publisher.outbox.dropped,
  ),
  counter(
    "replication_peers_crowded_out",
    "nodes",
    "Nodes heard of over the broker that were forgotten, as there are too many.",
    (it) => it.membership.crowdedOut,
  ),
  ...within((it: ReplicationParts) => it.receiver, Receiver.droppedFacts),
  ...within((it: ReplicationParts) => it.seal, BrokerSeal.facts),
];

/** For metrics. */
export const replicationSeries: readonly Series<ReplicationParts>[] = [
  ...seriesWithin((it: ReplicationParts) => it.receiver, Receiver.series),
  ...seriesWithin((it: ReplicationParts) => it.membership, Membership.series),
];
