/**
 * Completions for shells: subcommands, their options, and files where a file is meant. They need
 * nothing but the shell itself.
 */
import type { Option } from "../cli/arguments.ts";
import { isPath, type CommandLine } from "./command-line.ts";

/** What is understood in a subcommand's place. */
const GLOBAL_OPTIONS = ["--help", "--version"];
const HEAD = "# Completion of merklekv, written from its table of subcommands.";

/** For bash: a script to be sourced. */
export function bashCompletion(lines: readonly CommandLine[]): string {
  const names = lines.map(({ name }) => name);
  return [
    HEAD,
    "_merklekv() {",
    "  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]-}",
    "  local before=${COMP_WORDS[COMP_CWORD - 1]} words=",
    "  COMPREPLY=()",
    "  if ((COMP_CWORD == 1)); then",
    `    words="${[...names, ...GLOBAL_OPTIONS].join(" ")}"`,
    "    command=",
    "  fi",
    '  case "$command $before" in',
    ...lines.flatMap(bashValues),
    "  esac",
    '  case "$command" in',
    ...lines.map(bashWords),
    "  esac",
    '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")',
    "}",
    "_merklekv_files() {",
    "  compopt -o filenames 2>/dev/null",
    '  mapfile -t COMPREPLY < <(compgen -f -- "$current")',
    "}",
    "complete -F _merklekv merklekv",
    "",
  ].join("\n");
}

/** What follows an option that takes a value. */
function bashValues({ name, options }: CommandLine): string[] {
  const after = (some: readonly Option[], action: string): string[] => {
    const patterns = some.flatMap((it) => namesOf(it).map((option) => `"${name} ${option}"`));
    return patterns.length === 0 ? [] : [`    ${patterns.join(" | ")}) ${action} ;;`];
  };
  const valued = options.filter(({ value }) => value !== undefined);
  return [
    ...after(
      valued.filter(({ value }) => isPath(value!)),
      "_merklekv_files; return",
    ),
    ...after(
      valued.filter(({ value }) => !isPath(value!)),
      "return",
    ),
  ];
}

function bashWords({ name, options, operands }: CommandLine): string {
  const words = [...options.flatMap(namesOf), ...operands.words].join(" ");
  // Where a word is meant, it comes first and files after it.
  const isWord = operands.words.length > 0 ? "((COMP_CWORD == 2)) || " : "";
  const files = operands.areFiles
    ? ` ${isWord}[[ $current == -* ]] || { _merklekv_files; return; };`
    : "";
  return `    ${name})${files} words="${words}" ;;`;
}

/** For zsh: a function to be found in `fpath` as `_merklekv`. */
export function zshCompletion(lines: readonly CommandLine[]): string {
  return [
    "#compdef merklekv",
    HEAD,
    "local -a commands",
    "commands=(",
    ...lines.map(({ name, about }) => `  ${quoted(`${name}:${about}`)}`),
    ")",
    "if ((CURRENT == 2)); then",
    "  _describe command commands",
    `  compadd -- ${GLOBAL_OPTIONS.join(" ")}`,
    "  return",
    "fi",
    "local command=$words[2]",
    "shift words",
    "((CURRENT--))",
    "case $command in",
    ...lines.flatMap(zshCase),
    "esac",
    "",
  ].join("\n");
}

function zshCase({ name, options, operands }: CommandLine): string[] {
  const specs = options.map(zshOption);
  if (operands.words.length > 0) specs.push(quoted(`1:word:(${operands.words.join(" ")})`));
  if (operands.areFiles) specs.push(quoted("*:file:_files"));
  return [`  ${name})`, "    _arguments -S \\", `      ${specs.join(" \\\n      ")}`, "    ;;"];
}

/** As `_arguments` reads it: brackets and colons of a text are its own signs. */
function zshOption(option: Option): string {
  const { value } = option;
  const about = option.about.replace(/[[\]:\\]/g, "\\$&");
  const action = value === undefined ? "" : `:${value}:${isPath(value) ? "_files" : " "}`;
  const all = namesOf(option);
  const rest = quoted(`[${about}]${action}`);
  const [only] = all;
  return all.length === 1 ? `${only}${rest}` : `${quoted(`(${all.join(" ")})`)}{${all}}${rest}`;
}

/** For fish: a file to be put below `completions`. */
export function fishCompletion(lines: readonly CommandLine[]): string {
  const names = lines.map(({ name }) => name).join(" ");
  const first = `-n ${quoted(`not __fish_seen_subcommand_from ${names}`)}`;
  return [
    HEAD,
    "complete -c merklekv -f",
    ...GLOBAL_OPTIONS.map((option) => `complete -c merklekv ${first} -l ${option.slice(2)}`),
    ...lines.map(
      ({ name, about }) => `complete -c merklekv ${first} -a ${name} -d ${quoted(about)}`,
    ),
    ...lines.flatMap(fishLines),
    "",
  ].join("\n");
}

function fishLines({ name, options, operands }: CommandLine): string[] {
  const inside = `complete -c merklekv -n ${quoted(`__fish_seen_subcommand_from ${name}`)}`;
  const rows = options.map(({ long, short, value, about }) => {
    const letter = short === undefined ? "" : ` -s ${short.slice(1)}`;
    const takes = value === undefined ? "" : isPath(value) ? " -r -F" : " -x";
    return `${inside} -l ${long.slice(2)}${letter}${takes} -d ${quoted(about)}`;
  });
  if (operands.words.length > 0) rows.push(`${inside} -a ${quoted(operands.words.join(" "))}`);
  if (operands.areFiles) rows.push(`${inside} -F`);
  return rows;
}

function namesOf({ long, short }: Option): string[] {
  return short === undefined ? [long] : [short, long];
}

/** As one word of bash, zsh or fish. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
