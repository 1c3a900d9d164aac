/** What packages are made of, without making any: units, control files, SBOM, and where files go. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { controlFiles, payload, type DebOptions } from "../../../packaging/deb.ts";
import { bundledPackages, lockedPackage } from "../../../packaging/lockfile.ts";
import { sbom } from "../../../packaging/sbom.ts";
import { targets } from "../../../packaging/targets.ts";
import { loadConfig } from "../../../src/config/load.ts";
import packageJson from "../../../package.json";
import { projectRoot } from "../../support/binary.ts";

const EPOCH = 1_790_000_000;
const UNITS = ["merklekv.service", "merklekv@.service"];
const options: DebOptions = {
  target: targets[0],
  executable: import.meta.path, // stands for the one that takes long to build
  revision: 7,
  epoch: EPOCH,
};

function read(path: string): string {
  return readFileSync(join(projectRoot, path), "utf8");
}

/** The lines of a unit that say something. */
function settingsOf(unit: string): string[] {
  return read(`configs/systemd/${unit}`)
    .split("\n")
    .filter((line) => /^[A-Z]\w+=/.test(line));
}

describe("units", () => {
  test("what acts on the runtime inside is unset", () => {
    const variables = [...read("src/main.ts").matchAll(/^ {2}"(BUN_\w+)",$/gm)].map(([, it]) => it);
    expect(variables.length).toBeGreaterThan(3);
    for (const unit of UNITS) {
      const unset = settingsOf(unit).find((it) => it.startsWith("UnsetEnvironment="))!;
      const names = unset.slice(unset.indexOf("=") + 1).split(" ");
      expect(names).toEqual(expect.arrayContaining([...variables, "BUN_BE_BUN", "NODE_OPTIONS"]));
    }
  });

  test("the one of several differs from the one alone by its name only", () => {
    const several = settingsOf("merklekv@.service").map((line) =>
      line
        .replace("/%i.toml", "/node.toml")
        .replace("merklekv/%i", "merklekv/node")
        .replace("default/merklekv-%i", "default/merklekv")
        .replace("MerkleKV node %i, of a distributed", "MerkleKV, a distributed"),
    );
    expect(several).toEqual(settingsOf("merklekv.service"));
  });

  const analyze = Bun.which("systemd-analyze");
  test.skipIf(analyze === null)("systemd finds little that is exposed", async () => {
    const unit = join(projectRoot, "configs/systemd/merklekv.service");
    const command = [analyze!, "security", "--offline=true", "--no-pager", unit];
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "ignore" });
    const level = /Overall exposure level for merklekv\.service: ([\d.]+)/;
    const found = level.exec(await child.stdout.text());
    expect(Number(found![1])).toBeLessThanOrEqual(2);
  });
});

describe("the Debian package", () => {
  test("everything is where Debian has it, and nothing twice", async () => {
    const paths = (await payload(options)).map(({ path }) => path);
    expect(new Set(paths).size).toBe(paths.length);
    expect(paths).toEqual(
      expect.arrayContaining([
        "usr/bin/merklekv",
        "etc/merklekv/node.toml",
        "etc/logrotate.d/merklekv",
        "lib/systemd/system/merklekv.service",
        "lib/systemd/system/merklekv@.service",
        "usr/share/man/man1/merklekv-serve.1.gz",
        "usr/share/man/man5/merklekv.toml.5.gz",
        "usr/share/bash-completion/completions/merklekv",
        "usr/share/zsh/vendor-completions/_merklekv",
        "usr/share/fish/vendor_completions.d/merklekv.fish",
        "usr/share/doc/merklekv/copyright",
      ]),
    );
  });

  test("its control files say what it is", async () => {
    const files = await payload(options);
    const control = new Map(controlFiles(options, files, 42).map((file) => [file.path, file]));
    const about = control.get("control")!.content as string;
    expect(about).toContain(`Version: ${packageJson.version}-7\n`);
    expect(about).toContain("Architecture: amd64\nMaintainer: ");
    expect(about).toContain("Installed-Size: 42\n");
    const paths = files.map(({ path }) => `/${path}`);
    const settings = (control.get("conffiles")!.content as string).trim().split("\n");
    expect(paths).toEqual(expect.arrayContaining(settings));
    expect(paths.filter((path) => path.startsWith("/etc/")).sort()).toEqual(settings.sort());
    const sums = (control.get("md5sums")!.content as string).trim().split("\n");
    expect(sums.length).toBe(files.length - settings.length);
    for (const script of ["postinst", "prerm", "postrm"]) {
      expect(control.get(script)!.mode).toBe(0o755);
      const shell = Bun.spawnSync(["sh", "-n", join(projectRoot, "packaging/debian", script)]);
      expect(shell.stderr.toString()).toBe("");
    }
  });

  test("its configuration is one that a node starts with", () => {
    const loaded = loadConfig({
      path: join(projectRoot, "packaging/node.toml"),
      env: { MERKLE_KV_NODE_ID: "from-etc-default" },
      randomHex: () => "0",
    });
    expect(loaded.ok && loaded.config.storage.path).toBe("/var/lib/merklekv/node");
  });
});

describe("the SBOM", () => {
  test("is the same whenever it is made, and as of when it is told", () => {
    expect(sbom(EPOCH)).toBe(sbom(EPOCH));
    expect(JSON.parse(sbom(EPOCH)).metadata.timestamp).toBe("2026-09-21T14:13:20.000Z");
  });

  test("has every dependency, its runtime, their checksums and licences", () => {
    const { components, specVersion } = JSON.parse(sbom(EPOCH));
    expect(specVersion).toBe("1.5");
    const purls = components.map(({ purl }: { purl: string }) => purl);
    for (const [name, version] of Object.entries(packageJson.dependencies)) {
      expect(purls).toContain(`pkg:npm/${name.replace("@", "%40")}@${version}`);
    }
    expect(purls).toContain(`pkg:npm/%40oven/bun-linux-aarch64@${packageJson.devDependencies.bun}`);
    for (const { hashes, licenses } of components) {
      expect(hashes[0].content).toMatch(/^[0-9a-f]{128}$/);
      expect(licenses[0].expression).not.toBe("NOASSERTION");
    }
    expect(purls).not.toContain(`pkg:npm/fast-check@${packageJson.devDependencies["fast-check"]}`);
  });
});

describe("the lockfile", () => {
  test("has the runtime of every target, at the pinned version", () => {
    for (const { runtime } of targets) {
      expect(lockedPackage(runtime).version).toBe(packageJson.devDependencies.bun);
    }
    expect(() => lockedPackage("no-such-package")).toThrow("bun.lock has no no-such-package");
  });

  test("gives each package what is nearest to it", () => {
    const places = bundledPackages().map(({ place }) => place);
    expect(places).toContain("concat-stream/readable-stream");
    expect(places).toContain("readable-stream");
  });
});
