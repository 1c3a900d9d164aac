/**
 * Whose turn it is to speak. The two sides of a session take turns: who has the word speaks until
 * it passes it (TURN), or says that nothing more is to be said (END).
 */
import { BUCKET_LEVEL } from "../tree/digest-tree.ts";
import type { FrameWriter } from "./frames.ts";
import { END, TURN, TURN_BEHIND, TURN_DONE } from "./items.ts";

/** A walk over what turns out to be equal has nothing to say on any level. */
const MAX_IDLE_TURNS = BUCKET_LEVEL;

/** See the file header. */
export class Turns {
  hasWord = false;
  /** Whether this side passed the word with nothing left to list. */
  hasListedAll = false;
  /** Whether this side has said END. */
  isEnding = false;
  /** How often in a row the word came back and nobody had said anything. */
  private idleTurns = 0;

  constructor(private readonly writer: FrameWriter) {}

  /** Somebody said something other than TURN. */
  noteSpoken(): void {
    this.idleTurns = 0;
  }

  /** A TURN came. False when the word goes to and fro and nobody says anything. */
  noteTurn(): boolean {
    return this.idleTurns++ <= MAX_IDLE_TURNS;
  }

  /** Passes the word. `isBehind`: not all that was listed is worked on yet. */
  pass(isDone: boolean, isBehind: boolean): void {
    this.hasListedAll = isDone;
    this.writer.reserve(2);
    this.writer.u8(TURN);
    this.writer.u8((isDone ? TURN_DONE : 0) | (isBehind ? TURN_BEHIND : 0));
    this.writer.flush();
    this.hasWord = false;
  }

  /** Says END. */
  sayEnd(): void {
    this.writer.reserve(1);
    this.writer.u8(END);
    this.writer.flush();
    this.hasWord = false;
    this.isEnding = true;
  }
}
