/** `BACKUP`: makes a backup on the node's disk, and hands it out piece by piece. */
import { READ } from "../access/permission.ts";
import { release } from "../core/bytes.ts";
import { OperationalError } from "../operational-error.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  command,
  type Command,
  type Context,
  type ReplyContinuation,
  type Run,
} from "./command.ts";
import type { BackupMade } from "../ports.ts";

const USAGE = "BACKUP [name] | BACKUP READ name offset count | BACKUP DROP name";
/** Room for what comes before the bytes of a piece. */
const HEADER_BYTES = 64;
const DECIMAL = /^\d{1,15}$/;

const backup: Run = (request, reply, context) => {
  const { backups } = context.services;
  if (request.count <= 1) {
    return answer(backups.create(request.count === 1 ? request.text(0) : undefined), made);
  }
  if (request.is(0, "READ") && request.count === 4) return read(request, reply, context);
  if (request.is(0, "DROP") && request.count === 2) {
    return answer(backups.remove(request.text(1)), () => (late) => late.ok());
  }
  reply.error("Invalid command", USAGE);
};

/** For programs: the bytes do not go into a line. */
function read(request: Request, reply: Reply, context: Context): void | Promise<ReplyContinuation> {
  if (!request.isResp) return reply.error("Invalid command", "BACKUP READ is for RESP clients");
  const offset = request.text(2);
  const count = request.text(3);
  if (!DECIMAL.test(offset) || !DECIMAL.test(count)) {
    return reply.error("Value is not a valid number");
  }
  const { backups, limits } = context.services;
  // Up to so many bytes are asked for: what does not fit into a reply is left for the next one.
  const most = Math.min(Number(count), limits.maxReplyBytes - HEADER_BYTES);
  const reading = backups.read(request.text(1), Number(offset), most);
  return answer(reading, (piece) => (late) => {
    late.bulk(piece, 0, piece.length);
    release(piece);
  });
}

function made({ name, bytes, entries }: BackupMade): ReplyContinuation {
  return (late) => {
    if (!late.isResp) return late.simple(`BACKUP ${name} ${bytes} bytes ${entries} entries`);
    late.array(3);
    late.bulkText(name);
    late.count(bytes, "");
    late.count(entries, "");
  };
}

async function answer<T>(
  work: Promise<T>,
  write: (result: T) => ReplyContinuation,
): Promise<ReplyContinuation> {
  try {
    return write(await work);
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    const failure = error.isFull ? "Storage full" : "Internal error";
    return (late) => late.error(error.isRefusal ? "Invalid command" : failure, error.message);
  }
}

/** Writes the data anew now and drops the log so far, instead of when the log has grown. */
const snapshot: Run = (_request, _reply, context) =>
  answer(context.services.compact(), () => (late) => late.ok());

/** Commands on backups and on what is on disk. */
export const backupCommands: readonly Command[] = [
  command("BACKUP", "management", "admin slow dangerous", SHAPE_WORDS, 0, 4, backup, {
    wholeAccess: READ,
  }),
  command(
    "SNAPSHOT BGREWRITEAOF",
    "management",
    "admin slow dangerous",
    SHAPE_WORDS,
    0,
    0,
    snapshot,
  ),
];
