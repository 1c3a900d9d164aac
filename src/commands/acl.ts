/**
 * `ACL`: who may do what, as Redis has it
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl). The rules are in
 * `access/`; here is what is asked and answered.
 */
import { formatUser, type AccessFileReader } from "../access/access-file.ts";
import type { UserDefinition } from "../access/definition.ts";
import { DEFAULT_USER, type ChangeProblem } from "../access/directory.ts";
import { CATEGORIES } from "../access/permission.ts";
import { UNMATCHED } from "../access/rules.ts";
import type { Selector } from "../access/selector.ts";
import type { User } from "../access/user.ts";
import { OperationalError } from "../operational-error.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { RESP3, TAGGED, type Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { dryRun } from "./acl-dry-run.ts";
import { answerLog } from "./acl-log.ts";
import { command, shown, type Command, type Context, type Run } from "./command.ts";
import { readInteger } from "./expiry-options.ts";
import { ListReply } from "./list-reply.ts";
import { answerInSlices, finish } from "./slices.ts";

/** A user is changed by no more rules at once. */
const MOST_RULES = 1_000;
/** Of rules together, in bytes. */
const MOST_RULE_BYTES = 64 * 1024;
const MOST_PASSWORD_BITS = 4_096;
/** Users that a list shows in a step. */
const USERS_A_STEP = 4;

/** A subcommand: how many arguments follow its name, and what it does. */
interface Subcommand {
  readonly least: number;
  readonly most: number;
  readonly run: Run;
}

const whoAmI: Run = (_request, reply, { session }) => answerText(reply, session.user.name);

const listUsers: Run = (_request, reply, context) =>
  answerList(context.services.users.list(), (user) => user.name, "ACL USERS", reply, context);

const listRules: Run = (_request, reply, context) => {
  const line = ({ name, definition }: User): Uint8Array => formatUser(name, definition);
  return answerList(context.services.users.list(), line, "ACL LIST", reply, context);
};

/** A text a line, or an array. Making one may take a while, and there may be thousands. */
function answerList<Item>(
  items: readonly Item[],
  textOf: (item: Item) => string | Uint8Array,
  title: string,
  reply: Reply,
  context: Context,
): ReturnType<Run> {
  const { services, session } = context;
  const list = new ListReply(reply.dialect, services.limits.maxReplyBytes, session);
  let next = 0;
  const step = (): boolean => {
    for (let i = 0; i < USERS_A_STEP && next < items.length; i++) {
      const text = textOf(items[next++]);
      const bytes = typeof text === "string" ? Buffer.from(text) : text;
      if (list.part.isResp) list.part.bulk(bytes, 0, bytes.length);
      else {
        list.part.copied(bytes, 0, bytes.length);
        list.part.endOfLine();
      }
      if (!list.add()) return true;
    }
    return next >= items.length;
  };
  const write = list.after((late) => {
    if (list.isFull) {
      list.drop();
      return late.error("Value too large", "the list exceeds network.max_output_bytes");
    }
    if (late.isResp) return late.array(list.count);
    if (late.dialect === TAGGED) late.line(title);
    list.part.line(late.dialect === TAGGED ? "END" : "");
  });
  return answerInSlices(step, write, reply, context);
}

const getUser: Run = (request, reply, { services }) => {
  const user = services.users.find(request.text(1));
  if (user === undefined) return reply.missing();
  const { definition } = user;
  if (!reply.isResp) {
    const line = formatUser(user.name, definition);
    reply.copied(line, 0, line.length);
    return reply.endOfLine();
  }
  const [root, ...others] = definition.selectors;
  reply.map(6);
  reply.bulkText("flags");
  answerTexts(flagsOf(definition), reply, true);
  reply.bulkText("passwords");
  answerTexts(definition.passwords, reply);
  describeSelector(root, reply);
  reply.bulkText("selectors");
  reply.array(others.length);
  for (const selector of others) {
    reply.map(3);
    describeSelector(selector, reply);
  }
};

function flagsOf({ isOn, hasNoPassword }: UserDefinition): string[] {
  return [isOn ? "on" : "off", ...(hasNoPassword ? ["nopass"] : [])];
}

function describeSelector({ commandRules, keyRules }: Selector, reply: Reply): void {
  const keys = Buffer.from(keyRules, "latin1");
  reply.bulkText("commands");
  reply.bulkText(commandRules);
  reply.bulkText("keys");
  reply.bulk(keys, 0, keys.length);
  reply.bulkText("channels");
  reply.bulkText("");
}

function answerTexts(texts: readonly string[], reply: Reply, isSet = false): void {
  if (isSet && reply.dialect === RESP3) reply.raw(`~${texts.length}\r\n`);
  else reply.array(texts.length);
  for (const text of texts) reply.bulkText(text);
}

const setUser: Run = (request, reply, { services, session }) => {
  const name = request.text(1);
  const bytes = request.start(request.count - 1) + request.length(request.count - 1);
  if (request.count > MOST_RULES || bytes - request.start(0) > MOST_RULE_BYTES) {
    return reply.error("Too many arguments", `at most ${MOST_RULES} rules of 64 KiB at once`);
  }
  const rules: string[] = [];
  for (let i = 2; i < request.count; i++) rules.push(latin1Of(request, i));
  const problem = services.users.change(name, rules);
  if (problem !== null) return answerProblem(problem, reply);
  services.log.info("A user was changed", { user: name, by: session.user.name });
  reply.ok();
};

function answerProblem(problem: ChangeProblem, reply: Reply): void {
  if (typeof problem === "string") return reply.respError(`ERR ${problem}`);
  const { rule, text, hint } = problem;
  if (text === UNMATCHED) return reply.respError(`ERR ${text} '${rule}'.`);
  // Clients know Redis' sentence by heart; people are told more.
  const more = reply.isResp || hint === "" ? "" : `; ${hint}`;
  reply.respError(`ERR Error in ACL SETUSER modifier '${rule}': ${text}${more}`);
}

const deleteUsers: Run = (request, reply, { services, session }) => {
  const { users, log } = services;
  if (request.count > MOST_RULES) return reply.error("Too many arguments");
  let count = 0;
  for (let i = 1; i < request.count; i++) {
    if (request.text(i) === DEFAULT_USER) {
      return reply.respError("ERR The 'default' user cannot be removed");
    }
  }
  for (let i = 1; i < request.count; i++) {
    const name = request.text(i);
    if (!users.remove(name)) continue;
    count++;
    log.info("A user was removed", { user: name, by: session.user.name });
  }
  reply.count(count, "VALUE ");
};

const categories: Run = (request, reply, context) => {
  if (request.count === 1) return answerList(CATEGORIES, (it) => it, "ACL CAT", reply, context);
  const those = context.services.users.permissions.inCategory(request.text(1));
  if (those === undefined) {
    return reply.respError(`ERR Unknown category '${shown(request, 1)}'`);
  }
  return answerList(those, (it) => it.name, "ACL CAT", reply, context);
};

const generatePassword: Run = (request, reply, { services }) => {
  const bits = request.count === 1 ? 256 : readInteger(request, 1);
  if (bits === undefined) return reply.error("Value is not a valid number");
  if (bits < 1 || bits > MOST_PASSWORD_BITS) {
    return reply.respError(
      "ERR ACL GENPASS argument must be the number of bits for the output password, " +
        `a positive number up to ${MOST_PASSWORD_BITS}`,
    );
  }
  const digits = Math.ceil(bits / 4);
  const words = services.randomWords(Math.ceil(digits / 8));
  const hex = Array.from(words, (word) => word.toString(16).padStart(8, "0")).join("");
  answerText(reply, hex.slice(0, digits));
};

const NO_FILE =
  "this node has no file of users: set auth.acl_file to one, which may be empty but for a line " +
  "'user default on nopass ~* +@all', and start the node again";

const load: Run = (_request, reply, { services, session, runQueue }) => {
  const { users, log } = services;
  if (!users.hasFile) return reply.respError(`ERR ${NO_FILE}`);
  const refuse = (error: unknown, late: Reply): void => {
    if (!(error instanceof OperationalError)) throw error;
    late.respError(`ERR ${error.message}; nothing was changed`);
  };
  let reader: AccessFileReader;
  try {
    reader = users.beginLoad();
  } catch (error) {
    return refuse(error, reply);
  }
  return finish(() => reader.step(), runQueue).then(() => (late) => {
    try {
      users.finishLoad(reader);
    } catch (error) {
      return refuse(error, late);
    }
    log.info("The users were read from their file again", { by: session.user.name });
    late.ok();
  });
};

const save: Run = (_request, reply, { services, runQueue }) => {
  const { users } = services;
  if (!users.hasFile) return reply.respError(`ERR ${NO_FILE}`);
  return users
    .save((step) => finish(step, runQueue))
    .then(
      () => (late) => late.ok(),
      (error) => (late) => {
        if (!(error instanceof OperationalError)) throw error;
        late.respError(`ERR ${error.message}`);
      },
    );
};

const help: Run = (_request, reply, context) =>
  answerList(HELP, (line) => line, "ACL HELP", reply, context);

const HELP = [
  "ACL CAT [category] | LIST | USERS | WHOAMI",
  "ACL GETUSER user | SETUSER user [rule ...] | DELUSER user [user ...]",
  "ACL DRYRUN user command [argument ...]",
  "ACL GENPASS [bits] | LOG [count | RESET] | LOAD | SAVE",
];

function answerText(reply: Reply, text: string): void {
  if (reply.isResp) return reply.bulkText(text);
  const bytes = Buffer.from(text);
  reply.value(bytes, 0, bytes.length);
}

function latin1Of(request: Request, i: number): string {
  const start = request.start(i);
  return Buffer.from(request.bytes.subarray(start, start + request.length(i))).toString("latin1");
}

const SUBCOMMANDS: Readonly<Record<string, Subcommand>> = {
  WHOAMI: { least: 0, most: 0, run: whoAmI },
  LIST: { least: 0, most: 0, run: listRules },
  USERS: { least: 0, most: 0, run: listUsers },
  GETUSER: { least: 1, most: 1, run: getUser },
  CAT: { least: 0, most: 1, run: categories },
  DRYRUN: { least: 2, most: -1, run: dryRun },
  GENPASS: { least: 0, most: 1, run: generatePassword },
  LOG: { least: 0, most: 1, run: answerLog },
  LOAD: { least: 0, most: 0, run: load },
  SAVE: { least: 0, most: 0, run: save },
  SETUSER: { least: 1, most: -1, run: setUser },
  DELUSER: { least: 1, most: -1, run: deleteUsers },
  HELP: { least: 0, most: 0, run: help },
};

const acl: Run = (request, reply, context) => {
  // By its bytes, as rights look for it: what only Unicode takes for the same has other rights.
  const name = Object.keys(SUBCOMMANDS).find((it) => request.is(0, it));
  const words = request.count - 1;
  if (name === undefined) {
    return reply.respError(`ERR unknown subcommand '${shown(request, 0)}'. Try ACL HELP.`);
  }
  const { least, most, run } = SUBCOMMANDS[name];
  if (words >= least && (most < 0 || words <= most)) return run(request, reply, context);
  const called = `acl|${name.toLowerCase()}`;
  if (reply.isResp) return reply.respError(`ERR wrong number of arguments for '${called}' command`);
  reply.error(words < least ? "Missing arguments" : "Too many arguments", HELP.join("; "));
};

const ANYBODYS = "slow";
const ADMINISTRATION = "admin slow dangerous";

/** Commands on users. */
export const accessCommands: readonly Command[] = [
  command("ACL", "management", ADMINISTRATION, SHAPE_WORDS, 1, -1, acl, {
    subcommands: {
      WHOAMI: ANYBODYS,
      CAT: ANYBODYS,
      GENPASS: ANYBODYS,
      HELP: ANYBODYS,
      LIST: ADMINISTRATION,
      USERS: ADMINISTRATION,
      GETUSER: ADMINISTRATION,
      DRYRUN: ADMINISTRATION,
      LOG: ADMINISTRATION,
      LOAD: ADMINISTRATION,
      SAVE: ADMINISTRATION,
      SETUSER: ADMINISTRATION,
      DELUSER: ADMINISTRATION,
    },
  }),
];
