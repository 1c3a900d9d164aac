/**
 * The end of a session that verifies: both sides bring their trees up to now and tell their roots
 * (ROOT), and the initiator says whether they are equal.
 */
import type { Comparison } from "./comparison.ts";
import type { SharedBySides } from "./shared.ts";
import { HAS_SET_ASIDE, OTHERS_WROTE, ROOT, ROOT_BYTES } from "./items.ts";
import type { WriteWatch } from "./write-watch.ts";

/** See the file header. */
export class Verification {
  /** Initiator: it has begun. Responder: the peer's root has come, and is to be answered. */
  isUnderWay = false;

  constructor(
    private readonly parts: SharedBySides,
    private readonly comparison: Comparison,
    private readonly watch: WriteWatch,
  ) {}

  /** Says this side's root; the tree has to be up to now. */
  say(): void {
    const { writer, flow } = this.parts;
    writer.reserve(2 + ROOT_BYTES);
    writer.u8(ROOT);
    writer.copy(this.comparison.root(), 0, ROOT_BYTES);
    const setAside = flow.leavesDifferences ? HAS_SET_ASIDE : 0;
    writer.u8((this.watch.othersWrote ? OTHERS_WROTE : 0) | setAside);
  }

  /** Handles a ROOT, whose tag has been read. False when it is malformed or out of place. */
  handle(isInitiator: boolean): boolean {
    const { reader, counts, flow } = this.parts;
    const at = reader.skip(ROOT_BYTES);
    const flags = reader.u8();
    if (reader.overrun || isInitiator !== this.isUnderWay) return false;
    if (!isInitiator) this.isUnderWay = true;
    else {
      const othersWrote = (flags & OTHERS_WROTE) !== 0 || this.watch.othersWrote;
      const isEqual = this.comparison.hasRoot(reader.bytes, at);
      // Roots that differ prove nothing when somebody else wrote in between.
      counts.rootsEqual = isEqual ? true : othersWrote ? null : false;
      counts.hasSetAside = (flags & HAS_SET_ASIDE) !== 0 || flow.leavesDifferences;
    }
    return true;
  }
}
