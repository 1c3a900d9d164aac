/** Which test files run in one process. */

/**
 * Directories whose files each get a process: they are slow, and mostly wait for processes of their
 * own. The slowest come first, so that no process is left with a long one at the end.
 */
const APART = ["siege", "integration", "security", "sim", "conformance"];

/** Divides test files, as paths below `test/`, into those that run in one process after each other. */
export function partsOf(files: readonly string[]): string[][] {
  const byDirectory = Map.groupBy(files.toSorted(), (file) => file.replace(/\/[^/]*$/, ""));
  const apart = APART.flatMap((directory) => byDirectory.get(directory) ?? []);
  const together = [...byDirectory].filter(([directory]) => !APART.includes(directory));
  return [...apart.map((file) => [file]), ...together.map(([, them]) => them)];
}
