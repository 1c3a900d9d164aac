/** Runs a program of this system to its end. */
import type { Ended } from "./machine.ts";

/** What it said on both streams, and its exit code. */
export async function run(...command: string[]): Promise<Ended> {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const output = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { code: await child.exited, output: output.join("") };
}

/** The same of what has to end with 0; it throws with what was said when it does not. */
export async function must(...command: string[]): Promise<string> {
  const { code, output } = await run(...command);
  if (code !== 0) throw new Error(`${command.join(" ")}: ${output.trim()}`);
  return output;
}
