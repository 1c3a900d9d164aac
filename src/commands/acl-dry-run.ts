/** `ACL DRYRUN user command …`: whether a user may do something, without doing it. */
import { Request } from "../protocol/request.ts";
import { shown, type Command, type Run } from "./command.ts";
import { permissionOf } from "./asked-row.ts";
import { nameOf, NO_COMMAND, PERMITTED, verdictOn } from "./rights.ts";

/** More words are not looked through in one go. */
const MOST_WORDS = 10_000;

/** See the file header. */
export const dryRun: Run = (given, reply, { commands, services }) => {
  const user = services.users.find(given.text(1));
  if (user === undefined) return reply.respError(`ERR User '${shown(given, 1)}' not found`);
  if (given.count > MOST_WORDS) return reply.error("Too many arguments");
  const request = requestWithin(given, 2);
  const row = commands.row(request.bytes, request.start(-1), request.length(-1));
  if (row === undefined) return reply.respError(`ERR Command '${shown(given, 2)}' not found`);
  if (!takesSoMany(row.command, request)) {
    const name = row.text.toLowerCase();
    return reply.respError(`ERR wrong number of arguments for '${name}' command`);
  }
  const permission = permissionOf(row, request);
  const isFree = row.command.isFree !== undefined && row.text !== "PEER";
  const verdict = isFree ? PERMITTED : verdictOn(request, row, permission, user.definition);
  if (verdict === PERMITTED) return reply.ok();
  const name = nameOf(row, permission);
  const text =
    verdict === NO_COMMAND
      ? `This user has no permissions to run the '${name}' command`
      : verdict < 0
        ? `This user has no permissions to access all keys, as the '${name}' command does`
        : `This user has no permissions to access the '${keyText(request, verdict)}' key`;
  const bytes = Buffer.from(text, "latin1");
  reply.value(bytes, 0, bytes.length, "");
};

/** Whether the command takes as many arguments as the request has. */
export function takesSoMany(command: Command, request: Request): boolean {
  const { isResp, count } = request;
  const least = (isResp ? command.respLeast : undefined) ?? command.least;
  const most = (isResp ? command.respMost : undefined) ?? command.most;
  return count >= least && (most < 0 || count <= most);
}

function keyText(request: Request, i: number): string {
  const start = request.start(i);
  return Buffer.from(request.bytes.subarray(start, start + request.length(i))).toString("latin1");
}

/** The request whose name is argument `first` of another, and whose arguments follow there. */
export function requestWithin(given: Request, first: number): Request {
  const request = new Request();
  request.bytes = given.bytes;
  request.isResp = given.isResp;
  for (let i = first; i < given.count; i++) request.add(given.start(i), given.length(i));
  return request;
}
