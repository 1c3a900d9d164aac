/**
 * The keys that say which node this is, and of which cluster: `cluster.*` and those without a
 * section.
 */
import { CLUSTER_RULE, isClusterName, isNodeId, NODE_ID_RULE } from "../../core/data/name.ts";
import { list, text, type Field } from "../field.ts";
import { FILE, isFilePath } from "./values.ts";

/** Name of a key → what it is, in the order of the documentation. */
export const identityKeys = {
  node_id: text({
    fallback: "",
    fallbackText: "(required)",
    allowed: NODE_ID_RULE,
    accepts: isNodeId,
    doc: "Name of this node, unique in the cluster and the same over restarts.",
  }),
  description: text({
    fallback: "",
    allowed: "up to 1024 characters",
    accepts: (text) => [...text].length <= 1024,
    reloads: "at once",
    doc: "A note for people; nothing depends on it.",
  }),

  "cluster.name": text({
    fallback: "",
    fallbackText: "`mqtt.topic_prefix`",
    allowed: `${CLUSTER_RULE}, or empty`,
    accepts: (name) => name === "" || isClusterName(name),
    doc: "Name of the cluster; nodes with another one are refused.",
  }),
  "cluster.secret": text({
    fallback: "",
    allowed: "a text of 32 to 1024 bytes, in the environment only",
    accepts: () => true,
    secret: true,
    reloads: "at once",
    doc: "The cluster's secret itself, only ever set as `MERKLE_KV_CLUSTER_SECRET`; a file is safer.",
  }),
  "cluster.secret_file": text({
    fallback: "",
    ...FILE,
    reloads: "at once",
    doc: "File with the cluster's secret, the same for all nodes (`merklekv keygen` makes one). With it, all that nodes tell each other is sealed.",
  }),
  "cluster.previous_secret_files": list({
    fallback: [],
    allowed: "a list of paths of files",
    accepts: (path) => path !== "" && isFilePath(path),
    isPath: true,
    reloads: "at once",
    doc: "Files with secrets that are understood beside the current one, for as long as it is being changed.",
  }),
} satisfies Record<string, Field<unknown>>;
