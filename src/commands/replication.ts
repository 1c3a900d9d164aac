/** Commands on replication. */
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { command, type Command, type Run } from "./command.ts";

const replicate: Run = (request, reply, context) => {
  const { replication } = context.services;
  if (request.is(0, "STATUS")) {
    const status = replication?.status();
    const text = status?.enabled
      ? `REPLICATION enabled ${status.nodes} nodes`
      : "REPLICATION disabled";
    return reply.isResp ? reply.bulkText(text) : reply.simple(text);
  }
  const enables = request.is(0, "ENABLE");
  if (!enables && !request.is(0, "DISABLE")) {
    return reply.error("Invalid command", "REPLICATE enable, disable or status");
  }
  if (replication === null) {
    return reply.error("Invalid command", "mqtt.enabled is false in this node's configuration");
  }
  // After its OK nothing more comes in or goes out.
  if (!enables) return replication.disable().then(() => (reply) => reply.ok());
  replication.enable();
  reply.ok();
};

/** Commands on replication. */
export const replicationCommands: readonly Command[] = [
  command("REPLICATE", "replicate", "admin slow dangerous", SHAPE_WORDS, 1, 1, replicate, {
    subcommands: {
      ENABLE: "admin slow dangerous",
      DISABLE: "admin slow dangerous",
      STATUS: "admin slow dangerous",
    },
  }),
];
