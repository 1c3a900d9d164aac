/** What bun.lock says of packages: which version, with which checksum, and what each needs. */
import lock from "../bun.lock";

/** A package at the version that is used. */
export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  /** `sha512-` and Base64, of the archive in the registry. */
  readonly integrity: string;
  /** Where the lockfile has it: its name, or `other/name` for one that only another uses. */
  readonly place: string;
}

type Row = [id: string, registry: string, about: About, integrity: string];
interface About {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}
interface Lockfile {
  workspaces: { "": { dependencies: Record<string, string> } };
  packages: Record<string, Row>;
}
const { workspaces, packages } = lock as unknown as Lockfile;

/** A package by its place. Throws an Error when the lockfile does not have it. */
export function lockedPackage(place: string): LockedPackage {
  const row = packages[place];
  if (row === undefined) throw new Error(`bun.lock has no ${place}`);
  const [id, , , integrity] = row;
  const cut = id.lastIndexOf("@");
  return { name: id.slice(0, cut), version: id.slice(cut + 1), integrity, place };
}

/** Every package that the program depends on, directly or not. */
export function bundledPackages(): LockedPackage[] {
  const places = new Set<string>();
  const waiting = Object.keys(workspaces[""].dependencies);
  for (let place = waiting.pop(); place !== undefined; place = waiting.pop()) {
    if (places.has(place)) continue;
    places.add(place);
    const { dependencies = {}, optionalDependencies = {} } = packages[place][2];
    waiting.push(...Object.keys(dependencies).map((name) => placeOf(name, place)));
    // What is optional may be left out, and then is not in the lockfile either.
    const optional = Object.keys(optionalDependencies).map((name) => placeOf(name, place));
    waiting.push(...optional.filter((it) => Object.hasOwn(packages, it)));
  }
  return [...places].sort().map(lockedPackage);
}

/** What a package gets when it asks for another: the nearest, as in nested node_modules. */
function placeOf(name: string, asker: string): string {
  const around = asker.match(/@[^/]+\/[^/]+|[^/]+/g) ?? [];
  for (; around.length > 0; around.pop()) {
    const place = [...around, name].join("/");
    if (Object.hasOwn(packages, place)) return place;
  }
  return name;
}
