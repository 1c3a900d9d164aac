/** What several views do alike. */
import { useEffect, useRef, useState } from "/console/preact.js";

/** Runs `look` now and every so many ms while the view is shown; what it said last, and its error. */
export function useLook(look, everyMs, what = []) {
  const [state, setState] = useState({ value: null, error: null });
  useEffect(() => {
    let isShown = true;
    let timer;
    const turn = async () => {
      try {
        const value = await look();
        if (isShown) setState({ value, error: null });
      } catch (error) {
        if (isShown) setState((before) => ({ ...before, error }));
      }
      if (isShown) timer = setTimeout(turn, everyMs);
    };
    void turn();
    return () => {
      isShown = false;
      clearTimeout(timer);
    };
  }, what);
  return state;
}

/** The last `count` values that were given, oldest first. */
export function useHistory(value, count) {
  const values = useRef([]);
  useEffect(() => {
    if (value === null || Number.isNaN(value)) return;
    values.current = [...values.current, value].slice(-count);
  });
  return values.current;
}
