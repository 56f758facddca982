// When a tab has shown its first content: for what can wait until then, and for whoever measures.
import { useEffect, useLayoutEffect, useRef, useState } from './preact.js';

/** Calls back once what is drawn now is on the screen. */
function oncePainted(act) {
  // The frame's callbacks run before it is painted, a task that they ask for runs after that.
  requestAnimationFrame(() => setTimeout(act));
}

/**
 * Marks `content:NAME` once the first content of a view is painted. When its data came, the
 * browser's own resource timing tells (`performance.getEntriesByType`).
 * @param {string} name of the view
 * @param {boolean} ready whether its first content is drawn now
 */
export function useContentMark(name, ready) {
  const done = useRef(false);
  useLayoutEffect(() => {
    if (!ready || done.current) return;
    done.current = true;
    oncePainted(() => performance.mark(`content:${name}`));
  }, [name, ready]);
}

/**
 * Whether the first content was painted: what is further down is drawn after that.
 * @param {boolean} ready whether the first content is drawn now
 */
export function useSettled(ready) {
  const [settled, setSettled] = useState(false);
  useEffect(() => {
    if (ready && !settled) oncePainted(() => setSettled(true));
  }, [ready]);
  return settled;
}
