/** A browser of keys: by prefix, a page at a time, each with its value and where it is from. */
import { html, useEffect, useRef, useState } from "/console/preact.js";
import { ask, bytesOf, keyPath, percent, send, shown, stream } from "/console/server.js";

const PAGE = 200;
/** A listing is shown when it has so many lines, or when so many pages were asked for. */
const MANY_LINES = 100;
const MANY_PAGES = 25;
/** Behind all keys of a group, but for those that nobody has. */
const BEHIND_GROUP = "%FF%FF%FF%FF";

/**
 * What a separator after the prefix makes of many keys: one line for all that begin alike, added to
 * those that there are. The one that came last is returned.
 */
function group(keys, prefixLength, groups) {
  let last = null;
  for (const bytes of keys) {
    const rest = bytes.subarray(prefixLength);
    const at = rest.findIndex((byte) => byte === 0x3a || byte === 0x2f);
    const end = at < 0 ? bytes.length : prefixLength + at + 1;
    const head = bytes.subarray(0, end);
    const id = percent(head);
    last = groups.get(id) ?? { head, count: 0, isKey: at < 0, isAll: true };
    last.count++;
    groups.set(id, last);
  }
  return last;
}

/** Lines for what there is below a prefix, and what to go on from. */
async function look(prefix, after) {
  const groups = new Map();
  let next = after;
  for (let pages = 0; pages < MANY_PAGES && groups.size < MANY_LINES; pages++) {
    const from = next === null ? "" : `&after=${next}`;
    const found = await ask(`/v1/keys?prefix=${percent(prefix)}&limit=${PAGE}${from}`);
    const keys = found.keys.map((it) => bytesOf(it, "key"));
    const last = group(keys, prefix.length, groups);
    next = found.next;
    if (next === null) break;
    // The rest of a group is not needed to know that there is one.
    if (last !== null && !last.isKey) {
      last.isAll = false;
      next = percent(last.head) + BEHIND_GROUP;
    }
  }
  return { lines: [...groups.values()], next };
}

function when(ms) {
  return new Date(ms).toISOString();
}

function Entry({ bytes, onGone }) {
  const [{ entry, error }, setFound] = useState({});
  const [edited, setEdited] = useState(null);
  const [hasChanged, setHasChanged] = useState(false);
  const [said, setSaid] = useState({ text: "", isBad: false });
  // As it is when an answer comes: what somebody has typed by then is not to be lost.
  const isEdited = useRef(false);
  isEdited.current = edited !== null;
  const load = async (isAsked) => {
    try {
      const found = await ask(keyPath(bytes), { headers: { accept: "application/json" } });
      if (isEdited.current && !isAsked) return;
      setFound({ entry: found });
      setHasChanged(false);
      setEdited(null);
    } catch (problem) {
      setFound({ error: problem });
    }
  };
  useEffect(() => {
    void load(true);
    const abort = new AbortController();
    const onEvent = (name, data) => {
      const isThis = name === "lost" || percent(bytesOf(data, "key")) === percent(bytes);
      if (isThis) setHasChanged(true);
    };
    stream(`/v1/watch?prefix=${percent(bytes)}`, abort.signal, onEvent).catch(() => {});
    return () => abort.abort();
  }, [percent(bytes)]);
  useEffect(() => {
    if (hasChanged && edited === null) void load(false);
  }, [hasChanged, edited]);
  if (error) return html`<p class="bad" role="alert">${error.message}</p>`;
  if (!entry) return html`<p class="quiet">Reading …</p>`;
  const isText = entry.value !== undefined;
  const value = isText ? entry.value : shown(bytesOf(entry, "value"));
  const attempt = async (what, options) => {
    try {
      await send(keyPath(bytes), options);
      if (options.method === "DELETE") return onGone();
      await load(true);
      setSaid({ text: what, isBad: false });
    } catch (refusal) {
      setSaid({ text: refusal.message, isBad: true });
    }
  };
  const guard = { "if-match": `"${entry.version}"` };
  return html`
    <h2 class="mono">${shown(bytes)}</h2>
    <table>
      <tbody>
        <tr>
          <th scope="row">Kind</th>
          <td>${entry.kind}</td>
        </tr>
        <tr>
          <th scope="row">Version</th>
          <td class="mono">${entry.version}</td>
        </tr>
        <tr>
          <th scope="row">Origin</th>
          <td class="mono">${entry.origin}</td>
        </tr>
        <tr>
          <th scope="row">Written</th>
          <td>${when(entry.written_at_ms)}</td>
        </tr>
        <tr>
          <th scope="row">Expires</th>
          <td>${entry.expires_at_ms === null ? "never" : when(entry.expires_at_ms)}</td>
        </tr>
      </tbody>
    </table>
    <p>
      <label>
        Value
        <textarea
          class="mono"
          readonly=${!isText}
          value=${edited ?? value}
          onInput=${(event) => setEdited(event.target.value)}
        ></textarea>
      </label>
    </p>
    ${!isText && html`<p class="quiet">These bytes are no text, and are shown with escapes.</p>`}
    ${
      hasChanged &&
      edited !== null &&
      html`<p class="warm">It was changed meanwhile: saving will be refused. Look again first.</p>`
    }
    <div class="row">
      <button
        class="main"
        disabled=${edited === null}
        onClick=${() => attempt("Saved", { method: "PUT", headers: guard, body: edited })}
      >
        Save
      </button>
      <button onClick=${() => load(true)}>Look again</button>
      <button onClick=${() => attempt("Deleted", { method: "DELETE", headers: guard })}>
        Delete
      </button>
      <span role="status" class=${said.isBad ? "bad" : "good"}>${said.text}</span>
    </div>
  `;
}

function NewKey({ onMade }) {
  const [said, setSaid] = useState("");
  const make = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const bytes = new TextEncoder().encode(form.get("key"));
    try {
      const headers = { "if-none-match": "*" };
      await send(keyPath(bytes), { method: "PUT", headers, body: form.get("value") });
      setSaid("");
      onMade(bytes);
    } catch (error) {
      setSaid(error.status === 412 ? "There is such a key already" : error.message);
    }
  };
  return html`<form class="row" onSubmit=${make}>
    <input name="key" required aria-label="New key" placeholder="new key" />
    <input name="value" aria-label="Its value" placeholder="value" />
    <button>Add</button>
    <span role="status" class="bad">${said}</span>
  </form>`;
}

/** The second view. */
export function Keys() {
  const [prefix, setPrefix] = useState(new Uint8Array(0));
  const [page, setPage] = useState({ lines: [], next: null });
  const [chosen, setChosen] = useState(null);
  const [error, setError] = useState(null);
  const load = async (after = null) => {
    try {
      const { lines, next } = await look(prefix, after);
      setPage((before) => ({
        lines: after === null ? lines : [...before.lines, ...lines],
        next,
      }));
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  };
  useEffect(() => void load(), [percent(prefix)]);
  const { lines } = page;
  const choose = ({ head, isKey }) => (isKey ? setChosen(head) : setPrefix(head));
  return html`<div class="columns">
    <section>
      <h2>Keys</h2>
      <div class="row">
        <label>
          Prefix${" "}
          <input
            value=${shown(prefix)}
            onChange=${(event) => setPrefix(new TextEncoder().encode(event.target.value))}
          />
        </label>
        <button disabled=${prefix.length === 0} onClick=${() => setPrefix(new Uint8Array(0))}>
          All
        </button>
        <button onClick=${() => load()}>Look again</button>
      </div>
      ${error && html`<p class="bad" role="alert">${error.message}</p>`}
      <ul class="keys" aria-label="Keys">
        ${lines.map(
          ({ head, isKey, count, isAll }) =>
            html`<li key=${percent(head)}>
              <button
                class="mono"
                onClick=${() => choose({ head, isKey })}
                aria-pressed=${chosen !== null && percent(chosen) === percent(head)}
              >
                ${shown(head)}
                ${!isKey && html` <span class="quiet">${count}${isAll ? "" : " or more"} …</span>`}
              </button>
            </li>`,
        )}
      </ul>
      ${lines.length === 0 && html`<p class="quiet">There are none.</p>`}
      ${page.next !== null && html`<button onClick=${() => load(page.next)}>More</button>`}
      <${NewKey}
        onMade=${(bytes) => {
          setChosen(bytes);
          void load();
        }}
      />
    </section>
    <section aria-live="polite">
      ${
        chosen === null
          ? html`<p class="quiet">Choose a key to see what it holds.</p>`
          : html`<${Entry}
              bytes=${chosen}
              key=${percent(chosen)}
              onGone=${() => {
                setChosen(null);
                void load();
              }}
            />`
      }
    </section>
  </div>`;
}
