/** `ACL LOG [count | RESET]`: what was denied of late. */
import { printable } from "../core/data/name.ts";
import { TAGGED } from "../protocol/reply.ts";
import type { Run } from "./command.ts";
import { readInteger } from "./expiry-options.ts";

const DEFAULT_COUNT = 10;

/** See the file header. */
export const answerLog: Run = (request, reply, { services, runQueue }) => {
  const { denials } = services;
  if (request.is(1, "RESET")) {
    denials.clear();
    return reply.ok();
  }
  const count = request.count === 1 ? DEFAULT_COUNT : readInteger(request, 1);
  if (count === undefined || count < 0) return reply.error("Value is not a valid number");
  const entries = denials.newest(count);
  const nowMs = runQueue.timing.nowMs();
  if (!reply.isResp) {
    if (reply.dialect === TAGGED) reply.line("ACL LOG");
    for (const { count: times, reason, object, username, client, lastMs } of entries) {
      const age = ((nowMs - lastMs) / 1000).toFixed(3);
      const facts = `count=${times} reason=${reason} object=${object} username=${username}`;
      reply.line(printable(`${facts} age-seconds=${age} ${client}`, Infinity));
    }
    return reply.line(reply.dialect === TAGGED ? "END" : "");
  }
  reply.array(entries.length);
  for (const { count: times, reason, object, username, client, lastMs } of entries) {
    reply.map(7);
    reply.bulkText("count");
    reply.count(times, "");
    const facts = {
      reason,
      context: "toplevel",
      object,
      username,
      "age-seconds": ((nowMs - lastMs) / 1000).toFixed(3),
      "client-info": client,
    };
    for (const text of Object.entries(facts).flat()) reply.bulkText(text);
  }
};
