/** How a session ends: the peer is told when it fails, and whoever began it how it came out. */
import type { Comparison } from "./comparison.ts";
import { FrameWriter } from "./frames.ts";
import { writeText } from "./hello.ts";
import type { SharedBySides } from "./shared.ts";
import { FAIL } from "./items.ts";
import { UP_TO_NOW, type SyncSessionOptions } from "./options.ts";
import { FAILURES, type SyncFailure } from "./result.ts";

/** The end of one session. */
export class Ending {
  isEnded = false;

  /** `release` gives back what the session holds in the store. */
  constructor(
    private readonly options: Pick<SyncSessionOptions, "onEnd">,
    private readonly parts: SharedBySides,
    private readonly comparison: Comparison,
    private readonly release: () => void,
  ) {}

  /** Ends the session because of the peer, and tells it. */
  fail(failure: SyncFailure, reason: string): true {
    sayFailure(this.parts.writer, failure, reason);
    this.finish(failure, reason);
    return true;
  }

  /** Ends it without a word. `failure` is null when it was complete. The first call counts. */
  finish(failure: SyncFailure | null, reason: string): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.release();
    const { counts, reader, writer } = this.parts;
    const { missed: _, missedBecause: __, ...result } = counts;
    this.options.onEnd({
      ok: failure === null,
      failure,
      reason,
      bytesSent: writer.bytesSent,
      bytesReceived: reader.bytesReceived,
      isFetch: this.comparison.mode === "fetch",
      isUpToNow: failure === null && UP_TO_NOW.includes(this.comparison.mode),
      ...result,
    });
  }
}

/** The frame by which a side that never began a session says why it does not. */
export function failureFrame(failure: SyncFailure, reason: string): Uint8Array {
  let said = new Uint8Array(0);
  sayFailure(new FrameWriter((frame) => (said = new Uint8Array(frame))), failure, reason);
  return said;
}

function sayFailure(writer: FrameWriter, failure: SyncFailure, reason: string): void {
  writer.reserve(2048);
  writer.u8(FAIL);
  writer.u8(FAILURES.indexOf(failure));
  writeText(writer, reason);
  writer.flush();
}
