/** The cluster as a picture and as a table, and how this node does, as numbers and curves. */
import { html, useRef } from "/console/preact.js";
import { ask } from "/console/server.js";
import { useHistory, useLook } from "/console/use.js";

const LOOK_MS = 1_000;
const KEPT = 120;

/** How a member stands: as a word for the style, and as a sentence. */
function standing(member, own) {
  if (!member.online) return ["away", `silent for ${ago(member.seen_ms_ago)}`];
  if (member.root === null || own.root === null) {
    return ["behind", "its root is not known yet, or is of another secret"];
  }
  if (member.root !== own.root) return ["behind", "holds other data than this node"];
  return ["equal", "equal"];
}

function ago(ms) {
  if (ms < 2_000) return `${ms} ms`;
  return ms < 120_000 ? `${Math.round(ms / 1_000)} s` : `${Math.round(ms / 60_000)} min`;
}

function Picture({ members }) {
  const [own] = members;
  const place = (i) => {
    const angle = (2 * Math.PI * i) / members.length - Math.PI / 2;
    return [300 + 200 * Math.cos(angle), 130 + 95 * Math.sin(angle)];
  };
  const states = members.map((member) => standing(member, own));
  const summary = members.map(({ node_id }, i) => `${node_id}: ${states[i][1]}`).join("; ");
  return html`<svg viewBox="0 0 600 270" role="img" aria-label=${`Nodes. ${summary}`}>
    ${members.map((_, i) => {
      const [x1, y1] = place(0);
      const [x2, y2] = place(i);
      const kind = states[i][0] === "equal" ? "" : "behind";
      return i > 0 && states[i][0] !== "away"
        ? html`<line class=${`link ${kind}`} x1=${x1} y1=${y1} x2=${x2} y2=${y2} />`
        : null;
    })}
    ${members.map(({ node_id }, i) => {
      const [x, y] = place(i);
      return html`<g>
        <circle class=${`node ${states[i][0]}`} cx=${x} cy=${y} r="11" />
        <text x=${x} y=${y + 25} text-anchor="middle">${node_id}</text>
      </g>`;
    })}
  </svg>`;
}

function Members({ members }) {
  const [own] = members;
  return html`<table>
    <thead>
      <tr>
        <th>Node</th>
        <th>Address</th>
        <th>Version</th>
        <th>State</th>
        <th>Root</th>
      </tr>
    </thead>
    <tbody>
      ${members.map((member, i) => {
        const [kind, words] = standing(member, own);
        const color = { equal: "good", behind: "warm", away: "bad" }[kind];
        return html`<tr>
          <td>${member.node_id}${i === 0 && html` <span class="quiet">(this one)</span>`}</td>
          <td class="mono">${member.address || "none"}</td>
          <td>${member.version}</td>
          <td class=${color}>${words}${!member.hears && ", hears no one's writes"}</td>
          <td class="mono">${member.root === null ? "unknown" : member.root.slice(0, 12)}</td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}

function Curve({ label, values, unit }) {
  const most = Math.max(1e-9, ...values);
  const points = values.map((value, i) => {
    const x = (300 * (i + KEPT - values.length)) / (KEPT - 1);
    return `${x.toFixed(1)},${(58 - (54 * value) / most).toFixed(1)}`;
  });
  const now = values.at(-1);
  const words = now === undefined ? "…" : `${short(now)} ${unit}`;
  return html`<section>
    <h2>${label}</h2>
    <div class="big">${words}</div>
    <svg
      viewBox="0 0 300 60"
      preserveAspectRatio="none"
      role="img"
      aria-label=${`${label}: now ${words}, at most ${short(most)} ${unit} lately`}
    >
      <polyline class="curve" points=${points.join(" ")} />
    </svg>
  </section>`;
}

function short(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)} M`;
  if (number >= 1e4) return `${(number / 1e3).toFixed(1)} k`;
  return Number.isInteger(number) ? String(number) : number.toFixed(2);
}

/** How fast a counter grows, each second. */
function useRate(value, atMs) {
  const before = useRef(null);
  const last = before.current;
  if (value !== undefined && (last === null || last.atMs !== atMs)) {
    const passed = last === null ? 0 : (atMs - last.atMs) / 1_000;
    const rate = passed > 0 ? Math.max(0, value - last.value) / passed : null;
    before.current = { value, atMs, rate };
  }
  return useHistory(before.current?.rate ?? null, KEPT);
}

/** The first view. */
export function Overview() {
  const look = async () => {
    const [facts, { members }] = await Promise.all([ask("/v1/facts"), ask("/v1/cluster")]);
    const byName = new Map();
    for (const section of facts.sections) for (const it of section.facts) byName.set(it.name, it);
    return { sections: facts.sections, byName, members, atMs: performance.now() };
  };
  const { value, error } = useLook(look, LOOK_MS);
  const fact = (name) => value?.byName.get(name)?.value;
  const atMs = value?.atMs ?? 0;
  const commands = useRate(fact("total_commands_processed"), atMs);
  const received = useRate(fact("replication_received_events"), atMs);
  const healed = useRate(fact("sync_entries_applied"), atMs);
  const waiting = useHistory(fact("replication_waiting") ?? null, KEPT);
  if (error !== null) return html`<section class="bad" role="alert">${error.message}</section>`;
  if (value === null) return html`<p class="quiet">Looking …</p>`;
  return html`
    <section>
      <h2>Cluster</h2>
      <${Picture} members=${value.members} />
      <${Members} members=${value.members} />
    </section>
    <div class="grid">
      <section>
        <h2>Keys</h2>
        <div class="big">${short(fact("total_keys") ?? 0)}</div>
      </section>
      <${Curve} label="Commands" unit="a second" values=${commands} />
      <${Curve} label="Events from others" unit="a second" values=${received} />
      <${Curve} label="Entries healed" unit="a second" values=${healed} />
      <${Curve} label="Events that wait for the broker" unit="" values=${waiting} />
    </div>
    ${value.sections.map(
      ({ title, facts }) =>
        html`<section>
          <details>
            <summary>${title}</summary>
            <table>
              <tbody>
                ${facts.map(
                  (it) =>
                    html`<tr title=${it.help}>
                      <th scope="row">${it.name}</th>
                      <td class="mono">${String(it.value)}</td>
                      <td class="quiet">${it.unit}</td>
                    </tr>`,
                )}
              </tbody>
            </table>
          </details>
        </section>`,
    )}
  `;
}
