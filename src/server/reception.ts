/**
 * Where connections come to that are more than there may be. What they say first decides: peers
 * that say PEER, and administration from this machine, have places kept for them; anybody else is
 * told that there is no room, in its own words, and is closed. Who says nothing is told in a line.
 *
 * No more than a few wait here, because each holds an open file; the rest is closed at once.
 */
import type { Dialect, Reply } from "../protocol/reply.ts";
import type { Arrival, SocketHandler } from "./socket-handler.ts";

/** What a connection is that got in beyond `max_connections`. */
export type Reserve = "peer" | "administration";

/** Places kept for each. */
export const RESERVES: Readonly<Record<Reserve, number>> = { peer: 8, administration: 4 };
/** Most connections that wait here, or to be closed. */
const RECEPTION_PLACES = 16;
/** Open files that all of that may take. */
export const RESERVED_PLACES = RECEPTION_PLACES + RESERVES.peer + RESERVES.administration;

/** How long one may take to say something, and then to close, in ms. */
const PATIENCE_MS = 1_000;
/** The first line or request is decided by this much of it at the latest. */
const LOOK_BYTES = 64;

/** What the listener does with those that are let in, and how they are told. */
export interface ReceptionOptions {
  /** Admits the socket if a place of this kind is free, and gives it what came first. */
  admit(arrival: Arrival, reserve: Reserve, first: Uint8Array): boolean;
  /** Told of everyone turned away. */
  onRefused(address: string): void;
  readonly lineDialect: () => Dialect;
  readonly reply: Reply;
  nowMs(): number;
}

/** See the file header. */
export class Reception {
  /** Oldest first. */
  private readonly visitors = new Set<Visitor>();

  constructor(readonly options: ReceptionOptions) {}

  /** Takes in a connection for which there is no ordinary place. */
  receive(arrival: Arrival): void {
    const { socket } = arrival;
    const visitor = new Visitor(arrival, this);
    socket.data = visitor;
    if (this.visitors.size < RECEPTION_PLACES) return void this.visitors.add(visitor);
    visitor.refuse();
    socket.terminate();
  }

  /** Ends waiting that takes too long; called a few times a second. */
  tick(): void {
    const now = this.options.nowMs();
    for (const visitor of this.visitors) {
      if (now - visitor.sinceMs < PATIENCE_MS) break;
      if (visitor.isRefused) visitor.leave();
      else visitor.refuse();
    }
  }

  /** Closes everything. */
  close(): void {
    for (const visitor of this.visitors) visitor.leave();
  }

  /** Puts a visitor that has been told last in line, to be closed in a while. */
  told(visitor: Visitor): void {
    if (this.visitors.delete(visitor)) this.visitors.add(visitor);
  }

  /** Forgets a visitor. */
  gone(visitor: Visitor): void {
    this.visitors.delete(visitor);
  }
}

class Visitor implements SocketHandler {
  sinceMs: number;
  isRefused = false;
  private first: Uint8Array = new Uint8Array(0);

  constructor(
    private readonly arrival: Arrival,
    private readonly reception: Reception,
  ) {
    this.sinceMs = reception.options.nowMs();
  }

  onData(chunk: Uint8Array): void {
    if (this.isRefused) return;
    this.first = this.first.length === 0 ? chunk : Buffer.concat([this.first, chunk]);
    const text = Buffer.from(this.first.subarray(0, LOOK_BYTES)).toString("latin1");
    const words = firstWords(text);
    if (words === null && this.first.length < LOOK_BYTES) return;
    const reserve = reserveFor(words ?? "", this.arrival.address);
    const { options } = this.reception;
    if (reserve !== null && options.admit(this.arrival, reserve, this.first)) {
      return this.reception.gone(this);
    }
    this.refuse();
  }

  onDrain(): void {}

  onEnd(): void {
    this.refuse();
  }

  onClose(): void {
    this.reception.gone(this);
  }

  leave(): void {
    this.reception.gone(this);
    this.arrival.socket.terminate();
  }

  /** Says why, and that this is all. */
  refuse(): void {
    if (this.isRefused) return;
    this.isRefused = true;
    const { options } = this.reception;
    options.onRefused(this.arrival.address);
    // The line fits an empty send buffer.
    if (this.first[0] === STAR) this.arrival.socket.write("-ERR max number of clients reached\r\n");
    else {
      const { reply, lineDialect } = options;
      reply.reset();
      reply.dialect = lineDialect();
      reply.error("Too many connections");
      this.arrival.socket.write(reply.bytes.subarray(0, reply.length));
    }
    this.arrival.socket.shutdown();
    this.sinceMs = options.nowMs();
    this.reception.told(this);
  }
}

/** What an administrator's tool begins with. */
const ADMINISTRATION =
  /^(AUTH|INFO|STATS|MEMORY|CLIENT|CONFIG|SHUTDOWN|REPLICATE|BACKUP|SYNC|DIALECT)\b/i;
const LOOPBACK = /^(127\.|\[::1\]|\[::ffff:127\.)/;

function reserveFor(words: string, address: string): Reserve | null {
  if (/^PEER( ROUND)?$/i.test(words)) return "peer";
  return LOOPBACK.test(address) && ADMINISTRATION.test(words) ? "administration" : null;
}

/** The first line, or the first word of a RESP array; null before it is whole. */
function firstWords(text: string): string | null {
  const pattern = text.startsWith("*") ? /^\*\d+\r\n\$\d+\r\n([^\r]*)\r/ : /^([^\r\n]*)\r?\n/;
  return pattern.exec(text)?.[1] ?? null;
}

const STAR = 0x2a;
