/**
 * The configuration of a running node, and how it changes: by another file, or by CONFIG SET.
 *
 * `config` is one object for as long as the node runs. Whoever reads a value of it when he needs it
 * reads the one in effect; whoever made something of values is a `Reconfigurable`. A change is
 * checked as a whole, first by the rules of the configuration, then by every such part. Only if
 * nobody has anything against it, the values change, and the parts follow.
 *
 * What is set with CONFIG SET wins over the environment, that over the file, and that over the
 * defaults, at the start and at every change. CONFIG SET is forgotten with the process.
 */
import { counter, flag, text, type Fact } from "../fact.ts";
import { OperationalError } from "../operational-error.ts";
import { needsRestart } from "./field.ts";
import {
  loadConfig,
  readRegularUtf8,
  readUtf8,
  type ConfigSources,
  type LoadedConfig,
} from "./load.ts";
import { type Config, type KeyName, keyNames, schema, valueOf } from "./schema.ts";
import type { Origin } from "./settings.ts";

/** What a node is about to run with. */
export interface Change {
  /** The whole of it. */
  readonly next: Config;
  /** Which values of it are others than before. */
  readonly changed: ReadonlySet<KeyName>;
}

/** A part of a node that has made something of values of the configuration. */
export interface Reconfigurable {
  /**
   * Checks whether it can do with a change, and changes nothing yet. Throws an OperationalError
   * if it cannot; else returns what is to be done once the values have changed, if anything.
   */
  prepare(change: Change): Commit | void | Promise<Commit | void>;
}

/** A change that a part has checked. */
export interface Commit {
  /** The values are others now: follows. */
  apply(): void;
  /** Somebody else cannot do with the change: lets go of what was opened for it. */
  abandon?(): void;
}

/** What became of a change. */
export type Outcome =
  | {
      readonly ok: true;
      /** What is in effect now and was not before. */
      readonly changed: readonly KeyName[];
      /** What differs from what is in effect, and waits for the next start. */
      readonly needRestart: readonly KeyName[];
      readonly notices: readonly string[];
    }
  | { readonly ok: false; readonly problems: readonly string[] };

type Loaded = Extract<LoadedConfig, { ok: true }>;

/** See the file header. */
export class LiveConfig {
  /** For INFO. */
  static readonly facts: readonly Fact<LiveConfig>[] = [
    counter(
      "config_changes",
      "changes",
      "How often settings changed while the node runs.",
      (it) => it.changes,
    ),
    text(
      "config_problem",
      "Why the file of settings, as it was found last, is not in effect; left out when it is.",
      (it) => it.problem || null,
    ),
    flag(
      "config_refused",
      "Whether the file of settings, as it was found last, is not in effect.",
      (it) => it.problem !== "",
    ),
    text(
      "config_needs_restart",
      "Settings in the file that wait for the next start; left out when there are none.",
      (it) => it.waiting.join(",") || null,
    ),
  ];

  /** What is in effect. */
  readonly config: Config;
  /** Asked, in this order, about each change. */
  readonly parts: Reconfigurable[] = [];
  private changes = 0;
  private problem = "";
  private waiting: readonly KeyName[] = [];
  private readonly given = new Map<KeyName, string>();
  private origins: ReadonlyMap<KeyName, Origin>;
  /** The text of the file that is in effect. */
  private content = "";
  /** One change at a time. */
  private last: Promise<unknown> = Promise.resolve();

  /** `sources` is null for a configuration that nothing can change. */
  private constructor(
    { config, origins }: Pick<Loaded, "config" | "origins">,
    private readonly sources: ConfigSources | null,
  ) {
    this.config = config;
    this.origins = origins;
  }

  /** Of a configuration that stays as it is. */
  static fixed(config: Config): LiveConfig {
    return new LiveConfig({ config, origins: new Map() }, null);
  }

  /** Loads it; when it is not good, everything that is wrong with it. */
  static load(given: ConfigSources): { live: LiveConfig; loaded: Loaded } | readonly string[] {
    let content = "";
    const readFile = given.readFile ?? readUtf8;
    const loaded = loadConfig({ ...given, readFile: (path) => (content = readFile(path)) });
    if (!loaded.ok) return loaded.problems;
    // A name that was drawn for this run stays.
    const { node_id } = loaded.config;
    const randomHex = (digits: number): string => node_id.slice(-digits);
    const live = new LiveConfig(loaded, { ...given, randomHex });
    live.content = content;
    return { live, loaded };
  }

  /** Where the value of a key comes from. */
  originOf(key: KeyName): Origin | "default" {
    return this.origins.get(key) ?? "default";
  }

  /** Takes what the file says now. */
  reload(): Promise<Outcome> {
    return this.inTurn(async () => {
      const { sources, given } = this;
      if (sources === null) return NOTHING;
      let content = this.content;
      const read = sources.readFile ?? readRegularUtf8;
      const readFile = (path: string): string => (content = read(path));
      const outcome = await this.apply(loadConfig({ ...sources, given, readFile }), []);
      this.problem = outcome.ok ? "" : outcome.problems.join("; ");
      if (outcome.ok) this.content = content;
      return outcome;
    });
  }

  /** Sets these keys, all or none, to values as the environment would have them. */
  set(values: ReadonlyMap<KeyName, string>): Promise<Outcome> {
    return this.change(new Map([...this.given, ...values]), [...values.keys()]);
  }

  /** Takes back what was set for these keys. */
  unset(keys: readonly KeyName[]): Promise<Outcome> {
    return this.change(new Map([...this.given].filter(([key]) => !keys.includes(key))), keys);
  }

  /** With the file as it was when it came into effect, whatever lies there now. */
  private change(given: ReadonlyMap<KeyName, string>, asked: readonly KeyName[]): Promise<Outcome> {
    return this.inTurn(async () => {
      if (this.sources === null) return { ok: false, problems: [FIXED] };
      const readFile = (): string => this.content;
      const outcome = await this.apply(loadConfig({ ...this.sources, given, readFile }), asked);
      if (!outcome.ok) return outcome;
      this.given.clear();
      for (const [key, text] of given) this.given.set(key, text);
      return outcome;
    });
  }

  /** None of the keys in `asked` may wait for a restart. */
  private async apply(loaded: LoadedConfig, asked: readonly KeyName[]): Promise<Outcome> {
    if (!loaded.ok) return loaded;
    const wanted = keyNames.filter((key) => this.isOther(key, loaded.config));
    const needRestart = wanted.filter((key) =>
      needsRestart(schema[key], valueOf(this.config, key), valueOf(loaded.config, key)),
    );
    const late = needRestart.filter((key) => asked.includes(key));
    if (late.length > 0) return { ok: false, problems: late.map((key) => `${key}: ${LATE}`) };
    const changed = wanted.filter((key) => !needRestart.includes(key));
    const next = structuredClone(this.config);
    for (const key of changed) put(next, key, valueOf(loaded.config, key));
    const prepared = await this.prepare({ next, changed: new Set(changed) });
    if ("problems" in prepared) return { ok: false, ...prepared };
    for (const key of changed) put(this.config, key, valueOf(next, key));
    for (const commit of prepared.commits) commit.apply();
    this.origins = loaded.origins;
    const news = needRestart.filter((key) => !this.waiting.includes(key));
    this.waiting = needRestart;
    if (changed.length > 0) this.changes++;
    return { ok: true, changed, needRestart: news, notices: loaded.notices };
  }

  private async prepare(
    change: Change,
  ): Promise<{ readonly commits: readonly Commit[] } | { readonly problems: readonly string[] }> {
    const commits: Commit[] = [];
    const problems: string[] = [];
    if (change.changed.size === 0) return { commits };
    for (const part of this.parts) {
      try {
        const commit = await part.prepare(change);
        if (commit) commits.push(commit);
      } catch (error) {
        if (!(error instanceof OperationalError)) throw error;
        problems.push(error.message);
      }
    }
    if (problems.length === 0) return { commits };
    for (const commit of commits) commit.abandon?.();
    return { problems };
  }

  private isOther(key: KeyName, config: Config): boolean {
    return !Bun.deepEquals(valueOf(this.config, key), valueOf(config, key));
  }

  private inTurn(task: () => Promise<Outcome>): Promise<Outcome> {
    const done = this.last.then(task);
    this.last = done.catch(() => {});
    return done;
  }
}

const FIXED = "the settings of this node cannot be changed";
const LATE = "changes with a restart only: set it in the file of settings";
const NOTHING: Outcome = { ok: true, changed: [], needRestart: [], notices: [] };

/** Values are `readonly` for everybody else. */
function put(config: Config, key: KeyName, value: unknown): void {
  const path = key.split(".");
  const name = path.pop()!;
  const section = path.length === 0 ? config : valueOf(config, path.join(".") as KeyName);
  (section as Record<string, unknown>)[name] = value;
}
