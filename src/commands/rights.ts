/**
 * Whether a user may do what is asked, decided before anything is read: by the command, by what it
 * does to all there is, and by each key it names. Of several selectors one has to permit it all.
 */
import type { KeyFilter, UserDefinition } from "../access/definition.ts";
import type { KeyAccess, Permission } from "../access/permission.ts";
import type { UserDirectory } from "../access/directory.ts";
import { LOGIN_NEEDED, PEER_RESTRICTED, restricted } from "../access/refusal-texts.ts";
import type { Selector } from "../access/selector.ts";
import type { User } from "../access/user.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import type { ClientSession } from "./client-session.ts";
import { permissionOf } from "./asked-row.ts";
import { shown, type Command, type Context, type RequestRights, type Row } from "./command.ts";

/** It is permitted. */
export const PERMITTED = -3;
/** The command is not. */
export const NO_COMMAND = -2;
/** The command is, but not on all there is, which it needs. */
const NO_WHOLE = -1;

/** One of those above, or the number of the argument that is a key which is not permitted. */
export type Verdict = number;

/** The command's name as it was said, and its subcommand: `config|get`. */
export function nameOf(row: Row, permission: Permission): string {
  const part = permission === row.permission ? "" : permission.name.replace(/^.*\|/, "|");
  return row.text.toLowerCase() + part;
}

/**
 * What a user with that definition may do about the request; `beforeKeys`, as far as that can be
 * said without its keys.
 */
export function verdictOn(
  request: Request,
  row: Row,
  permission: Permission,
  definition: UserDefinition,
  beforeKeys = false,
): Verdict {
  let best = NO_COMMAND;
  for (const selector of definition.selectors) {
    let verdict = verdictBeforeKeys(selector, permission, row.command, request);
    if (verdict === PERMITTED && !beforeKeys)
      verdict = verdictOnKeys(selector, row.command, request);
    if (verdict === PERMITTED) return PERMITTED;
    best = Math.max(best, verdict);
  }
  return best;
}

function verdictOnKeys(selector: Selector, command: Command, request: Request): Verdict {
  if (command.keys === undefined) return PERMITTED;
  const [first, last, step] = command.keys;
  const end = last < 0 ? request.count : last;
  for (let i = first - 1; i < end; i += step) {
    if (!mayTouch(selector, command, request, i)) return i;
  }
  return PERMITTED;
}

function verdictBeforeKeys(
  selector: Selector,
  permission: Permission,
  { wholeAccess }: Command,
  request: Request,
): Verdict {
  const isPermitted =
    selector.permits(permission) ||
    (request.count > 0 && selector.permitsFirst(permission, (word) => isWord(request, word)));
  if (!isPermitted) return NO_COMMAND;
  if (wholeAccess !== undefined && !selector.hasAll(wholeAccess)) return NO_WHOLE;
  return PERMITTED;
}

function isWord(request: Request, lowerCase: string): boolean {
  if (request.length(0) !== lowerCase.length) return false;
  const start = request.start(0);
  const bytes = request.bytes.subarray(start, start + lowerCase.length);
  return Buffer.from(bytes).toString("latin1").toLowerCase() === lowerCase;
}

function mayTouch(selector: Selector, command: Command, request: Request, i: number): boolean {
  const access = accessOf(command, request, i);
  return selector.hasKey(request.bytes, request.start(i), request.length(i), access);
}

/** What the command does to the key in argument `i`. */
export function accessOf({ access = 3, keys }: Command, request: Request, i: number): KeyAccess {
  if (typeof access === "number") return access;
  if (typeof access === "function") return access(request);
  const [first, , step] = keys!;
  return access[(i - first + 1) / step];
}

/** What a request of somebody who may not do everything may do, while it is run. */
class LimitedRights implements RequestRights {
  private selectors: readonly Selector[];
  private readonly session: ClientSession;
  private readonly definition: UserDefinition;

  constructor(
    private readonly row: Row,
    private readonly permission: Permission,
    request: Request,
    private readonly context: Context,
  ) {
    const { session } = context;
    this.session = session;
    this.definition = session.user.definition;
    this.selectors = this.definition.selectors.filter(
      (it) => verdictBeforeKeys(it, permission, row.command, request) === PERMITTED,
    );
  }

  /** Which keys may be shown; null for all. */
  get keyFilter(): KeyFilter | null {
    return this.definition.readableBy(this.permission);
  }

  /** Whether argument `i`, the next key of a long request, may be touched as well. */
  admits(request: Request, i: number): boolean {
    const { command } = this.row;
    this.selectors = this.selectors.filter((it) => mayTouch(it, command, request, i));
    return this.selectors.length > 0;
  }

  /** Answers that the key in argument `i` may not be touched. */
  refuse(request: Request, i: number, reply: Reply): void {
    deny(i, this.row, this.permission, request, reply, this.context, this.session);
  }
}

/**
 * Whether the request is not permitted, which is answered and noted then. Of somebody who may not
 * do everything it sets `context.rights`; the caller takes it away when the command has returned.
 */
export function isDenied(row: Row, request: Request, reply: Reply, context: Context): boolean {
  const { session } = context;
  const { command } = row;
  const permission = permissionOf(row, request);
  const { definition } = session.user;
  if (command.isFree?.(request, context) !== true) {
    const isLong = command.checksKeys?.(request) === true;
    const verdict = verdictOn(request, row, permission, definition, isLong);
    if (verdict !== PERMITTED) {
      deny(verdict, row, permission, request, reply, context, session);
      return true;
    }
    if (isLong || command.listsKeys === true) {
      context.rights = new LimitedRights(row, permission, request, context);
    }
  }
  if (permission.isAudited) noteAdministration(row, permission, request, context);
  return false;
}

function deny(
  verdict: Verdict,
  row: Row,
  permission: Permission,
  request: Request,
  reply: Reply,
  { services, runQueue }: Context,
  session: ClientSession,
): void {
  const { users, denials, audit, log } = services;
  const { user, address, certificateName: certificate } = session;
  const name = nameOf(row, permission);
  const detail = denialText(verdict, name, user, users);
  const isKnown = user.isSomebody;
  reply.error(isKnown ? "Permission denied" : "Not authenticated", detail);
  const key = verdict >= 0 ? keyOf(request, verdict) : null;
  // What was to be done, and to what, is worth knowing of a command that is denied as well.
  const [first] = row.command.keys ?? [0];
  const meant = first > 0 && first <= request.count ? keyOf(request, first - 1) : null;
  const about = { user: user.name, address, certificate, key: key ?? meant };
  audit.record({
    event: "denied",
    command: name.replace("|", " ").toUpperCase(),
    detail,
    ...about,
  });
  if (row.text === "PEER") log.warn("A peer is refused", { address, reason: detail });
  if (!isKnown) return denials.noteBeforeLogin();
  const object = key === null ? name : Buffer.from(key).toString();
  const nowMs = runQueue.timing.nowMs();
  const client = session.describe(nowMs, 0);
  denials.note(key === null ? "command" : "key", object, user.name, client, nowMs);
}

function keyOf(request: Request, i: number): Uint8Array {
  const start = request.start(i);
  return request.bytes.slice(start, start + Math.min(request.length(i), MOST_KEY_BYTES));
}

/** As much of a key is told to those who look after the node. */
const MOST_KEY_BYTES = 2_048;

function denialText(verdict: Verdict, name: string, user: User, users: UserDirectory): string {
  if (!user.isSomebody) return LOGIN_NEEDED;
  if (users.isRestricted(user)) return name === "peer" ? PEER_RESTRICTED : restricted(name);
  if (verdict === NO_COMMAND) return `this user has no permissions to run the '${name}' command`;
  if (verdict >= 0)
    return "this user has no permissions to access one of the keys used as arguments";
  return `this user has no permissions to access all keys, as the '${name}' command does`;
}

/** A list of users that were changed or asked for is not told, only who was. */
function noteAdministration(
  row: Row,
  permission: Permission,
  request: Request,
  { session, services }: Context,
): void {
  // Peers say it all the time.
  if (row.text === "PEER") return;
  const { user, address, certificateName: certificate } = session;
  const isChange = CHANGES_USERS.has(permission.name);
  const detail = isChange && request.count > 1 ? shown(request, 1) : undefined;
  services.audit.record({
    event: isChange ? "acl" : "administration",
    user: user.name,
    address,
    certificate,
    command: nameOf(row, permission).replace("|", " ").toUpperCase(),
    key: null,
    ...(detail !== undefined && { detail }),
  });
}

const CHANGES_USERS = new Set(["acl|setuser", "acl|deluser", "acl|load", "acl|save"]);
