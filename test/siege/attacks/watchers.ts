/** Attacks by those who watch what others do, and read nothing of it. */
import type { Attack, Stage } from "../attack.ts";
import { array, stillServes } from "./requests.ts";

/** Sends requests over a connection of its own; resolves when all replies have come. */
async function send(stage: Stage, requests: string, replyBytes: number): Promise<void> {
  const socket = await stage.connect();
  const done = Promise.withResolvers<void>();
  let received = 0;
  socket.on("data", (chunk: Buffer) => {
    received += chunk.length;
    if (received >= replyBytes) done.resolve();
  });
  socket.once("close", () => done.resolve());
  socket.write(requests);
  await done.promise;
}

/** See the file header. */
export const watchers: readonly Attack[] = [
  {
    name: "monitors",
    what: "40 that say MONITOR, of which half read nothing, while others send short and long requests",
    async run(stage) {
      for (let i = 0; i < 40; i++) {
        const socket = await stage.connect();
        if (i % 2 === 0) socket.pause();
        else socket.resume();
        socket.write(i % 4 < 2 ? "MONITOR\n" : array("MONITOR"));
      }
      const long = array("ECHO", "\0".repeat(100_000));
      const wide = array("EXISTS", ...Array<string>(1_000).fill("\0".repeat(1_000)));
      await Promise.all([
        send(
          stage,
          array("SET", "k", "v".repeat(20)).repeat(stage.times(200_000)),
          5 * stage.times(200_000),
        ),
        send(stage, long.repeat(stage.times(500)), 100_000 * stage.times(500)),
        send(stage, wide.repeat(stage.times(100)), 4 * stage.times(100)),
      ]);
      await stillServes(stage);
    },
  },
];
