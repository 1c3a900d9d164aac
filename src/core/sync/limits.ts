/** How much of a session may wait on either side: what bounds its memory. */

/** Bytes of lists after which the responder passes the word; only the last list goes over it. */
export const LISTED_BYTES_A_TURN = 1_048_576;
/** What a list of parts counts for: with what it calls for it takes more than its length. */
export const PARTS_COST_BYTES = 512;
/**
 * Entries that one LIST or WANT is about, at most: far more than a part has that is not large.
 * There are more only when many were added since, and then the next session finds them.
 */
export const MAX_LISTED_ENTRIES = 1_024;
/** Offers after which the initiator passes the word. */
export const MAX_OFFERS_A_TURN = 65_536;
/** Entries that may be wanted beyond twice what was listed. */
export const EXTRA_WANTED_ENTRIES = 65_536;
/** Keys that one fetch may ask for. */
export const MAX_FETCHED_KEYS = 65_536;
/**
 * A value of this many bytes is offered before it is sent when the peer may have a newer one.
 * Below, an offer and its answer cost as much as what they may save.
 */
export const MIN_OFFERED_BYTES = 256;
