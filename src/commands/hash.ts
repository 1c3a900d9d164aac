/**
 * `HASH [prefix]`: the fingerprint of the keys that begin with the prefix and their values
 * (`core/data-fingerprint.ts` defines it).
 *
 * It is computed in slices while other clients are served, so it is not of one moment: each
 * key counts with what it holds when its turn comes. Of a store at rest it is exact;
 * while writes go on, two nodes are compared with SYNC --verify instead.
 */
import { DataFingerprint } from "../core/data-fingerprint.ts";
import { Entry, compareBytes } from "../core/entry.ts";
import type { Store } from "../core/store.ts";
import { SHAPE_WORDS } from "../protocol/line-parser.ts";
import { TAGGED } from "../protocol/reply.ts";
import { checkKey, command, type Command, type Context, type Run } from "./command.ts";
import { nextSlice } from "./key-collector.ts";

/** Bytes hashed before other connections get their turn: a millisecond or two. */
const SLICE_BYTES = 1024 * 1024;
/** What an entry costs besides its bytes, in bytes. */
const ENTRY_BYTES = 1024;

const entry = new Entry();

const hash: Run = (request, reply, context) => {
  let prefix = new Uint8Array(0);
  if (request.count === 1 && request.length(0) > 0) {
    if (!checkKey(request, 0, reply)) return;
    prefix = request.bytes.slice(request.start(0), request.start(0) + request.length(0));
  }
  return fingerprint(prefix, context).then((hex) => (reply) => {
    if (reply.isResp) return reply.bulkText(hex);
    if (reply.dialect === TAGGED) {
      reply.raw("HASH ");
      if (prefix.length > 0) {
        reply.key(prefix, 0, prefix.length);
        reply.raw(" ");
      }
    }
    reply.simple(hex);
  });
};

async function fingerprint(prefix: Uint8Array, { store }: Context): Promise<string> {
  const result = new DataFingerprint();
  let position = store.order.seek(prefix, 0, prefix.length);
  for (;;) {
    const last = addSlice(store, position, prefix, result);
    if (last === null) return result.root().toHex();
    await nextSlice();
    // The order may have changed meanwhile: find the place again by key.
    position = store.order.seekAfter(last, 0, last.length);
  }
}

/** Adds entries from a position on. The key to go on after, or null when all are done. */
function addSlice(
  store: Store,
  position: number,
  prefix: Uint8Array,
  result: DataFingerprint,
): Uint8Array | null {
  let left = SLICE_BYTES;
  for (; position >= 0; position = store.order.next(position)) {
    const id = store.order.at(position);
    store.readValue(id, entry);
    if (!hasPrefix(entry, prefix)) return null;
    if (store.isLive(id)) result.add(entry);
    left -= entry.keyLength + entry.valueLength + ENTRY_BYTES;
    if (left <= 0) return entry.keyBytes();
  }
  return null;
}

function hasPrefix({ key, keyOffset, keyLength }: Entry, prefix: Uint8Array): boolean {
  const length = Math.min(keyLength, prefix.length);
  return compareBytes(key, keyOffset, length, prefix, 0, prefix.length) === 0;
}

/** Commands that fingerprint data. */
export const hashCommands: readonly Command[] = [command("HASH", "hash", SHAPE_WORDS, 0, 1, hash)];
