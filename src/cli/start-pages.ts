/**
 * Gives back the pages of the executable's machine code that only the start needed. The system maps
 * them in large pieces as they are touched, and takes none back as long as there is memory; so half
 * of what a node holds that has nothing to do is code that has run once. What is needed again is
 * mapped again, out of the system's cache of files, in about a microsecond a piece.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { openCLibrary } from "./c-library.ts";

/** Linux: pages are dropped. Of code, which nobody writes to, the file has all there is. */
const MADV_DONTNEED = 4;
const FUNCTIONS = { madvise: { args: ["u64", "usize", "i32"], returns: "i32" } } as const;

/** Does it now. Nothing is done on another system, or with another C library. */
export function giveBackStartPages(): void {
  try {
    const { symbols } = openCLibrary(FUNCTIONS);
    const maps = readFileSync("/proc/self/maps", "utf8");
    for (const { start, bytes } of codeRanges(maps, readlinkSync("/proc/self/exe"))) {
      symbols.madvise(start, bytes, MADV_DONTNEED);
    }
  } catch {
    // It is a matter of memory alone.
  }
}

/** Where the machine code of an executable lies, by the text of `/proc/PID/maps`. */
export function codeRanges(
  maps: string,
  executable: string,
): { readonly start: bigint; readonly bytes: number }[] {
  const lines = maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ \d+ +(.*)$/gm);
  return [...lines]
    .filter(([, , , path]) => path === executable)
    .map(([, from, to]) => {
      const start = BigInt(`0x${from}`);
      return { start, bytes: Number(BigInt(`0x${to}`) - start) };
    });
}
