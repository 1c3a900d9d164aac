/**
 * What a node can say to other nodes and understand of them: the versions of the protocol between
 * nodes that it speaks, from the lowest to the highest, and features, each a bit. Nodes use the
 * highest version that all concerned speak and the features that all of them have; nodes without a
 * version in common refuse each other.
 *
 * A new version is for what a node of the one before could not read. What it can do without is a
 * feature. Bits that this program does not know mean nothing to it.
 */

/** See the file header. Versions are integers from 1 to 255, features up to 31 bits. */
export interface Capabilities {
  readonly lowest: number;
  readonly highest: number;
  readonly features: number;
}

/** What nodes use with each other. */
export interface Agreement {
  readonly version: number;
  readonly features: number;
}

/** Feature: reads frames and batches that are compressed (`compression.ts`). */
export const READS_COMPRESSED = 1;

/** Feature: finds the buckets that differ by a sketch (`sync/sketch.ts`) where they are few. */
export const FINDS_BY_SKETCH = 2;

/**
 * Feature: compares, in a session that is sealed with a cluster secret, trees whose key follows
 * from that secret. Without it, and in sessions that are not sealed, the key follows from the
 * cluster's name.
 */
export const KEYS_BY_SECRET = 4;

/** The highest version that can be told. */
export const MAX_VERSION = 255;
/** The largest set of features that can be told. */
export const MAX_FEATURES = 2 ** 31 - 1;

/**
 * What those spoke that do not say what they speak. There is no older version; see
 * docs/operating.md.
 */
export const OLDEST: Capabilities = { lowest: 5, highest: 5, features: 0 };

/**
 * Given to the build (`--define`) that tests let play an older or a newer version: the three
 * numbers, with spaces between them.
 */
declare const MERKLEKV_CAPABILITIES: string | undefined;

/** What this program speaks. */
export const CURRENT: Capabilities =
  typeof MERKLEKV_CAPABILITIES === "string"
    ? parseCapabilities(MERKLEKV_CAPABILITIES)
    : { lowest: 5, highest: 5, features: READS_COMPRESSED | FINDS_BY_SKETCH | KEYS_BY_SECRET };

function parseCapabilities(text: string): Capabilities {
  const [lowest, highest, features] = text.split(" ").map(Number);
  const found = { lowest, highest, features };
  if (!areCapabilities(found)) throw new Error(`these are no capabilities: "${text}"`);
  return found;
}

/** Whether these numbers, which somebody sent, can be somebody's capabilities. */
export function areCapabilities({ lowest, highest, features }: Capabilities): boolean {
  const areVersions = isCount(lowest) && isCount(highest) && lowest >= 1 && highest <= MAX_VERSION;
  return areVersions && lowest <= highest && isCount(features) && features <= MAX_FEATURES;
}

/** What a node and another use with each other; null when there is no version that both speak. */
export function agree(own: Capabilities, theirs: Capabilities): Agreement | null {
  const version = Math.min(own.highest, theirs.highest);
  if (version < Math.max(own.lowest, theirs.lowest)) return null;
  return { version, features: own.features & theirs.features };
}

/**
 * What a node uses towards many others at once. Those it has no version in common with do not
 * count, for nothing it says is for them.
 */
export function agreeWithAll(own: Capabilities, others: Iterable<Capabilities>): Agreement {
  let { highest: version, features } = own;
  for (const theirs of others) {
    const agreed = agree(own, theirs);
    if (agreed === null) continue;
    version = Math.min(version, agreed.version);
    features &= agreed.features;
  }
  return { version, features };
}

/** Why two nodes cannot talk to each other, and what is to be done. */
export function describeDisagreement(own: Capabilities, theirs: Capabilities): string {
  const older = own.highest < theirs.highest ? "this node" : "it";
  return (
    `it speaks ${rangeOf(theirs)} of the protocol between nodes, this node ${rangeOf(own)}; ` +
    `upgrade ${older}, through a release that speaks both if there is one in between`
  );
}

/** The versions, for people. */
function rangeOf({ lowest, highest }: Capabilities): string {
  return lowest === highest ? `version ${lowest}` : `versions ${lowest} to ${highest}`;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
