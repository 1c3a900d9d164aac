/** Facts of a part, read without INFO around them. */
import type { Fact, FactValue } from "../../src/fact.ts";

/** What the fact of that name says of the part now. */
export function readFact<Part>(facts: readonly Fact<Part>[], part: Part, name: string): FactValue {
  const fact = facts.find((it) => it.name === name);
  if (fact === undefined) throw new Error(`there is no fact ${name}`);
  return fact.read(part);
}
