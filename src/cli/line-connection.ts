/**
 * A connection to a node that sends lines and gets back whole replies.
 *
 * How many lines a reply has depends on the command, so every request is followed by a
 * mark, which is no command: replies come in order, thus all that comes before the error about the
 * mark is the reply. This holds for any command, known here or not, and whatever the user may do.
 */
import type { Socket } from "node:net";
import { formatHostPort } from "../config/address.ts";
import { OperationalError } from "../operational-error.ts";
import type { Login } from "./login.ts";
import { connectToNode, reasonOf, type NodePlace } from "./connect.ts";

/** What came back for one request. */
export interface ReceivedReply {
  /** The bytes exactly as they came, line ends included. */
  readonly bytes: Buffer;
  /** Whether the node ended the connection instead of, or after, replying. */
  readonly isLast: boolean;
}

const CONNECT_WITHIN_MS = 10_000;
/** Length of a mark (a UUID), what is behind it in the error, and the line's end. */
const END_BYTES = 39;

/** One connection, in the plain dialect. One request at a time. */
export class LineConnection {
  private pieces: Buffer[] = [];
  /** The last bytes that came, as many as an end mark has. */
  private tail: Buffer = Buffer.alloc(0);
  /** Whether the connection has ended, by either side. */
  isOver = false;
  private onChange: () => void = () => {};

  private problem = "the connection was closed at once";

  private constructor(
    private readonly socket: Socket,
    isTls: boolean,
    private readonly mark: string,
  ) {
    socket.on("data", (piece: Buffer) => {
      this.pieces.push(piece);
      this.tail = Buffer.concat([this.tail, piece.subarray(-END_BYTES)]).subarray(-END_BYTES);
      this.onChange();
    });
    // "close" follows.
    socket.on("error", (error) => (this.problem = reasonOf(error, isTls)));
    socket.on("close", () => {
      this.isOver = true;
      this.onChange();
    });
  }

  /** Connects, within 10 s. Throws an OperationalError when there is no node. */
  static async open(place: NodePlace): Promise<LineConnection> {
    const socket = await connectToNode(place, CONNECT_WITHIN_MS);
    const isTls = place.security !== null;
    const connection = new LineConnection(socket, isTls, crypto.randomUUID());
    // A node that turns this connection away says why, to whatever is asked first.
    const { bytes, isLast } = await connection.request("DIALECT plain");
    if (!isLast) {
      if (place.login) await connection.logIn(place.login, place);
      return connection;
    }
    const why = bytes.toString().trim() || connection.problem;
    throw new OperationalError(`cannot talk to ${formatHostPort(place.host, place.port)}: ${why}`);
  }

  private async logIn(login: Login, { host, port }: NodePlace): Promise<void> {
    const answer = await this.ask(authLine(login));
    if (answer === "OK") return;
    this.close();
    const why = answer.replace(/^ERROR: /, "");
    throw new OperationalError(`cannot log in at ${formatHostPort(host, port)}: ${why}`);
  }

  /** Sends one or more lines (without the last line end) and awaits all they are answered with. */
  async request(lines: string | Uint8Array): Promise<ReceivedReply> {
    this.socket.write(lines);
    this.socket.write(`\n${this.mark}\n`);
    for (;;) {
      // The mark is looked for at the very end only: nothing was asked for after it.
      const tail = this.tail.toString("latin1").trimEnd();
      if (tail.endsWith(`${this.mark}'`)) {
        const all = Buffer.concat(this.pieces.splice(0));
        this.tail = Buffer.alloc(0);
        const bytes = all.subarray(0, all.lastIndexOf(10, all.length - 2) + 1);
        return { bytes, isLast: false };
      }
      if (this.isOver) return { bytes: Buffer.concat(this.pieces.splice(0)), isLast: true };
      await this.change();
    }
  }

  /** Like `request`, for one line that is answered with one; without its line end. */
  async ask(line: string): Promise<string> {
    const { bytes, isLast } = await this.request(line);
    if (isLast) throw new OperationalError("the node closed the connection");
    return bytes.toString().trimEnd();
  }

  /** Ends the connection. */
  close(): void {
    this.socket.destroy();
  }

  private change(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.onChange = resolve;
    return promise;
  }
}

/** The line with which one logs in. */
export function authLine({ user, password }: Login): string {
  return `AUTH ${user} ${quoted(password)}`;
}

/** A word as the plain dialect has it in quotes. */
export function quoted(word: string): string {
  const short: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  const escaped = word.replace(/["\\]/g, "\\$&").replace(/[\x00-\x1f\x7f]/g, (character) => {
    return short[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
  return `"${escaped}"`;
}
