/** A command line: any command of the client port, with completion and a history. */
import { html, useEffect, useRef, useState } from "/console/preact.js";
import { bytesOf, post, shown } from "/console/server.js";

/** Splits a line at spaces; a part in double quotes may hold some, and `\n`, `\t`, `\"`, `\xHH`. */
function wordsOf(line) {
  const words = [];
  const pattern = /"((?:[^"\\]|\\.)*)"|(\S+)/g;
  for (const [, quoted, bare] of line.matchAll(pattern)) {
    words.push(quoted === undefined ? bare : unescaped(quoted));
  }
  return words;
}

function unescaped(text) {
  if (!/\\x/.test(text)) {
    return text.replace(/\\(.)/g, (_, it) => ({ n: "\n", r: "\r", t: "\t" })[it] ?? it);
  }
  const bytes = [];
  for (const [all, hex, other] of text.matchAll(/\\x([0-9a-f]{2})|\\?([^])/gi)) {
    if (hex !== undefined) bytes.push(parseInt(hex, 16));
    else bytes.push(...new TextEncoder().encode(all.length > 1 ? unescaped(all) : other));
  }
  return { word_base64: btoa(String.fromCharCode(...bytes)) };
}

function replyText(reply, indent = "") {
  if (reply === null) return "(nil)";
  if (reply.status !== undefined) return reply.status;
  if (reply.integer !== undefined) return `(integer) ${reply.integer}`;
  if (reply.error !== undefined) return `(error) ${reply.error.code} ${reply.error.message}`;
  if (reply.items !== undefined) {
    if (reply.items.length === 0) return "(empty)";
    return reply.items
      .map((it, i) => `${i === 0 ? "" : indent}${i + 1}) ${replyText(it, `${indent}   `)}`)
      .join("\n");
  }
  return reply.value?.includes("\n") ? reply.value : JSON.stringify(shown(bytesOf(reply, "value")));
}

/** The fourth view. */
export function Terminal() {
  const [said, setSaid] = useState([]);
  const [line, setLine] = useState("");
  const [names, setNames] = useState([]);
  const history = useRef([]);
  const at = useRef(0);
  const end = useRef(null);
  useEffect(() => {
    post("/v1/command", { words: ["COMMAND", "LIST"] })
      .then(({ reply }) => setNames(reply.items.map((it) => it.value.toUpperCase()).sort()))
      .catch(() => {});
  }, []);
  useEffect(() => end.current?.scrollIntoView?.({ block: "nearest" }), [said]);
  const run = async (event) => {
    event.preventDefault();
    const words = wordsOf(line);
    if (words.length === 0) return;
    history.current.push(line);
    at.current = history.current.length;
    setLine("");
    let text;
    let isBad = false;
    try {
      const { reply } = await post("/v1/command", { words });
      text = replyText(reply);
      isBad = reply?.error !== undefined;
    } catch (error) {
      text = error.message;
      isBad = true;
    }
    setSaid((before) => [...before, { line, text, isBad }].slice(-200));
  };
  const onKey = (event) => {
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const step = event.key === "ArrowUp" ? -1 : 1;
      at.current = Math.min(Math.max(0, at.current + step), history.current.length);
      setLine(history.current[at.current] ?? "");
      event.preventDefault();
    } else if (event.key === "Tab" && !event.shiftKey && line !== "" && !line.includes(" ")) {
      const fitting = names.filter((name) => name.startsWith(line.toUpperCase()));
      if (fitting.length === 0 || fitting[0] === line.toUpperCase()) return;
      event.preventDefault();
      let common = fitting[0];
      for (const name of fitting) while (!name.startsWith(common)) common = common.slice(0, -1);
      setLine(fitting.length === 1 ? `${common} ` : common);
    }
  };
  const first = line.toUpperCase();
  const fitting =
    line === "" || line.includes(" ") ? [] : names.filter((it) => it.startsWith(first));
  return html`<section>
    <h2>Command line</h2>
    <div class="said" role="log" aria-live="polite">
      ${said.map(
        (each) =>
          html`<pre><b>> ${each.line}</b></pre>
            <pre class=${each.isBad ? "bad" : ""}>${each.text}</pre>`,
      )}
      <div ref=${end}></div>
    </div>
    <form class="row" onSubmit=${run}>
      <input
        class="mono grow"
        value=${line}
        aria-label="Command"
        autofocus
        autocomplete="off"
        spellcheck=${false}
        placeholder='SET key "a value"'
        onInput=${(event) => setLine(event.target.value)}
        onKeyDown=${onKey}
      />
      <button class="main">Run</button>
    </form>
    <p class="quiet" role="status">
      ${
        fitting.length > 0 && fitting.length < 12
          ? fitting.join(" ")
          : "Tab completes a command; the arrows bring back earlier ones."
      }
    </p>
  </section>`;
}
