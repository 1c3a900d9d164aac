/** Runs the embedded broker alone: `bun embedded-broker.ts PORT`. */
import { EmbeddedBroker } from "../../src/replication/embedded-broker.ts";
import { eventLoop } from "../../src/world.ts";

await EmbeddedBroker.start(eventLoop, "127.0.0.1", Number(process.argv[2]));
