/** How a long-running subcommand is told to end, and what it leaves. */

/**
 * Resolves at SIGTERM or SIGINT, and, when asked for, once standard input ends: a parent that holds
 * the other end of that pipe thereby takes its child along, however the parent ends.
 * A second signal ends the process at once.
 */
export function untilStopped(options: { orStdinEnds: boolean }): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let signals = 0;
  const onSignal = () => {
    signals += 1;
    if (signals > 1) process.exit(1);
    resolve();
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
  if (options.orStdinEnds) process.stdin.on("end", resolve).on("error", resolve).resume();
  return promise;
}

/** The option that asks for the end of standard input to count. */
export const exitWithStdin = {
  long: "--exit-with-stdin",
  about: "Stop when standard input ends, so as not to outlive a parent process.",
} as const;

/** The option that makes a node's data a matter of one run. */
export const removeData = {
  long: "--remove-data",
  about: "Remove storage.path, with all that is in it, once the node has stopped. For trials.",
} as const;
