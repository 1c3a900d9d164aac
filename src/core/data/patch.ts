/** What a write changed of a long string, for whoever writes changes down. */
import { Entry, newVersion, type VersionWords } from "./entry.ts";

/** Reusable like an Entry, and valid as long. */
export class Patch {
  /** Key and version of the string as it is now. The value is only what was written. */
  readonly entry = new Entry();
  /** From which byte of the string on the value took the place of what was there. */
  at = 0;
  /** Of how many bytes it took the place. */
  removed = 0;
  /** The version that was changed. To any other one the patch means nothing. */
  readonly previous: VersionWords = newVersion();
  /** It is one of an earlier version, whose patches gave the string another expiry, too. */
  hasExpiry = false;
}
