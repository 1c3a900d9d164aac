/**
 * `merklekv cli`: talks to a node in the line protocol. What is typed is sent as it is and what
 * comes back is printed as it is, so everything looks as it does in `nc` and in the documentation.
 */
import { createInterface } from "node:readline";
import { formatHostPort } from "../config/address.ts";
import type { Subcommand } from "./arguments.ts";
import { HISTORY_LINES, historyPath, loadHistory, saveHistory } from "./history.ts";
import type { NodePlace } from "./connect.ts";
import { DEFAULT_HOST, DEFAULT_PORT, placeGiven, tlsOptions } from "./tls-options.ts";
import { loginGiven, loginOptions } from "./login.ts";
import { LineConnection, quoted, type ReceivedReply } from "./line-connection.ts";

/** The subcommand. Exit code 1 when a reply was an error or the node went away. */
export const cli: Subcommand = {
  usage: "cli [-h HOST] [-p PORT] [--user NAME] [--tls …] [COMMAND…]",
  about:
    "Sends one command to a node and prints the reply; without a command, a prompt with\n" +
    "history, or one command a line from standard input.",
  options: [
    { long: "--host", short: "-h", value: "HOST", about: `Where the node is (${DEFAULT_HOST}).` },
    { long: "--port", short: "-p", value: "PORT", about: `Its client port (${DEFAULT_PORT}).` },
    ...loginOptions,
    ...tlsOptions,
  ],
  acceptsOperands: true,

  async run(given) {
    const place = { ...placeGiven(given), login: await loginGiven(given) };
    if (given.words.length === 0 && process.stdin.isTTY) return prompt(place);
    const connection = await LineConnection.open(place);
    if (given.words.length === 0) return pipe(connection);
    return (await show(await connection.request(lineOf(given.words)))) ? 0 : 1;
  },
};

/**
 * The shell has taken the quotes away: a word that would not survive as a bare one gets quotes as
 * the plain dialect has them.
 */
function lineOf(words: readonly string[]): string {
  return words.map((word) => (/^$|^"|[\s\p{Cc}]/u.test(word) ? quoted(word) : word)).join(" ");
}

/** Prints a reply; whether it is a good one. */
async function show({ bytes, isLast }: ReceivedReply): Promise<boolean> {
  // Not Bun.write, which starts a file over that standard output is redirected to.
  await new Promise((resolve) => process.stdout.write(bytes, resolve));
  if (bytes.length === 0 && isLast) console.error("merklekv: the node closed the connection");
  return bytes.length > 0 && !/^ERROR/m.test(bytes.toString("latin1"));
}

/** Sends standard input, as many lines at once as have come. */
async function pipe(connection: LineConnection): Promise<number> {
  let isGood = true;
  let unfinished = Buffer.alloc(0);
  const send = async (lines: Buffer): Promise<boolean> => {
    const reply = await connection.request(lines);
    isGood = (await show(reply)) && isGood;
    return !reply.isLast;
  };
  for await (const chunk of Bun.stdin.stream()) {
    unfinished = Buffer.concat([unfinished, chunk]);
    const end = unfinished.lastIndexOf(10);
    if (end === -1) continue;
    const lines = unfinished.subarray(0, end);
    unfinished = unfinished.subarray(end + 1);
    if (!(await send(lines))) return isGood ? 0 : 1;
  }
  if (unfinished.length > 0) await send(unfinished);
  return isGood ? 0 : 1;
}

/**
 * Reads, sends and prints until Ctrl-D, `quit` or `exit`. Connects again when the node was away.
 */
async function prompt(place: NodePlace): Promise<number> {
  let connection = await LineConnection.open(place);
  const path = historyPath(process.env);
  let history = loadHistory(path);
  const terminal = createInterface({
    input: process.stdin,
    output: process.stdout,
    prompt: `${formatHostPort(place.host, place.port)}> `,
    history: [...history],
    historySize: HISTORY_LINES,
    removeHistoryDuplicates: true,
  });
  terminal.on("history", (lines) => (history = [...lines]));
  terminal.on("SIGINT", () => {
    if (terminal.line === "") terminal.close();
    else terminal.write(null, { ctrl: true, name: "u" }); // only forget what is typed so far
  });
  terminal.prompt();
  for await (const line of terminal) {
    if (/^\s*(quit|exit)\s*$/i.test(line)) return 0;
    if (line.trim() !== "") {
      try {
        if (connection.isOver) connection = await LineConnection.open(place);
        await show(await connection.request(line));
      } catch (error) {
        console.error((error as Error).message);
      }
      saveHistory(path, history);
    }
    terminal.prompt();
  }
  console.log();
  return 0;
}
