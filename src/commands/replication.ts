/** Commands on replication. */
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { ListReply } from "./list-reply.ts";
import { answerInSlices } from "./slices.ts";
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

/** `MEMBERS`: who is there, as this node knows it: a JSON object for each, itself first. */
const members: Run = (_request, reply, context) => {
  const { services, session } = context;
  const all = services.members();
  const list = new ListReply(reply.dialect, services.limits.maxReplyBytes, session);
  let next = 0;
  const step = (): boolean => {
    for (const end = next + MEMBERS_A_STEP; next < end && next < all.length; next++) {
      const text = JSON.stringify(all[next]);
      if (list.part.isResp) list.part.bulkText(text);
      else list.part.line(text);
      if (!list.add()) return true;
    }
    return next === all.length;
  };
  const write = list.after((late) => {
    if (late.isResp) return late.array(list.count);
    late.line(`MEMBERS ${list.count}`);
  });
  return answerInSlices(step, write, reply, context);
};

/** Members that are described in a step. */
const MEMBERS_A_STEP = 16;

/** Commands on replication. */
export const replicationCommands: readonly Command[] = [
  command("REPLICATE", "replicate", "admin slow dangerous", SHAPE_WORDS, 1, 1, replicate, {
    subcommands: {
      ENABLE: "admin slow dangerous",
      DISABLE: "admin slow dangerous",
      STATUS: "admin slow dangerous",
    },
  }),
  command("MEMBERS", "replicate", "slow dangerous", SHAPE_WORDS, 0, 0, members),
];
