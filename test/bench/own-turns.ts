/**
 * How long a walk over a million keys holds the event loop at a time, by processor time: in one
 * process without a network, so that whatever the machine does meanwhile is not in it.
 */
import { RESP2 } from "../../src/protocol/reply.ts";
import { InProcessServer, type InProcessClient } from "../support/in-process.ts";
import { threadTimeNs } from "./breakdown/thread-time.ts";
import { keyName, KEYS, request } from "./load.ts";

const FILLED_AT_A_TIME = 1_000;

/** A store of a million keys, and a client. */
export class Turns {
  private readonly client: InProcessClient;

  constructor() {
    const server = new InProcessServer({ isPatient: true });
    this.client = server.connect(RESP2);
    for (let from = 0; from < KEYS; from += FILLED_AT_A_TIME) {
      let text = "";
      for (let i = from; i < from + FILLED_AT_A_TIME; i++) {
        text += request("SET", keyName(i), "x".repeat(22));
      }
      this.client.send(text);
      this.client.read();
    }
    // What filling leaves behind is not a walk's.
    Bun.gc(true);
  }

  /** The processor time in ms that each turn of the event loop takes while this is answered. */
  async while(asked: string): Promise<number[]> {
    const turnsMs: number[] = [];
    let lastNs = threadTimeNs();
    const { promise, resolve } = Promise.withResolvers<void>();
    const tick = (): void => {
      turnsMs.push((threadTimeNs() - lastNs) / 1e6);
      this.client.read();
      if (!this.client.isPaused && turnsMs.length > 1) return resolve();
      setImmediate(tick);
      lastNs = threadTimeNs();
    };
    this.client.send(asked);
    setImmediate(tick);
    await promise;
    return turnsMs;
  }
}
