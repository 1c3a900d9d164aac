/** `merklekv broker`: the embedded MQTT broker as a process of its own. */
import { formatHostPort } from "../config/address.ts";
import { schema } from "../config/schema.ts";
import { OperationalError } from "../operational-error.ts";
import { EmbeddedBroker } from "../replication/embedded-broker.ts";
import { version } from "../version.ts";
import type { Subcommand } from "./arguments.ts";
import { exitWithStdin, untilStopped } from "./signals.ts";
import { realWorld } from "../world.ts";

const bindAddress = schema["mqtt.embedded.bind_address"];
const bindPort = schema["mqtt.embedded.bind_port"];

/** The subcommand. Prints one line on stdout once clients can connect. */
export const broker: Subcommand = {
  usage: "broker [--bind ADDR] [--port N]",
  about:
    "Runs an MQTT 3.1.1 broker for a first cluster. It keeps nothing on disk and checks no\n" +
    "passwords: for anything lasting, run mosquitto or EMQX.",
  options: [
    { long: "--bind", value: "ADDR", about: `Address to listen on (${bindAddress.fallback}).` },
    {
      long: "--port",
      short: "-p",
      value: "N",
      about: `Port; 0 takes a free one (${bindPort.fallback}).`,
    },
    exitWithStdin,
  ],

  async run(given) {
    const address = given.get("--bind") ?? bindAddress.fallback;
    const told = untilStopped({ orStdinEnds: given.has(exitWithStdin.long) });
    process.on("SIGHUP", () => {}); // unhandled it would kill
    const port = given.port("--port", bindPort.fallback);
    const running = await EmbeddedBroker.start(realWorld.timing, address, port).catch(
      (error: Error) => {
        throw new OperationalError(error.message);
      },
    );
    console.log(
      `MerkleKV ${version} broker ready: mqtt://${formatHostPort(address, running.port)}`,
    );

    await told;
    await running.stop();
    return 0;
  },
};
