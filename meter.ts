import { MerkleTree } from "./src/core/tree/merkle.ts";
import { Store } from "./src/core/store/store.ts";
import { TreeUpdater } from "./src/anti-entropy/tree-updater.ts";
const u = MerkleTree.prototype.update;
let ms = 0,
  n = 0,
  long = 0;
let sms = 0;
MerkleTree.prototype.update = function (...a) {
  const t = performance.now();
  const r = u.apply(this, a as any);
  const d = performance.now() - t;
  ms += d;
  n++;
  if (d > long) long = d;
  return r;
};
const s = Store.prototype.sweep;
Store.prototype.sweep = function (...a) {
  const t = performance.now();
  const r = s.apply(this, a as any);
  sms += performance.now() - t;
  return r;
};
let c0 = process.cpuUsage();
setInterval(() => {
  const c = process.cpuUsage(c0);
  c0 = process.cpuUsage();
  if (n > 1)
    console.error(
      Date.now() % 100000,
      "cpu",
      ((c.user + c.system) / 1000).toFixed(0),
      "tree",
      ms.toFixed(1),
      "n",
      n,
      "long",
      long.toFixed(2),
      "sweep",
      sms.toFixed(1),
    );
  ms = n = long = sms = 0;
}, 500);
await import("./src/main.ts");
