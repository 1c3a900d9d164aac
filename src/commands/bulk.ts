/** Commands on many string values at once. */
import { Entry } from "../core/entry.ts";
import { SHAPE_PAIRS, SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED } from "../protocol/reply.ts";
import type { Request } from "../protocol/request.ts";
import {
  checkKeys,
  checkValueLength,
  command,
  isRefused,
  type Command,
  type Context,
  type Run,
} from "./command.ts";
import { answerValue } from "./strings.ts";

const found = new Entry();

const getMany: Run = (request, reply, context) => {
  if (!checkKeys(request, 0, 1, reply)) return;
  if (reply.dialect === TAGGED) {
    const count = countFound(request, context);
    if (count === 0) return reply.missing();
    reply.simple(`VALUES ${count}`);
  } else if (reply.isResp) {
    reply.array(request.count);
  }
  for (let i = 0; i < request.count; i++) {
    if (reply.dialect === TAGGED) {
      reply.key(request.bytes, request.start(i), request.length(i));
      reply.raw(" ");
      const id = context.store.find(request.bytes, request.start(i), request.length(i));
      if (id < 0) {
        reply.missing();
      } else {
        context.store.readValue(id, found);
        reply.value(found.value, found.valueOffset, found.valueLength, "");
      }
    } else {
      answerValue(request, i, reply, context);
    }
  }
};

function countFound(request: Request, context: Context): number {
  let count = 0;
  for (let i = 0; i < request.count; i++) {
    if (context.store.find(request.bytes, request.start(i), request.length(i)) >= 0) count++;
  }
  return count;
}

function setMany(onlyIfAllMissing: boolean): Run {
  return (request, reply, context) => {
    if (request.count % 2 === 1) {
      if (request.isResp) {
        return reply.respError(`ERR wrong number of arguments for 'mset' command`);
      }
      return reply.error("Missing arguments", "the last key has no value");
    }
    if (!checkKeys(request, 0, 2, reply)) return;
    for (let i = 1; i < request.count; i += 2) {
      if (!checkValueLength(request.length(i), reply, context)) return;
    }
    if (onlyIfAllMissing) {
      for (let i = 0; i < request.count; i += 2) {
        const id = context.store.find(request.bytes, request.start(i), request.length(i));
        if (id >= 0) return reply.count(0, "VALUE ");
      }
    }
    const { bytes } = request;
    for (let i = 0; i < request.count; i += 2) {
      const keyStart = request.start(i);
      const valueStart = request.start(i + 1);
      const valueLength = request.length(i + 1);
      const keyLength = request.length(i);
      const { store } = context;
      const outcome = store.set(bytes, keyStart, keyLength, bytes, valueStart, valueLength, 0);
      if (isRefused(outcome, reply)) return;
    }
    if (onlyIfAllMissing) reply.count(1, "VALUE ");
    else reply.ok();
  };
}

const pairs = { isWrite: true, keys: [1, -1, 2] } as const;

/** Commands on many string values at once. */
export const bulkCommands: readonly Command[] = [
  command("MGET", "bulk", SHAPE_WORDS, 1, -1, getMany, { keys: [1, -1, 1] }),
  command("MSET", "bulk", SHAPE_PAIRS, 2, -1, setMany(false), pairs),
  command("MSETNX", "bulk", SHAPE_PAIRS, 2, -1, setMany(true), pairs),
];
