/** What is inside the executable, as CycloneDX 1.5 says it: the runtime and every package. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { version } from "../src/version.ts";
import { bundledPackages, lockedPackage, type LockedPackage } from "./lockfile.ts";
import { projectRoot } from "./project.ts";
import { targets } from "./targets.ts";

/** The document, as JSON. `epoch` is in Unix seconds. */
export function sbom(epoch: number): string {
  const runtimes = targets.map(({ runtime }) => componentOf(lockedPackage(runtime), "platform"));
  const packages = bundledPackages().map((it) => componentOf(it, "library"));
  const components = [...runtimes, ...packages];
  const serial = createHash("sha256")
    .update(JSON.stringify([version, components]))
    .digest("hex");
  const document = {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    serialNumber: `urn:uuid:${uuidOf(serial)}`,
    version: 1,
    metadata: {
      timestamp: new Date(epoch * 1_000).toISOString(),
      component: {
        type: "application",
        "bom-ref": `pkg:generic/merklekv@${version}`,
        name: "merklekv",
        version,
        licenses: [{ license: { id: "MIT" } }],
      },
    },
    components,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function componentOf(locked: LockedPackage, type: "platform" | "library"): object {
  const { name, version, integrity } = locked;
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const content = Buffer.from(integrity.replace("sha512-", ""), "base64").toString("hex");
  return {
    type,
    "bom-ref": purl,
    name,
    version,
    purl,
    hashes: [{ alg: "SHA-512", content }],
    licenses: [{ expression: type === "platform" ? RUNTIME_LICENSES : licenseOf(locked) }],
  };
}

/** Bun's own, and that of JavaScriptCore, which is linked into it. */
const RUNTIME_LICENSES = "MIT AND LGPL-2.0-or-later";

/** By what the package itself says; its place in the lockfile is that below node_modules. */
function licenseOf({ name, place }: LockedPackage): string {
  const asker = place.slice(0, -name.length);
  const path = asker === "" ? name : join(asker, "node_modules", name);
  const file = join(projectRoot, "node_modules", path, "package.json");
  const { license } = JSON.parse(readFileSync(file, "utf8")) as { license?: unknown };
  return typeof license === "string" ? license : "NOASSERTION";
}

/** Version 8, which leaves its bits to whoever makes it. */
function uuidOf(hex: string): string {
  const variant = "89ab"[parseInt(hex[16], 16) & 3];
  const digits = `${hex.slice(0, 12)}8${hex.slice(13, 16)}${variant}${hex.slice(17, 32)}`;
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
