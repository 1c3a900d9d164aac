/** Manifests for containers agree with each other and with what the program does. */
import { YAML } from "bun";
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../../src/config/load.ts";
import { schema } from "../../../src/config/schema.ts";
import packageJson from "../../../package.json";
import { projectRoot } from "../../support/binary.ts";

const FOLDER = join(projectRoot, "configs/kubernetes");
const CLIENT_PORT = schema["network.bind_port"].fallback;

// What a manifest holds is for its reader to know.
// oxlint-disable-next-line typescript/no-explicit-any
type Manifest = any;

function read(path: string): Manifest {
  return YAML.parse(readFileSync(path, "utf8"));
}

const kustomization = read(join(FOLDER, "kustomization.yaml"));
const manifests: Manifest[] = kustomization.resources.flatMap((name: string) =>
  [read(join(FOLDER, name))].flat(),
);
function manifest(kind: string, name: string): Manifest {
  const found = manifests.find((it) => it.kind === kind && it.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}
const pod = manifest("StatefulSet", "merklekv").spec.template;
const [node] = pod.spec.containers;

describe("Kubernetes", () => {
  const loaded = loadConfig({
    path: join(FOLDER, "node.toml"),
    env: { MERKLE_KV_NODE_ID: "merklekv-0" },
    randomHex: () => "0",
  });
  if (!loaded.ok) throw new Error(loaded.problems.join("\n"));
  const { config } = loaded;

  test("every file is part of it", () => {
    const listed = [...kustomization.resources, "kustomization.yaml"].sort();
    expect(
      readdirSync(FOLDER)
        .filter((it) => it.endsWith(".yaml"))
        .sort(),
    ).toEqual(listed);
    const version = kustomization.images.find((it: Manifest) => it.name === node.image).newTag;
    expect(version).toBe(packageJson.version);
  });

  test("ports are those that a node listens on", () => {
    const ports = { client: config.network.bind_port, http: config.http.bind_port };
    expect(ports.client).toBe(CLIENT_PORT);
    for (const { name, containerPort } of node.ports) {
      expect(containerPort).toBe(ports[name as keyof typeof ports]);
    }
    for (const service of ["merklekv", "merklekv-peers"]) {
      for (const { name, port, targetPort } of manifest("Service", service).spec.ports) {
        expect([port, targetPort]).toEqual([ports[name as keyof typeof ports], name]);
      }
    }
  });

  test("probes ask what the HTTP port answers", () => {
    const source = readFileSync(join(projectRoot, "src/http/http-port.ts"), "utf8");
    const { startupProbe, livenessProbe, readinessProbe } = node;
    const paths = [startupProbe, livenessProbe, readinessProbe].map((it) => it.httpGet.path);
    expect(paths).toEqual(["/healthz", "/healthz", "/readyz"]);
    paths.push(manifest("ServiceMonitor", "merklekv").spec.endpoints[0].path);
    for (const path of paths) expect(source).toContain(`"${path}"`);
    for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
      expect(node.ports.map(({ name }: Manifest) => name)).toContain(probe.httpGet.port);
    }
  });

  test("names lead to what is there", () => {
    const { serviceName, replicas, selector } = manifest("StatefulSet", "merklekv").spec;
    expect(manifest("Service", serviceName).spec.clusterIP).toBe("None");
    const peers = Array.from(
      { length: replicas },
      (_, i) => `merklekv-${i}.${serviceName}:${config.network.bind_port}`,
    );
    expect(config.anti_entropy.peer_list).toEqual(peers);
    const broker = new URL(config.mqtt.broker_address);
    const [{ port }] = manifest("Service", broker.hostname).spec.ports;
    expect(port).toBe(Number(broker.port));
    expect(pod.metadata.labels).toEqual(selector.matchLabels);
    const budget = manifest("PodDisruptionBudget", "merklekv").spec;
    expect(budget.selector).toEqual(selector);
    const monitored = manifest("ServiceMonitor", "merklekv").spec.selector.matchLabels;
    expect(manifest("Service", "merklekv-peers").metadata.labels).toEqual(monitored);
  });

  test("each volume that is mounted is there, and so is each file that is read", () => {
    const claims = manifest("StatefulSet", "merklekv").spec.volumeClaimTemplates;
    const names = [...pod.spec.volumes, ...claims].map((it) => it.name ?? it.metadata.name);
    expect(node.volumeMounts.map(({ name }: Manifest) => name).sort()).toEqual(names.sort());
    const places = node.volumeMounts.map(({ mountPath }: Manifest) => mountPath);
    const files = [config.cluster.secret_file, config.auth.acl_file, config.storage.path];
    for (const file of files) {
      expect(places.some((place: string) => file.startsWith(`${place}/`))).toBe(true);
    }
    const generators = [...kustomization.configMapGenerator, ...kustomization.secretGenerator];
    const generated = generators.map(({ name }: Manifest) => name);
    const used = pod.spec.volumes.flatMap(({ configMap, secret }: Manifest) =>
      [configMap?.name, secret?.secretName].filter((it) => it !== undefined),
    );
    expect(generated).toEqual(expect.arrayContaining(used));
  });
});

describe.each(["compose.yaml", "compose-secured.yaml"])("%s", (file) => {
  const compose = read(join(projectRoot, "configs", file));
  const nodes = Object.entries<Manifest>(compose.services).filter(([name]) => /^node/.test(name));

  test("three nodes have names, ports and disks of their own", () => {
    expect(nodes.map(([name]) => name)).toEqual(["node1", "node2", "node3"]);
    for (const [name, { environment, volumes, ports }] of nodes) {
      expect(environment.MERKLE_KV_NODE_ID).toBe(name);
      expect(volumes).toContain(`${name}:/data`);
      expect(Object.keys(compose.volumes)).toContain(name);
      expect(ports[0]).toEndWith(`:${CLIENT_PORT}`);
    }
    expect(new Set(nodes.map(([, { ports }]) => ports[0])).size).toBe(3);
  });

  test("a node starts with what it is given", () => {
    for (const [, { environment }] of nodes) {
      const path = join(projectRoot, "configs/docker.toml");
      const loaded = loadConfig({ path, env: environment, randomHex: () => "0" });
      expect(loaded.ok ? [] : loaded.problems).toEqual([]);
      if (!loaded.ok) continue;
      expect(new URL(loaded.config.mqtt.broker_address).hostname).toBe("mosquitto");
    }
  });
});

test("secrets of compose-secured.yaml are where the nodes look for them", () => {
  const compose = read(join(projectRoot, "configs/compose-secured.yaml"));
  for (const { environment, secrets, healthcheck } of [compose.services.node1]) {
    expect(secrets).toEqual(Object.keys(compose.secrets));
    const files = [environment.MERKLE_KV_CLUSTER_SECRET_FILE, environment.MERKLE_KV_AUTH_ACL_FILE];
    expect(files).toEqual(secrets.map((name: string) => `/run/secrets/${name}`));
    expect(healthcheck.test).toContain("cli");
  }
});
