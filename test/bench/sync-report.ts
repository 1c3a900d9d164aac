/** The table of `bun run bench:sync`: what was measured, what it is to be, whether it is. */

/** One line of the table. */
export interface Row {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** The target; without one the row only informs. */
  readonly atMost?: number;
}

/** What the parts are told. */
export interface SyncPlan {
  readonly keys: number;
  /** Fewer rounds and shorter ones. */
  readonly isQuick: boolean;
  /** Says what is being done. */
  note(what: string): void;
  /** Says, with the table, what could not be measured and why. */
  skipped(why: string): void;
}

/** The table, with a last line that counts the targets met. */
export function tableOf(rows: readonly Row[]): string {
  const width = Math.max(...rows.map((row) => row.what.length));
  const lines = rows.map((row) => {
    const target = row.atMost === undefined ? "" : `≤ ${row.atMost.toLocaleString("en-US")}`;
    const met = row.atMost === undefined ? "" : isMet(row) ? "yes" : "NO";
    const cells = [row.what.padEnd(width), quantity(row).padStart(16), target.padStart(11), met];
    return cells.join("  ").trimEnd();
  });
  const judged = rows.filter((row) => row.atMost !== undefined);
  const met = judged.filter(isMet).length;
  return [...lines, "", `${met} of ${judged.length} targets met`].join("\n");
}

function isMet({ value, atMost }: Row): boolean {
  return value <= atMost!;
}

function quantity({ value, unit }: Row): string {
  const text = Number.isInteger(value) ? value.toLocaleString("en-US") : value.toFixed(2);
  return `${text} ${unit}`.trim();
}
