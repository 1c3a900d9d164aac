/** The Merkle tree as a map: 64 by 64 cells, each of which stands for 16 buckets of keys. */
import { html, useEffect, useRef, useState } from "/console/preact.js";
import { ask } from "/console/server.js";

const SIDE = 64;
const LOOK_MS = 500;
/** How long a cell that has changed stays lit. */
const LIT_MS = 4_000;

function cellsOf(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Uint32Array(bytes.buffer);
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { empty: of("--ground"), full: of("--line"), lit: of("--warm") };
}

/** The third view. */
export function Tree() {
  const canvas = useRef(null);
  const [state, setState] = useState({ used: 0, lit: 0, error: null });
  useEffect(() => {
    let isShown = true;
    let timer;
    let before = null;
    const litAt = new Float64Array(SIDE * SIDE).fill(-Infinity);
    const draw = (cells, now) => {
      const context = canvas.current?.getContext("2d");
      if (!context) return;
      const { empty, full, lit } = colors();
      for (let i = 0; i < cells.length; i++) {
        const isLit = now - litAt[i] < LIT_MS;
        context.fillStyle = isLit ? lit : cells[i] === 0 ? empty : full;
        context.fillRect((i % SIDE) * 8, Math.floor(i / SIDE) * 8, 7, 7);
      }
    };
    const look = async () => {
      try {
        const cells = cellsOf((await ask("/v1/tree")).cells_base64);
        const now = performance.now();
        if (before !== null) {
          for (let i = 0; i < cells.length; i++) if (cells[i] !== before[i]) litAt[i] = now;
        }
        before = cells;
        if (!isShown) return;
        draw(cells, now);
        const used = cells.reduce((sum, cell) => sum + (cell === 0 ? 0 : 1), 0);
        const lit = litAt.reduce((sum, at) => sum + (now - at < LIT_MS ? 1 : 0), 0);
        setState({ used, lit, error: null });
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
  const { used, lit, error } = state;
  const words = `${used} of 4096 cells hold keys; ${lit} changed in the last seconds`;
  return html`<section>
    <h2>Merkle tree</h2>
    ${error && html`<p class="bad" role="alert">${error.message}</p>`}
    <canvas ref=${canvas} width="512" height="512" role="img" aria-label=${words}></canvas>
    <p role="status">${words}.</p>
    <p class="quiet">
      A cell stands for 16 of the 65,536 buckets. It lights up when what it holds changes: by a
      write, by an event from another node, or because a comparison with one healed it.
    </p>
  </section>`;
}
