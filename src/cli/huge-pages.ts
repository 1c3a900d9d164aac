/**
 * Has the system keep the memory of large stores in pages of 2 MiB. A lookup among millions of keys
 * goes to four or five places that nothing has touched for long. With pages of 4 KiB the processor
 * has to find out first where each of them is, in tables that are in no cache either: a tenth of
 * the time of a request goes there.
 *
 * Memory is not taken in huge pages, for much of them would be held and not used. They are asked
 * for where nearly all is there already, and then Linux moves it, in the background, 16 MiB every
 * ten seconds unless it is told otherwise. Where transparent huge pages are switched off nothing
 * happens.
 */
import { ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { openCLibrary } from "./c-library.ts";

const MADV_HUGEPAGE = 14;
const MADV_NOHUGEPAGE = 15;
const FUNCTIONS = {
  madvise: { args: ["u64", "usize", "i32"], returns: "i32" },
  mincore: { args: ["u64", "usize", "ptr"], returns: "i32" },
} as const;
const SWITCH = "/sys/kernel/mm/transparent_hugepage/enabled";

const PAGE_BYTES = 4 * 1024;
/** Bytes of a huge page. */
export const HUGE_PAGE_BYTES = 2 * 1024 * 1024;
/** So much of it has to be in memory: what is not there yet is memory taken in addition. */
const LEAST_RESIDENT = 0.9;
/** 16 GiB. Each may take one of the 65,530 mappings that a process has at most. */
const MOST_PAGES = 8_192;
/**
 * How many pages a step goes over, and how many it looks at: a tenth of a millisecond. That is
 * still several times as fast as Linux moves them.
 */
const PAGES_A_STEP = 256;
const LOOKS_A_STEP = 4;

/** Memory that something is kept in. */
export type Block = Uint8Array | Uint32Array;

/** What the system does with memory. Addresses are those of whole huge pages. */
export interface PageSystem {
  /** Where a block begins, anywhere in a page. */
  addressOf(block: Block): number;
  /** How many bytes of the page are in memory. */
  residentBytes(address: number): number;
  /** Says whether it should be a huge one. */
  prefer(address: number, isHuge: boolean): void;
}

/** That of this process; null where huge pages cannot be had. */
export function openPageSystem(): PageSystem | null {
  try {
    if (readFileSync(SWITCH, "utf8").includes("[never]")) return null;
    const { symbols } = openCLibrary(FUNCTIONS);
    const flags = new Uint8Array(HUGE_PAGE_BYTES / PAGE_BYTES);
    return {
      addressOf: (block) => ptr(block),
      residentBytes(address) {
        if (symbols.mincore(address, HUGE_PAGE_BYTES, ptr(flags)) !== 0) return 0;
        let resident = 0;
        for (let i = 0; i < flags.length; i++) resident += flags[i] & 1;
        return resident * PAGE_BYTES;
      },
      prefer(address, isHuge) {
        symbols.madvise(address, HUGE_PAGE_BYTES, isHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
      },
    };
  } catch {
    // It is a matter of speed alone.
    return null;
  }
}

/** See the file header. */
export class HugePages {
  private walk: Iterator<number> | null = null;
  /** The pages that blocks lie in, as far as this walk has come. */
  private readonly seen = new Set<number>();
  /** Those that should be huge. */
  private readonly asked = new Set<number>();
  /** How many more may be looked at in this step. */
  private looksLeft = 0;

  /** `blocks`: all there are; it may change between two of them. */
  constructor(
    private readonly blocks: () => Iterable<Block>,
    private readonly system: PageSystem,
  ) {}

  /**
   * Goes over some more pages, from where the last step ended, and begins anew after the last one.
   * Called once in a while.
   */
  step(): void {
    this.looksLeft = LOOKS_A_STEP;
    this.walk ??= this.pages();
    for (let i = 0; i < PAGES_A_STEP && this.looksLeft > 0; i++) {
      const next = this.walk.next();
      if (next.done === true) return this.endWalk();
      this.visit(next.value);
    }
  }

  /** The addresses of the pages that each block lies in. */
  private *pages(): Generator<number> {
    for (const block of this.blocks()) {
      const { byteLength } = block;
      if (byteLength === 0) continue;
      const first = this.system.addressOf(block);
      const end = first + byteLength;
      for (let at = first - (first % HUGE_PAGE_BYTES); at < end; at += HUGE_PAGE_BYTES) yield at;
    }
  }

  private visit(address: number): void {
    if (this.seen.has(address)) return;
    this.seen.add(address);
    if (this.asked.has(address) || this.asked.size === MOST_PAGES) return;
    this.looksLeft--;
    if (this.system.residentBytes(address) < LEAST_RESIDENT * HUGE_PAGE_BYTES) return;
    this.asked.add(address);
    this.system.prefer(address, true);
  }

  /** Where no block lies any more, whatever comes next would take a whole page of 2 MiB. */
  private endWalk(): void {
    for (const address of this.asked) {
      if (this.seen.has(address)) continue;
      this.asked.delete(address);
      this.system.prefer(address, false);
    }
    this.seen.clear();
    this.walk = null;
  }
}
