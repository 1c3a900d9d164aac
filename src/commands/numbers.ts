/** Counting. The arithmetic is in the store, because counters merge by their own rule. */
import { Int64, parseInt64 } from "../core/data/int64.ts";
import { NOT_A_NUMBER, OUT_OF_RANGE } from "../core/store/outcome.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { CHANGES_KEY, checkKey, command, isRefused, type Command, type Run } from "./command.ts";

const delta = new Int64();

function add(isNegative: boolean): Run {
  return (request, reply, context) => {
    if (!checkKey(request, 0, reply)) return;
    if (request.count < 2) {
      delta.set(isNegative ? -1 : 0, isNegative ? 0xffff_ffff : 1);
    } else {
      const { bytes } = request;
      if (!parseInt64(bytes, request.start(1), request.length(1), delta)) {
        return reply.error("Value is not a valid number");
      }
      if (isNegative) {
        // The lowest number has no opposite in 64 bits.
        if (delta.high === -0x8000_0000 && delta.low === 0)
          return reply.error("Value out of range");
        const low = (~delta.low + 1) >>> 0;
        delta.set(~delta.high + (low === 0 ? 1 : 0), low);
      }
    }
    const { store } = context;
    const start = request.start(0);
    const outcome = store.increment(request.bytes, start, request.length(0), delta);
    if (outcome === NOT_A_NUMBER) return reply.error("Value is not a valid number");
    if (outcome === OUT_OF_RANGE) return reply.error("Value out of range");
    if (!isRefused(outcome, reply)) reply.integer(store.number);
  };
}

const one = { ...CHANGES_KEY, respMost: 1 } as const;

/** Counting. */
export const numberCommands: readonly Command[] = [
  command("INCR INC", "numeric", "write string fast", SHAPE_WORDS, 1, 2, add(false), one),
  command("DECR DEC", "numeric", "write string fast", SHAPE_WORDS, 1, 2, add(true), one),
  command("INCRBY", "numeric", "write string fast", SHAPE_WORDS, 2, 2, add(false), CHANGES_KEY),
  command("DECRBY", "numeric", "write string fast", SHAPE_WORDS, 2, 2, add(true), CHANGES_KEY),
];
