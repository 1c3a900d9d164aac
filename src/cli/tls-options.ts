/** The options with which a subcommand speaks TLS to a node, named as redis-cli names them. */
import type { PeerSecurity } from "../anti-entropy/peer-security.ts";
import { readTlsMaterial } from "../security/tls-material.ts";
import { realWorld } from "../world.ts";
import type { NodePlace } from "./connect.ts";
import { UsageError, type Arguments, type Option } from "./arguments.ts";

/** Where a node is unless it is said. */
export const DEFAULT_HOST = "127.0.0.1";
/** See above. */
export const DEFAULT_PORT = 7379;
const DEFAULT_TLS_PORT = 7380;

const NAMES = { cert_file: "--cert", key_file: "--key", ca_file: "--cacert" };

/** Rows for a subcommand's table. */
export const tlsOptions: readonly Option[] = [
  { long: "--tls", about: `Speak TLS; then the port is ${DEFAULT_TLS_PORT} unless given.` },
  { long: "--cacert", value: "FILE", about: "The authorities that its certificate comes from." },
  { long: "--cert", value: "FILE", about: "A certificate to show." },
  { long: "--key", value: "FILE", about: "The key of that certificate." },
  { long: "--sni", value: "NAME", about: "The name to ask for, instead of its address." },
  { long: "--insecure", about: "Take any certificate; whoever is on the way may be the node." },
];

/** The node at `--host` and `--port`. Throws what the user is to be told. */
export function placeGiven(given: Arguments): NodePlace {
  const security = tlsGiven(given);
  const port = given.port("--port", security === null ? DEFAULT_PORT : DEFAULT_TLS_PORT);
  return { host: given.get("--host") ?? DEFAULT_HOST, port, security };
}

/** How the nodes are spoken to; null in plain text. Throws what the user is to be told. */
export function tlsGiven(given: Arguments): PeerSecurity | null {
  if (!given.has("--tls")) {
    const needless = tlsOptions.find(({ long }) => given.has(long));
    if (needless !== undefined) throw new UsageError(`${needless.long} goes with --tls`);
    return null;
  }
  const [cert_file, key_file, ca_file] = ["--cert", "--key", "--cacert"].map(
    (long) => given.get(long) ?? "",
  ) as [string, string, string];
  if ((cert_file === "") !== (key_file === "")) throw new UsageError("--cert goes with --key");
  const files = { cert_file, key_file, ca_file };
  const hasFiles = cert_file !== "" || ca_file !== "";
  const material = hasFiles ? readTlsMaterial(NAMES, files, realWorld.wallMs()) : null;
  return {
    material: () => material,
    serverName: given.get("--sni") ?? "",
    plaintext: "on",
    isInsecure: given.has("--insecure"),
  };
}
