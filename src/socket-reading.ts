/**
 * Whether a connection's socket is read from: not while the connection has enough to do with what
 * it holds, and not when large chunks come, until others had their turn.
 */
import type { Socket } from "bun";
import type { ReadingTurns, Sender } from "./reading-turns.ts";

/** See the file header. */
export class SocketReading implements Sender {
  /** Whether the connection has asked for a pause. */
  isPaused = false;
  private awaitsTurn = false;
  private isStopped = false;

  constructor(
    private readonly socket: Pick<Socket, "pause" | "resume">,
    private readonly turns: ReadingTurns,
  ) {}

  /** Reads nothing until `resume`. */
  pause(): void {
    this.isPaused = true;
    this.stopOrGo();
  }

  /** Reads on, when it is this socket's turn. */
  resume(): void {
    this.isPaused = false;
    this.stopOrGo();
  }

  /** Lets others be read from before more is. */
  awaitTurn(): void {
    if (this.awaitsTurn) return;
    this.awaitsTurn = true;
    this.stopOrGo();
    this.turns.wait(this);
  }

  /** Its turn has come. */
  onReadingTurn(): void {
    this.awaitsTurn = false;
    this.stopOrGo();
  }

  /** The socket is gone. */
  forget(): void {
    this.turns.forget(this);
  }

  private stopOrGo(): void {
    const isStopped = this.isPaused || this.awaitsTurn;
    if (isStopped === this.isStopped) return;
    this.isStopped = isStopped;
    if (isStopped) this.socket.pause();
    else this.socket.resume();
  }
}
