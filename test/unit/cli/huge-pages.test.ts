/** Which memory is asked for in huge pages, and when. */
import { expect, test } from "bun:test";
import {
  HUGE_PAGE_BYTES,
  HugePages,
  openPageSystem,
  type Block,
  type PageSystem,
} from "../../../src/cli/huge-pages.ts";

const STEPS = 40;
const QUARTER = HUGE_PAGE_BYTES / 4;

/** Memory of which a test says where blocks lie and what is there. */
class FakeSystem implements PageSystem {
  readonly blocks: Block[] = [];
  /** By the number of a page; all of it where nothing is said. */
  readonly resident = new Map<number, number>();
  /** Numbers of pages. */
  readonly huge = new Set<number>();
  looks = 0;
  private readonly addresses = new Map<Block, number>();

  /** Adds a block, that many pages from the beginning. */
  add(page: number, bytes: number): void {
    const block = { byteLength: bytes } as Block;
    this.addresses.set(block, page * HUGE_PAGE_BYTES);
    this.blocks.push(block);
  }

  addressOf(block: Block): number {
    return this.addresses.get(block)!;
  }

  residentBytes(address: number): number {
    this.looks++;
    return this.resident.get(address / HUGE_PAGE_BYTES) ?? HUGE_PAGE_BYTES;
  }

  prefer(address: number, isHuge: boolean): void {
    if (isHuge) this.huge.add(address / HUGE_PAGE_BYTES);
    else this.huge.delete(address / HUGE_PAGE_BYTES);
  }
}

function steps(pages: HugePages): void {
  for (let i = 0; i < STEPS; i++) pages.step();
}

test("pages in which blocks lie are asked for as soon as nearly all of them is there", () => {
  const system = new FakeSystem();
  system.add(10, QUARTER);
  system.add(10.5, QUARTER);
  system.add(29.9, QUARTER);
  system.add(40, QUARTER);
  system.resident.set(40, 0.8 * HUGE_PAGE_BYTES);
  const pages = new HugePages(() => system.blocks, system);
  steps(pages);
  expect([...system.huge]).toEqual([10, 29, 30]);

  system.resident.set(40, 0.95 * HUGE_PAGE_BYTES);
  steps(pages);
  expect([...system.huge]).toEqual([10, 29, 30, 40]);
  const { looks } = system;
  steps(pages);
  expect(system.looks).toBe(looks);
});

test("a step looks at few pages, also of a block that has many", () => {
  const system = new FakeSystem();
  system.add(5, 100 * HUGE_PAGE_BYTES);
  const pages = new HugePages(() => system.blocks, system);
  for (let i = 0; i < STEPS; i++) {
    const { looks } = system;
    pages.step();
    expect(system.looks - looks).toBeLessThanOrEqual(4);
  }
  expect([...system.huge]).toEqual(Array.from({ length: 100 }, (_, i) => 5 + i));
});

test("pages that are hardly filled do not take the turn of those behind them", () => {
  const system = new FakeSystem();
  for (let page = 0; page < 50; page++) {
    system.add(page, QUARTER);
    system.resident.set(page, QUARTER);
  }
  for (let page = 50; page < 55; page++) system.add(page, QUARTER);
  steps(new HugePages(() => system.blocks, system));
  expect([...system.huge]).toEqual([50, 51, 52, 53, 54]);
});

test("a page in which no block lies any more is let go of", () => {
  const system = new FakeSystem();
  system.add(1, HUGE_PAGE_BYTES);
  system.add(2, QUARTER);
  system.add(2.5, QUARTER);
  const pages = new HugePages(() => system.blocks, system);
  steps(pages);
  expect([...system.huge]).toEqual([1, 2]);
  system.blocks.splice(0, 2);
  steps(pages);
  expect([...system.huge]).toEqual([2]);
});

const system = openPageSystem();

test.skipIf(system === null)("memory of this process keeps what is in it", () => {
  const bytes = new Uint8Array(4 * HUGE_PAGE_BYTES).fill(7);
  steps(new HugePages(() => [bytes], system!));
  const second = system!.addressOf(bytes) + HUGE_PAGE_BYTES;
  expect(system!.residentBytes(second - (second % HUGE_PAGE_BYTES))).toBe(HUGE_PAGE_BYTES);
  expect(bytes.every((byte) => byte === 7)).toBe(true);
});
