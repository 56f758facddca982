// Single keys that do something, and the list of them that `?` shows.
import { observable } from './observable.js';
import { prefs } from './prefs.js';
import { useEffect, useRef } from './preact.js';

/** Those that work now: `{keys, what, act}`, the latest first. */
const active = [];
/** Told when the list changes. */
export const shortcuts = observable([]);

/** Whether keys are typed into something. */
function isTyping(target) {
  return target.isContentEditable
    || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName);
}

/** Whether the space bar presses what has the focus. */
function isPressable(target) {
  return target.closest?.('button, a, summary, [role="button"]') != null;
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (!prefs.get().shortcuts && event.key !== 'Escape') return;
  if (event.key !== 'Escape' && isTyping(event.target)) return;
  if (event.key === ' ' && isPressable(event.target)) return;
  // A dialog that is open has the keyboard for itself, and closes by Escape on its own.
  if (document.querySelector('dialog[open]')) return;
  const found = active.find(({ keys }) => keys.includes(event.key));
  if (!found) return;
  event.preventDefault();
  found.act(event);
});

/**
 * Lets keys do something for as long as the component is there. The component drawn last wins.
 * @param {string | string[]} keys as `KeyboardEvent.key` names them
 * @param {string} what for the list, in the imperative
 * @param {(event: KeyboardEvent) => void} act
 */
export function useShortcut(keys, what, act) {
  const latest = useRef(act);
  latest.current = act;
  const all = [keys].flat();
  useEffect(() => {
    const entry = { keys: all, what, act: (event) => latest.current(event) };
    active.unshift(entry);
    shortcuts.set([...active]);
    return () => {
      active.splice(active.indexOf(entry), 1);
      shortcuts.set([...active]);
    };
  }, [all.join(' '), what]);
}
