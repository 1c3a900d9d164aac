/** What is configured below `[mqtt]` of replicators that tests make by hand. */
import type { ReplicatorOptions } from "../../src/replication/replicator-options.ts";

/** The usual settings, with batches that leave soon; `accept_foreign_events` is on. */
export const mqttSettings: ReplicatorOptions["settings"] = {
  enabled: true,
  broker_address: "mqtt://127.0.0.1",
  topic_prefix: "test",
  client_id: "",
  username: "",
  password: "",
  keep_alive: 60,
  clean_session: true,
  protocol_version: "auto",
  max_packet_bytes: 131_072,
  max_messages_per_second: 0,
  max_event_bytes: 1_000,
  accept_foreign_events: true,
  batch_milliseconds: 2,
  batch_bytes: 4_096,
  max_outbox_events: 100_000,
};
