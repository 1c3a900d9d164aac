/** `merklekv cli` against a running node: one command, a pipe, and the prompt on a terminal. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { merklekvBinary } from "../support/binary.ts";
import { eventually } from "../support/eventually.ts";
import { type NodeProcess, runToEnd, startNodeProcess } from "../support/process.ts";

let node: NodeProcess;
let stateHome: string;
beforeAll(async () => {
  node = await startNodeProcess();
  stateHome = mkdtempSync(join(tmpdir(), "merklekv-cli-"));
});
afterAll(async () => {
  await node.stop();
  rmSync(stateHome, { recursive: true, force: true });
});

function cli(words: string[], input?: string): Promise<{ code: number; output: string }> {
  const args = ["cli", "-p", String(node.port), ...words];
  return runToEnd(args, input === undefined ? {} : { input });
}

describe("one command", () => {
  test("prints the reply as the plain dialect has it", async () => {
    expect(await cli(["SET", "greeting", "Hello, world"])).toEqual({ code: 0, output: "OK\n" });
    expect(await cli(["GET", "greeting"])).toEqual({ code: 0, output: "Hello, world\n" });
    expect(await cli(["GET", "nothing"])).toEqual({ code: 0, output: "(null)\n" });
  });

  test("words that follow one another are one value, dashes and all", async () => {
    await cli(["SET", "words", "a", "-b", "--c"]);
    expect((await cli(["GET", "words"])).output).toBe("a -b --c\n");
  });

  test.each([
    ["two\nlines", '"two\\nlines"'],
    ["", '""'],
    ['"quoted"', '"\\"quoted\\""'],
    ['in "the" middle', 'in "the" middle'],
    [" spaces  around ", " spaces  around "],
    ["back\\slash", "back\\slash"],
    ["both\\ \n", '"both\\\\ \\n"'],
    ["tab\there", "tab\there"],
    ["\x01\x7f", '"\\x01\\x7f"'],
    ["größer 😀", "größer 😀"],
  ])("the value %j arrives as it was given", async (value, printed) => {
    expect((await cli(["SET", "value", value])).output).toBe("OK\n");
    expect((await cli(["GET", "value"])).output).toBe(`${printed}\n`);
  });

  test("a reply of many lines comes whole", async () => {
    await cli(["MSET", "list:a", "1", "list:b", "2"]);
    expect((await cli(["MGET", "list:a", "list:x", "list:b"])).output).toBe("1\n(null)\n2\n");
    expect((await cli(["SCAN", "list:"])).output).toBe("KEYS 2\nlist:a\nlist:b\n");
    expect((await cli(["STATS"])).output).toMatch(/^(\w+:[^\n]*\n)+\n$/);
  });

  test("an error reply gives exit code 1", async () => {
    const { code, output } = await cli(["BOGUS"]);
    expect(code).toBe(1);
    expect(output).toStartWith("ERROR: Invalid command");
    await cli(["SET", "innocent", "ERROR: only a value"]);
    expect((await cli(["GET", "innocent"])).code).toBe(0);
  });

  test("a node that is not there is one clear line", async () => {
    const gone = await startNodeProcess();
    await gone.stop();
    const { code, output } = await runToEnd(["cli", "-p", String(gone.port), "PING"]);
    expect(code).toBe(1);
    expect(output).toMatch(/^merklekv: cannot reach 127\.0\.0\.1:\d+: connection refused[^\n]*\n$/);
  });

  test("adds to the file its output goes to", async () => {
    const file = join(stateHome, "out");
    const command = `"$1" cli -p "$2" ECHO one >> "$3"; "$1" cli -p "$2" ECHO two >> "$3"`;
    const args = ["sh", "-c", command, "sh", await merklekvBinary(), String(node.port), file];
    await Bun.spawn(args).exited;
    expect(readFileSync(file, "utf8")).toBe("one\ntwo\n");
  });
});

describe("a pipe", () => {
  test("is a command a line, the last perhaps without its end", async () => {
    const { code, output } = await cli([], "SET n 1\nINCR n\nECHO done");
    expect([code, output]).toEqual([0, "OK\n2\ndone\n"]);
  });

  test("goes on after an error and tells of it at the end", async () => {
    const { code, output } = await cli([], "BOGUS\nPING\n");
    expect(code).toBe(1);
    expect(output).toMatch(/^ERROR: Invalid command[^\n]*\nPONG\n$/);
  });

  test("may hold more than any buffer", async () => {
    const lines = Array.from({ length: 50_000 }, (_, i) => `SET bulk:${i} ${"v".repeat(40)}`);
    const { code, output } = await cli([], lines.join("\n"));
    expect([code, output.length]).toEqual([0, 3 * lines.length]);
    expect((await cli(["SCAN", "bulk:", "COUNT", "100000"])).output).toStartWith("KEYS 50000\n");
  });

  test("an empty one is no command", async () => {
    expect(await cli([], "")).toEqual({ code: 0, output: "" });
  });
});

describe("the prompt", () => {
  /** A terminal with the prompt in it. */
  async function open() {
    let screen = "";
    const decoder = new TextDecoder();
    const child = Bun.spawn([await merklekvBinary(), "cli", "-p", String(node.port)], {
      env: { ...process.env, XDG_STATE_HOME: stateHome, TERM: "xterm" },
      terminal: { cols: 200, rows: 50, data: (_, data) => void (screen += decoder.decode(data)) },
    });
    const shows = (text: string) =>
      eventually(`the screen shows ${text}`, () => screen.includes(text));
    const type = (text: string) => {
      screen = "";
      child.terminal!.write(text);
    };
    await shows(`127.0.0.1:${node.port}> `);
    return { type, shows, has: (text: string) => screen.includes(text), exited: child.exited };
  }
  const UP = "\x1b[A";

  test("runs commands, edits lines, and remembers them over runs", async () => {
    const first = await open();
    first.type("SET typed  two  spaces\r");
    await first.shows("OK\r\n");
    first.type("GET typde\x7f\x7fed\r");
    await first.shows(" two  spaces\r\n");
    first.type("ECHO secret-is-kept AUTH password\r");
    await first.shows("\r\nsecret-is-kept");
    first.type("not sent\x03");
    first.type("PING\r");
    await first.shows("PONG\r\n");
    first.type("\x04");
    expect(await first.exited).toBe(0);

    const second = await open();
    second.type(`${UP}${UP}\r`);
    await second.shows(" two  spaces\r\n");
    second.type("exit\r");
    expect(await second.exited).toBe(0);
    expect(readFileSync(join(stateHome, "merklekv/history"), "utf8")).not.toContain("password");
  });

  test("survives a node that closes the connection", async () => {
    const terminal = await open();
    const list = await cli(["CLIENT", "LIST"]);
    const address = / addr=(\S+)/.exec(list.output)![1]; // the oldest connection comes first
    expect((await cli(["CLIENT", "KILL", address])).output).toBe("OK\n");
    // Asked in the very moment in which the connection goes, it says so; then it has a new one.
    await eventually("it answers again", async () => {
      terminal.type("PING\r");
      await Promise.race([terminal.shows("PONG"), terminal.shows("closed")]);
      return terminal.has("PONG");
    });
    terminal.type("quit\r");
    expect(await terminal.exited).toBe(0);
  });
});
