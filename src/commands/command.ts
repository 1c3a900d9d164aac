/**
 * What a command is: a name, how many arguments it takes, how they lie in a line, and a
 * function from request to reply. The table in `table.ts` holds them all.
 */
import type { Outcome } from "../core/store/outcome.ts";
import type { Store } from "../core/store/store.ts";
import { REFUSED_FULL } from "../core/store/outcome.ts";
import type { KeyFilter } from "../access/definition.ts";
import { READ, READ_WRITE, WRITE, type KeyAccess, type Permission } from "../access/permission.ts";
import type { LineShape } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import type { Durability } from "../ports.ts";
import type { RunQueue } from "../timing.ts";
import type { Services } from "./services.ts";
import type { ClientSession } from "./client-session.ts";
import type { Family } from "./statistics.ts";
import { MAX_KEY_BYTES } from "../core/data/entry.ts";

/** What a command works with besides its request: made once a node. */
export interface Context {
  readonly store: Store;
  readonly commands: CommandLookup;
  readonly services: Services;
  /** Where long work waits for its turns. */
  readonly runQueue: RunQueue;
  /** The connection the request came on. */
  session: ClientSession;
  /**
   * Bytes that commands have copied beside what is journalled and answered: work that takes time.
   */
  copiedBytes: number;
  /** What the request being run may do, where that is not everything; see `rights.ts`. */
  rights: RequestRights | null;
}

/**
 * Writes a reply that was not ready when the command ran. True when there is more of it: then it
 * is called again once that has been sent. After the first piece it must not fail.
 */
export type ReplyContinuation = (reply: Reply) => void | boolean;

/**
 * Carries out a request. A promise means that the reply comes later: until then the
 * connection takes no further request, so replies keep their order.
 */
export type Run = (
  request: Request,
  reply: Reply,
  context: Context,
) => void | Promise<ReplyContinuation>;

/** One command. Argument counts do not include the name; `most` is -1 for any number. */
export interface Command {
  /** Name in capitals, then other names for it. */
  readonly names: readonly string[];
  readonly family: Family;
  /** The categories of rights it belongs to, separated by spaces: `read string fast`. */
  readonly categories: string;
  /** How arguments lie in a line. */
  readonly shape: LineShape;
  readonly least: number;
  readonly most: number;
  /** Counts for RESP where they differ from those of lines. */
  readonly respLeast?: number;
  readonly respMost?: number;
  /** Whether it changes data. */
  readonly isWrite: boolean;
  /** Positions of keys for `COMMAND`: first, last (-1 the last argument), step; none if absent. */
  readonly keys?: readonly [first: number, last: number, step: number];
  /** What is done to the keys. */
  readonly access?: Access;
  /** What is done to all there is, so that rights on some of the keys do not suffice. */
  readonly wholeAccess?: KeyAccess;
  /** Subcommands, in capitals, and their categories: each has rights of its own. */
  readonly subcommands?: Readonly<Record<string, string>>;
  /** Whether anybody may say it, even before a login. */
  readonly isFree?: (request: Request, context: Context) => boolean;
  /** What it is for is the connection it comes on, which goes on to carry something else. */
  readonly needsConnection?: true;
  /** It tells which keys there are: it asks `Context.rights` for those that may be shown. */
  readonly listsKeys?: true;
  /** Whether a request is so long that the command itself has its keys' rights checked. */
  readonly checksKeys?: (request: Request) => boolean;
  readonly run: Run;
}

/** A name in the table. */
export interface Row {
  readonly name: Uint8Array;
  /** The same as text. */
  readonly text: string;
  readonly command: Command;
  readonly permission: Permission;
  /** Number of the command's family in FAMILY_NAMES. */
  readonly family: number;
}

/** Every command, and how one is found. */
export interface CommandLookup {
  readonly commands: readonly Command[];
  /** The row of the name in these bytes, whatever its case. */
  row(bytes: Uint8Array, start: number, length: number): Row | undefined;
}

/** What a request may do whose user may not do everything; see `rights.ts`. */
export interface RequestRights {
  /** Which keys may be shown; null for all. */
  readonly keyFilter: KeyFilter | null;
  /** Whether argument `i`, the next key of a long request, may be touched as well. */
  admits(request: Request, i: number): boolean;
  /** Answers that the key in argument `i` may not be touched. */
  refuse(request: Request, i: number, reply: Reply): void;
}

/** What is done to each key, to the first and the second, or to each by what is asked. */
export type Access = KeyAccess | readonly KeyAccess[] | ((request: Request) => KeyAccess);

/** Marks a command that reads the key in its first argument. */
export const READS_KEY = { keys: [1, 1, 1], access: READ } as const;
/** One that tells of the key in its first argument, but not what it holds. */
export const KNOWS_KEY = { keys: [1, 1, 1], access: 0 } as const;
/** One that writes the key in its first argument, and does not tell what it holds. */
export const WRITES_KEY = { keys: [1, 1, 1], isWrite: true, access: WRITE } as const;
/** One that writes the key in its first argument, and tells what it held or holds then. */
export const CHANGES_KEY = { ...WRITES_KEY, access: READ_WRITE } as const;
/** Marks a command that tells which keys there are. */
export const LISTS_KEYS = { listsKeys: true } as const;
/** Marks a command that needs no login and no rights. */
export const FREE = { isFree: () => true } as const;

/** A row of the command table. `names` are separated by spaces, the proper one first. */
export function command(
  names: string,
  family: Family,
  categories: string,
  shape: LineShape,
  least: number,
  most: number,
  run: Run,
  extra: Partial<Command> = {},
): Command {
  const words = names.split(" ");
  return { names: words, family, categories, shape, least, most, isWrite: false, ...extra, run };
}

/**
 * Whether argument `i` is a key: 1 byte to 64 KiB and, in a line, free of control bytes and
 * white space. Answers the error when it is not.
 */
export function checkKey(request: Request, i: number, reply: Reply): boolean {
  const length = request.length(i);
  if (length < 1 || length > MAX_KEY_BYTES) {
    reply.error("Invalid key", length < 1 ? "it is empty" : `longer than ${MAX_KEY_BYTES} bytes`);
    return false;
  }
  if (request.isResp) return true;
  const { bytes } = request;
  const start = request.start(i);
  for (let at = start, end = start + length; at < end; at++) {
    if (bytes[at] <= 0x20 || bytes[at] === 0x7f) {
      reply.error("Invalid key", "a key in a line holds no control bytes");
      return false;
    }
  }
  return true;
}

/**
 * Argument `i` (-1 is the name) as an error shows it: cut, and nothing that would disturb a line.
 */
export function shown(request: Request, i: number): string {
  return request.text(i, 64).replace(/[^ -~]/g, "?");
}

/** Answers that argument 0 is no subcommand, or not with so many words; `known` says what is. */
export function unknownSubcommand(request: Request, reply: Reply, known: string): void {
  if (!reply.isResp) return reply.error("Invalid command", known);
  const given = shown(request, 0);
  reply.respError(`ERR unknown subcommand or wrong number of arguments for '${given}'. ${known}`);
}

/**
 * Whether the arguments from `first` on, in steps of `step`, are keys. Answers the error if not.
 */
export function checkKeys(request: Request, first: number, step: number, reply: Reply): boolean {
  for (let i = first; i < request.count; i += step) {
    if (!checkKey(request, i, reply)) return false;
  }
  return true;
}

/** Whether a value of this length is allowed. Answers the error when it is not. */
export function checkValueLength(length: number, reply: Reply, context: Context): boolean {
  const { maxValueBytes } = context.services.limits;
  if (length <= maxValueBytes) return true;
  reply.error("Value too large", `${length} bytes; network.max_value_bytes is ${maxValueBytes}`);
  return false;
}

/** Answers that no write is taken, because nothing can be kept on disk. */
export function answerFailure(
  failure: NonNullable<Durability["failure"]>,
  reply: Reply,
  done = "",
): void {
  const text = failure.kind === "full" ? "Storage full" : "Read only";
  const detail = done === "" ? failure.message : `${failure.message}; ${done}`;
  // OOM, the code of a full memory, would make clients delete; this is what Redis says of its disk.
  if (reply.isResp && failure.kind === "full") reply.respError(`MISCONF ${detail}`);
  else reply.error(text, detail);
}

/** Answers that a write is not taken because of this node's clock. */
export function answerClock(reply: Reply, detail: string): void {
  // READONLY would make a client look for another node to write to.
  if (reply.isResp) reply.respError(`ERR ${detail}`);
  else reply.error("Read only", detail);
}

/**
 * Answers the error of a write that was refused, `detail` with it; false when the outcome is none.
 */
export function isRefused(outcome: Outcome, reply: Reply, detail = ""): boolean {
  if (outcome >= 0) return false;
  if (outcome === REFUSED_FULL) reply.error("Storage full", detail);
  else reply.error("Internal error", `write refused (${outcome})`);
  return true;
}
