/** Finding the name somebody meant. */

/**
 * The candidate with the smallest edit distance to `name` (Levenshtein 1965: insertions,
 * deletions, replacements); the first of several. `candidates` must not be empty.
 * A match of the last dotted part alone counts almost as much, so that a key put
 * into the wrong section leads to the right one.
 */
export function nearest(name: string, candidates: readonly string[]): string {
  const wanted = name.slice(0, 200); // nobody mistypes longer names; keeps the cost bounded
  let best = candidates[0];
  let bestScore = Infinity;
  for (const candidate of candidates) {
    const score = Math.min(
      editDistance(wanted, candidate),
      editDistance(lastPart(wanted), lastPart(candidate)) + 1,
    );
    if (score < bestScore) {
      best = candidate;
      bestScore = score;
    }
  }
  return best;
}

function lastPart(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}
