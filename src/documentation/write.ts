/** `bun run docs`: writes what is generated into the pages. */
import { join } from "node:path";
import { generatedPages, withGenerated } from "./pages.ts";

for (const [name, generate] of Object.entries(generatedPages)) {
  const path = join(import.meta.dir, "../../docs", name);
  await Bun.write(path, withGenerated(await Bun.file(path).text(), generate()));
}
