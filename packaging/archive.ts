/** The .tar.gz for those without Debian: a folder to be unpacked anywhere. */
import { $ } from "bun";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { version } from "../src/version.ts";
import { compressed, folder, generatedTexts, layDown, projectFile, shareFile } from "./files.ts";
import { sbom } from "./sbom.ts";
import type { Target } from "./targets.ts";

/** Builds the archive of one executable into `directory`; its name. */
export async function buildArchive(
  target: Target,
  executable: string,
  directory: string,
  epoch: number,
): Promise<string> {
  const name = `merklekv-${version}-${target.name}`;
  const work = await mkdtemp(join(tmpdir(), "merklekv-archive-"));
  try {
    const shared = [...(await generatedTexts(epoch))].map(([file, text]) => shareFile(file, text));
    const files = [
      { path: "bin/merklekv", content: { from: executable }, mode: 0o755 },
      ...shared.map((file) => ({ ...file, path: `share/${file.path}` })),
      ...folder("configs", "configs"),
      projectFile("packaging/node.toml", "configs/node.toml"),
      ...["README.md", "LICENSE", "CHANGELOG.md"].map((it) => projectFile(it, it)),
      { path: "sbom.cdx.json", content: sbom(epoch) },
    ];
    layDown(files, join(work, name));
    // In one order, of one time and of nobody: the same sources give the same archive.
    const order = ["--sort=name", `--mtime=@${epoch}`, "--owner=0", "--group=0", "--numeric-owner"];
    await $`tar --format=ustar ${order} -cf ${join(work, "archive.tar")} -C ${work} ${name}`.quiet();
    const archive = await Bun.file(join(work, "archive.tar")).bytes();
    await Bun.write(join(directory, `${name}.tar.gz`), compressed(archive));
    return `${name}.tar.gz`;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
