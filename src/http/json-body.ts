/**
 * JSON on its way in. It is short, and has few parts: to read it takes up to 60 ns a byte, and
 * memory for each of its parts. A list in it can be read one item at a time: all its items at once
 * would outlive collections of young objects, and then stay until the next one of everything.
 */

/** Most characters of JSON that come in. */
export const MAX_JSON_BYTES = 1024 * 1024;
/** Most brackets, commas and colons in them, and brackets in one another. */
const MAX_JSON_PARTS = 32_768;
const MAX_JSON_DEPTH = 16;

/** What JSON is of that is an object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** The object that JSON is of; undefined when it is none, or one of very many parts. */
export function parseObject(bytes: Uint8Array): JsonObject | undefined {
  if (!new Outline(bytes, null).isModest) return undefined;
  try {
    const value = parse(bytes, 0, bytes.length);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as JsonObject) : undefined;
  } catch {
    return undefined;
  }
}

/** A list, the items of which are read when they are asked for. */
export class JsonList {
  /** `marks`: where its first bracket lies, each comma between two items, and the last bracket. */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly marks: readonly number[],
  ) {}

  /** How many items there are. */
  get length(): number {
    const { bytes, marks } = this;
    if (marks.length > 2) return marks.length - 1;
    return isBlank(bytes, marks[0] + 1, marks[1]) ? 0 : 1;
  }

  /** The item with that number, from 0 on. Throws a SyntaxError when it is no JSON. */
  at(index: number): unknown {
    const { bytes, marks } = this;
    return parse(bytes, marks[index] + 1, marks[index + 1]);
  }
}

/**
 * The list of that name in the object that JSON is of. Undefined when the JSON is no object but for
 * that list, or one of very many parts; null when it has no list of that name. What the list holds
 * is known to be JSON when each of its items was read once.
 */
export function listIn(bytes: Uint8Array, name: string): JsonList | null | undefined {
  const outline = new Outline(bytes, name);
  const { isModest, marks } = outline;
  if (!isModest) return undefined;
  if (marks === null) return parseObject(bytes) === undefined ? undefined : null;
  const end = marks.at(-1)!;
  if (outline.isInList || bytes[end] !== CLOSE_LIST) return undefined;
  const rest = parseObject(Buffer.concat([bytes.subarray(0, marks[0] + 1), bytes.subarray(end)]));
  if (rest === undefined) return undefined;
  // Of two of one name the last counts, which need not be a list.
  return Array.isArray(rest[name]) ? new JsonList(bytes, marks) : null;
}

/** Where the parts of JSON lie. Of what is no JSON it may say anything. */
class Outline {
  /** Whether there are not very many. */
  readonly isModest: boolean;
  /** Where the last list of that name begins, its commas, and where it ends. */
  marks: number[] | null = null;
  /** Whether that list has not ended. */
  isInList = false;
  private depth = 0;
  private parts = 0;
  /** Whether what comes is the value of that name. */
  private isNamed = false;
  private keyStart = 0;
  private keyEnd = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly name: string | null,
  ) {
    this.isModest = this.read();
  }

  private read(): boolean {
    const { bytes } = this;
    for (let i = 0; i < bytes.length; i++) {
      switch (bytes[i]) {
        case QUOTE: {
          const end = endOfString(bytes, i);
          if (this.depth === 1) [this.keyStart, this.keyEnd] = [i, end + 1];
          i = end;
          break;
        }
        case OPEN_LIST:
        case OPEN_OBJECT:
          if (this.isNamed && this.depth === 1 && bytes[i] === OPEN_LIST) this.beginList(i);
          this.depth++;
          this.parts++;
          break;
        case CLOSE_LIST:
        case CLOSE_OBJECT:
          if (this.isInList && this.depth === 2) this.endList(i);
          this.depth--;
          break;
        case COMMA:
          if (this.isInList && this.depth === 2) this.marks!.push(i);
          if (this.depth === 1) this.isNamed = false;
          this.parts++;
          break;
        case COLON:
          if (this.depth === 1) this.isNamed = this.isKeyTheName();
          this.parts++;
      }
      if (this.parts > MAX_JSON_PARTS || this.depth > MAX_JSON_DEPTH) return false;
    }
    return true;
  }

  private beginList(at: number): void {
    this.marks = [at];
    this.isInList = true;
  }

  private endList(at: number): void {
    this.marks!.push(at);
    this.isInList = false;
  }

  private isKeyTheName(): boolean {
    const { bytes, name, keyStart, keyEnd } = this;
    // Each character may be written in six.
    if (name === null || keyEnd - keyStart > 6 * name.length + 2) return false;
    try {
      return parse(bytes, keyStart, keyEnd) === name;
    } catch {
      return false;
    }
  }
}

function parse(bytes: Uint8Array, start: number, end: number): unknown {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString());
}

/** Where the string ends that begins there. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let i = start + 1; i < bytes.length; i++) {
    if (bytes[i] === BACKSLASH) i++;
    else if (bytes[i] === QUOTE) return i;
  }
  return bytes.length;
}

function isBlank(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (!BLANKS.includes(bytes[i])) return false;
  return true;
}

const BLANKS: readonly number[] = [0x20, 0x09, 0x0a, 0x0d];
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;
const COLON = 0x3a;
