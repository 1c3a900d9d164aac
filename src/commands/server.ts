/** Commands on the node: what it is, how it does, and stopping it. */
import type { FactSection } from "../fact.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { command, type Command, type Run } from "./command.ts";
import { factLines } from "./fact-line.ts";
import { nodeStateOf, statsFacts } from "./facts.ts";

const version: Run = (_request, reply, context) => {
  const { version } = context.services;
  if (reply.isResp) return reply.bulkText(`MerkleKV ${version}`);
  reply.simple(reply.dialect === TAGGED ? `VERSION ${version}` : `MerkleKV ${version}`);
};

const memory: Run = (_request, reply, context) => {
  reply.count(context.services.memoryBytes(), "MEMORY ");
};

const time: Run = (_request, reply, context) => {
  const nowMs = context.store.clock.nowMs();
  if (!reply.isResp) return reply.count(Math.floor(nowMs / 1000), "TIME ");
  reply.array(2);
  reply.bulkText(String(Math.floor(nowMs / 1000)));
  reply.bulkText(String((nowMs % 1000) * 1000));
};

const info: Run = (request, reply, context) => {
  const sections = context.services.info();
  if (reply.isResp) return reply.bulkText(redisInfo(wantedSections(request), sections, reply));
  const facts = sections.flatMap((section) => section.facts);
  const title = reply.dialect === TAGGED ? "INFO" : "# Server Information";
  listFacts(reply, title, factLines(facts, undefined, reply));
};

/** The sections asked for, of which there are a few. */
function wantedSections(request: Request): Set<string> {
  const wanted = new Set<string>();
  for (let i = 0; i < Math.min(request.count, MOST_SECTIONS); i++) {
    wanted.add(request.text(i).toLowerCase());
  }
  return wanted;
}

const MOST_SECTIONS = 32;

function redisInfo(
  wanted: Set<string>,
  sections: readonly FactSection<void>[],
  reply: Reply,
): string {
  const all = wanted.size === 0 || ["all", "everything", "default"].some((it) => wanted.has(it));
  let text = "";
  for (const { title, facts } of sections) {
    if (!all && !wanted.has(title.toLowerCase())) continue;
    text += `# ${title}\r\n`;
    for (const line of factLines(facts, undefined, reply)) text += `${line}\r\n`;
    text += "\r\n";
  }
  return text;
}

const stats: Run = (_request, reply, { services, store }) => {
  const lines = factLines(statsFacts, nodeStateOf(services, store), reply);
  if (reply.isResp) return reply.bulkText(Array.from(lines, (line) => `${line}\r\n`).join(""));
  listFacts(reply, reply.dialect === TAGGED ? "STATS" : "", lines);
};

/** A title if there is one, a line for each fact, and in `plain` an empty line at the end. */
function listFacts(reply: Reply, title: string, lines: Iterable<string>): void {
  if (title !== "") reply.line(title);
  for (const line of lines) reply.line(line);
  if (reply.dialect !== TAGGED) reply.line("");
}

const shutdown: Run = (request, reply, context) => {
  if (request.count === 1 && !request.is(0, "NOSAVE") && !request.is(0, "SAVE")) {
    return reply.respError("ERR syntax error");
  }
  reply.ok();
  context.services.shutdown();
};

/** Commands on the node. */
export const serverCommands: readonly Command[] = [
  command("VERSION", "management", "connection fast", SHAPE_WORDS, 0, 0, version),
  command("INFO", "stat", "slow dangerous", SHAPE_WORDS, 0, 0, info, { respMost: -1 }),
  command("STATS", "stat", "slow dangerous", SHAPE_WORDS, 0, 0, stats),
  command("MEMORY", "stat", "slow", SHAPE_WORDS, 0, 0, memory),
  command("TIME", "stat", "fast", SHAPE_WORDS, 0, 0, time),
  command("SHUTDOWN", "management", "admin slow dangerous", SHAPE_WORDS, 0, 1, shutdown),
];
