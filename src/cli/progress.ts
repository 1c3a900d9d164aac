/**
 * How far something has come that takes long: a bar on a terminal, a line now and then elsewhere,
 * on standard error. What is done quickly says nothing.
 */
import { realWorld } from "../world.ts";

/** Where it is shown. */
export interface ProgressScreen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** For so long nothing is said, in ms; and then so often. */
const BAR_AFTER_MS = 500;
const BAR_EVERY_MS = 100;
const LINE_EVERY_MS = 5_000;
const BAR_WIDTH = 24;
const MIB = 1_048_576;

/** What is counted. */
export type ProgressUnit = "bytes" | "buckets";

/** See the file header. */
export class Progress {
  private done = 0;
  private readonly beganMs: number;
  private nextMs: number;
  private isShown = false;

  /** `total` is how much there is to do; 0 for not known. */
  constructor(
    private readonly what: string,
    private readonly total: number,
    private readonly unit: ProgressUnit,
    private readonly screen: ProgressScreen = process.stderr,
    private readonly nowMs: () => number = realWorld.timing.nowMs,
  ) {
    this.beganMs = nowMs();
    this.nextMs = this.beganMs + (screen.isTTY === true ? BAR_AFTER_MS : LINE_EVERY_MS);
  }

  /** So much more is done. */
  add(amount: number): void {
    this.done += amount;
    const nowMs = this.nowMs();
    if (nowMs < this.nextMs) return;
    const isBar = this.screen.isTTY === true;
    this.nextMs = nowMs + (isBar ? BAR_EVERY_MS : LINE_EVERY_MS);
    this.isShown = true;
    this.screen.write(isBar ? `\r${this.bar(nowMs)}\x1b[K` : `merklekv: ${this.line(nowMs)}\n`);
  }

  /** It is over, well or not: takes the bar away. */
  end(): void {
    if (this.isShown && this.screen.isTTY === true) this.screen.write("\r\x1b[K");
    this.isShown = false;
  }

  private get share(): number {
    return this.total === 0 ? 0 : Math.min(1, this.done / this.total);
  }

  private bar(nowMs: number): string {
    const filled = Math.round(this.share * BAR_WIDTH);
    const drawn = "#".repeat(filled) + "-".repeat(BAR_WIDTH - filled);
    const text = this.total === 0 ? this.line(nowMs) : `[${drawn}] ${this.line(nowMs)}`;
    return text.slice(0, (this.screen.columns ?? 80) - 1);
  }

  private line(nowMs: number): string {
    const figure = (amount: number): string =>
      this.unit === "bytes" ? `${Math.round(amount / MIB)} MiB` : String(amount);
    if (this.total === 0) return `${this.what}: ${figure(this.done)} so far`;
    const percent = Math.floor(100 * this.share);
    const unit = this.unit === "bytes" ? "" : ` ${this.unit}`;
    const left = this.secondsLeft(nowMs);
    const after = left === null ? "" : `, about ${left} s left`;
    const figures = `${figure(this.done)} of ${figure(this.total)}${unit}`;
    return `${this.what}: ${percent} % (${figures})${after}`;
  }

  private secondsLeft(nowMs: number): number | null {
    if (this.share === 0) return null;
    const tookMs = nowMs - this.beganMs;
    return Math.ceil((tookMs * (1 - this.share)) / this.share / 1_000);
  }
}
