/** The turns in which requests are answered: who has them. */
import { expect, test } from "bun:test";
import { AnswerTurns } from "../../../src/http/answer-turns.ts";
import { eventLoop } from "../../../src/world.ts";

test("whoever has much to be answered does not keep others waiting", async () => {
  let nowMs = 0;
  const turns = new AnswerTurns({ ...eventLoop, nowMs: () => nowMs });
  const answered = [0, 0, 0];
  let isOver = false;
  const ask = async (who: number): Promise<void> => {
    while (!isOver) {
      await turns.enter(null);
      answered[who]++;
      nowMs += 0.3;
      // As an answer is made in several steps.
      for (let i = 0; i < 5; i++) await Promise.resolve();
    }
  };
  const all = [ask(0), ask(1), ask(2)];
  while (answered[0] < 100) await new Promise((resolve) => setImmediate(resolve));
  isOver = true;
  await Promise.all(all);
  for (const count of answered) expect(count).toBeGreaterThan(80);
});
