/**
 * What users can be permitted: each command, and each subcommand of those that have some, has a
 * permission of its own. Categories are names for many of them, as in Redis
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl).
 */

/** What is done to a key, in bits: none of them is to look at whether it is there, or how long. */
export type KeyAccess = 0 | 1 | 2 | 3;
/** What the key holds may be learnt. */
export const READ = 1;
/** What the key holds is changed. */
export const WRITE = 2;
/** Both. */
export const READ_WRITE = 3;

/** Redis' categories, in its order; of some there are no commands here. */
export const CATEGORIES = [
  "keyspace",
  "read",
  "write",
  "set",
  "sortedset",
  "list",
  "hash",
  "string",
  "bitmap",
  "hyperloglog",
  "geo",
  "stream",
  "pubsub",
  "admin",
  "fast",
  "slow",
  "blocking",
  "dangerous",
  "connection",
  "transaction",
  "scripting",
] as const;

/** One of the categories. */
export type Category = (typeof CATEGORIES)[number];

/** One command or subcommand that can be permitted. */
export interface Permission {
  /** Number among all, from 0 on. */
  readonly id: number;
  /** In lower case: `get`, `config|get`. */
  readonly name: string;
  readonly categories: ReadonlySet<Category>;
  /** Whether it is written down that it is used: administration, and what destroys all data. */
  readonly isAudited: boolean;
  /** Those of subcommands, by their names in capitals; none for most commands. */
  readonly parts: readonly (readonly [name: string, permission: Permission])[];
}

/** A command, as far as it matters here. */
export interface Permissible {
  /** In capitals. All are names of one thing, so there is one permission for all. */
  readonly names: readonly string[];
  /** Separated by spaces. */
  readonly categories: string;
  /** In capitals, with their categories. */
  readonly subcommands?: Readonly<Record<string, string>>;
}

/** All permissions there are. */
export class Permissions {
  /** By number: commands in their order, each followed by its subcommands. */
  readonly all: readonly Permission[];
  /** By name, other names of commands included. */
  private readonly byName = new Map<string, Permission>();
  private readonly byCategory: ReadonlyMap<string, readonly Permission[]>;

  /** Throws an Error for a command without categories, or with one that is not known. */
  constructor(commands: readonly Permissible[]) {
    const all: Permission[] = [];
    for (const { names, categories, subcommands = {} } of commands) {
      const name = names[0].toLowerCase();
      const parts: [string, Permission][] = [];
      const id = all.length;
      const permission = { id, name, ...belonging(name, categories), parts };
      all.push(permission);
      for (const each of names) this.byName.set(each.toLowerCase(), permission);
      for (const [part, partCategories] of Object.entries(subcommands)) {
        const partName = `${name}|${part.toLowerCase()}`;
        const own = {
          id: all.length,
          name: partName,
          ...belonging(partName, partCategories),
          parts: [],
        };
        all.push(own);
        parts.push([part, own]);
        for (const each of names) {
          this.byName.set(`${each.toLowerCase()}|${part.toLowerCase()}`, own);
        }
      }
    }
    this.all = all;
    this.byCategory = new Map(
      CATEGORIES.map((it) => [it, all.filter(({ categories }) => categories.has(it))]),
    );
  }

  /** The permission with this name, whatever its case; undefined if there is none. */
  find(name: string): Permission | undefined {
    return this.byName.get(name.toLowerCase());
  }

  /** Those in a category, whatever its case; undefined if there is none of that name. */
  inCategory(name: string): readonly Permission[] | undefined {
    return this.byCategory.get(name.toLowerCase());
  }

  /** Every name that `find` knows. */
  get names(): readonly string[] {
    return [...this.byName.keys()];
  }
}

function belonging(name: string, text: string): Pick<Permission, "categories" | "isAudited"> {
  const categories = categoriesIn(name, text);
  const destroys = categories.has("dangerous") && categories.has("write");
  return { categories, isAudited: categories.has("admin") || destroys };
}

function categoriesIn(name: string, text: string): ReadonlySet<Category> {
  const words = text.split(" ").filter((word) => word !== "");
  if (words.length === 0) throw new Error(`the command ${name} is in no category`);
  return new Set(
    words.map((word) => {
      const category = CATEGORIES.find((it) => it === word);
      if (category === undefined) throw new Error(`${name}: there is no category ${word}`);
      return category;
    }),
  );
}
