/**
 * What names may look like: those of nodes and of clusters. The configuration accepts no others,
 * and nor does anything that comes from outside, where it matters more: names are printed, logged,
 * compared, and remembered.
 */

/** In words, for whoever gave another. */
export const NODE_ID_RULE =
  "1 to 128 characters without `/`, `+`, `#`, white space or control characters";
/** The same for the name of a cluster, which begins every topic. */
export const CLUSTER_RULE =
  "1 to 256 characters without `+`, `#`, control characters, a `/` at either end or a `$` at the start";

/** Whether a node may be called that. */
export function isNodeId(text: string): boolean {
  return /^[^/+#\s\p{Cc}\p{Cs}]{1,128}$/u.test(text);
}

/** Whether a cluster may be called that: it is the first part of every topic. */
export function isClusterName(text: string): boolean {
  return /^(?![/$])[^+#\p{Cc}\p{Cs}\u2028\u2029]{1,256}(?<!\/)$/u.test(text);
}

/**
 * Text from outside as part of a line for people: what could end the line, colour it, move the
 * cursor, change the direction of writing or hide is escaped, and what is too long is cut. Of JSON
 * it leaves JSON with the same meaning.
 */
export function printable(text: string, maxCharacters = 1_024): string {
  const cut = text.length > maxCharacters ? `${text.slice(0, maxCharacters)}…` : text;
  return cut.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0]/gu, escaped);
}

/** One character as JSON escapes it: beyond U+FFFF as two. */
function escaped(character: string): string {
  const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}
