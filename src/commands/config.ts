/** `CONFIG`: the settings of a running node, and how they are changed. */
import { isLocal } from "../access/host.ts";
import type { Field } from "../config/field.ts";
import type { Outcome } from "../config/live-config.ts";
import { nearest } from "../config/nearest.ts";
import { keyNames, REDIS_NAMES, schema, type KeyName } from "../config/schema.ts";
import { Glob } from "../core/glob.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  command,
  unknownSubcommand,
  type Command,
  type Context,
  type ReplyContinuation,
  type Run,
} from "./command.ts";
import { factLine } from "./fact-line.ts";
import { answerInSlices } from "./slices.ts";

/** `CONFIG GET pattern …`: every setting whose name matches one of them, once. */
function getSettings(given: Request, reply: Reply, context: Context): ReturnType<Run> {
  const settings = Array.from(context.services.settings.values(), ([name, value]) => ({
    name,
    value,
    bytes: new TextEncoder().encode(name),
    isWanted: false,
  }));
  const request = given.detach();
  let next = 1;
  // A pattern a step.
  const step = (): boolean => {
    const pattern = new TextEncoder().encode(request.text(next).toLowerCase());
    const glob = new Glob(pattern);
    for (const each of settings) {
      each.isWanted ||= glob.matches(each.bytes, 0, each.bytes.length);
    }
    return ++next === request.count;
  };
  const write = (late: Reply): void => {
    const wanted = settings.filter(({ isWanted }) => isWanted);
    if (late.isResp) late.map(wanted.length);
    for (const { name, value } of wanted) {
      if (!late.isResp) late.line(factLine(name, value));
      else {
        late.bulkText(name);
        late.bulkText(value);
      }
    }
    if (!late.isResp) late.line("");
  };
  return answerInSlices(step, write, reply, context);
}

/** `CONFIG SET key value …`: all of them or none. */
function set(request: Request, reply: Reply, context: Context): ReturnType<Run> {
  const values = new Map<KeyName, string>();
  for (let i = 1; i < request.count; i += 2) {
    const key = keyIn(request, i);
    const problem = values.has(key as KeyName) ? `${key} is there twice` : lackOf(key, context);
    if (problem !== null) return refuse(reply, problem);
    values.set(key as KeyName, request.text(i + 1, request.length(i + 1)));
  }
  return report(context.services.settings.set(values, whoIn(context)));
}

/** `CONFIG UNSET key …`: what the file and the environment say counts again. */
function unset(request: Request, reply: Reply, context: Context): ReturnType<Run> {
  const keys: KeyName[] = [];
  for (let i = 1; i < request.count; i++) {
    const key = keyIn(request, i);
    const problem = keys.includes(key as KeyName) ? `${key} is there twice` : lackOf(key, context);
    if (problem !== null) return refuse(reply, problem);
    keys.push(key as KeyName);
  }
  return report(context.services.settings.unset(keys, whoIn(context)));
}

function keyIn(request: Request, i: number): string {
  const name = request.text(i).toLowerCase();
  return Object.hasOwn(REDIS_NAMES, name) ? REDIS_NAMES[name] : name;
}

/** Why a client may not change that; null if it may. */
function lackOf(key: string, { services, session }: Context): string | null {
  if (!Object.hasOwn(schema, key)) {
    return `unknown setting; the nearest known one is ${nearest(key, keyNames)}`;
  }
  const { isPath = false }: Field<unknown> = schema[key as KeyName];
  // Whoever may say where the node writes could have it write over any file.
  const mayNamePlaces = isLocal(session.address) && !services.users.isOpen;
  if (!isPath || mayNamePlaces) return null;
  return `${key} names a place on the node's machine: only who has logged in there may set it here`;
}

function whoIn({ session }: Context): string {
  return `${session.user.name} at ${session.address}`;
}

function refuse(reply: Reply, problem: string): void {
  reply.respError(`ERR the settings stay as they are: ${problem}`);
}

async function report(change: Promise<Outcome>): Promise<ReplyContinuation> {
  const outcome = await change;
  if (!outcome.ok) return (late) => refuse(late, outcome.problems.join("; "));
  const { needRestart } = outcome;
  if (needRestart.length === 0) return (late) => late.ok();
  return (late) => late.simple(`OK, but for what needs a restart: ${needRestart.join(", ")}`);
}

const config: Run = (request, reply, context) => {
  const { count } = request;
  if (request.is(0, "GET") && count >= 2) return getSettings(request, reply, context);
  if (request.is(0, "SET") && count >= 3 && count % 2 === 1) return set(request, reply, context);
  if (request.is(0, "UNSET") && count >= 2) return unset(request, reply, context);
  if (request.is(0, "RELOAD") && count === 1) {
    return report(context.services.settings.reload(whoIn(context)));
  }
  if (request.is(0, "RESETSTAT") && count === 1) {
    context.services.synchronization.resetPeaks();
    return reply.ok();
  }
  const known =
    "CONFIG GET pattern …, SET key value …, UNSET key …, RELOAD and RESETSTAT are what there is";
  unknownSubcommand(request, reply, known);
};

const ADMINISTRATION = "admin slow dangerous";

/** Commands on settings. */
export const configCommands: readonly Command[] = [
  command("CONFIG", "management", ADMINISTRATION, SHAPE_WORDS, 1, -1, config, {
    subcommands: {
      GET: ADMINISTRATION,
      SET: ADMINISTRATION,
      UNSET: ADMINISTRATION,
      RELOAD: ADMINISTRATION,
      RESETSTAT: ADMINISTRATION,
    },
  }),
];
