/**
 * Gets a fresh clone ready to run with nothing but Node and npm: the pinned Bun, then every package
 * exactly as bun.lock says. A few milliseconds, and no network, when that is already so.
 *
 * Plain JavaScript, because it runs before there is anything to run TypeScript with.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's directory. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The pinned Bun, once `setUp` has returned. */
export const bun = join(root, "node_modules/bun/bin/bun.exe"); // its name on every platform

/** Installs what is missing or stale. Throws an Error with what to do when that fails. */
export function setUp() {
  const pinned = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).devDependencies.bun;
  if (versionOf(bun) === pinned) installPackages(bun);
  else if (process.versions.bun) installPackages(process.execPath);
  else installThroughNpm(pinned);
  if (versionOf(bun) !== pinned) {
    throw new Error(
      `Bun ${pinned} does not run here: try "npm rebuild bun", or see https://bun.com`,
    );
  }
}

function versionOf(executable) {
  const { stdout } = spawnSync(executable, ["--version"], { encoding: "utf8" });
  return stdout?.trim();
}

function installPackages(executable) {
  run(executable, ["install", "--frozen-lockfile"]);
}

/**
 * npm knows nothing of bun.lock, so it fetches Bun alone, into a corner, and that Bun installs the
 * packages, itself among them. Its install script is run by hand: npm may be told to skip scripts.
 */
function installThroughNpm(pinned) {
  console.error(`Setting up, once: Bun ${pinned} and the packages in bun.lock …`);
  rmSync(join(root, "node_modules"), { recursive: true, force: true }); // npm may have half filled it
  const corner = join(root, "node_modules/.setup");
  const npm = ["install", "--ignore-scripts", "--no-audit", "--no-fund"];
  try {
    run("npm", [...npm, "--prefix", corner, `bun@${pinned}`]);
    run(process.execPath, [join(corner, "node_modules/bun/install.js")]);
    installPackages(join(corner, "node_modules/bun/bin/bun.exe"));
  } finally {
    rmSync(corner, { recursive: true, force: true });
  }
}

/** Silent when all is well. */
function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root });
  if (status === 0) return;
  const output = error ? String(error) : `${stdout}${stderr}`.trim();
  throw new Error(`Set-up failed at "${[command, ...args].join(" ")}":\n${output}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    setUp();
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
