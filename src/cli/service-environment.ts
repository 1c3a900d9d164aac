/**
 * The environment of a node's service. The package keeps what is of one machine alone, the node's
 * name above all, beside the configuration: what /etc/merklekv/node.toml says is completed by
 * /etc/default/merklekv, and what /etc/merklekv/NAME.toml says by /etc/default/merklekv-NAME, as
 * the units have it (`EnvironmentFile=`). Whoever names the configuration on a command line means
 * both.
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { ENVIRONMENT_PREFIX } from "../config/schema.ts";

type Environment = Record<string, string | undefined>;

const CONFIG = /^(.*)\/etc\/merklekv\/([^/]+)\.toml$/;
/** The service that is called after no node. */
const ONLY_NODE = "node";
const ASSIGNMENT = /^\s*([A-Za-z_]\w*)=(.*?)\s*$/;

/** The process's own environment, which counts more, over that of the configuration's service. */
export function environmentFor(configPath: string | undefined, own: Environment): Environment {
  const found = configPath === undefined ? null : CONFIG.exec(resolve(configPath));
  if (found === null) return own;
  const [, root, name] = found;
  const suffix = name === ONLY_NODE ? "" : `-${name}`;
  return { ...readAssignments(`${root}/etc/default/merklekv${suffix}`), ...own };
}

/** The settings in it, as systemd reads them; none where there is no file to be read. */
function readAssignments(path: string): Environment {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return {}; // What is missing then is told by its name.
  }
  const found: Environment = {};
  for (const line of text.split("\n")) {
    const [, name, value] = ASSIGNMENT.exec(line) ?? [];
    if (name?.startsWith(ENVIRONMENT_PREFIX)) found[name] = value.replace(/^(["'])(.*)\1$/, "$2");
  }
  return found;
}
