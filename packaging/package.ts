/**
 * `npm run package`: executables, .deb, .tar.gz, SBOM and checksums, from this checkout into
 * dist/packages. The same sources give the same files, to the byte.
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { version } from "../src/version.ts";
import { buildArchive } from "./archive.ts";
import { buildDeb } from "./deb.ts";
import { projectRoot, sourceDateEpoch } from "./project.ts";
import { sbom } from "./sbom.ts";
import { compile, targets, type Target } from "./targets.ts";

const KINDS = ["deb", "tar.gz"];
const USAGE = `usage: npm run package -- [--target NAME]… [--kind ${KINDS.join("|")}]… [--revision N] [--out DIR]`;

const { values } = parseArgs({
  options: {
    target: { type: "string", multiple: true },
    kind: { type: "string", multiple: true },
    revision: { type: "string", default: "1" },
    out: { type: "string", default: join(projectRoot, "dist/packages") },
  },
});
const names = values.target ?? targets.map(({ name }) => name);
const kinds = values.kind ?? KINDS;
const chosen = targets.filter(({ name }) => names.includes(name));
const isUnknown =
  chosen.length !== names.length ||
  kinds.some((kind) => !KINDS.includes(kind)) ||
  !/^\d{1,4}$/.test(values.revision);
if (isUnknown) {
  console.error(`${USAGE}\ntargets: ${targets.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

const out = resolve(values.out);
const epoch = await sourceDateEpoch();
await mkdir(out, { recursive: true });
const made: string[] = [];
for (const target of chosen) made.push(...(await packagesOf(target)));
const bom = `merklekv-${version}.cdx.json`;
await Bun.write(join(out, bom), sbom(epoch));
made.push(bom);
const sums = await Promise.all(made.sort().map(async (name) => `${await sumOf(name)}  ${name}\n`));
await Bun.write(join(out, "SHA256SUMS"), sums.join(""));
console.log(`${out}:`);
for (const name of [...made, "SHA256SUMS"]) {
  console.log(`${(Bun.file(join(out, name)).size / 1e6).toFixed(1).padStart(8)} MB  ${name}`);
}

async function packagesOf(target: Target): Promise<string[]> {
  const names: string[] = [];
  const work = await mkdtemp(join(tmpdir(), "merklekv-package-"));
  try {
    const executable = await compile(target, work);
    if (kinds.includes("tar.gz")) {
      names.push(await buildArchive(target, executable, out, epoch));
    }
    if (kinds.includes("deb") && target.debian !== null) {
      const options = { target, executable, epoch, revision: Number(values.revision) };
      names.push(await buildDeb(options, out));
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return names;
}

async function sumOf(name: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of Bun.file(join(out, name)).stream()) hash.update(chunk);
  return hash.digest("hex");
}
