/** The trees of a node, without what keeps them up to date: whoever compares them does so. */
import { LongestSlice } from "../../src/anti-entropy/longest-slice.ts";
import { Trees, type TreesOptions } from "../../src/anti-entropy/trees.ts";
import { CURRENT } from "../../src/core/data/capabilities.ts";

/** Those over that store. */
export function treesOver(
  store: TreesOptions["store"],
  more: Pick<TreesOptions, "timing"> & Partial<TreesOptions>,
): Trees {
  return new Trees({
    ...{ store, cluster: "test", secrets: null, capabilities: CURRENT },
    longestSlice: new LongestSlice(more.timing.nowMs, () => 0),
    ...more,
  });
}
