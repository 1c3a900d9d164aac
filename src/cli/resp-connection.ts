/**
 * A connection to a node in Redis' protocol, for what does not go into lines: one request at a
 * time.
 */
import type { Socket } from "node:net";
import { formatHostPort } from "../config/address.ts";
import { OperationalError } from "../operational-error.ts";
import type { Login } from "./login.ts";
import { connectToNode, reasonOf, type NodePlace } from "./connect.ts";

/** A reply: text or number as text, bytes, or several. */
export type RespValue = string | Buffer | readonly RespValue[];

const CONNECT_WITHIN_MS = 10_000;
/** How long a node may be silent before each part of a reply. */
const ANSWER_WITHIN_MS = 60_000;
/**
 * A connection on which nothing moves is asked after this long whether the machine is still there.
 */
const KEEP_ALIVE_MS = 30_000;

/** With what the message begins of an error that a node answered with. */
export const NODE_ANSWERS = "the node answers: ";

/** What to do about an error of a node's, where that is for who asks. */
function adviceOn(error: string): string {
  if (!error.startsWith("NOAUTH ")) return "";
  return " Log in: --user NAME, and --askpass or --pass-file FILE";
}

/** See the file header. */
export class RespConnection {
  private pending: Buffer = Buffer.alloc(0);
  private isOver = false;
  private withinMs = ANSWER_WITHIN_MS;
  private onChange: () => void = () => {};

  private problem = "the node closed the connection";

  private constructor(
    private readonly socket: Socket,
    isTls: boolean,
  ) {
    socket.on("data", (piece: Buffer) => {
      this.pending = this.pending.length === 0 ? piece : Buffer.concat([this.pending, piece]);
      this.onChange();
    });
    // "close" follows.
    socket.on("error", (error) => (this.problem = reasonOf(error, isTls)));
    socket.on("close", () => {
      this.isOver = true;
      this.onChange();
    });
  }

  /** Connects. Throws an OperationalError when no node answers within that time. */
  static async open(place: NodePlace, withinMs = CONNECT_WITHIN_MS): Promise<RespConnection> {
    const socket = await connectToNode(place, withinMs);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const connection = new RespConnection(socket, place.security !== null);
    try {
      await connection.ask(["PING"], withinMs).catch((error: Error) => {
        // Whoever may not say that is at a node all the same.
        if (!/ (NOPERM|NOAUTH) /.test(error.message)) throw error;
      });
    } catch (error) {
      connection.close();
      const { message } = error as Error;
      throw new OperationalError(
        `${formatHostPort(place.host, place.port)} is no node: ${message}`,
      );
    }
    if (place.login) await connection.logIn(place.login, place);
    return connection;
  }

  private async logIn({ user, password }: Login, { host, port }: NodePlace): Promise<void> {
    try {
      await this.ask(["AUTH", user, password]);
    } catch (error) {
      this.close();
      const why = (error as Error).message;
      throw new OperationalError(`cannot log in at ${formatHostPort(host, port)}: ${why}`);
    }
  }

  /**
   * Sends a request and awaits its reply. Throws an OperationalError with the node's error, or when
   * it is silent for `withinMs`.
   */
  async ask(words: readonly string[], withinMs = ANSWER_WITHIN_MS): Promise<RespValue> {
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    this.socket.write(`*${words.length}\r\n${parts.join("")}`);
    this.withinMs = withinMs;
    return this.readValue();
  }

  /** Ends the connection. */
  close(): void {
    this.socket.destroy();
  }

  private async readValue(): Promise<RespValue> {
    const line = (await this.consume(() => this.pending.indexOf("\r\n"), 2)).toString();
    const rest = line.slice(1);
    switch (line[0]) {
      case "$":
        return this.consume(() => (this.pending.length < Number(rest) + 2 ? -1 : Number(rest)), 2);
      case "*": {
        const values: RespValue[] = [];
        for (let i = Number(rest); i > 0; i--) values.push(await this.readValue());
        return values;
      }
      case "+":
      case ":":
        return rest;
      default:
        throw new OperationalError(
          `${NODE_ANSWERS}${rest.replace(/^ERR (Internal error - )?/, "")}${adviceOn(rest)}`,
        );
    }
  }

  /** Waits until `measure` finds a piece (-1: not yet) and takes it, and `skipped` bytes more. */
  private async consume(measure: () => number, skipped: number): Promise<Buffer> {
    for (;;) {
      const length = measure();
      if (length >= 0) {
        const piece = this.pending.subarray(0, length);
        this.pending = this.pending.subarray(length + skipped);
        return piece;
      }
      if (this.isOver) throw new OperationalError(this.problem);
      await this.change();
    }
  }

  private async change(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.onChange = resolve;
    if (this.withinMs === Infinity) return promise;
    const seconds = this.withinMs / 1000;
    const late = (): void => reject(new OperationalError(`it did not answer within ${seconds} s`));
    const timer = setTimeout(late, this.withinMs);
    await promise.finally(() => clearTimeout(timer));
  }
}
