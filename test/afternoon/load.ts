/** Somebody who writes at one node all the time, and remembers what was acknowledged. */
import type { Machine } from "./machine.ts";
import { adminOf, tell, type Logins } from "./sight.ts";

/** Writes that are sent at once. */
const AT_ONCE = 20;
/** Between two rounds: all share a machine. */
const PAUSE_MS = 100;
/** Asked at once. */
const READ_AT_ONCE = 1_000;

/** See the file header. A node that is away is tried again until it is back. */
export class Writer {
  readonly acknowledged: string[] = [];
  private isStopping = false;
  private readonly done: Promise<void>;

  constructor(
    private readonly machine: Machine,
    private readonly logins: Logins,
  ) {
    this.done = this.run();
  }

  /** Ends it, after the round under way. */
  async stop(): Promise<void> {
    this.isStopping = true;
    await this.done;
  }

  private async run(): Promise<void> {
    while (!this.isStopping) {
      await this.write().catch(() => {});
      await Bun.sleep(PAUSE_MS);
    }
  }

  private async write(): Promise<void> {
    const client = await adminOf(this.machine, this.logins);
    try {
      while (!this.isStopping) {
        const from = this.acknowledged.length;
        const keys = Array.from({ length: AT_ONCE }, (_, i) => `${this.machine.name}:${from + i}`);
        client.sendRaw(keys.map((key) => `SET ${key} value-of-${key}\n`).join(""));
        for (const key of keys) {
          const reply = await client.readLine();
          if (reply !== "OK") throw new Error(reply);
          this.acknowledged.push(key);
        }
        await Bun.sleep(PAUSE_MS);
      }
    } finally {
      await client.close();
    }
  }

  /** Those of its acknowledged writes that a node does not have. */
  async missingAt(machine: Machine): Promise<string[]> {
    const missing: string[] = [];
    for (let from = 0; from < this.acknowledged.length; from += READ_AT_ONCE) {
      const keys = this.acknowledged.slice(from, from + READ_AT_ONCE);
      const values = await tell(
        machine,
        this.logins,
        keys.map((key) => `GET ${key}`),
      );
      missing.push(...keys.filter((key, i) => values[i] !== `value-of-${key}`));
    }
    return missing;
  }
}
