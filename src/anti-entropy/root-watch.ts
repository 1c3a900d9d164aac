/**
 * Notices peers that hold something else than this node while nothing is under way that would make
 * them equal. The numbers of batches tell who missed something of somebody who goes on to say so;
 * but who wrote it may be gone, and then nothing differs but the roots of those that are left.
 *
 * Roots are of a moment a little back, and what is written changes them one node after the other.
 * So a difference counts when this node's root stood still for a while before the other was heard
 * of, and for as long after: what the other had sent by then has arrived, and changed it.
 */
import { WATERMARK_STEP_MS } from "../core/sync/watermark.ts";
import type { Peer } from "./peer.ts";
import { LAG_MS } from "./tree-updater.ts";

/** What is written has changed the root after this time, in ms. */
const STILL_MS = LAG_MS + WATERMARK_STEP_MS;

/** See the file header. Times are those of the scheduler. */
export class RootWatch {
  private rootHex: string | null = null;
  private sinceMs = -Infinity;
  /** It has changed and did not stand still since. */
  private isMoving = false;
  /** Peers that were heard of with another root: that root, and when it was first heard of. */
  private readonly heard = new Map<Peer, { readonly root: string; readonly heardMs: number }>();

  /** This node's root is that. True when it has changed and stands still again. */
  look(rootHex: string | null, nowMs: number): boolean {
    if (rootHex !== this.rootHex) {
      this.isMoving = this.rootHex !== null;
      this.rootHex = rootHex;
      this.sinceMs = nowMs;
    }
    if (!this.isMoving || nowMs - this.sinceMs < STILL_MS) return false;
    this.isMoving = false;
    return true;
  }

  /** A peer says that its root is that; null when it does not know. */
  note(peer: Peer, root: string | null, nowMs: number): void {
    const isOther = root !== null && this.rootHex !== null && root !== this.rootHex;
    if (!isOther) this.heard.delete(peer);
    else if (this.heard.get(peer)?.root !== root) this.heard.set(peer, { root, heardMs: nowMs });
  }

  /** Those that hold something else. Each is said once for each time it was heard of. */
  takeDiffering(nowMs: number): Peer[] {
    const differing: Peer[] = [];
    for (const [peer, { heardMs }] of this.heard) {
      const wasMoving = this.sinceMs > heardMs - STILL_MS;
      if (!wasMoving && nowMs - heardMs < STILL_MS) continue;
      this.heard.delete(peer);
      // A peer whose root has moved meanwhile announces it again when it stands still.
      if (!wasMoving) differing.push(peer);
    }
    return differing;
  }
}
