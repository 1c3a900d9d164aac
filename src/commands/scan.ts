/**
 * SCAN and KEYS: listing keys, in slices (`slices.ts`), while others write.
 *
 * The Redis form walks the rows of the store: a row keeps its number while its entry exists, so a
 * key that is there throughout is always reported, whatever is written meanwhile. The line form
 * and its `AFTER` walk the keys in order, and find their place again by key.
 */
import type { KeyFilter } from "../access/definition.ts";
import { Entry } from "../core/data/entry.ts";
import type { Store } from "../core/store/store.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import type { Reply } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import { LISTS_KEYS, checkKey, command, type Command, type Context, type Run } from "./command.ts";
import { readInteger } from "./expiry-options.ts";
import { Glob, MAX_PATTERN_BYTES } from "../core/glob.ts";
import { ListReply } from "./list-reply.ts";
import { BYTES_A_WORK, FILTER_WORK, OrderWalk, ROW_WORK } from "./order-walk.ts";
import { answerInSlices, STEP_WORK } from "./slices.ts";

const found = new Entry();
/** Room for what comes before the keys. */
const HEADER_BYTES = 64;
/** SCAN takes at most this many words: each option once, and some twice. */
const MOST_SCAN_WORDS = 16;

/** A walk over rows, in steps. */
class RowWalk {
  /** Gets the keys that match. */
  readonly keys: ListReply;
  /** Which keys may be shown; null for all. */
  private readonly filter: KeyFilter | null;
  /** Rows in use looked at. */
  private seen = 0;
  /** The pattern is being compared with the key of the row before `id`. */
  private isMatching = false;

  /** From row `id` on, until `wanted` keys were looked at. All of them match if `glob` is null. */
  constructor(
    private readonly store: Store,
    private readonly glob: Glob | null,
    reply: Reply,
    { services, session, rights }: Context,
    public id = 0,
    private readonly wanted = Infinity,
  ) {
    this.keys = new ListReply(reply.dialect, services.limits.maxReplyBytes - HEADER_BYTES, session);
    this.filter = rights?.keyFilter ?? null;
  }

  /** See `Step`. At the end `id` is the row to go on from, or all were walked. */
  step(): boolean {
    const { store, glob } = this;
    let work = STEP_WORK;
    while (work > 0) {
      if (this.isMatching) {
        const left = glob!.advance(work);
        if (left < 0) {
          glob!.keepKey();
          return false;
        }
        work = left;
        this.isMatching = false;
        if (glob!.isMatch && !this.add(glob!.key, glob!.keyOffset, glob!.keyLength)) return true;
      }
      if (this.id >= store.idLimit || this.seen >= this.wanted) return true;
      work -= ROW_WORK;
      const id = this.id++;
      if (!store.isUsed(id) || !store.isLive(id)) continue;
      this.seen++;
      store.read(id, found);
      work -= (found.keyLength / BYTES_A_WORK) | 0;
      if (this.filter !== null) {
        work -= FILTER_WORK;
        if (!this.filter(found.key, found.keyOffset, found.keyLength)) continue;
      }
      if (glob === null) {
        if (!this.add(found.key, found.keyOffset, found.keyLength)) return true;
      } else {
        glob.begin(found.key, found.keyOffset, found.keyLength);
        this.isMatching = true;
      }
    }
    // Between two steps anybody may write.
    if (this.isMatching) glob!.keepKey();
    return false;
  }

  /** Adds a key to the reply. If it does not fit, its row is the one to go on from. */
  private add(key: Uint8Array, offset: number, length: number): boolean {
    const isAdded = addKey(this.keys, key, offset, length);
    if (!isAdded) this.id--;
    return isAdded;
  }
}

function addKey(keys: ListReply, key: Uint8Array, offset: number, length: number): boolean {
  const { part } = keys;
  if (part.isResp) part.bulk(key, offset, length);
  else {
    part.key(key, offset, length);
    part.endOfLine();
  }
  return keys.add();
}

const scan: Run = (request, reply, context) => {
  if (!request.isResp) return scanInOrder(request, 0, reply, context);
  // No cursor: RESP clients, too, may want a prefix, and the keys in order.
  if (request.is(0, "ORDERED")) return scanInOrder(request, 1, reply, context);
  return scanByCursor(request, reply, context);
};

/**
 * The Redis form. A cursor is the number of the row to go on from. A reply that reaches
 * `max_output_bytes` ends early, and its cursor says where to go on.
 */
function scanByCursor(request: Request, reply: Reply, context: Context): ReturnType<Run> {
  const from = readInteger(request, 0);
  if (from === undefined || from < 0) return reply.respError("ERR invalid cursor");
  if (request.count > MOST_SCAN_WORDS) return reply.respError("ERR syntax error");
  let glob: Glob | null = null;
  let wanted = 10;
  let isOtherType = false;
  for (let i = 1; i < request.count; i += 2) {
    if (i + 1 >= request.count) return reply.respError("ERR syntax error");
    if (request.is(i, "MATCH")) {
      const given = readPattern(request, i + 1, reply);
      if (given === undefined) return;
      glob = given;
    } else if (request.is(i, "TYPE")) isOtherType = !request.is(i + 1, "STRING");
    else if (request.is(i, "COUNT")) {
      const count = readInteger(request, i + 1);
      if (count === undefined) return reply.error("Value is not a valid number");
      if (count < 1) return reply.respError("ERR syntax error");
      wanted = count;
    } else return reply.respError("ERR syntax error");
  }
  // Every key is a string: there is nothing to walk for.
  const start = isOtherType ? Infinity : from;
  const walk = new RowWalk(context.store, glob, reply, context, start, wanted);
  const { keys } = walk;
  const write = keys.after((reply) => {
    if (keys.isFull && keys.count === 0) return tooLarge(reply, "a key exceeds it by itself");
    reply.array(2);
    reply.bulkText(String(walk.id >= context.store.idLimit ? 0 : walk.id));
    reply.array(keys.count);
  });
  return answerInSlices(() => walk.step(), write, reply, context);
}

/** The pattern in argument `i`; undefined after answering an error. */
function readPattern(request: Request, i: number, reply: Reply): Glob | null | undefined {
  if (request.length(i) > MAX_PATTERN_BYTES) {
    reply.error("Value too large", `a pattern holds at most ${MAX_PATTERN_BYTES} bytes`);
    return undefined;
  }
  const pattern = argumentBytes(request, i);
  return pattern.length === 1 && pattern[0] === STAR ? null : new Glob(pattern);
}

const keysMatching: Run = (request, reply, context) => {
  const glob = readPattern(request, 0, reply);
  if (glob === undefined) return;
  const walk = new RowWalk(context.store, glob, reply, context);
  const write = listing(walk.keys);
  return answerInSlices(() => walk.step(), write, reply, context);
};

function listing(keys: ListReply): ReturnType<ListReply["after"]> {
  return keys.after((reply) => {
    if (keys.isFull) {
      keys.drop();
      return tooLarge(reply, reply.isResp ? "use SCAN" : "use SCAN with COUNT and AFTER");
    }
    if (reply.isResp) reply.array(keys.count);
    else reply.simple(`KEYS ${keys.count}`);
  });
}

function tooLarge(reply: Reply, why: string): void {
  reply.error("Value too large", `the list exceeds network.max_output_bytes; ${why}`);
}

/**
 * The line form: `SCAN [prefix] [AFTER key] [COUNT n]`, in lexicographic order. Its words begin
 * with argument `first`.
 */
function scanInOrder(
  request: Request,
  first: number,
  reply: Reply,
  context: Context,
): ReturnType<Run> {
  let prefix: Uint8Array = NOTHING;
  let after: Uint8Array | undefined;
  let wanted = Infinity;
  // An odd number of words begins with the prefix; options come in twos.
  const hasPrefix = (request.count - first) % 2 === 1;
  if (hasPrefix) prefix = argumentBytes(request, first);
  for (let i = hasPrefix ? first + 1 : first; i < request.count; i += 2) {
    if (request.is(i, "AFTER")) {
      if (!checkKey(request, i + 1, reply)) return;
      after = argumentBytes(request, i + 1);
    } else if (request.is(i, "COUNT")) {
      const count = readInteger(request, i + 1);
      if (count === undefined || count < 0) {
        return reply.error("Value is not a valid number", "COUNT takes a whole number from 0 on");
      }
      wanted = count;
    } else {
      return reply.error("Too many arguments", "SCAN [prefix] [AFTER key] [COUNT n]");
    }
  }
  const keys = new ListReply(reply.dialect, context.services.limits.maxReplyBytes, context.session);
  const filter = context.rights?.keyFilter ?? null;
  const walk = new OrderWalk(context.store, prefix, after, (entry) => {
    if (keys.count >= wanted) return -1;
    const { key, keyOffset, keyLength } = entry;
    if (filter !== null && !filter(key, keyOffset, keyLength)) return FILTER_WORK;
    return addKey(keys, entry.key, entry.keyOffset, entry.keyLength) ? 0 : -1;
  });
  return answerInSlices(() => walk.step(), listing(keys), reply, context);
}

function argumentBytes(request: Request, i: number): Uint8Array {
  return request.bytes.slice(request.start(i), request.start(i) + request.length(i));
}

const NOTHING = new Uint8Array(0);
const STAR = 0x2a;

/** Commands that list keys. */
export const scanCommands: readonly Command[] = [
  command("SCAN", "scan", "keyspace read slow", SHAPE_WORDS, 0, 5, scan, {
    ...LISTS_KEYS,
    respLeast: 1,
    respMost: -1,
  }),
  command(
    "KEYS",
    "scan",
    "keyspace read slow dangerous",
    SHAPE_WORDS,
    1,
    1,
    keysMatching,
    LISTS_KEYS,
  ),
];
