/**
 * Gives every test two and a half minutes: the default of 5 s is short for one that starts processes
 * on a busy machine, and whatever a test waits for has an earlier deadline, which tells more. bunfig.toml has no such setting, and `setDefaultTimeout` holds for one file only, so it
 * is called as each test file loads.
 */
import { setDefaultTimeout } from "bun:test";

Bun.plugin({
  name: "default-timeout",
  setup(build) {
    build.onLoad({ filter: /\.test\.ts$/ }, async ({ path }) => {
      setDefaultTimeout(150_000);
      return { contents: await Bun.file(path).text(), loader: "ts" };
    });
  },
});
