/**
 * Reads replies in Redis' protocol as values, for whoever runs commands within the node. It reads
 * what `reply.ts` writes in RESP3, whole: bytes that are nothing of the kind are a mistake of ours.
 */

/** An error as RESP has it: a code in capitals, then words. */
export class RespError {
  constructor(
    readonly code: string,
    readonly message: string,
  ) {}
}

/**
 * A reply: null for what is not there, bytes for a value, a string for a word such as `OK`, a
 * bigint for a number. A map is a list of its keys and values in turn.
 */
export type RespReply = null | string | bigint | Uint8Array | RespError | readonly RespReply[];

/** The first reply in `bytes`. Its byte strings are views. Throws when there is none. */
export function readRespReply(bytes: Uint8Array): RespReply {
  return new RespReader(bytes).next();
}

/** The items of a list, each read when it is asked for; null for a reply that is no list. */
export function respItems(bytes: Uint8Array): Iterable<RespReply> | null {
  return bytes[0] === LIST || bytes[0] === MAP ? new RespReader(bytes).items() : null;
}

class RespReader {
  private at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  *items(): Iterable<RespReply> {
    const lineEnd = this.bytes.indexOf(CR);
    const count = Number(Buffer.from(this.bytes.subarray(1, lineEnd)).toString());
    this.at = lineEnd + 2;
    const isMap = this.bytes[0] === MAP;
    for (let i = 0; i < (isMap ? 2 * count : count); i++) yield this.next();
  }

  next(): RespReply {
    if (this.bytes[this.at] === BULK && this.bytes[this.at + 1] !== MINUS) return this.bulk();
    const type = String.fromCharCode(this.bytes[this.at]);
    const lineEnd = this.bytes.indexOf(CR, this.at);
    if (lineEnd < 0) throw new Error("a reply ends early");
    const line = Buffer.from(this.bytes.subarray(this.at + 1, lineEnd)).toString();
    this.at = lineEnd + 2;
    switch (type) {
      case "+":
        return line;
      case "-": {
        const space = line.indexOf(" ");
        return space < 0
          ? new RespError(line, "")
          : new RespError(line.slice(0, space), line.slice(space + 1));
      }
      case ":":
        return BigInt(line);
      case "_":
        return null;
      case "$":
        // A command may have chosen RESP2.
        return null;
      case "*":
        return this.list(Number(line));
      case "%":
        return this.list(2 * Number(line));
      default:
        throw new Error(`a reply begins with ${JSON.stringify(type)}`);
    }
  }

  /** Of these there may be thousands, so no strings are made. */
  private bulk(): Uint8Array {
    const { bytes } = this;
    let start = this.at + 1;
    let length = 0;
    for (; bytes[start] !== CR; start++) {
      if (start >= bytes.length) throw new Error("a reply ends early");
      length = 10 * length + bytes[start] - DIGIT_0;
    }
    start += 2;
    if (start + length + 2 > bytes.length) throw new Error("a reply ends early");
    this.at = start + length + 2;
    return bytes.subarray(start, start + length);
  }

  private list(count: number): RespReply[] {
    const values: RespReply[] = [];
    for (let i = 0; i < count; i++) values.push(this.next());
    return values;
  }
}

const CR = 0x0d;
const BULK = 0x24;
const MINUS = 0x2d;
const DIGIT_0 = 0x30;
const LIST = 0x2a;
const MAP = 0x25;
