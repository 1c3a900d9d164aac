/** The Debian package: the executable as a service, with its user, directories and pages. */
import { $ } from "bun";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { version } from "../src/version.ts";
import {
  compressed,
  folder,
  generatedTexts,
  layDown,
  projectFile,
  shareFile,
  type PackagedFile,
} from "./files.ts";
import { projectRoot } from "./project.ts";
import { sbom } from "./sbom.ts";
import type { Target } from "./targets.ts";

const MAINTAINER = "MerkleKV maintainers <maintainers@merklekv.example>";
const SCRIPTS = ["postinst", "prerm", "postrm"];
const CONFIG_FILES = ["/etc/logrotate.d/merklekv", "/etc/merklekv/node.toml"];
const DOC = "usr/share/doc/merklekv";
const NEWS = join(projectRoot, "CHANGELOG.md");
const UNITS = "lib/systemd/system";

/** What goes into a package, and as which version of it. */
export interface DebOptions {
  readonly target: Target;
  readonly executable: string;
  /** Of the package, not of the program: after the dash of its version. */
  readonly revision: number;
  /** Unix seconds. */
  readonly epoch: number;
}

/** Builds the package into `directory`; its name. Needs dpkg-deb. */
export async function buildDeb(options: DebOptions, directory: string): Promise<string> {
  const { target, revision, epoch } = options;
  const name = `merklekv_${version}-${revision}_${target.debian}.deb`;
  const work = await mkdtemp(join(tmpdir(), "merklekv-deb-"));
  try {
    const files = await payload(options);
    layDown(files, work);
    // Beside the files that everybody may know there will be secrets.
    await chmod(join(work, "etc/merklekv"), 0o700);
    const kb = Number((await $`du -s --apparent-size -k ${work}`.text()).split("\t")[0]);
    layDown(controlFiles(options, files, kb), join(work, "DEBIAN"));
    const env = { ...process.env, SOURCE_DATE_EPOCH: String(epoch) };
    // Level 3 would save three parts in a hundred, and take three times as long.
    await $`dpkg-deb --root-owner-group -Zxz -z1 --build ${work} ${join(directory, name)}`
      .env(env)
      .quiet();
    return name;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Everything that is installed. */
export async function payload(options: DebOptions): Promise<PackagedFile[]> {
  const { executable, epoch } = options;
  const shared = [...(await generatedTexts(epoch))].map(([file, text]) => shareFile(file, text));
  return [
    { path: "usr/bin/merklekv", content: { from: executable }, mode: 0o755 },
    ...shared.map((file) => ({ ...file, path: `usr/share/${file.path}` })),
    projectFile("packaging/node.toml", "etc/merklekv/node.toml"),
    projectFile("configs/logrotate/merklekv", "etc/logrotate.d/merklekv"),
    ...folder("configs/systemd", UNITS),
    ...folder("configs", `${DOC}/examples`).filter(({ path }) => !/systemd|logrotate/.test(path)),
    projectFile("packaging/debian/copyright", `${DOC}/copyright`),
    projectFile("packaging/debian/lintian-overrides", "usr/share/lintian/overrides/merklekv"),
    { path: `${DOC}/changelog.gz`, content: compressed(readFileSync(NEWS)) },
    { path: `${DOC}/changelog.Debian.gz`, content: compressed(changelog(options)) },
    { path: `${DOC}/sbom.cdx.json.gz`, content: compressed(sbom(epoch)) },
  ];
}

/** What dpkg reads of a package: its scripts among them. */
export function controlFiles(
  options: DebOptions,
  files: readonly PackagedFile[],
  installedKb: number,
): PackagedFile[] {
  const scripts = SCRIPTS.map((name) => ({
    ...projectFile(`packaging/debian/${name}`, name),
    mode: 0o755,
  }));
  return [
    { path: "control", content: control(options, installedKb) },
    { path: "conffiles", content: `${CONFIG_FILES.join("\n")}\n` },
    { path: "md5sums", content: files.map(md5Line).join("") },
    ...scripts,
  ];
}

function control({ target, revision }: DebOptions, installedKb: number): string {
  return [
    "Package: merklekv",
    `Version: ${version}-${revision}`,
    `Architecture: ${target.debian}`,
    `Maintainer: ${MAINTAINER}`,
    `Installed-Size: ${installedKb}`,
    // What its runtime was linked for; it brings everything else along.
    "Depends: adduser, libc6 (>= 2.17)",
    "Suggests: logrotate, mosquitto",
    "Section: database",
    "Priority: optional",
    "Description: distributed key-value store that heals itself",
    " MerkleKV keeps keys and values in the memory of several nodes and on their",
    " disks. Nodes tell each other of writes through an MQTT broker, compare",
    " themselves by Merkle trees, and heal what got lost. It speaks a line protocol",
    " and that of Redis.",
    " .",
    " This package runs one node as a service, and more on request.",
    "",
  ].join("\n");
}

function changelog({ revision, epoch }: DebOptions): string {
  const date = new Date(epoch * 1_000).toUTCString().replace("GMT", "+0000");
  return [
    `merklekv (${version}-${revision}) stable; urgency=medium`,
    "",
    `  * Package of version ${version}; changelog.gz says what is new in it.`,
    "",
    ` -- ${MAINTAINER}  ${date}`,
    "",
  ].join("\n");
}

function md5Line({ path, content }: PackagedFile): string {
  if (CONFIG_FILES.includes(`/${path}`)) return "";
  const hash = createHash("md5");
  const isCopy = typeof content === "object" && "from" in content;
  hash.update(isCopy ? readFileSync(content.from) : content);
  return `${hash.digest("hex")}  ${path}\n`;
}
