/** The keys of replication over a broker, and of the broker that a node hosts: `mqtt.*`. */
import { CLUSTER_RULE, isClusterName } from "../../core/data/name.ts";
import { parseBrokerAddress } from "../address.ts";
import { boolean, choice, integer, text, type Field } from "../field.ts";
import { FILE, HOST, SERVER_NAME } from "./values.ts";

/** Name of a key → what it is, in the order of the documentation. */
export const mqttKeys = {
  "mqtt.enabled": boolean({
    fallback: true,
    doc: "Whether writes are replicated over MQTT.",
  }),
  "mqtt.broker_address": text({
    fallback: "",
    fallbackText: "(required if enabled)",
    allowed:
      '"embedded", or host and port after `tcp://`, `mqtt://`, `mqtts://`, `ws://` or `wss://`, without user name or password',
    accepts: (address) =>
      address === "" || address === "embedded" || parseBrokerAddress(address) !== undefined,
    reloads: { notFromOrTo: ["", "embedded"] },
    doc: "The MQTT broker; `embedded` makes this node host it.",
  }),
  "mqtt.topic_prefix": text({
    fallback: "merkle-kv",
    allowed: CLUSTER_RULE,
    accepts: isClusterName,
    doc: "First part of every topic; nodes with the same one are a cluster.",
  }),
  "mqtt.client_id": text({
    fallback: "",
    fallbackText: "`node_id`; with a cluster secret, a name that hides it",
    allowed: "up to 256 characters without control characters",
    accepts: (id) => /^\P{Cc}{0,256}$/u.test(id),
    reloads: "at once",
    doc: "Client name at the broker, unique there.",
  }),
  "mqtt.username": text({
    fallback: "",
    allowed: "any text without control characters",
    accepts: (name) => /^\P{Cc}*$/u.test(name),
    reloads: "at once",
    doc: "User name at the broker; empty logs in without one.",
  }),
  "mqtt.password": text({
    fallback: "",
    allowed: "any text",
    accepts: () => true,
    secret: true,
    reloads: "at once",
    doc: "Password at the broker; better set as `MERKLE_KV_MQTT_PASSWORD`.",
  }),
  "mqtt.keep_alive": integer({
    fallback: 60,
    from: 1,
    to: 65_535,
    reloads: "at once",
    doc: "Seconds of silence after which the broker is probed.",
  }),
  "mqtt.clean_session": boolean({
    fallback: true,
    reloads: "at once",
    doc: "Whether the broker forgets this node when it leaves; false makes it queue what is missed.",
  }),
  "mqtt.protocol_version": choice(["auto", "5", "3.1.1"], {
    fallback: "auto",
    reloads: "at once",
    doc: "Version of MQTT; `auto` prefers 5, and settles for 3.1.1 with a broker that has no other.",
  }),
  "mqtt.max_packet_bytes": integer({
    fallback: 131_072,
    from: 1_024,
    to: 268_435_455,
    reloads: "at once",
    doc: "Longest packet sent to the broker, less if it announces less; a larger value travels as a notice that peers fetch it by.",
  }),
  "mqtt.max_messages_per_second": integer({
    fallback: 0,
    from: 0,
    to: 1_000_000,
    reloads: "at once",
    doc: "Messages sent to the broker in a second at most; batches are longer instead. 0: as many as it takes, which is found out when it says that there are too many, drops some, or ends connections.",
  }),
  "mqtt.max_event_bytes": integer({
    fallback: 1_048_576,
    from: 256,
    to: 134_217_728,
    reloads: "at once",
    doc: "Largest value taken from or given to the broker; a larger one is fetched by peers.",
  }),
  "mqtt.accept_foreign_events": boolean({
    fallback: true,
    fallbackText: "`true` without a cluster secret, `false` with one",
    reloads: "at once",
    doc: "Whether single events of other implementations (`<topic_prefix>/events`), which are never sealed, are taken.",
  }),
  "mqtt.batch_milliseconds": integer({
    fallback: 5,
    from: 0,
    to: 10_000,
    reloads: "at once",
    doc: "Longest time a write waits for others to share a message with. A write after a quiet while leaves at once.",
  }),
  "mqtt.batch_bytes": integer({
    fallback: 65_536,
    from: 256,
    to: 134_217_728,
    reloads: "at once",
    doc: "Size at which a batch of events is sent at once.",
  }),
  "mqtt.max_outbox_events": integer({
    fallback: 1_000_000,
    from: 1,
    to: 100_000_000,
    reloads: "at once",
    doc: "Events held while the broker is away; past it peers learn by comparing instead.",
  }),
  "mqtt.tls.ca_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The authorities in PEM that the certificate of an `mqtts://` or `wss://` broker comes from; without it, those that everybody trusts.",
  }),
  "mqtt.tls.cert_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The certificate in PEM that is shown to the broker.",
  }),
  "mqtt.tls.key_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The key of that certificate in PEM, which nobody else may read.",
  }),
  "mqtt.tls.server_name": text({
    fallback: "",
    fallbackText: "the host in `mqtt.broker_address`",
    ...SERVER_NAME,
    reloads: "at once",
    doc: "The name that is asked for, and that the broker's certificate has to be made for.",
  }),
  "mqtt.tls.alpn": text({
    fallback: "",
    allowed: "up to 255 characters of ASCII",
    accepts: (name) => /^[!-~]{0,255}$/.test(name),
    reloads: "at once",
    doc: "The protocol that is asked for by ALPN; AWS IoT Core on port 443 wants `x-amzn-mqtt-ca`.",
  }),
  "mqtt.tls.insecure": boolean({
    fallback: false,
    reloads: "at once",
    doc: "Whether any certificate of the broker's is taken. Then anybody on the way can be the broker.",
  }),
  "mqtt.embedded.bind_address": text({
    fallback: "127.0.0.1",
    ...HOST,
    doc: "Address the embedded broker listens on.",
  }),
  "mqtt.embedded.bind_port": integer({
    fallback: 1883,
    from: 0,
    to: 65_535,
    doc: "Port the embedded broker listens on; 0 takes a free one.",
  }),
  "mqtt.embedded.tls_port": integer({
    fallback: 8883,
    from: 0,
    to: 65_535,
    doc: "Port on which it speaks TLS, once there is a `tls.cert_file`; 0 takes a free one.",
  }),
  "mqtt.embedded.max_clients": integer({
    fallback: 256,
    from: 1,
    to: 100_000,
    reloads: "at once",
    doc: "Clients of the embedded broker; one more is cut off.",
  }),
  "mqtt.embedded.max_packet_bytes": integer({
    fallback: 4_194_304,
    from: 1_024,
    to: 268_435_455,
    reloads: "at once",
    doc: "Longest packet it takes, or as long as this node's own may get; who sends more is cut off.",
  }),
  "mqtt.embedded.max_queued_mb": integer({
    fallback: 64,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB it keeps for absent subscribers (a quarter of it for one), and as much half sent.",
  }),
  "mqtt.embedded.max_retained_mb": integer({
    fallback: 16,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB of retained messages it keeps; others are delivered and not retained.",
  }),
} satisfies Record<string, Field<unknown>>;
