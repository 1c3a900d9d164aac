/**
 * The cluster secrets of a running node. They are others when the configuration names others, and
 * when the content of a file changes, as it does where secrets are mounted into a container. What
 * is found is checked as a whole first: what is bad is not used, the log says why, and what was
 * used before stays in use.
 */
import type { Change, Commit } from "./config/live-config.ts";
import type { Config, KeyName } from "./config/schema.ts";
import { counter, text, type Fact } from "./fact.ts";
import type { Logger } from "./observability/log.ts";
import { OperationalError } from "./operational-error.ts";
import { loadClusterSecrets, type ClusterSecrets } from "./security/cluster-secrets.ts";
import { SettledWatch } from "./security/settled-watch.ts";
import type { World } from "./world.ts";

const KEYS: readonly KeyName[] = [
  "cluster.secret",
  "cluster.secret_file",
  "cluster.previous_secret_files",
];

/** See the file header. */
export class NodeSecrets {
  /** What is in use; null when the cluster has none. */
  current: ClusterSecrets | null;
  /** Told when others than before are in use. */
  onChange: () => void = () => {};
  private readonly watch: SettledWatch;
  /** Why what lies in the files is not used; empty when it is. */
  private problem = "";
  private changes = 0;

  /** For INFO. */
  static readonly facts: readonly Fact<NodeSecrets>[] = [
    counter(
      "cluster_secret_changes",
      "changes",
      "How often other cluster secrets came into use while the node runs.",
      (it) => it.changes,
    ),
    text(
      "cluster_secret_problem",
      "Why the cluster secrets that lie in the files are not used; left out when they are.",
      (it) => it.problem || null,
    ),
  ];

  /** Reads them. Throws an OperationalError when one cannot be used. */
  constructor(
    private readonly config: Pick<Config, "cluster">,
    private readonly logger: Logger,
    world: Pick<World, "timing">,
  ) {
    this.current = loadClusterSecrets(config.cluster);
    this.watch = new SettledWatch(world.timing, () => this.look(false));
    this.startWatch();
  }

  /** Takes secrets from elsewhere, once it is known that they are good. */
  prepare({ next, changed }: Change): Commit | void {
    if (!KEYS.some((key) => changed.has(key))) return;
    const secrets = loadClusterSecrets(next.cluster);
    const apply = (): void => {
      this.problem = "";
      this.startWatch();
      this.use(secrets);
    };
    return { apply };
  }

  /** Reads the files again, and says what is wrong with them. */
  reopen(): void {
    this.look(true);
  }

  /** Looks at the files no more. */
  stop(): void {
    this.watch.stop();
  }

  private look(isAsked: boolean): void {
    try {
      const found = loadClusterSecrets(this.config.cluster);
      this.problem = "";
      if (!areSame(found, this.current)) this.use(found);
    } catch (error) {
      if (!(error instanceof OperationalError)) throw error;
      const isNews = error.message !== this.problem;
      this.problem = error.message;
      if (!isNews && !isAsked) return;
      const message = "The cluster secrets on disk are not used; those in use stay";
      this.logger.warn(message, { error });
    }
  }

  private use(secrets: ClusterSecrets | null): void {
    this.current = secrets;
    this.changes++;
    const previous = secrets?.previous.map(({ id }) => id).join(",") ?? "";
    this.logger.info("Other cluster secrets are in use", {
      seals_with: secrets?.current.id ?? "none",
      ...(previous !== "" && { understands: previous }),
    });
    this.onChange();
  }

  private startWatch(): void {
    const { secret_file, previous_secret_files } = this.config.cluster;
    const paths = [secret_file, ...previous_secret_files].filter((path) => path !== "");
    if (paths.length === 0) this.watch.stop();
    else this.watch.start(paths);
  }
}

function areSame(one: ClusterSecrets | null, other: ClusterSecrets | null): boolean {
  return Bun.deepEquals(one, other);
}
