/** Text put together as bytes, in memory that is kept for the next one. */

const FIRST_BYTES = 32 * 1024;
/** Most bytes of a character in UTF-8, for each of its units in a string. */
const UNIT_BYTES = 3;
const DIGIT_0 = 0x30;
const LF = 0x0a;
/** Beyond this, digits of a number are not worked out here. */
const SMALL = 0x7fff_ffff;
const SMALL_DIGITS = 10;

/** See the file header. */
export class TextBuffer {
  /** How many bytes there are. */
  length = 0;
  private bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);

  /** Begins anew. */
  clear(): void {
    this.length = 0;
  }

  /** Takes back what is behind so many bytes. */
  cutTo(length: number): void {
    this.length = length;
  }

  /** Adds bytes. */
  add(bytes: Uint8Array): void {
    this.makeRoom(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** Adds what is there already. */
  repeat(start: number, bytes: number): void {
    this.makeRoom(bytes);
    this.bytes.copyWithin(this.length, start, start + bytes);
    this.length += bytes;
  }

  /** Adds a text. */
  addText(text: string): void {
    this.makeRoom(UNIT_BYTES * text.length);
    this.length += this.bytes.write(text, this.length, "utf8");
  }

  /** Adds bytes, a number as Prometheus has it, and the end of the line. */
  addSample(bytes: Uint8Array, value: number): void {
    this.add(bytes);
    if (value >= 0 && value <= SMALL && Number.isInteger(value)) this.addSmall(value);
    else if (Number.isFinite(value)) this.addText(String(value));
    else this.addText(Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
    this.makeRoom(1);
    this.bytes[this.length++] = LF;
  }

  /** A copy of all that is there. */
  copy(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.bytes.subarray(0, this.length));
  }

  /** All that is there. */
  toString(): string {
    return this.bytes.toString("utf8", 0, this.length);
  }

  /** A whole number from 0 to SMALL. */
  private addSmall(value: number): void {
    this.makeRoom(SMALL_DIGITS);
    let digits = 1;
    for (let power = 10; digits < SMALL_DIGITS && value >= power; power *= 10) digits++;
    let left = value;
    for (let at = this.length + digits - 1; at >= this.length; at--) {
      const tenth = Math.floor(left / 10);
      this.bytes[at] = DIGIT_0 + left - 10 * tenth;
      left = tenth;
    }
    this.length += digits;
  }

  private makeRoom(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}
