/** What the two sides of a session have in common, whichever they are. */
import type { MerkleTree } from "../tree/merkle.ts";
import type { EntryFlow } from "./entries.ts";
import type { FrameReader, FrameWriter } from "./frames.ts";
import type { SyncCounts } from "./result.ts";
import type { DigestShortener } from "./short-digest.ts";

/**
 * What follows when a piece of a side's turn was said: more of it, the peer's turn, the peer's turn
 * with nothing left to list here, or the end.
 */
export type SpokenPart = "more" | "turn" | "done" | "end";

/** The parts of a session that both sides use. */
export interface SharedBySides {
  readonly tree: MerkleTree;
  readonly reader: FrameReader;
  readonly writer: FrameWriter;
  readonly flow: EntryFlow;
  readonly counts: SyncCounts;
  readonly shortener: DigestShortener;
  /** Below that node of the level above the buckets the two trees differ. */
  readonly onDiffering: (node: number) => void;
  /** The features that both sides have (`capabilities.ts`); 0 until the other has said which. */
  features: number;
}
