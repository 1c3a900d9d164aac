/**
 * Small chunks that come in one turn of the event loop, each from another client, are handed on
 * together at its end. A client that waits for each reply sends one request at a time, and to look
 * up its key means to wait for memory three times in a row. With those of several clients at hand,
 * the memory for all of them is loaded at once (`read-ahead.ts`), as for a pipeline.
 *
 * To be handed on later takes a call of its own. Where hardly anybody comes together with others
 * that is not worth it, so then chunks are handed on as they come, and it is tried again once in a
 * while.
 *
 * Nothing changes for a single client: what else is heard of a connection comes after its chunks.
 */
import type { Socket } from "bun";
import type { Timing } from "../timing.ts";
import type { ReadAhead } from "./read-ahead.ts";
import type { SocketHandler } from "./socket-handler.ts";

/** A chunk of this size has enough requests to be looked at by itself, or a long value. */
const SMALL_BYTES = 512;
/** Fewer than this in a turn are not worth the call. */
const WORTH_CHUNKS = 4;
/** After a turn that was not worth it so many chunks are handed on as they come. */
const CHUNKS_UNTIL_NEXT_TRY = 64;

/** What it is made with. */
export interface SmallChunksOptions {
  readonly readAhead: ReadAhead;
  readonly timing: Timing;
  /** A chunk could not be handed on: a mistake of ours. */
  onError(socket: Socket<SocketHandler>, error: Error): void;
}

/** See the file header. */
export class SmallChunks {
  private readonly sockets: Socket<SocketHandler>[] = [];
  private readonly chunks: Uint8Array[] = [];
  private isScheduled = false;
  private isHandingOn = false;
  private untilNextTry = 0;

  constructor(private readonly options: SmallChunksOptions) {}

  /** Takes a chunk, to hand it on now or at the end of this turn. */
  add(socket: Socket<SocketHandler>, chunk: Uint8Array): void {
    if (chunk.length > SMALL_BYTES || this.untilNextTry > 0) {
      if (this.untilNextTry > 0) this.untilNextTry--;
      this.flush();
      socket.data?.onData(chunk);
      return;
    }
    this.sockets.push(socket);
    this.chunks.push(chunk);
    if (this.isScheduled) return;
    this.isScheduled = true;
    this.options.timing.soon(this.endTurn);
  }

  private readonly endTurn = (): void => {
    this.isScheduled = false;
    if (this.chunks.length < WORTH_CHUNKS) this.untilNextTry = CHUNKS_UNTIL_NEXT_TRY;
    this.flush();
  };

  /** Hands on what has come: something else is about to be told, which came after it. */
  flush(): void {
    const { sockets, chunks } = this;
    // A handler may end connections, and those are told at once.
    if (chunks.length === 0 || this.isHandingOn) return;
    this.isHandingOn = true;
    const { readAhead } = this.options;
    for (let at = 0; at < chunks.length;) {
      const end = readAhead.beginMany(chunks, at);
      for (; at < end; at++) this.handOn(sockets[at], chunks[at]);
      readAhead.endMany();
    }
    sockets.length = chunks.length = 0;
    this.isHandingOn = false;
  }

  private handOn(socket: Socket<SocketHandler>, chunk: Uint8Array): void {
    try {
      socket.data?.onData(chunk);
    } catch (error) {
      this.options.onError(socket, error as Error);
    }
  }
}
