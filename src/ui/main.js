// The frame: who looks, what is alarming, and one tab of four.
import { killSwitch, lookForKillSwitch } from './alarms.js';
import { getJson, lockedSince } from './api.js';
import { chains, loadChains } from './chains.js';
import * as format from './format.js';
import { useObservable } from './observable.js';
import {
  Busy, Dialog, ErrorNotice, Field, Notice, Time, useInterval,
} from './parts.js';
import { html, render, useEffect, useErrorBoundary, useState } from './preact.js';
import { prefer, prefs } from './prefs.js';
import { TABS, go, linkTo, route } from './route.js';
import { can, session, signIn, signOut } from './session.js';
import { shortcuts, useShortcut } from './shortcuts.js';
import { Standing } from './standing.js';
import { Export } from './tabs/export.js';
import { Feed } from './tabs/feed.js';
import { Integrity } from './tabs/integrity.js';
import { Ledger } from './tabs/ledger.js';

const VIEWS = { feed: Feed, ledger: Ledger, integrity: Integrity, export: Export };

function App() {
  const { key, holder } = useObservable(session);
  const described = useObservable(chains);
  const [error, setError] = useState(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (!key || (holder && described)) return;
    setError(null);
    const known = Promise.all([holder ?? getJson('v1/key'), described ?? loadChains()]);
    known.then(([found]) => session.set({ key, holder: found, why: null }), setError);
  }, [key, holder, described, turn]);
  if (!key) return html`<${SignIn} />`;
  if (error) {
    return html`<main><${ErrorNotice} error=${error} again=${() => setTurn(turn + 1)} />
      <button type="button" onClick=${() => signOut()}>Sign out</button></main>`;
  }
  if (!holder || !described) return html`<main><${Busy}>Asking who this key is…<//></main>`;
  return html`<${Frame} />`;
}

function SignIn() {
  const { why } = useObservable(session);
  const [key, setKey] = useState('');
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      signIn(key.trim(), await getJson('v1/key', {}, { key: key.trim() }));
    } catch (caught) {
      setError(caught);
      setBusy(false);
    }
  }
  return html`<main><div class="panel sign-in">
    <form onSubmit=${submit}>
      <header><h1>audit-ledger</h1>
        <p class="muted">The tamper-evident record of signals, decisions and orders.</p></header>
      ${why && html`<p role="alert">${why}</p>`}
      <${Field} id="key" label="API key" hint="Kept for this tab alone, until it is closed.">
        <input id="key" type="password" autocomplete="off" spellcheck="false" required
          placeholder="lk_…" value=${key} aria-invalid=${error ? 'true' : undefined}
          onInput=${(event) => setKey(event.target.value)} />
      <//>
      <${ErrorNotice} error=${error} />
      <button type="submit" class="primary" disabled=${busy || key.trim() === ''}>Sign in</button>
      <small class="muted">Whoever runs the service makes keys: <code>audit-ledger keys create</code>.
        On the embedded default there is one in <code>.ledger/admin.key</code>.</small>
    </form>
  </div></main>`;
}

function Frame() {
  const { tab } = useObservable(route);
  const { holder } = useObservable(session);
  const [help, setHelp] = useState(false);
  const mayRead = holder.scopes.includes('read');
  useShortcut('?', 'Show the keys', () => setHelp(true));
  TABS.forEach(({ name, title }, at) => useShortcut(String(at + 1), `Go to ${title}`, () => go(name)));
  useShortcut('u', 'Switch between UTC and local time', switchZone);
  useShortcut('t', 'Switch between dark and light', switchTheme);
  useEffect(() => {
    document.title = `${TABS.find(({ name }) => name === tab).title} · audit-ledger`;
  }, [tab]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <${Top} tab=${tab} onHelp=${() => setHelp(true)} />
    ${mayRead && html`<${Alarms} />`}
    <main id="main" tabindex="-1"><${Shown} key=${tab} tab=${tab} /></main>
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}`;
}

/** The hash is the route's: the focus moves by itself. */
function skip(event) {
  event.preventDefault();
  document.getElementById('main').focus();
}

/** What a tab cannot do without. Export & Replay says itself which of its parts need what. */
const NEEDS = { feed: 'read', ledger: 'read', integrity: 'read' };

/** A tab; what breaks in it leaves the frame standing. */
function Shown({ tab }) {
  const [error, reset] = useErrorBoundary((broken) => console.error(broken));
  const needed = NEEDS[tab];
  if (error) {
    return html`<${ErrorNotice} error=${error} again=${reset} />`;
  }
  if (needed && !can(needed)) {
    return html`<${Notice} title=${`This key may not look here: it has not the scope ${needed}.`}>
      Sign in with one that has it; <code>audit-ledger keys create</code> makes it.<//>`;
  }
  return html`<${VIEWS[tab]} />`;
}

function switchZone() {
  prefer({ zone: prefs.get().zone === 'utc' ? 'local' : 'utc' });
}

const THEMES = ['system', 'dark', 'light'];

function switchTheme() {
  const at = THEMES.indexOf(prefs.get().theme);
  prefer({ theme: THEMES[(at + 1) % THEMES.length] });
}

function Top({ tab, onHelp }) {
  const { holder } = useObservable(session);
  const { zone, theme } = useObservable(prefs);
  return html`<header class="top">
    <h1><img src="ui/icon.svg" alt="" /> audit-ledger</h1>
    <nav aria-label="Tabs">${TABS.map(({ name, title }) => html`
      <a key=${name} href=${linkTo(name)} aria-current=${name === tab ? 'page' : undefined}>${title}</a>`)}
    </nav>
    <div class="tools">
      ${holder.scopes.includes('read') && html`<${Standing} />`}
      <button type="button" class="small" onClick=${switchZone}
        aria-label=${`Times are in ${zone === 'utc' ? 'UTC' : 'local time'}. Switch`}>${
          zone === 'utc' ? 'UTC' : format.zoneName('local')}</button>
      <button type="button" class="small" onClick=${switchTheme}
        aria-label=${`The theme is ${theme}. Switch`}>${
          { system: '◐ system', dark: '● dark', light: '○ light' }[theme]}</button>
      <button type="button" class="small" onClick=${onHelp} aria-label="Show the keys">?</button>
      <span class="who" title=${`scopes: ${holder.scopes.join(', ')}`}>${holder.name}</span>
      <button type="button" class="small" onClick=${() => signOut()}>Sign out</button>
    </div>
  </header>`;
}

const KILL_SWITCH_FOR_MS = 24 * 3600 * 1000;

/** What nobody may miss: a lockdown, and a kill switch of the last day until it was seen. */
function Alarms() {
  const locked = useObservable(lockedSince);
  const kill = useObservable(killSwitch);
  const [seen, setSeen] = useState(null);
  useEffect(() => { lookForKillSwitch(); }, []);
  useInterval(lookForKillSwitch, 3000);
  const isRecent = kill && Date.now() - Date.parse(kill.created_at) < KILL_SWITCH_FOR_MS;
  return html`<div role="alert">
    ${locked && html`<div class="alarm" id="lockdown-alarm">
      <span>LOCKDOWN (AUD-009) since <${Time} at=${locked} digits=${0} /> ${format.zoneName()}: the ledger
        takes no rows, and what is shown may not be what was recorded.</span>
      <a href=${linkTo('integrity')}>See why, and lift it</a></div>`}
    ${isRecent && kill.id !== seen && html`<div class="alarm" id="kill-switch-alarm">
      <span>KILL SWITCH at <${Time} at=${kill.created_at} digits=${0} /> ${format.zoneName()}</span>
      <a href=${linkTo('ledger', ['order_events'], { row: kill.id })}>Show the event</a>
      <button type="button" class="small" onClick=${() => setSeen(kill.id)}>Seen</button></div>`}
  </div>`;
}

function Help({ onClose }) {
  const listed = useObservable(shortcuts);
  const { shortcuts: on } = useObservable(prefs);
  const once = [...new Map(listed.map((entry) => [entry.keys.join(' '), entry])).values()].reverse();
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="facts">${once.map(({ keys, what }) => html`
      <dt key=${keys[0]}>${keys.map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd>`)}
      <dt><kbd>Escape</kbd></dt><dd>Close what is open</dd>
    </dl>
    <p><label><input type="checkbox" checked=${on}
      onChange=${(event) => prefer({ shortcuts: event.target.checked })} /> Single keys do something
    </label></p>
  <//>`;
}

render(html`<${App} />`, document.getElementById('app'));
