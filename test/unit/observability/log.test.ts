import { eventLoop } from "../../../src/world.ts";
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createLogger, silentLogger } from "../../../src/observability/log.ts";

type Level = "trace" | "debug" | "info" | "warn" | "error";
const LEVELS: Level[] = ["trace", "debug", "info", "warn", "error"];
const NOON = Date.UTC(2026, 0, 2, 12, 0, 0, 7);

/** A logger into a list, at a fixed time. */
function logInto(lines: string[], format: "text" | "json", level: Level = "trace") {
  const config = { level, format, file_path: "", max_file_mb: 0, keep_files: 0 } as const;
  return createLogger(config, {
    wallMs: () => NOON,
    timing: eventLoop,
    write: (line) => lines.push(line),
  });
}

describe("levels", () => {
  test("a level writes itself and everything graver, and nothing else", () => {
    for (const [rank, level] of LEVELS.entries()) {
      const lines: string[] = [];
      const log = logInto(lines, "json", level).child("x");
      for (const each of LEVELS) log[each]("hello");
      expect(lines.map((line) => JSON.parse(line).level)).toEqual(LEVELS.slice(rank));
    }
  });

  test("a level that is off does not even look at its arguments", () => {
    const log = logInto([], "text", "error");
    const trap = new Proxy(
      {},
      {
        ownKeys: () => {
          throw new Error("looked");
        },
      },
    );
    log.warn("hello", trap);
    expect(log.debug).toBe(silentLogger.debug);
    expect(log.child("x").debug).toBe(silentLogger.debug);
  });

  test("the silent logger is silent all the way down", () => {
    for (const level of LEVELS)
      expect(silentLogger.child("a").child("b")[level]("hello")).toBeUndefined();
  });
});

describe("systemd's journal", () => {
  const linesOf = (file_path: string): string[] => {
    const lines: string[] = [];
    const config = { level: "trace", format: "text", max_file_mb: 0, keep_files: 0 } as const;
    const log = createLogger(
      { ...config, file_path },
      { wallMs: () => NOON, timing: eventLoop, isJournal: true, write: (line) => lines.push(line) },
    );
    for (const level of LEVELS) log[level]("hello");
    return lines.map((line) => line.slice(0, 3));
  };

  test("is told the level of each line", () => {
    expect(linesOf("")).toEqual(["<7>", "<7>", "<6>", "<4>", "<3>"]);
  });

  test("and a file is not", () => {
    expect(new Set(linesOf("/var/log/node.log"))).toEqual(new Set(["202"]));
  });
});

describe("text", () => {
  const line = (message: string, fields?: Record<string, unknown>) => {
    const lines: string[] = [];
    logInto(lines, "text").child("mqtt").warn(message, fields);
    return lines.join("");
  };

  test("time, level, component, message, then fields", () => {
    expect(
      line("Broker is away", { retry_ms: 500, host: "10.0.0.1:1883", missing: undefined }),
    ).toBe("2026-01-02T12:00:00.007Z WARN  mqtt Broker is away retry_ms=500 host=10.0.0.1:1883\n");
  });

  test("components nest, and there may be none", () => {
    const lines: string[] = [];
    const log = logInto(lines, "text");
    log.info("a");
    log.child("replication").child("outbox").error("b");
    expect(lines).toEqual([
      "2026-01-02T12:00:00.007Z INFO  a\n",
      "2026-01-02T12:00:00.007Z ERROR replication.outbox b\n",
    ]);
  });

  test("a field that is not one plain word is quoted", () => {
    const fields = { a: "two words", b: "", c: 'say "hi"', d: "x=y", e: null, f: 1n, g: true };
    expect(line("m", fields)).toEndWith(
      'm a="two words" b="" c="say \\"hi\\"" d="x=y" e=null f=1 g=true\n',
    );
  });

  test("errors, dates, bytes and objects have a readable form", () => {
    const fields = {
      error: new Error("no route"),
      at: new Date(0),
      key: Buffer.from("user:1"),
      list: [1, "a"],
    };
    expect(line("m", fields)).toEndWith(
      'm error="no route" at=1970-01-01T00:00:00.000Z key=user:1 list="[1,\\"a\\"]"\n',
    );
  });
});

describe("json", () => {
  const record = (message: string, fields?: Record<string, unknown>) => {
    const lines: string[] = [];
    logInto(lines, "json").child("mqtt").warn(message, fields);
    return JSON.parse(lines.join(""));
  };

  test("one object: time, level, component, message, then fields with their types", () => {
    const fields = { count: 3, on: false, none: null, text: "a\nb", missing: undefined, big: 1n };
    expect(record("Hello", fields)).toEqual({
      time: "2026-01-02T12:00:00.007Z",
      level: "warn",
      component: "mqtt",
      event: "other",
      message: "Hello",
      count: 3,
      on: false,
      none: null,
      text: "a\nb",
      big: "1",
    });
  });

  test("what has a name is found by it, also when it was counted", () => {
    expect(record("Stopped")).toMatchObject({ event: "stopped" });
    const counted = "… 7 more like this in the last 10 s: A sync failed";
    expect(record(counted)).toMatchObject({ event: "sync_failed", message: counted });
  });

  test("a field cannot take the place of a standard one", () => {
    expect(record("Hello", { level: "x", message: "y", time: "z" })).toMatchObject({
      level: "warn",
      message: "Hello",
      level_: "x",
      message_: "y",
      time_: "z",
    });
    const odd = record("Hello", JSON.parse('{"__proto__":"p","toString":"t"}'));
    expect(Object.getOwnPropertyDescriptor(odd, "__proto__")?.value).toBe("p");
    expect(odd.toString).toBe("t");
  });

  test("numbers JSON cannot hold become text", () => {
    expect(record("m", { a: NaN, b: Infinity })).toMatchObject({ a: "NaN", b: "Infinity" });
  });
});

describe("whatever is logged", () => {
  const cycle: Record<string, unknown> = {};
  cycle["self"] = cycle;
  const resisting = {
    toJSON: () => {
      throw new Error("no");
    },
  };

  test("what cannot be shown is said to be so, and nothing is thrown", () => {
    for (const format of ["text", "json"] as const) {
      for (const value of [cycle, resisting, Object.create(null), Symbol("s"), () => 1]) {
        const lines: string[] = [];
        logInto(lines, format).info("Hello", { value });
        expect(lines).toHaveLength(1);
        expect(lines[0]).toContain("Hello");
      }
    }
    const lines: string[] = [];
    logInto(lines, "text").info("Hello", { cycle });
    expect(lines[0]).toEndWith('Hello fields="cannot be shown"\n');
  });

  test("long text is cut, so that a line stays short", () => {
    for (const format of ["text", "json"] as const) {
      const lines: string[] = [];
      const long = "x".repeat(1_000_000);
      const fields = { text: long, list: [long], bytes: Buffer.from(long) };
      logInto(lines, format).info(long, fields);
      expect(lines[0].length).toBeLessThan(9_000);
    }
  });

  test("it stays one line and cannot move a terminal's cursor or turn its text", () => {
    const nasty = "a\r\nb\u001b[2J\u0007\u007f\u009b\u2028\u202e\u2066c";
    for (const format of ["text", "json"] as const) {
      const lines: string[] = [];
      logInto(lines, format)
        .child(nasty)
        .info(nasty, { [nasty]: nasty });
      expect(lines[0]).toMatch(/^[\x20-\x7e]+\n$/);
      expect(lines[0]).toContain("\\u001b[2J");
    }
    const lines: string[] = [];
    logInto(lines, "json").info(nasty);
    expect(JSON.parse(lines[0]).message).toBe(nasty); // escaped, not lost
  });

  test("for any message and fields: one line, and JSON that gives them back", () => {
    const text = fc.string({ unit: "binary", maxLength: 50 });
    fc.assert(
      fc.property(text, fc.dictionary(text, fc.anything()), (message, fields) => {
        for (const format of ["text", "json"] as const) {
          const lines: string[] = [];
          logInto(lines, format).info(message, fields);
          expect(lines).toHaveLength(1);
          expect(lines[0]).toMatch(/^\P{Cc}+\n$/u);
          if (format === "json") expect(JSON.parse(lines[0]).message).toBe(message);
        }
      }),
    );
  });
});
