/** The compiled binary as a program: how it starts, stops, complains, and what it lets in. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packageJson from "../../package.json";
import { LineClient } from "../support/line-client.ts";
import { runBinary, runToEnd, soloConfig, startNodeProcess } from "../support/process.ts";

let directory: string;
beforeAll(() => (directory = mkdtempSync(join(tmpdir(), "merklekv-build-"))));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("the command line", () => {
  test("--version is that of the package", async () => {
    const { code, output } = await runToEnd(["--version"]);
    expect([code, output]).toEqual([0, `MerkleKV ${packageJson.version}\n`]);
  });

  test("--help names every subcommand, and each explains itself", async () => {
    const { code, output } = await runToEnd(["--help"]);
    expect(code).toBe(0);
    for (const name of ["serve", "demo", "broker", "cli"]) {
      expect(output).toMatch(new RegExp(`^  ${name} `, "m"));
      const help = await runToEnd([name, "--help"]);
      expect(help.code).toBe(0);
      expect(help.output).toStartWith("Usage: merklekv ");
    }
  });

  test.each([
    [["sreve"], 'unknown command "sreve"; did you mean serve?'],
    [["constructor"], 'unknown command "constructor"; did you mean '],
    [["--confg", "x"], "unknown option --confg; did you mean --config?"],
    [["serve", "--config"], "--config needs a value: FILE"],
    [["serve", "extra"], 'unexpected "extra"'],
    [["demo", "--exit=now"], '--exit takes no value, found "now"'],
    [["broker", "--port", "65536"], '--port: found "65536"; allowed: a port from 0 to 65535'],
    [["cli", "--hots", "x"], "unknown option --hots; did you mean --host?"],
  ])("%p makes no sense", async (args, problem) => {
    const { code, output } = await runToEnd(args);
    expect(code).toBe(2);
    expect(output).toStartWith(`merklekv: ${problem}`);
    expect(output).toMatch(/^[^\n]+\n$/);
  });
});

describe("nothing foreign takes effect", () => {
  test("neither .env nor bunfig.toml of the directory it is started in", async () => {
    writeFileSync(join(directory, ".env"), "MERKLE_KV_NODE_ID=foreign-node\n");
    writeFileSync(join(directory, "bunfig.toml"), 'preload = ["./foreign.ts"]\n');
    writeFileSync(join(directory, "foreign.ts"), 'console.log("foreign", "code");\n');
    writeFileSync(join(directory, "main.ts"), "console.log(process.env.MERKLE_KV_NODE_ID);\n");

    // The trap works: Bun itself falls into it.
    const bun = Bun.spawn([process.execPath, "main.ts"], { cwd: directory, stdout: "pipe" });
    expect(await bun.stdout.text()).toBe("foreign code\nforeign-node\n");

    const node = await runBinary(["--exit-with-stdin"], {
      cwd: directory,
      env: { MERKLE_KV_NETWORK_BIND_PORT: "0" },
    });
    await node.waitFor(/ready: node node-\w+ on/);
    await node.stop();
    expect(node.output()).not.toContain("foreign");
  });
});

describe("starting", () => {
  test("without a config file it starts alone and says so", async () => {
    const node = await runBinary([], { env: { MERKLE_KV_NETWORK_BIND_PORT: "0" } });
    const ready = await node.waitFor(/^MerkleKV \S+ ready: node \S+ on 127\.0\.0\.1:(\d+)$/m);
    await node.waitFor(/no config file: .* starts alone/);
    const client = await LineClient.connect(Number(ready[1]));
    expect(await client.send("PING")).toBe("PONG");
    await client.close();
    expect(await node.stop()).toBe(0);
  });

  test("every problem of the configuration is one line, and none starts", async () => {
    const path = join(directory, "bad.toml");
    writeFileSync(path, 'node_id = "x"\n[network]\nbind_prt = 1\nmax_connections = 0\n');
    const { code, output } = await runToEnd(["--config", path]);
    expect(code).toBe(1);
    const lines = output.trimEnd().split("\n");
    expect(lines).toContainEqual(expect.stringContaining("network.bind_prt"));
    expect(lines).toContainEqual(expect.stringContaining("network.max_connections"));
    for (const line of lines) expect(line).toStartWith(`${path}: `);
  });

  test("a config file that is not there is one clear line", async () => {
    const { code, output } = await runToEnd(["serve", "-c", "/no/such.toml"]);
    expect([code, output]).toEqual([1, "/no/such.toml: config file not found\n"]);
  });

  test("a log file that cannot be opened is one clear line", async () => {
    const path = join(directory, "log.toml");
    writeFileSync(path, `${soloConfig("x")}[logging]\nfile_path = "/no/such/log"\n`);
    const { code, output } = await runToEnd(["--config", path]);
    expect(code).toBe(1);
    expect(output).toMatch(/^merklekv: logging\.file_path: [^\n]+\n$/);
  });

  test.each([
    ["BUN_OPTIONS", "--smol"],
    // A port of its own: the usual one may be taken by somebody who really inspects.
    ["BUN_INSPECT", "127.0.0.1:0"],
    ["BUN_INSPECT_PRELOAD", "nothing.js"],
  ])("a variable that acts on the runtime inside is one clear line: %s", async (name, value) => {
    const { code, output } = await runToEnd(["--version"], { env: { [name]: value } });
    expect(code).toBe(1);
    expect(output).toMatch(
      new RegExp(`^merklekv: ${name} is set, [^\\n]+: env -u ${name} merklekv …\\n$`),
    );
    expect((await runToEnd(["--version"], { env: { [name]: "" } })).code).toBe(0);
  });

  test("a port in use is one clear line", async () => {
    const node = await startNodeProcess();
    const { code, output } = await runToEnd(["serve"], {
      env: { MERKLE_KV_NETWORK_BIND_PORT: String(node.port), MERKLE_KV_LOGGING_LEVEL: "error" },
    });
    expect(code).toBe(1);
    expect(output).toMatch(/^merklekv: [^\n]*\bport is in use\b[^\n]*\n$/);
    await node.stop();
  });
});

describe("stopping", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("%s is graceful", async (name) => {
    const node = await startNodeProcess();
    node.signal(name);
    expect(await node.ended()).toBe(0);
  });

  test("SIGHUP does not stop it", async () => {
    const node = await startNodeProcess();
    node.signal("SIGHUP");
    const client = await LineClient.connect(node.port);
    expect(await client.send("PING")).toBe("PONG");
    await client.close();
    expect(await node.stop()).toBe(0);
  });

  test("the end of standard input stops it only when that was asked for", async () => {
    const asked = await startNodeProcess();
    asked.endInput();
    expect(await asked.ended()).toBe(0);

    const env = { MERKLE_KV_NETWORK_BIND_PORT: "0" };
    const unasked = await runBinary(["serve"], { env });
    unasked.endInput();
    const ready = await unasked.waitFor(/ready: .*:(\d+)$/m);
    const client = await LineClient.connect(Number(ready[1]));
    expect(await client.send("PING")).toBe("PONG");
    await client.close();
    expect(await unasked.stop()).toBe(0);
  });

  test("a broker stops as well", async () => {
    const broker = await runBinary(["broker", "--port", "0"]);
    await broker.waitFor(/broker ready: mqtt:\/\/127\.0\.0\.1:[1-9]\d*$/m);
    expect(await broker.stop()).toBe(0);
  });
});
