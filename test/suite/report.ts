/** What runs of `bun test` came to, read off what they print; and how that is told at the end. */

/** One thing that failed. */
export interface Failure {
  readonly name: string;
  /** What was said about it. */
  readonly text: string;
}

/** What one run came to. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly Failure[];
}

/** A failure takes as many lines of the report as this at most, and all take about as many as that. */
const MOST_LINES = 60;
const MOST_LINES_OF_ALL = 120;
const FEWEST_LINES = 12;
const MOST_COLUMNS = 2_000;

/**
 * Reads the output of a run over `files`. `code` is null when it was ended by a signal. A run that
 * failed without a failed test, or that did not come to all its files, counts as one failure.
 */
export function outcomeOf(output: string, code: number | null, files: readonly string[]): Outcome {
  const lines = output.replace(/\x1b\[[0-9;]*m/g, "").split("\n");
  const counts = { pass: 0, fail: 0, skip: 0, todo: 0 };
  let filesRun = 0;
  for (const line of lines) {
    const [, count, kind] = /^ *(\d+) (pass|fail|skip|todo)$/.exec(line) ?? [];
    if (kind !== undefined) counts[kind as keyof typeof counts] = Number(count);
    filesRun = Number(/^Ran \d+ tests? across (\d+) files?\./.exec(line)?.[1] ?? filesRun);
  }
  const failures = failuresIn(lines);
  const hasEnded = filesRun === files.length;
  const isSilent = !hasEnded || (code !== 0 && counts.fail === 0);
  if (isSilent) {
    const how = hasEnded ? `ended with ${code}` : `was cut short (${code ?? "by a signal"})`;
    failures.push({
      name: `bun test ${files.join(" ")} ${how}`,
      text: lines.slice(-MOST_LINES).join("\n").trim(),
    });
  }
  return {
    passed: counts.pass,
    failed: counts.fail + (isSilent ? 1 : 0),
    skipped: counts.skip + counts.todo,
    failures,
  };
}

/**
 * What failed, each with what was said about it: a test's failure is told before the line with its
 * name, but for that it took too long; an error outside of all tests stands between two rules.
 */
function failuresIn(lines: readonly string[]): Failure[] {
  const failures: Failure[] = [];
  let file = "";
  let said: string[] = [];
  let rules = 0;
  for (const [i, line] of lines.entries()) {
    // Bun lists all failures once more.
    if (/^\d+ tests? failed:$/.test(line)) break;
    const [, header] = /^(?:::group::)?(\S+\.test\.ts):$/.exec(line) ?? [];
    const [, result, name] = /^\((pass|fail|skip|todo)\) (.*)$/.exec(line) ?? [];
    if (line.startsWith("# Unhandled error")) rules = 2;
    else if (rules > 0 && /^-+$/.test(line)) rules--;
    const endsError = rules === 0 && said.some((it) => it.startsWith("# Unhandled error"));
    if (result === "fail" || endsError) {
      const late = lines[i + 1]?.startsWith("  ^ ") ? [lines[i + 1]] : [];
      const text = [...said, ...late].join("\n").trim();
      failures.push({ name: `${file}: ${name ?? "outside of its tests"}`, text });
    }
    file = header ?? file;
    if (header === undefined && result === undefined && !endsError) said.push(line);
    else said = [];
  }
  return failures;
}

/** All failures with what was said about each, then the counts, which are the last line. */
export function report(outcomes: readonly Outcome[]): { text: string; hasFailed: boolean } {
  const sum = (kind: "passed" | "failed" | "skipped"): number =>
    outcomes.reduce((total, outcome) => total + outcome[kind], 0);
  const failures = outcomes.flatMap((outcome) => outcome.failures);
  const share = Math.floor(MOST_LINES_OF_ALL / failures.length);
  const limit = Math.min(MOST_LINES, Math.max(FEWEST_LINES, share));
  const told = failures.map(({ name, text }) => `\n✗ ${name}\n${shortened(text, limit)}\n`);
  const [passed, failed, skipped] = [sum("passed"), sum("failed"), sum("skipped")];
  const counts = `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
  return { text: [...told, counts].join("\n"), hasFailed: failed > 0 };
}

/** At most so many lines, each of a bearable length: the beginning, which has the message, and the end. */
function shortened(text: string, limit: number): string {
  const lines = text.split("\n").map((line) => {
    return line.length > MOST_COLUMNS ? `${line.slice(0, MOST_COLUMNS)} …` : line;
  });
  if (lines.length > limit) {
    const tail = Math.floor(limit / 3);
    const left = lines.length - limit + 1;
    lines.splice(limit - tail - 1, left, `… ${left} lines left out …`);
  }
  return lines.map((line) => `  ${line}`).join("\n");
}
