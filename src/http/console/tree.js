/** The Merkle tree as a map: 64 by 64 cells, each of which stands for 16 buckets of keys. */
import { html, useEffect, useRef, useState } from "/console/preact.js";
import { ask } from "/console/server.js";

const SIDE = 64;
const LOOK_MS = 500;
/** What the node says of a cell beside what it holds. */
const DIFFERS = 1;
const HEALED = 2;

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    ground: of("--ground"),
    full: of("--line"),
    differs: of("--warm"),
    healed: of("--good"),
  };
}

/** Healed cells are a frame, so that who sees no colours can tell them from those that differ. */
function drawCell(context, x, y, isUsed, state, { ground, full, differs, healed }) {
  context.fillStyle = isUsed ? full : ground;
  if (state === DIFFERS) context.fillStyle = differs;
  if (state === HEALED) context.fillStyle = healed;
  context.fillRect(x, y, 7, 7);
  if (state !== HEALED) return;
  context.fillStyle = ground;
  context.fillRect(x + 2, y + 2, 3, 3);
}

function draw(canvas, cells, states) {
  const context = canvas?.getContext("2d");
  if (!context) return;
  const palette = colors();
  for (let i = 0; i < cells.length; i++) {
    drawCell(context, (i % SIDE) * 8, Math.floor(i / SIDE) * 8, cells[i] !== 0, states[i], palette);
  }
}

function Sample({ isUsed, state, children }) {
  const canvas = useRef(null);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (context) drawCell(context, 0, 0, isUsed, state, colors());
  });
  return html`<li>
    <canvas ref=${canvas} width="7" height="7" aria-hidden="true" /> ${children}
  </li>`;
}

/** The third view. */
export function Tree() {
  const canvas = useRef(null);
  const [state, setState] = useState({ used: 0, differing: 0, healed: 0, error: null });
  useEffect(() => {
    let isShown = true;
    let timer;
    const look = async () => {
      try {
        const found = await ask("/v1/tree");
        if (!isShown) return;
        const cells = new Uint32Array(bytesOf(found.cells_base64).buffer);
        const states = bytesOf(found.differences_base64);
        draw(canvas.current, cells, states);
        const count = (list, is) => list.reduce((sum, it) => sum + Number(is(it)), 0);
        setState({
          used: count(cells, (it) => it !== 0),
          differing: count(states, (it) => it === DIFFERS),
          healed: count(states, (it) => it === HEALED),
          error: null,
        });
      } catch (error) {
        if (isShown) setState((old) => ({ ...old, error }));
      }
      if (isShown) timer = setTimeout(look, LOOK_MS);
    };
    void look();
    return () => {
      isShown = false;
      clearTimeout(timer);
    };
  }, []);
  const { used, differing, healed, error } = state;
  const words = `${used} of 4096 cells hold keys; ${differing} differ from a peer; ${healed} healed in the last seconds`;
  return html`<section>
    <h2>Merkle tree</h2>
    ${error && html`<p class="bad" role="alert">${error.message}</p>`}
    <canvas ref=${canvas} width="512" height="512" role="img" aria-label=${words}></canvas>
    <p role="status">${words}.</p>
    <ul class="legend" aria-label="What the cells mean">
      <${Sample} isUsed=${false}>holds no keys<//>
      <${Sample} isUsed=${true}>holds keys<//>
      <${Sample} isUsed=${true} state=${DIFFERS}
        >differs from a peer: a comparison is at it, or could not heal it<//
      >
      <${Sample} isUsed=${true} state=${HEALED}>healed in the last five seconds<//>
    </ul>
    <p class="quiet">
      A cell stands for 16 of the 65,536 buckets. It lights up where a comparison with another node
      finds that the two hold other things, whoever began it. Writes that travel as they should
      light up nothing.
    </p>
  </section>`;
}
