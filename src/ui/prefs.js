// What whoever looks prefers. Kept by the browser; holds nothing of the ledger and no key.
import { observable } from './observable.js';

const NAME = 'ledger.prefs';
const DEFAULTS = { theme: 'system', zone: 'utc', shortcuts: true };

function kept() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME) ?? '{}') };
  } catch {
    return { ...DEFAULTS };
  }
}

/** `theme`: system, light or dark. `zone`: utc or local. `shortcuts`: single keys do something. */
export const prefs = observable(kept());

/** Changes some of them. */
export function prefer(changed) {
  const next = { ...prefs.get(), ...changed };
  try {
    localStorage.setItem(NAME, JSON.stringify(next));
  } catch {
    // Then they hold for this page.
  }
  prefs.set(next);
}

const systemIsDark = matchMedia('(prefers-color-scheme: dark)');

/** Tells when the page has turned dark or light. */
export function onTheme(told) {
  const forget = prefs.subscribe(told);
  systemIsDark.addEventListener('change', told);
  return () => {
    forget();
    systemIsDark.removeEventListener('change', told);
  };
}

// The first to be told: whoever comes later finds the page as it is to be.
onTheme(() => {
  const { theme } = prefs.get();
  const isDark = theme === 'system' ? systemIsDark.matches : theme === 'dark';
  document.documentElement.dataset.theme = isDark ? 'dark' : 'light';
});
