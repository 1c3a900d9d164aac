/**
 * The kinds of field a configuration key can be: how its value is read from TOML
 * or from an environment variable, and how what is allowed is put into words.
 */

/** A value, or the part of what was found that is not allowed. */
export type Reading<T> = { readonly value: T } | { readonly refused: unknown };

/** One configuration key: everything about it except its name. */
export interface Field<T> {
  /** The default. */
  readonly fallback: T;
  /** The default in words, where it is not simply `fallback`. */
  readonly fallbackText?: string;
  /** What may stand there, in words: "an integer from 1 to 10". */
  readonly allowed: string;
  /** What the key does, one sentence of plain Markdown. */
  readonly doc: string;
  /** True for a value that must never be shown. */
  readonly secret?: boolean;
  /** True for what names a place on this machine, where the node then reads or writes. */
  readonly isPath?: boolean;
  /** When a change comes into effect; left out: with the next start. */
  readonly reloads?: Reloading;
  /** Checks a value as the TOML parser gives it. Never throws. */
  read(found: unknown): Reading<T>;
  /** Turns the text of an environment variable into what TOML would have held. */
  fromText(text: string): unknown;
}

/**
 * A running node takes a change at once; but from or to one of these values, which switch something
 * on or off, only with the next start.
 */
export type Reloading = "at once" | { readonly notFromOrTo: readonly (string | number)[] };

/** Whether a change from one value to another waits for the next start. */
export function needsRestart({ reloads }: Field<unknown>, from: unknown, to: unknown): boolean {
  if (reloads === undefined || reloads === "at once") return reloads === undefined;
  return reloads.notFromOrTo.some((it) => it === from || it === to);
}

/** When a change comes into effect, in words. */
export function describeReloading({ reloads }: Field<unknown>): string {
  if (reloads === undefined) return "at a restart";
  if (reloads === "at once") return "at once";
  const words = reloads.notFromOrTo.map((it) => (it === "" ? "empty" : JSON.stringify(it)));
  return `at once; from or to ${inWords(words)} at a restart`;
}

/** What every kind of field is described with. */
interface Described<T> {
  readonly fallback: T;
  readonly fallbackText?: string;
  readonly doc: string;
  readonly secret?: boolean;
  readonly isPath?: boolean;
  readonly reloads?: Reloading;
}

/** Any text for which `accepts` holds; `allowed` puts that into words. */
export function text(
  about: Described<string> & { allowed: string; accepts: (text: string) => boolean },
): Field<string> {
  return {
    ...about,
    read: (found) =>
      typeof found === "string" && about.accepts(found) ? { value: found } : { refused: found },
    fromText: (text) => text,
  };
}

/** One of the given words. */
export function choice<const Word extends string>(
  words: readonly Word[],
  about: Described<NoInfer<Word>>,
): Field<Word> {
  return {
    ...about,
    allowed: inWords(words.map((word) => `"${word}"`)),
    read(found) {
      const value = words.find((word) => word === found);
      return value === undefined ? { refused: found } : { value };
    },
    fromText: (text) => text,
  };
}

/**
 * A whole number from `from` to `to`, both within the exact integers. The TOML parser
 * gives integers from 2^53 as BigInt, wrapped at 64 bits: no BigInt is ever in range.
 */
export function integer(about: Described<number> & { from: number; to: number }): Field<number> {
  const { from, to, ...described } = about;
  return {
    ...described,
    allowed: `an integer from ${from} to ${to}`,
    read: (found) =>
      typeof found === "number" && Number.isInteger(found) && found >= from && found <= to
        ? { value: found + 0 } // turns -0 into 0
        : { refused: found },
    fromText: (text) => (/^\s*[+-]?\d{1,15}\s*$/.test(text) ? Number(text) : text),
  };
}

/** A number from 0 to 1. */
export function fraction(about: Described<number>): Field<number> {
  return {
    ...about,
    allowed: "a number from 0 to 1",
    read: (found) =>
      typeof found === "number" && found >= 0 && found <= 1
        ? { value: found + 0 } // turns -0 into 0
        : { refused: found },
    fromText: (text) =>
      /^\s*\+?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})\s*$/.test(text) ? Number(text) : text,
  };
}

/** True or false. */
export function boolean(about: Described<boolean>): Field<boolean> {
  const words: Record<string, boolean> = { true: true, false: false, "1": true, "0": false };
  return {
    ...about,
    allowed: "true or false",
    read: (found) => (typeof found === "boolean" ? { value: found } : { refused: found }),
    fromText: (text) => words[text.trim().toLowerCase()] ?? text,
  };
}

/** A list of texts for which `accepts` holds; in the environment they are separated by commas. */
export function list(
  about: Described<readonly string[]> & { allowed: string; accepts: (item: string) => boolean },
): Field<readonly string[]> {
  return {
    ...about,
    read(found) {
      if (!Array.isArray(found)) return { refused: found };
      const bad = found.findIndex((item) => typeof item !== "string" || !about.accepts(item));
      return bad === -1 ? { value: [...found] } : { refused: found[bad] };
    },
    fromText: (text) =>
      text.trim() === "" ? [] : text.split(",").map((item: string) => item.trim()),
  };
}

/** What was found, short enough for an error line and without a password in it. */
export function describeFound(found: unknown, secret = false): string {
  if (Array.isArray(found)) return "a list";
  if (found instanceof Date) return "a date or time";
  if (typeof found === "object" && found !== null) return "a table";
  if (secret) return `a value that is not shown, of type ${typeof found}`;
  if (typeof found === "bigint") return "an integer beyond 2^53";
  if (typeof found !== "string") return String(found);
  const shown = found.replace(/\/\/.*@/s, "//***@");
  return JSON.stringify(shown.length > 80 ? `${shown.slice(0, 80)}…` : shown);
}

function inWords(items: string[]): string {
  return items.length === 1 ? items[0] : `${items.slice(0, -1).join(", ")} or ${items.at(-1)}`;
}
