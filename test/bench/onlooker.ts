/** Who looks at a node: a Prometheus, a console that shows the overview, and one that watches a key. */
import type { Server } from "./servers.ts";

/** What Prometheus asks for, and what the console asks for when it shows the overview. */
export const LOOKED_AT: readonly string[] = ["/metrics", "/v1/facts", "/v1/cluster"];
/** One of the keys that are written. */
const WATCHED = "/v1/watch?prefix=key:000000000007";

/** Asks for all of it once. Throws when something of it is refused. */
export async function look(node: Server): Promise<void> {
  await Promise.all(LOOKED_AT.map((path) => ask(node, path)));
}

/** Asks for one of them. */
export async function ask(node: Server, path: string): Promise<void> {
  const answer = await fetch(`http://${node.http}${path}`);
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  await answer.bytes();
}

/** Watches a key until it is disposed of. */
export class Watcher implements AsyncDisposable {
  private readonly abort = new AbortController();
  private readonly done: Promise<void>;

  constructor(node: Server) {
    this.done = this.watch(node);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort.abort();
    await this.done;
  }

  private async watch(node: Server): Promise<void> {
    const { signal } = this.abort;
    try {
      const answer = await fetch(`http://${node.http}${WATCHED}`, { signal });
      for await (const _ of answer.body!);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
