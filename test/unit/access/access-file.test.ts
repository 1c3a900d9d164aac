import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  formatAccessFile,
  readAccessFile,
  type Definitions,
} from "../../../src/access/access-file.ts";
import { commandTable } from "../../../src/commands/table.ts";

const SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const ARGON = await Bun.password.hash("p", { algorithm: "argon2id", memoryCost: 64, timeCost: 1 });

function read(text: string, byCertificate = false): Definitions | readonly string[] {
  return readAccessFile(
    Buffer.from(text, "latin1"),
    "users.acl",
    commandTable.permissions,
    byCertificate,
  );
}

function textOf(definitions: Definitions | readonly string[]): string {
  if (!(definitions instanceof Map)) throw new Error(definitions.join("\n"));
  return formatAccessFile(definitions).toString("latin1");
}

describe("what is read is written again", () => {
  test.each([
    `user dash on #${SHA} ~site:*:temp -@all +@read`,
    `user default on nopass ~* +@all`,
    `user a on #${ARGON} %R~x* %W~y* -@all +get +config|get`,
    `user b off -@all`,
    `user c on #${SHA} #${ARGON} ~k -@all (~z* -@all +get) (%R~q +@all -flushall)`,
    `user d on nopass %RW~* -@all +select|0`,
    `user \xc3\xa9 on nopass ~\xff* -@all`,
  ])("%s", (line) => {
    expect(textOf(read(`${line}\n`))).toBe(`${line}\n`);
  });

  test("in the form it has then: comments, other orders and cases are understood", () => {
    const text = `# the users\n\n  user x ON ~a:* >test\t+GET +@Write -set \r\nuser y on $${ARGON.slice(1)} allkeys allcommands\n`;
    expect(textOf(read(text))).toBe(
      `user x on #${SHA} ~a:* -@all +get +@write -set\nuser y on #${ARGON} ~* +@all\n`,
    );
  });
});

describe("what is wrong is said in a line that tells where, and no password", () => {
  test.each([
    ["dash on nopass", 'users.acl:1: a line begins with "user", a name and its rules'],
    ["user", 'users.acl:1: after "user" comes a name: up to 256 bytes without white space'],
    ["user a nopass\nuser a off", 'users.acl:2: the user "a" is defined twice'],
    ["user a on ~*", 'users.acl:1: the user "a" is on and has no password: give it #SHA256'],
    [
      "user a +@reed",
      'rule "+@reed": Unknown command or category name in ACL; the nearest known one is @read',
    ],
    [
      "user a +gett",
      'rule "+gett": Unknown command or category name in ACL; the nearest known one is get',
    ],
    ["user a +config|gett", "the nearest known one is config|get"],
    ["user a -get|x", 'rule "-get|x": Unknown command'],
    ["user a hunter2", 'users.acl:1: user "a", rule 1: Syntax error; a password begins with >'],
    ["user a on #hunter2", 'users.acl:1: user "a", rule 2: The password hash must be exactly 64'],
    ["user a on #$argon2i$hunter2", "of argon2, argon2id of version 19"],
    ["user a on <hunter2", "The password you are trying to remove"],
    ["user a (+get ~hunter", "Unmatched parenthesis"],
    ["user a ~* ~b", "Adding a pattern after the * pattern"],
    ["user a %Q~b", "%R~pattern is to read"],
  ])("%s", (text, problem) => {
    const problems = read(text) as readonly string[];
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(problem);
    expect(problems[0]).not.toContain("hunter2");
  });

  test("every problem is named, and a user that a certificate names needs no password", () => {
    expect(read("user a on\nuser b +x\nuser c off\nfoo")).toHaveLength(3);
    expect(read("user a on ~* +@all", true)).toBeInstanceOf(Map);
  });
});

test("whatever an access file holds, it is read or refused, and what is read means the same again", () => {
  const word = fc.oneof(
    fc.constantFrom(
      "user",
      "on",
      "off",
      "nopass",
      "reset",
      "(",
      ")",
      "+@all",
      "~*",
      "+get",
      "-@read",
    ),
    fc.constantFrom(
      "%R~a",
      "(+get",
      "~b)",
      `#${SHA}`,
      `#${ARGON}`,
      ">x",
      "+config|get",
      "+get|a",
      "#",
    ),
    fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((it) => String.fromCharCode(it)) }),
  );
  const line = fc.array(word, { maxLength: 8 }).map((words) => words.join(" "));
  const text = fc
    .array(
      fc.oneof(
        line,
        line.map((it) => `user a${it.length} ${it}`),
      ),
    )
    .map((lines) => lines.join("\n"));
  fc.assert(
    fc.property(text, (given) => {
      const found = read(given, true);
      if (!(found instanceof Map)) return;
      const written = textOf(found);
      expect(textOf(read(written, true))).toBe(written);
    }),
    { numRuns: Number(process.env["ACCESS_RUNS"] ?? 1_000) },
  );
});
