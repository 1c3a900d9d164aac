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
 * Text from outside as part of a line for people: control characters, line separators and what
 * changes the direction of writing are escaped, and what is too long is cut.
 */
export function printable(text: string, maxCharacters = 1_024): string {
  const cut = text.length > maxCharacters ? `${text.slice(0, maxCharacters)}…` : text;
  return cut.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_C}]/gu, (found) => {
    return `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}
