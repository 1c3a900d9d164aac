/** How much of a session may wait on either side: what bounds its memory. */

/** The responder passes the word after this many bytes of lists; the last one may go beyond. */
export const LISTED_BYTES_A_TURN = 1_048_576;
/**
 * What a PARTS item counts as, because its answer and what follows need more than its own length.
 */
export const PARTS_COST_BYTES = 512;
/**
 * The most entries that one LIST or WANT covers, which is far more than a part has that is not
 * large. A part has more only when many entries were added since; then the next session finds
 * those.
 */
export const MAX_LISTED_ENTRIES = 1_024;
/** The initiator passes the word after this many offers. */
export const MAX_OFFERS_A_TURN = 65_536;
/** How many entries may be wanted beyond twice as many as were listed. */
export const EXTRA_WANTED_ENTRIES = 65_536;
/** How many keys one fetch may ask for. */
export const MAX_FETCHED_KEYS = 65_536;
/**
 * A value of this many bytes is offered before it is sent when the peer may have a newer one.
 * Below, an offer and its answer cost as much as what they may save.
 */
export const MIN_OFFERED_BYTES = 256;
