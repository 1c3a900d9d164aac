/**
 * The wire form of replication: a batch of one node's own writes, as one CBOR map on
 * `<topic_prefix>/updates`.
 *
 *   { "v", "src": node id (text), "epoch": u64, "seq": u64, "events": [event, …], "traces"? }
 *
 * `v` is the version of the protocol between nodes (`capabilities.ts`), the highest that all speak
 * who are there. A batch may be compressed as a whole (`compression.ts`), if all of them read that.
 * `traces`, if there, says which traces events in it belong to: an array of byte strings, each 16
 * bytes of a trace id, 8 of a span id, 1 of flags, and what `tracestate` holds
 * (`trace-context.ts`). Whoever does not trace passes over it.
 * `epoch` is new at each start of the node and `seq` counts its batches from 1, so that
 * a receiver sees what it missed. An event is one of
 *
 *   { "op": "set",     "key": bytes, "val": bytes, "ts": u64, expiry }
 *   { "op": "del",     "key": bytes, "ts": u64, expiry }
 *   { "op": "counter", "key": bytes, "val": the counter's bytes, "ts": u64, expiry }
 *   { "op": "other",   "key": bytes, "val": bytes, "ts": u64, expiry }
 *   { "op": "husk",    "key": bytes, "ts": u64, expiry }      a string that has expired already
 *   { "op": "expire",  "key": bytes, "ts": u64, "exp"?: u64 } only the expiry was written
 *   { "op": "ref",     "key": bytes, "ts": u64, expiry }      a value too large to travel
 *   { "op": "flush",   "ts": u64 }                            all up to this version is gone
 *
 * `ts` is the hybrid clock (48 bits of milliseconds, 16 of counter); the origin of every
 * version is that of `src`. A counter's own bytes say who counted what and when; its `ts` is there
 * for the reader of a trace. The value of "other" begins with the number of a kind that only later
 * versions know. An expiry is up to three fields: "exp", in Unix ms, when there is one; and its
 * version, "xts" and "xsrc" (time and origin, u64 each), when that is another than that of the
 * value, or of what a counter stands on. Fields come in any order and unknown ones are skipped, so
 * that a later version may add some. Lengths are definite; there are no tags.
 *
 * Version 1, which is read as well, has no "husk", no "expire", and one version for value and
 * expiry.
 *
 * `batch-writer.ts` and `batch-reader.ts` write and read it.
 */

/** The first version of a batch that can still be read. */
export const OLDEST_FORMAT_VERSION = 1;

/**
 * Why an event, or a message as a whole, was dropped: each reason and what it means, as INFO counts
 * them and the documentation explains them.
 */
export const DROPPED = {
  malformed: "not CBOR, or a field is missing, of the wrong type or out of range",
  foreign: "of another implementation, which `mqtt.accept_foreign_events` does not allow",
  unknown: "an operation or a format version that this node does not know",
  oversized: "a key, value or message above its limit, or a counter that would get above its own",
  future: "dated further ahead than `storage.max_clock_skew_ms`",
  /** Left to a comparison with its source, which knows how to tell. */
  forgotten: "of a key that is not here, and so old that its deletion may have been forgotten",
  full: "the store is at its memory limit",
  read_only: "nothing is taken while the disk is full or fails",
  /** As the store does with a counter whose bytes are no counter. */
  invalid: "the store refused it, or its sender is not who it says",
} as const;

/** One of the reasons. */
export type DropReason = keyof typeof DROPPED;

/** The reasons in the order in which INFO shows them. */
export const DROP_REASONS = Object.keys(DROPPED) as readonly DropReason[];
