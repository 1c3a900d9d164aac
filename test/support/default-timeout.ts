/**
 * Gives every test five minutes: the default of 5 s is short for one that starts processes on a busy
 * machine. bunfig.toml has no such setting, and `setDefaultTimeout` holds for one file only, so it
 * is called as each test file loads.
 */
import { setDefaultTimeout } from "bun:test";

Bun.plugin({
  name: "default-timeout",
  setup(build) {
    build.onLoad({ filter: /\.test\.ts$/ }, async ({ path }) => {
      setDefaultTimeout(300_000);
      return { contents: await Bun.file(path).text(), loader: "ts" };
    });
  },
});
