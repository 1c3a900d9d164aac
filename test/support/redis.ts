/** Redis' own tools for tests. */

/** Where redis-cli is installed; null when it is not. */
export const redisCli: string | null = Bun.which("redis-cli");
/** Where redis-benchmark is installed; null when it is not. */
export const redisBenchmark: string | null = Bun.which("redis-benchmark");

/** Why tests that need the tools are skipped. Printed once when they are not installed. */
export const REDIS_MISSING =
  "redis-cli or redis-benchmark is not installed (Debian: apt-get install redis-tools)";
/** Whether both are there. */
export const hasRedisTools: boolean = redisCli !== null && redisBenchmark !== null;
if (!hasRedisTools) console.warn(`skipped: ${REDIS_MISSING}`);

/** Runs a tool to its end; its standard output. Throws with all it said when it fails. */
export async function runTool(tool: string, args: string[], input = ""): Promise<string> {
  const child = Bun.spawn([tool, ...args], {
    stdin: new TextEncoder().encode(input),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  if ((await child.exited) !== 0) throw new Error(`${tool} ${args.join(" ")}: ${output}${errors}`);
  return output;
}
