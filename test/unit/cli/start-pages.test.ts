/** Which memory is given back after the start: the executable's code, and nothing else. */
import { expect, test } from "bun:test";
import { readFileSync, readlinkSync } from "node:fs";
import { codeRanges } from "../../../src/cli/start-pages.ts";

const MAPS = `00200000-01a39000 r--p 00000000 fd:00 42   /usr/bin/merklekv
01a40000-0684a000 r-xp 01838000 fd:00 42   /usr/bin/merklekv
06867000-0748c000 rw-p 0665e000 fd:00 42   /usr/bin/merklekv
7f9933c1f000-7f9973c1f000 rwxp 00000000 00:00 0
7f9973f8a000-7f99740e0000 r-xp 00026000 fd:00 7   /usr/lib/x86_64-linux-gnu/libc.so.6
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0   [vdso]
`;

test("the code of the executable, and nothing else", () => {
  const range = { start: 0x1a40000n, bytes: 0x684a000 - 0x1a40000 };
  expect(codeRanges(MAPS, "/usr/bin/merklekv")).toEqual([range]);
  expect(codeRanges(MAPS, "/usr/bin/other")).toEqual([]);
});

test.skipIf(process.platform !== "linux")("this process has some", () => {
  const own = codeRanges(readFileSync("/proc/self/maps", "utf8"), readlinkSync("/proc/self/exe"));
  expect(own.some(({ bytes }) => bytes > 1_000_000)).toBe(true);
});
