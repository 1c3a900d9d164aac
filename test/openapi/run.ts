/**
 * Has schemathesis (https://schemathesis.io) ask the HTTP API all that its description allows, and
 * much that it does not: no answer may be an error of the node's, or none that is described.
 *
 *     bun run openapi [SCHEMATHESIS]      the program, `schemathesis` by default
 *
 * Exits with its code. What a description cannot say is left out: that a condition such as If-Match
 * does not hold, that each operation of a batch is judged by itself, and that a key may end with
 * ":increment" as well.
 */
import { startNodeProcess } from "../support/process.ts";
import { settings } from "../support/users-node.ts";

const LEFT_OUT = [
  "positive_data_acceptance",
  "negative_data_rejection",
  "allow_header_conformance",
];
const [program = "schemathesis"] = process.argv.slice(2);
const node = await startNodeProcess({ config: settings('[http]\nbind_address = "127.0.0.1"') });
const address = /HTTP on (\S+)/.exec(node.output())![1];
const run = Bun.spawn(
  [
    ...[program, "run", `http://${address}/v1/openapi.json`],
    // It has no end.
    ...["--exclude-path", "/v1/watch"],
    ...["--exclude-checks", LEFT_OUT.join(",")],
    ...["--max-examples", "25", "--request-timeout", "20"],
  ],
  { stdout: "inherit", stderr: "inherit" },
);
const code = await run.exited;
await node.stop();
process.exit(code);
