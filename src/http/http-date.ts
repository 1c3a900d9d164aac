/**
 * The time as answers of HTTP tell it (RFC 9110, 6.6.1). It is written once a second, however many
 * there are; where the clock is known to be wrong there is none, as the standard asks for.
 */

/** See the file header. */
export class HttpDate {
  private second = NaN;
  private text = "";

  /** `wallMs`: Unix time in ms; null while nobody knows it. */
  constructor(private readonly wallMs: () => number | null) {}

  /** `Sun, 06 Nov 1994 08:49:37 GMT`; null where there is none. */
  now(): string | null {
    const ms = this.wallMs();
    if (ms === null) return null;
    const second = Math.floor(ms / 1_000);
    if (second !== this.second) {
      this.second = second;
      this.text = new Date(second * 1_000).toUTCString();
    }
    return this.text;
  }
}
