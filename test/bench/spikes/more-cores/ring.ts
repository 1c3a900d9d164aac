/**
 * A part of the spike `more-cores.ts`: records from one thread to another, through shared memory.
 * One writes, one reads. A record is five words, the key and the value; records do not wrap around.
 */
import { copyBytes } from "../../../../src/core/data/entry.ts";

const CAPACITY = 1 << 20;
const HEAD_BYTES = 20;
/** Words of the control block, each in a cache line of its own. */
const READ = 0;
const WRITTEN = 16;
const ASLEEP = 32;
const CALLS = 48;
const CONTROL_BYTES = 256;

/** How a sleeping reader is woken: `Atomics.notify`, or a message to its thread. */
export type Wake = "notify" | "message";

/** What a record is: a request or the reply to one. */
export const SET = 1;
export const GET = 2;
export const OTHER = 3;
export const OK = 4;
export const VALUE = 5;
export const MISSING = 6;

/** See the file header. Each side makes its own over the same memory. */
export class Ring {
  readonly bytes: Uint8Array;
  connection = 0;
  kind = 0;
  keyAt = 0;
  keyLength = 0;
  valueAt = 0;
  valueLength = 0;
  private readonly control: Int32Array;
  private readonly words: Int32Array;
  private at = 0;
  private end = 0;

  constructor(readonly memory = new SharedArrayBuffer(CONTROL_BYTES + CAPACITY)) {
    this.control = new Int32Array(memory, 0, CONTROL_BYTES / 4);
    this.bytes = new Uint8Array(memory, CONTROL_BYTES);
    this.words = new Int32Array(memory, CONTROL_BYTES);
  }

  /** Writes a record. The spike has no back-pressure: a full ring is an error. */
  put(
    connection: number,
    kind: number,
    from: Uint8Array,
    keyAt: number,
    keyLength: number,
    valueAt: number,
    valueLength: number,
  ): void {
    const size = (HEAD_BYTES + keyLength + valueLength + 3) & ~3;
    let start = this.at & (CAPACITY - 1);
    if (start + size > CAPACITY) {
      this.words[start >> 2] = 0;
      this.at = (this.at + CAPACITY - start) | 0;
      start = 0;
    }
    this.at = (this.at + size) | 0;
    const used = (this.at - Atomics.load(this.control, READ)) | 0;
    if (used > CAPACITY) throw new Error("the ring is full");
    const { words, bytes } = this;
    const word = start >> 2;
    words[word] = size;
    words[word + 1] = connection;
    words[word + 2] = kind;
    words[word + 3] = keyLength;
    words[word + 4] = valueLength;
    copyBytes(from, keyAt, keyLength, bytes, start + HEAD_BYTES);
    copyBytes(from, valueAt, valueLength, bytes, start + HEAD_BYTES + keyLength);
  }

  /** Shows the reader what was written. Whether it sleeps, and is to be woken. */
  publish(): boolean {
    Atomics.store(this.control, WRITTEN, this.at);
    return (
      Atomics.load(this.control, ASLEEP) === 1 && Atomics.exchange(this.control, ASLEEP, 0) === 1
    );
  }

  /** Reads the next record into the fields; false when there is none. */
  next(): boolean {
    if (this.at === this.end) {
      this.end = Atomics.load(this.control, WRITTEN);
      if (this.at === this.end) return false;
    }
    const { words } = this;
    let start = this.at & (CAPACITY - 1);
    if (words[start >> 2] === 0 || start + HEAD_BYTES > CAPACITY) {
      this.at = (this.at + CAPACITY - start) | 0;
      start = 0;
    }
    const word = start >> 2;
    this.at = (this.at + words[word]) | 0;
    this.connection = words[word + 1];
    this.kind = words[word + 2];
    this.keyLength = words[word + 3];
    this.valueLength = words[word + 4];
    this.keyAt = start + HEAD_BYTES;
    this.valueAt = this.keyAt + this.keyLength;
    return true;
  }

  /** The writer may use again what was read. */
  free(): void {
    Atomics.store(this.control, READ, this.at);
  }

  /** Says that the reader sleeps; false when there is something to read after all. */
  sleep(): boolean {
    Atomics.store(this.control, ASLEEP, 1);
    if (Atomics.load(this.control, WRITTEN) === this.at) return true;
    return Atomics.exchange(this.control, ASLEEP, 0) === 0;
  }

  /** Calls `task` at every `notify`. */
  onNotify(task: () => void): void {
    const seen = Atomics.load(this.control, CALLS);
    const wait = Atomics.waitAsync(this.control, CALLS, seen);
    const goOn = (): void => {
      this.onNotify(task);
      task();
    };
    if (wait.async) void wait.value.then(goOn);
    else queueMicrotask(goOn);
  }

  notify(): void {
    Atomics.add(this.control, CALLS, 1);
    Atomics.notify(this.control, CALLS);
  }
}
