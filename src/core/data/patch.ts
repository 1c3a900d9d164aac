/** What a write changed of a long string, for whoever writes changes down. */
import { Entry, type VersionWords } from "./entry.ts";

/** Reusable like an Entry, and valid as long. */
export class Patch {
  /**
   * Key, version and expiry of the string as it is now. The value is only what was written:
   * nothing, when just the expiry is another.
   */
  readonly entry = new Entry();
  /** From which byte of the string on the value was written over what was there. */
  at = 0;
  /** The version that was changed. To any other one the patch means nothing. */
  readonly previous: VersionWords = { timeHigh: 0, timeLow: 0, originHigh: 0, originLow: 0 };
}
