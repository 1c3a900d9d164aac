/**
 * Tells its owner when to look at files again: a moment after the first sign of a change, for an
 * editor or a deployment may still be at it, and now and then without any sign, for on network file
 * systems there is none.
 */
import { every, type Cancel, type Timing } from "../timing.ts";
import { FileWatch } from "./file-watch.ts";

/** Time from the first sign to the look, in ms. */
const SETTLE_MS = 500;
/** Time between looks without a sign, in ms. */
const LOOK_EVERY_MS = 60_000;

/** See the file header. */
export class SettledWatch {
  private watch: FileWatch | null = null;
  private cancelLook: Cancel | null = null;
  private cancelLooks: Cancel = () => {};

  /** `onDue` is called when it is time to look. */
  constructor(
    private readonly timing: Timing,
    private readonly onDue: () => void,
  ) {}

  /** Watches these files, and no others any more. */
  start(paths: readonly string[]): void {
    this.stop();
    this.watch = new FileWatch(paths, () => this.lookSoon());
    this.watch.start();
    this.cancelLooks = every(this.timing, LOOK_EVERY_MS, () => this.look());
  }

  /** Watches nothing any more. */
  stop(): void {
    this.watch?.stop();
    this.watch = null;
    this.cancelLooks();
    this.cancelLook?.();
    this.cancelLook = null;
  }

  private lookSoon(): void {
    this.cancelLook ??= this.timing.after(SETTLE_MS, () => {
      this.cancelLook = null;
      this.look();
    });
  }

  private look(): void {
    // Links may lead elsewhere by now.
    this.watch?.start();
    this.onDue();
  }
}
