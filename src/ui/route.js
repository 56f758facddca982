// Where one is, in the URL: `#ledger/signals?symbol=AAPL&row=17`. A link reproduces the view.
// Behind the hash, so that neither a proxy's log nor a Referer holds what somebody looked for.
import { observable } from './observable.js';

/** The tabs, in their order. */
export const TABS = [
  { name: 'feed', title: 'Signal Feed' },
  { name: 'ledger', title: 'Audit Ledger' },
  { name: 'integrity', title: 'Integrity Check' },
  { name: 'export', title: 'Export & Replay' },
];

/**
 * `tab`: its name; `rest`: what comes behind it, split at slashes; `query`: parameters by name.
 */
function parse(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [tab, ...rest] = path.split('/').map(decode).filter((part) => part !== '');
  const known = TABS.some(({ name }) => name === tab);
  return {
    tab: known ? tab : TABS[0].name,
    rest: known ? rest : [],
    query: known ? Object.fromEntries(new URLSearchParams(query)) : {},
  };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The hash of a place; parameters that are null, undefined or empty are left out. */
export function linkTo(tab, rest = [], query = {}) {
  const path = [tab, ...rest].map(encodeURIComponent).join('/');
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '');
  return given.length === 0 ? `#${path}` : `#${path}?${new URLSearchParams(given)}`;
}

/** Where one is. */
export const route = observable(parse(location.hash));

addEventListener('hashchange', () => route.set(parse(location.hash)));

/** Goes there: as a step that the browser's Back undoes, or in place of where one is. */
export function go(tab, rest = [], query = {}, { replace = false } = {}) {
  const hash = linkTo(tab, rest, query);
  if (hash === location.hash) return;
  if (replace) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
  route.set(parse(hash));
}

/** Changes parameters of where one is; null takes one away. */
export function setQuery(changed, options) {
  const { tab, rest, query } = route.get();
  go(tab, rest, { ...query, ...changed }, options);
}
