// What every tab is made of.
import { ApiError } from './api.js';
import * as format from './format.js';
import { useObservable } from './observable.js';
import { html, useCallback, useEffect, useRef, useState } from './preact.js';
import { prefs } from './prefs.js';
import { useShortcut } from './shortcuts.js';

/**
 * Loads something, again whenever `deps` change; what is under way is then given up.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T> | null} load null where there is nothing to load
 * @returns {{data: T | null, error: Error | null, loading: boolean, reload: () => void}} `data` stays
 *   as it was until there is something newer
 */
export function useLoad(load, deps) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((had) => had + 1), []);
  useEffect(() => {
    const stop = new AbortController();
    const loading = load(stop.signal);
    if (!loading) {
      setState({ data: null, error: null, loading: false });
      return undefined;
    }
    setState((had) => ({ ...had, loading: true }));
    loading.then(
      (data) => stop.signal.aborted || setState({ data, error: null, loading: false }),
      (error) => stop.signal.aborted || setState((had) => ({ ...had, error, loading: false })),
    );
    return () => stop.abort();
  }, [...deps, turn]);
  return { ...state, reload };
}

/** Calls again and again, so many milliseconds apart, while the page is looked at. */
export function useInterval(act, ms) {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

/** The time now in milliseconds, looked at again every so often: for ages. */
export function useNow(ms = 1000) {
  const [now, setNow] = useState(Date.now());
  useInterval(() => setNow(Date.now()), ms);
  return now;
}

/** An instant; the other zone's spelling is its tooltip. */
export function Time({ at, digits }) {
  useObservable(prefs);
  if (!at) return html`<span class="muted">–</span>`;
  const other = prefs.get().zone === 'utc' ? 'local' : 'utc';
  const title = `${format.time(at, { digits: 6, zone: other })} ${format.zoneName(other)}`;
  return html`<time datetime=${at} title=${title}>${format.time(at, { digits })}</time>`;
}

/** How long ago. */
export function Age({ at }) {
  const now = useNow();
  if (!at) return html`<span class="muted">never</span>`;
  return html`<time datetime=${at} title=${at}>${format.age(at, now)} ago</time>`;
}

/** Copies a text, and says that it did. */
export function Copy({ text, label = 'Copy', what = 'text' }) {
  const [state, setState] = useState('');
  async function copy() {
    const copied = await toClipboard(text);
    setState(copied ? 'Copied' : 'Select and copy by hand');
    setTimeout(() => setState(''), 2000);
  }
  return html`<button type="button" class="small quiet" onClick=${copy}
    aria-label=${`${label} ${what}`}>${state || label}</button>`;
}

async function toClipboard(text) {
  try {
    // Not there where the page came over plain http from another machine.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'off-screen';
    // In the open dialog, where there is one: nothing else can have the focus then.
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    return copied;
  }
}

/** A hash or an id that is too long for its place: its ends, whole in the tooltip. */
export function Short({ text, head, tail }) {
  if (!text) return html`<span class="muted">–</span>`;
  return html`<span class="mono" title=${text}>${format.short(text, head, tail)}</span>`;
}

const SIGNS = { ok: '✓', bad: '✗', warn: '!', info: 'i', none: '–' };

/** A word with a sign and a colour: `kind` is ok, bad, warn, info or none. */
export function Badge({ kind = 'none', children }) {
  return html`<span class=${`badge ${kind}`}><span class="sign" aria-hidden="true">${SIGNS[kind]}</span
    > ${children}</span>`;
}

/** Something to know. `kind` as of a badge; `title` in a few words; what to do as children. */
export function Notice({ kind = 'info', title, children, alert = false }) {
  return html`<div class=${`notice ${kind}`} role=${alert ? 'alert' : undefined}>
    <span class="sign" aria-hidden="true">${SIGNS[kind]}</span>
    <div><strong>${title}</strong>${children && html`<div>${children}</div>`}</div>
  </div>`;
}

/** A refusal: what, which rule, what may help. */
export function ErrorNotice({ error, again }) {
  if (!error) return null;
  const isApi = error instanceof ApiError;
  const title = isApi && error.code ? `${error.code}: ${error.message}` : error.message;
  return html`<${Notice} kind="bad" title=${title} alert=${true}>
    ${isApi && error.field && html`<p>Look at <code>${error.field}</code>.</p>`}
    ${isApi && error.status === 0 && html`<p>Is it running? It is tried again by itself where it can.</p>`}
    ${isApi && error.requestId && html`<p class="muted">request <code>${error.requestId}</code></p>`}
    ${again && html`<button type="button" class="small" onClick=${again}>Try again</button>`}
  <//>`;
}

/** That there is nothing, and what to do about it. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p><strong>${title}</strong></p>${children}</div>`;
}

/** Something is under way. */
export function Busy({ children = 'Loading…' }) {
  return html`<p class="busy" role="status">${children}</p>`;
}

/** A part of a page with a heading. */
export function Panel({ title, actions, children, id, class: name = '' }) {
  const heading = id ?? `panel-${title.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`;
  return html`<section class=${`panel ${name}`} aria-labelledby=${heading}>
    <header><h2 id=${heading}>${title}</h2><div class="actions">${actions}</div></header>
    ${children}
  </section>`;
}

/** A labelled field; the control is its child, with the same id. */
export function Field({ id, label, hint, children, class: name = '' }) {
  return html`<div class=${`field ${name}`}>
    <label for=${id}>${label}</label>${children}
    ${hint && html`<small class="muted">${hint}</small>`}
  </div>`;
}

/** A modal dialog, open for as long as it is drawn. Escape and the button close it. */
export function Dialog({ title, onClose, children, class: name = '' }) {
  const dialog = useRef();
  useEffect(() => {
    const had = document.activeElement;
    dialog.current.showModal();
    return () => had?.focus?.();
  }, []);
  return html`<dialog ref=${dialog} class=${name} onClose=${onClose} aria-labelledby="dialog-title">
    <header>
      <h2 id="dialog-title">${title}</h2>
      <button type="button" class="small quiet" onClick=${() => dialog.current.close()}>Close</button>
    </header>
    ${children}
  </dialog>`;
}

/**
 * Rows as a table. `columns`: `{name, title, align, class, opens, show(row)}`. The column that `opens`,
 * or else the first, is a link that opens the row (`linkOf(row)`); `j` and `k` go down and up those
 * links. `isNew` and `classOf` (a class, or nothing) mark rows.
 */
export function Table({ caption, columns, rows, keyOf, linkOf, current, isNew, classOf, keys = true }) {
  const opener = Math.max(0, columns.findIndex(({ opens }) => opens));
  return html`<div class=${`table ${keys ? 'stepped' : ''}`} role="region" aria-label=${caption}
    tabindex="0">
    ${keys && html`<${RowKeys} />`}
    <table>
      <caption class="off-screen">${caption}</caption>
      <thead><tr>${columns.map(({ name, title, align }) => html`
        <th key=${name} scope="col" class=${align ?? ''}>${title}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => {
        const key = keyOf(row);
        const name = [key === current && 'current', isNew?.(row) && 'new', classOf?.(row)]
          .filter(Boolean).join(' ');
        return html`<tr key=${key} class=${name} aria-current=${key === current ? 'true' : undefined}>
          ${columns.map((column, at) => html`<td key=${column.name}
            class=${[column.align, column.class].filter(Boolean).join(' ')}>${
            at === opener && linkOf ? html`<a class="open" href=${linkOf(row)}>${column.show(row)}</a>`
              : column.show(row)}</td>`)}
        </tr>`;
      })}</tbody>
    </table>
  </div>`;
}

/** Steps through the rows of the table that has the focus, or else of the first one on the page. */
function step(by) {
  const tables = [...document.querySelectorAll('.table.stepped')];
  const box = tables.find((table) => table.contains(document.activeElement)) ?? tables[0];
  const links = [...box.querySelectorAll('tbody a.open')];
  const at = links.indexOf(document.activeElement);
  const from = at >= 0 ? at : links.findIndex((link) => link.closest('tr.current'));
  const next = links[Math.min(links.length - 1, Math.max(0, from + by))];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}

function RowKeys() {
  useShortcut('j', 'Go to the next row', () => step(1));
  useShortcut('k', 'Go to the row before', () => step(-1));
  return null;
}
