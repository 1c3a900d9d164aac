import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { partsOf } from "../suite/parts.ts";
import { outcomeOf, report, type Outcome } from "../suite/report.ts";

const FILES = {
  "good.test.ts": `test("good", () => console.log("all is well"));
    test.skip("skipped", () => {});
    test.todo("later");`,
  "wrong.test.ts": `test("right", () => {});
    test("wrong", () => {
      console.error("said before");
      expect("what is").toBe("what should be");
    });
    test("slow", () => Bun.sleep(60_000), 1);`,
  "outside.test.ts": `test("right", () => {});
    test("waits", () => Bun.sleep(20));
    afterAll(() => { throw new Error("cannot clean up"); });`,
  "loading.test.ts": `throw new Error("cannot load");`,
  "crash.test.ts": `test("right", () => {});
    test("ends it all", () => { console.log("last words"); process.exit(0); });`,
};

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "merklekv-report-"));
  for (const [name, tests] of Object.entries(FILES)) {
    const imports = 'import { afterAll, expect, test } from "bun:test";\n';
    writeFileSync(join(directory, name), imports + tests);
  }
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function run(...files: (keyof typeof FILES)[]): Outcome {
  const { stdout, stderr, exitCode } = Bun.spawnSync(
    [process.execPath, "test", ...files.map((file) => `./${file}`)],
    { cwd: directory },
  );
  return outcomeOf(`${stdout}${stderr}`, exitCode, files);
}

describe("a run of tests", () => {
  test("is counted as Bun counts it", () => {
    expect(run("good.test.ts")).toEqual({ passed: 1, failed: 0, skipped: 2, failures: [] });
  });

  test("tells of each failed test all that was said about it, and nothing else", () => {
    const { passed, failed, failures } = run("good.test.ts", "wrong.test.ts");
    expect([passed, failed]).toEqual([2, 2]);
    const [wrong, slow] = failures;
    expect(wrong.name).toStartWith("wrong.test.ts: wrong");
    expect(wrong.text).toContain("said before");
    expect(wrong.text).toMatch(/Expected: "what should be"\nReceived: "what is"/);
    expect(wrong.text).not.toContain("all is well");
    expect(slow.name).toStartWith("wrong.test.ts: slow");
    expect(slow.text).toEndWith("this test timed out after 1ms.");
  });

  test.each([
    ["outside.test.ts", "cannot clean up"],
    ["loading.test.ts", "cannot load"],
    ["crash.test.ts", "last words"],
  ] as const)("that fails outside of its tests has failed: %s", (file, said) => {
    const { failed, failures } = run("good.test.ts", file);
    expect(failed).toBe(1);
    expect(failures.map(({ text }) => text).join()).toContain(said);
  });
});

describe("the report", () => {
  const failing = (text: string): Outcome => {
    return { passed: 1, failed: 1, skipped: 0, failures: [{ name: "a test", text }] };
  };
  const good: Outcome = { passed: 20, failed: 0, skipped: 3, failures: [] };

  test("is one line when all is well", () => {
    expect(report([good])).toEqual({ text: "20 passed, 0 failed, 3 skipped", hasFailed: false });
  });

  test("ends with the counts of all, after what failed", () => {
    const { text, hasFailed } = report([good, failing("seed: 17"), failing("seed: 18")]);
    expect(hasFailed).toBe(true);
    expect(text).toMatch(
      /✗ a test\n {2}seed: 17\n[^]*seed: 18[^]*\n22 passed, 2 failed, 3 skipped$/,
    );
  });

  test("is no longer than one reads, however much there is to say", () => {
    const long = Array.from({ length: 500 }, (_, i) => `line ${i} ${"x".repeat(3_000)}`);
    const { text } = report([failing(long.join("\n"))]);
    expect(text.split("\n").length).toBeLessThan(70);
    expect(text.length).toBeLessThan(150_000);
    expect(text).toContain("  line 0 ");
    expect(text).toContain("  line 499 ");
    const ten = report(Array.from({ length: 10 }, () => failing(long.join("\n"))));
    expect(ten.text.split("\n").length).toBeLessThan(170);
  });
});

test("every file is in one part, and those that wait are apart", () => {
  const files = ["unit/a.test.ts", "model/b.test.ts", "unit/x/c.test.ts", "unit/d.test.ts"];
  const slow = ["integration/b.test.ts", "integration/a.test.ts"];
  const parts = partsOf([...files, ...slow]);
  expect(parts.flat().sort()).toEqual([...files, ...slow].sort());
  expect(parts.slice(0, 2)).toEqual([["integration/a.test.ts"], ["integration/b.test.ts"]]);
  expect(parts).toContainEqual(["unit/a.test.ts", "unit/d.test.ts"]);
});
