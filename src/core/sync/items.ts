/**
 * The items of the sync protocol, and how entries are written as such. An item is a tag byte
 * and what follows from it; integers are big-endian, lengths are varints (`sync/frames.ts`).
 *
 *   HELLO     see `sync/hello.ts`
 *   TURN      u8: TURN_DONE when the speaker has nothing left to list, TURN_BEHIND when it has not
 *             worked on all that was listed; the other speaks now
 *   AGAIN     digests of groups of members: of what the HELLO had a digest of something else is
 *             known here; say HELLO again, and name the groups that differ (`contact-summary.ts`)
 *   FULL      no new entries are accepted any more, only deletions and smaller replacements; at any
 *             moment
 *   WITHHELD  count: so many entries were not sent because of that
 *   END       nothing more is to be said
 *   FAIL      code u8 · text; the session is over. In place of END, when entries were missed
 *   SYMBOLS   count · count × symbol (`coded-symbols.ts`): those that follow the ones sent before
 *   ESTIMATE  the binary logarithm of the columns u8 · cells: see `difference-estimate.ts`
 *   MORE      count: so many symbols are needed in all, or as many as an ESTIMATE before it says
 *   CELLS     count · count × (4 × the buckets passed over since the last one + what is to be done
 *             with it, as a varint · [cell]): buckets that differ, see `cells.ts`
 *   DIGESTS   a step down the tree, see `sync/walk.ts`
 *   LIST      part · count · count × digest: what that part of a bucket holds
 *   PARTS     part · presence u16 · for each bit set, the lowest first, the digest of one of its 16
 *             parts: in place of a LIST, when that would be long
 *   EXPAND    mask u16: which of those parts differ; one for each PARTS, in the same order
 *   WANT      part · count · count × digest: send these of the part; count 0 means all
 *   ENTRY     head · key · value
 *   OFFER     head · key: here is an entry whose value is large; is it wanted?
 *   NEED      count · bits, the lowest of a byte first: which of the offers are wanted
 *   REFUSED   purge time u64 · version 16 bytes · key length · key: see `sync/entries.ts`
 *   LATER     count · time u64: so many entries, the earliest written then, the other does not take
 *             yet
 *   FETCH     key length · key: send this, whatever its version
 *   ROOT      16 bytes · u8: OTHERS_WROTE here during the session, HAS_SET_ASIDE entries in it
 *   ASK       bucket u16: describe what it holds
 *   ASK_ALL   send the digests of all buckets
 *   ABOUT     digest · head · key · the first ABOUT_VALUE_BYTES of the value, or all if it is
 *             shorter: what `mergeRule` looks at, the base of a counter or a number that one may
 *             stand on
 *
 * A head is kind u8 (IS_OTHER for those that only later versions know), with HAS_EXPIRY,
 * HAS_EXPIRY_VERSION and HAS_LEARNED added for what follows · key length · value length · version
 * of the value: time 8 bytes, origin 8 bytes · [expiry u64] · [its version 16 bytes] · [when the
 * sender learned of a death u64]. A part is bucket u16 · depth u8 · [path 6 bytes], see
 * `bucket-part.ts`. A digest is cut to SHORT_DIGEST_BYTES under the session's salt, see
 * `short-digest.ts`.
 */
import { BUCKET_PART_BYTES } from "./part-frames.ts";
import { BASE_BYTES } from "../data/counter.ts";
import { isNoVersion, KIND_OTHER, type Entry, type Kind } from "../data/entry.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";

/** First byte of a HELLO item. */
export const HELLO = 1;
/** First byte of a TURN item. */
export const TURN = 2;
/** First byte of an END item. */
export const END = 3;
/** First byte of a FAIL item. */
export const FAIL = 4;
/** First byte of a DIGESTS item. */
export const DIGESTS = 5;
/** First byte of a LIST item. */
export const LIST = 6;
/** First byte of a WANT item. */
export const WANT = 7;
/** First byte of an ENTRY item. */
export const ENTRY = 8;
/** First byte of an OFFER item. */
export const OFFER = 9;
/** First byte of a NEED item. */
export const NEED = 10;
/** First byte of a REFUSED item. */
export const REFUSED = 11;
/** First byte of a FETCH item. */
export const FETCH = 12;
/** First byte of a ROOT item. */
export const ROOT = 13;
/** First byte of an ASK item. */
export const ASK = 14;
/** First byte of an ASK_ALL item. */
export const ASK_ALL = 15;
/** First byte of an ABOUT item. */
export const ABOUT = 16;
/** First byte of a PARTS item. */
export const PARTS = 19;
/** A FULL item, which is said out of turn. */
export const FULL = 21;
/** First byte of a WITHHELD item. */
export const WITHHELD = 22;
/** First byte of an EXPAND item. */
export const EXPAND = 20;
/** First byte of a SYMBOLS item. */
export const SYMBOLS = 23;
/** First byte of an ESTIMATE item. */
export const ESTIMATE = 24;
/** First byte of a MORE item. */
export const MORE = 25;
/** First byte of a CELLS item. */
export const CELLS = 26;
/** An AGAIN item, which passes the word too. */
export const AGAIN = 17;
/** First byte of a LATER item. */
export const LATER = 18;

/** In a TURN: the speaker has nothing left to list. */
export const TURN_DONE = 1;
/** In a TURN: the speaker has not worked on all that was listed, so no more is to be listed yet. */
export const TURN_BEHIND = 2;

/** In a ROOT: others wrote here during the session. */
export const OTHERS_WROTE = 1;
/** In a ROOT: entries were set aside here, so the roots differ. */
export const HAS_SET_ASIDE = 2;

/** Length of a digest as it travels. */
export const SHORT_DIGEST_BYTES = 6;
/** How much of a root travels. */
export const ROOT_BYTES = 16;
/**
 * How much of a value an ABOUT holds: a counter's base, which is longer than the text of any
 * number.
 */
export const ABOUT_VALUE_BYTES = BASE_BYTES;

const KINDS = 3;
/** In the place of those. */
const IS_OTHER = 32;
const HAS_EXPIRY = 4;
const HAS_EXPIRY_VERSION = 8;
const HAS_LEARNED = 16;
const FLAGS = HAS_EXPIRY | HAS_EXPIRY_VERSION | HAS_LEARNED;
const MAX_HEAD_BYTES = 60;

/** Most bytes that a LIST or WANT of that many digests takes. */
export function digestListBytes(count: number): number {
  return 6 + BUCKET_PART_BYTES + count * SHORT_DIGEST_BYTES;
}

/** Most bytes that an ENTRY takes, or an ABOUT with that much of a value, or an OFFER with none. */
export function entryItemBytes(keyLength: number, valueLength: number): number {
  return 1 + SHORT_DIGEST_BYTES + MAX_HEAD_BYTES + keyLength + valueLength;
}

/** Writes head and key, for which there is room. */
export function writeHead(writer: FrameWriter, entry: Entry): void {
  const { kind, keyLength, expiresAtMs, expiryVersion, learnedMs } = entry;
  const isApart = !isNoVersion(expiryVersion);
  writer.u8(
    (kind === KIND_OTHER ? IS_OTHER : kind) |
      (expiresAtMs === 0 ? 0 : HAS_EXPIRY) |
      (isApart ? HAS_EXPIRY_VERSION : 0) |
      (learnedMs === 0 ? 0 : HAS_LEARNED),
  );
  writer.varint(keyLength);
  writer.varint(entry.valueLength);
  writer.version(entry);
  if (expiresAtMs !== 0) writer.u64(expiresAtMs);
  if (isApart) writer.version(expiryVersion);
  if (learnedMs !== 0) writer.u64(learnedMs);
  writer.copy(entry.key, entry.keyOffset, keyLength);
}

/** Reads head and key; the value length is set, the value not. The key lies in the reader. */
export function readHead(reader: FrameReader, into: Entry): void {
  const head = reader.u8();
  const kind = head & ~FLAGS;
  if (kind > KINDS && kind !== IS_OTHER) reader.overrun = true;
  into.kind = kind === IS_OTHER ? KIND_OTHER : ((kind & KINDS) as Kind);
  const keyLength = reader.varint();
  into.valueLength = reader.varint();
  reader.version(into);
  into.setExpiry((head & HAS_EXPIRY) === 0 ? 0 : reader.u64());
  if ((head & HAS_EXPIRY_VERSION) !== 0) reader.version(into.expiryVersion);
  into.learnedMs = (head & HAS_LEARNED) === 0 ? 0 : reader.u64();
  into.keyOffset = reader.skip(keyLength);
  into.key = reader.bytes;
  into.keyLength = keyLength;
}

/** Writes an entry in full, for which there is room. */
export function writeEntry(writer: FrameWriter, entry: Entry): void {
  writeHead(writer, entry);
  writer.copy(entry.value, entry.valueOffset, entry.valueLength);
}

/** Reads an entry in full. Key and value lie in the reader. */
export function readEntry(reader: FrameReader, into: Entry): void {
  readHead(reader, into);
  into.valueOffset = reader.skip(into.valueLength);
  into.value = reader.bytes;
}

/** Writes an entry with the start of its value, for which there is room. */
export function writeAbout(writer: FrameWriter, entry: Entry): void {
  writeHead(writer, entry);
  writer.copy(entry.value, entry.valueOffset, Math.min(entry.valueLength, ABOUT_VALUE_BYTES));
}

/**
 * Reads an entry with the start of its value, which is all the value it has then. Returns the
 * length of the whole value. Key and value lie in the reader.
 */
export function readAbout(reader: FrameReader, into: Entry): number {
  readHead(reader, into);
  const valueBytes = into.valueLength;
  into.valueLength = Math.min(valueBytes, ABOUT_VALUE_BYTES);
  into.valueOffset = reader.skip(into.valueLength);
  into.value = reader.bytes;
  return valueBytes;
}
