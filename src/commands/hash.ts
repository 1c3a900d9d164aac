/**
 * `HASH [prefix]`: the fingerprint of the keys that begin with the prefix and their values
 * (`core/tree/data-fingerprint.ts` defines it).
 *
 * It is computed in slices while other clients are served, so it is not of one moment: each
 * key counts with what it holds when its turn comes. Of a store at rest it is exact;
 * while writes go on, two nodes are compared with SYNC --verify instead.
 */
import { DataFingerprint } from "../core/tree/data-fingerprint.ts";
import { Entry, KIND_OTHER } from "../core/data/entry.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED } from "../protocol/reply.ts";
import {
  LISTS_KEYS,
  checkKey,
  command,
  type Command,
  type ReplyContinuation,
  type Run,
} from "./command.ts";
import { FILTER_WORK, OrderWalk } from "./order-walk.ts";
import { answerInSlices } from "./slices.ts";

/** What hashing an entry costs (see `STEP_WORK`), and how many bytes of it cost one unit more. */
const ENTRY_WORK = 200;
const BYTES_A_WORK = 2;

const entry = new Entry();

const hash: Run = (request, reply, context) => {
  let prefix = new Uint8Array(0);
  if (request.count === 1 && request.length(0) > 0) {
    if (!checkKey(request, 0, reply)) return;
    prefix = request.bytes.slice(request.start(0), request.start(0) + request.length(0));
  }
  const { store } = context;
  const result = new DataFingerprint();
  const filter = context.rights?.keyFilter ?? null;
  const walk = new OrderWalk(store, prefix, undefined, ({ key, keyOffset, keyLength }, id) => {
    if (filter !== null && !filter(key, keyOffset, keyLength)) return FILTER_WORK;
    const before = store.workedBytes;
    store.read(id, entry);
    // What only later versions can show counts by its bytes.
    if (entry.kind !== KIND_OTHER) store.readValue(id, entry);
    result.add(entry);
    const bytes = entry.keyLength + entry.valueLength + store.workedBytes - before;
    return ENTRY_WORK + ((bytes / BYTES_A_WORK) | 0);
  });
  const write: ReplyContinuation = (reply) => {
    const hex = result.root().toHex();
    if (reply.isResp) return reply.bulkText(hex);
    if (reply.dialect === TAGGED) {
      reply.raw("HASH ");
      if (prefix.length > 0) {
        reply.key(prefix, 0, prefix.length);
        reply.raw(" ");
      }
    }
    reply.simple(hex);
  };
  return answerInSlices(() => walk.step(), write, reply, context);
};

/** Commands that fingerprint data. */
export const hashCommands: readonly Command[] = [
  command("HASH", "hash", "keyspace read slow", SHAPE_WORDS, 0, 1, hash, LISTS_KEYS),
];
