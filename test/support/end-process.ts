/** Ends processes that are not this project's. */

/** Who has not ended after so long has lost the signal, or does not heed it. */
const PATIENCE_MS = 10_000;

/** Sends a signal, and SIGKILL to who does not heed it. Resolves when the process is gone. */
export async function endProcess(
  child: Bun.Subprocess,
  signal: NodeJS.Signals = "SIGTERM",
): Promise<void> {
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  await child.exited;
  clearTimeout(timer);
}
