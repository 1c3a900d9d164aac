/** Who wrote a version: nodes as entries name them. */

/** A node's short name in versions, two unsigned 32-bit words; see `originOf`. */
export interface Origin {
  readonly high: number;
  readonly low: number;
}

const digest = new Uint8Array(32);
const view = new DataView(digest.buffer);

/** Origins looked up so far: of each of thousands of nodes it is asked for again and again. */
const known = new Map<string, Origin>();
/** Twice as many as there are members of a cluster: names may be made up. */
const MAX_KNOWN = 8_192;

/** The origin of a node: the first 8 bytes of the SHA-256 of its id. */
export function originOf(nodeId: string): Origin {
  let origin = known.get(nodeId);
  if (origin === undefined) {
    Bun.SHA256.hash(nodeId, digest);
    origin = { high: view.getUint32(0), low: view.getUint32(4) };
    if (known.size === MAX_KNOWN) known.clear();
    known.set(nodeId, origin);
  }
  return origin;
}
