/** `merklekv broker`: the embedded MQTT broker as a process of its own. */
import { Certificates } from "../certificates.ts";
import { formatHostPort } from "../config/address.ts";
import { schema } from "../config/schema.ts";
import { OperationalError } from "../operational-error.ts";
import { createLogger, type Logger } from "../observability/log.ts";
import { EmbeddedBroker, type BrokerAccess } from "../replication/embedded-broker.ts";
import { readPrivateFile } from "../security/secret-file.ts";
import { version } from "../version.ts";
import { UsageError, type Arguments, type Subcommand } from "./arguments.ts";
import { exitWithStdin, untilStopped } from "./signals.ts";
import { realWorld } from "../world.ts";

const bindAddress = schema["mqtt.embedded.bind_address"];
const bindPort = schema["mqtt.embedded.bind_port"];
const tlsPort = schema["mqtt.embedded.tls_port"];

/** The subcommand. Prints one line on stdout once clients can connect. */
export const broker: Subcommand = {
  usage: "broker [--bind ADDR] [--port N] [OPTION…]",
  about:
    "Runs an MQTT 3.1.1 broker for a first cluster. It keeps nothing on disk: for anything\n" +
    "lasting, run mosquitto or EMQX. With a certificate it speaks TLS, too; certificates are read\n" +
    "again when they change, and on SIGHUP.",
  options: [
    { long: "--bind", value: "ADDR", about: `Address to listen on (${bindAddress.fallback}).` },
    {
      long: "--port",
      short: "-p",
      value: "N",
      about: `Port; 0 takes a free one (${bindPort.fallback}).`,
    },
    { long: "--username", value: "NAME", about: "The only name that may come in." },
    { long: "--password-file", value: "FILE", about: "The file with its password." },
    { long: "--cert", value: "FILE", about: "The certificate to speak TLS with." },
    { long: "--key", value: "FILE", about: "The key of that certificate." },
    { long: "--tls-port", value: "N", about: `The port for TLS (${tlsPort.fallback}).` },
    { long: "--cacert", value: "FILE", about: "Clients need certificates from these authorities." },
    { long: "--tls-only", about: "Nobody may speak plain text." },
    exitWithStdin,
  ],

  async run(given) {
    const address = given.get("--bind") ?? bindAddress.fallback;
    const told = untilStopped({ orStdinEnds: given.has(exitWithStdin.long) });
    const logger = createLogger(LOGGING, realWorld);
    const certificates = certificatesGiven(given, logger);
    process.on("SIGHUP", () => certificates?.reopen()); // unhandled it would kill
    const port = given.port("--port", bindPort.fallback);
    const access = accessGiven(given, certificates);
    const start = EmbeddedBroker.start(realWorld.timing, address, port, undefined, logger, access);
    const running = await start.catch((error: Error) => {
      throw new OperationalError(error.message);
    });
    if (certificates !== null) certificates.onChange = () => running.noteCertificates();
    const ports = [
      ["mqtt", running.plainPort],
      ["mqtts", running.tlsPort],
    ] as const;
    const places = ports.flatMap(([scheme, it]) =>
      it === null ? [] : [`${scheme}://${formatHostPort(address, it)}`],
    );
    console.log(`MerkleKV ${version} broker ready: ${places.join(", ")}`);

    await told;
    await running.stop();
    certificates?.stop();
    await logger.close();
    return 0;
  },
};

const LOGGING = {
  level: "warn",
  format: "text",
  file_path: "",
  max_file_mb: 0,
  keep_files: 0,
} as const;

function certificatesGiven(given: Arguments, logger: Logger): Certificates | null {
  const [cert_file, key_file, ca_file] = ["--cert", "--key", "--cacert"].map(
    (long) => given.get(long) ?? "",
  ) as [string, string, string];
  if ((cert_file === "") !== (key_file === "")) throw new UsageError("--cert goes with --key");
  if (cert_file === "") {
    const needless = ["--cacert", "--tls-port", "--tls-only"].find((long) => given.has(long));
    if (needless !== undefined) throw new UsageError(`${needless} goes with --cert and --key`);
    return null;
  }
  const { wallMs, timing } = realWorld;
  const files = { cert_file, key_file, ca_file };
  const names = { cert_file: "--cert", key_file: "--key", ca_file: "--cacert" };
  return new Certificates({ section: "broker", names, files, wallMs, timing, logger });
}

function accessGiven(given: Arguments, certificates: Certificates | null): BrokerAccess {
  const username = given.get("--username") ?? "";
  const passwordFile = given.get("--password-file") ?? "";
  if ((username === "") !== (passwordFile === "")) {
    throw new UsageError("--username goes with --password-file");
  }
  const password = (): string =>
    readPrivateFile(passwordFile, "the password")
      .toString()
      .replace(/\r?\n$/, "");
  const account = username === "" ? null : { username, password: password() };
  return {
    plaintext: given.has("--tls-only") ? "off" : "on",
    account: () => account,
    tls: certificates && {
      port: given.port("--tls-port", tlsPort.fallback),
      material: () => certificates.current,
      clientCertificates: given.has("--cacert") ? "require" : "none",
    },
  };
}
