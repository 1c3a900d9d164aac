/** The keys of whom a node serves, and how: `network.*`, `auth.*`, `http.*` and `tls.*`. */
import { isHost } from "../address.ts";
import { boolean, choice, integer, list, text, type Field } from "../field.ts";
import { DAY_SECONDS, FILE, HOST, SERVER_NAME, SWITCH } from "./values.ts";

/** Name of a key → what it is, in the order of the documentation. */
export const clientKeys = {
  "network.bind_address": text({
    fallback: "127.0.0.1",
    ...HOST,
    doc: "Address to listen on for clients; `0.0.0.0` is every IPv4 and `::` every address.",
  }),
  "network.bind_port": integer({
    fallback: 7379,
    from: 0,
    to: 65_535,
    doc: "Port to listen on for clients; 0 takes a free one.",
  }),
  "network.tls_port": integer({
    fallback: 7380,
    from: 0,
    to: 65_535,
    doc: "Port to listen on for clients that speak TLS, once there is a `tls.cert_file`; 0 takes a free one.",
  }),
  "network.plaintext": choice(["on", "loopback", "off"], {
    fallback: "on",
    doc: "Who may speak without TLS: everybody, this machine, or nobody. It is so for clients, for peers in both directions, and at the embedded broker.",
  }),
  "network.advertise_address": text({
    fallback: "",
    fallbackText: "`bind_address`, or this machine's own",
    allowed: 'an IP address or a host name, "none", or empty',
    accepts: (host) => host === "" || isHost(host),
    reloads: "at once",
    doc: "Where peers are told to reach this node; `none` says that nobody can, so that they come through the broker.",
  }),
  "network.max_connections": integer({
    fallback: 1000,
    from: 1,
    to: 1_000_000,
    reloads: "at once",
    doc: "Clients connected at once; one more gets an error. The limit of open files may allow fewer.",
  }),
  "network.connection_timeout": integer({
    fallback: 30,
    from: 1,
    to: DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds in which a client has to complete a request, its first one included, and to read some of what it is sent.",
  }),
  "network.idle_timeout": integer({
    fallback: 0,
    from: 0,
    to: 30 * DAY_SECONDS,
    reloads: "at once",
    doc: "Seconds of silence after which a client's connection is closed; 0 lets idle ones stay.",
  }),
  "network.dialect": choice(["plain", "tagged"], {
    fallback: "plain",
    reloads: "at once",
    doc: "How replies to text lines are written until a connection says `DIALECT`.",
  }),
  "network.max_line_bytes": integer({
    fallback: 1_048_576,
    from: 64,
    to: 1_073_741_824,
    reloads: "at once",
    doc: "Longest text line; a longer one is skipped and answered with an error.",
  }),
  "network.max_value_bytes": integer({
    fallback: 8_388_608,
    from: 1,
    to: 536_870_912,
    reloads: "at once",
    doc: "Largest value, however it comes in.",
  }),
  "network.max_output_bytes": integer({
    fallback: 67_108_864,
    from: 1024,
    to: 1_073_741_824,
    reloads: "at once",
    doc: "Replies held for a client that does not read; past it the connection is cut.",
  }),
  "network.max_client_memory_mb": integer({
    fallback: 128,
    from: 1,
    to: 1_048_576,
    reloads: "at once",
    doc: "MiB held for all clients together; at least twice the largest reply or request. Past it the greediest is cut.",
  }),
  "network.open_administration": boolean({
    fallback: false,
    reloads: "at once",
    doc: "Whether clients on other machines may administer the node, and peers there sync without a secret, while no user is configured.",
  }),

  "auth.acl_file": text({
    fallback: "",
    fallbackText: "(none)",
    ...FILE,
    reloads: "at once",
    doc: "Users and their rights, in the syntax of Redis' ACL files; mode 0600.",
  }),
  "auth.password": text({
    fallback: "",
    allowed: "up to 4096 bytes",
    accepts: (password) => Buffer.byteLength(password) <= 4_096,
    secret: true,
    reloads: "at once",
    doc: "Password of the default user, who may do everything, when there is no file of users; better set as `MERKLE_KV_AUTH_PASSWORD`.",
  }),
  "auth.certificate_users": choice(["off", "common_name"], {
    fallback: "off",
    reloads: "at once",
    doc: "Whether a client is, without a login, the user that its certificate names.",
  }),

  "http.bind_address": text({
    fallback: "",
    fallbackText: "`127.0.0.1` once there is a `bind_port`",
    allowed: "an IP address or a host name, or empty",
    accepts: (host) => host === "" || isHost(host),
    doc: "Address to listen on for HTTP: `/metrics`, `/healthz`, `/readyz`, `/version` and the API below `/v1/`.",
  }),
  "http.bind_port": integer({
    fallback: 0,
    from: 0,
    to: 65_535,
    doc: "Port for HTTP; 0 takes a free one if there is a `bind_address`, and else serves none.",
  }),
  "http.tls": boolean({
    fallback: false,
    doc: "Whether the port for HTTP speaks TLS, with the certificates of `[tls]`, and nothing else.",
  }),
  "http.api": boolean({
    fallback: true,
    reloads: "at once",
    doc: "Whether keys are served over HTTP, below `/v1/`; see [http.md](http.md).",
  }),
  "http.host_names": list({
    fallback: [],
    allowed: "host names",
    accepts: isHost,
    reloads: "at once",
    doc: "Names by which the API may be called where there are no users; addresses always may.",
  }),

  "tls.cert_file": text({
    fallback: "",
    ...FILE,
    reloads: SWITCH,
    doc: "This node's certificate in PEM, and those between it and its authority. With one the node serves TLS; to peers it shows it, too.",
  }),
  "tls.key_file": text({
    fallback: "",
    ...FILE,
    reloads: SWITCH,
    doc: "The key of that certificate in PEM, which nobody else may read.",
  }),
  "tls.ca_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "The authorities in PEM that certificates of clients and peers come from; without it, those that everybody trusts.",
  }),
  "tls.client_certificates": choice(["none", "request", "require"], {
    fallback: "none",
    reloads: "at once",
    doc: "Whether clients are asked for certificates, and whether they need one. What is shown has to be valid.",
  }),
  "tls.server_name": text({
    fallback: "",
    fallbackText: "the address it is reached at",
    ...SERVER_NAME,
    reloads: "at once",
    doc: "The name that a peer's certificate has to be made for.",
  }),
} satisfies Record<string, Field<unknown>>;
