/**
 * Long work in pieces, each of which takes about a millisecond: whoever asks for the next one may
 * let others have their turn before.
 */
export type Pieces<Result> = Generator<void, Result>;

/** Does all that is left of it, and returns what comes of it. */
export function inOneGo<Result>(pieces: Pieces<Result>): Result {
  for (;;) {
    const { done, value } = pieces.next();
    if (done === true) return value;
  }
}
