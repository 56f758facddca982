// Deliveries of which no signal could be made: authenticated, kept byte for byte, and the way out.
// Another tab embeds it: it keeps its state in the URL as `reason`, `source` and `delivery`.
import { LATER, getJson, lockedSince } from './api.js';
import * as format from './format.js';
import { useObservable } from './observable.js';
import {
  Badge, Busy, Empty, ErrorNotice, Field, Notice, Panel, Table, Time, useInterval, useLoad,
} from './parts.js';
import { html, useEffect, useState } from './preact.js';
import { Delivery } from './quarantine/delivery.js';
import { REASON_NAMES, detailOf, reasonOf } from './quarantine/reasons.js';
import { releasedSince, releases } from './quarantine/release.js';
import { ReleaseMany } from './quarantine/several.js';
import { linkTo, route, setQuery } from './route.js';
import { can } from './session.js';

/** A page's rows come with their bodies, each of up to 256 KiB. */
const PAGE = 25;
const NEWS_EVERY_MS = 5000;
/** Of the releases on record, so many thousands are looked at. */
const MAX_PAGES_OF_RELEASES = 3;

/**
 * The list of deliveries in quarantine, and the one that is open.
 * @param {{onReady?: () => void}} props told at its first rows
 */
export function Quarantine({ onReady }) {
  if (!can('read')) {
    return html`<${Panel} title="Quarantine"><${Notice} kind="warn" title="This key may not read">
      Deliveries are shown to keys with the scope <code>read</code>.<//><//>`;
  }
  return html`<${Deliveries} onReady=${onReady} />`;
}

function Deliveries({ onReady }) {
  const { query } = useObservable(route);
  const { reason, source, delivery } = query;
  const [chosen, setChosen] = useState(new Set());
  const pages = usePages({ reason, source });
  const released = useReleased(pages.items);
  useEffect(() => setChosen(new Set()), [reason, source]);
  const isReady = pages.items !== null;
  useEffect(() => { if (isReady) onReady?.(); }, [isReady]);
  const close = () => {
    setQuery({ delivery: null });
    requestAnimationFrame(() => document.getElementById(`delivery-${delivery}`)
      ?.closest('a')?.focus());
  };
  return html`<${Panel} title="Quarantine" class="quarantine" actions=${html`
      <button type="button" class="small" onClick=${pages.reload}>Refresh</button>`}>
    <p class="muted intro">Deliveries that proved who sent them, but could not become a signal. Each
      is kept as it came, for good.</p>
    <${Choice} reason=${reason} source=${source} turn=${pages.turn} />
    ${pages.error && html`<${ErrorNotice} error=${pages.error} again=${pages.reload} />`}
    ${!isReady && !pages.error && html`<${Busy} />`}
    ${pages.hasNews && html`<p><button type="button" class="small" onClick=${pages.reload}>There are
      newer deliveries: show them</button></p>`}
    ${isReady && html`<div class=${delivery ? 'columns' : ''}>
      <div class="stack">
        ${can('admin') && pages.items.length > 0 && html`<${ReleaseMany} chosen=${chosen}
          filter=${{ reason, source }} newest=${pages.items[0].id}
          onBegin=${() => setChosen(new Set())} />`}
        <${List} items=${pages.items} released=${released} current=${delivery} chosen=${chosen}
          onChosen=${setChosen} isFiltered=${Boolean(reason || source)} />
        ${pages.more && html`<p><button type="button" onClick=${pages.more}
          disabled=${pages.loading}>${pages.loading ? 'Loading…' : 'Show older ones'}</button></p>`}
      </div>
      ${delivery && html`<${Delivery} key=${delivery} id=${delivery} onClose=${close}
        row=${pages.items.find((row) => String(row.id) === delivery) ?? null}
        released=${released.byId.get(Number(delivery)) ?? null} />`}
    </div>`}
  <//>`;
}

/** The pages that are loaded so far, the newest first, and whether there is something newer. */
function usePages(filter) {
  const { reason, source } = filter;
  const path = 'v1/quarantined_deliveries';
  const [turn, setTurn] = useState(0);
  const [older, setOlder] = useState({ of: null, items: [], next: null });
  const [state, setState] = useState({ loading: false, error: null });
  const [hasNews, setNews] = useState(false);
  const first = useLoad((signal) => getJson(path, { ...filter, limit: PAGE }, { signal, ...LATER }),
    [reason, source, turn]);
  useEffect(() => setNews(false), [first.data]);
  const isOfFirst = older.of === first.data;
  const items = first.data && [...first.data.items, ...(isOfFirst ? older.items : [])];
  const next = isOfFirst && older.of ? older.next : first.data?.next_cursor;
  async function more() {
    const of = first.data;
    setState({ loading: true, error: null });
    try {
      const page = await getJson(path, { ...filter, limit: PAGE, cursor: next });
      setOlder((had) => ({
        of, items: [...(had.of === of ? had.items : []), ...page.items], next: page.next_cursor,
      }));
      setState({ loading: false, error: null });
    } catch (error) {
      setState({ loading: false, error });
    }
  }
  useInterval(async () => {
    if (!first.data || hasNews) return;
    const newest = await getJson(path, { ...filter, limit: 1 }).catch(() => null);
    if (newest?.items[0] && newest.items[0].id !== first.data.items[0]?.id) setNews(true);
  }, NEWS_EVERY_MS);
  return {
    items, turn, hasNews, more: next ? more : null, loading: state.loading,
    error: first.error ?? state.error, reload: () => setTurn(turn + 1),
  };
}

const NONE = { byId: new Map(), isWhole: true };

/** What the deliveries shown became, as far as the security events of their time say so. */
function useReleased(items) {
  const turn = useObservable(releases);
  const oldest = items?.at(-1)?.created_at ?? null;
  const { data } = useLoad((signal) => (oldest
    ? releasedSince(oldest, MAX_PAGES_OF_RELEASES, { signal }) : null), [oldest, turn]);
  return data ?? NONE;
}

/** Which ones: by reason and by source, with how many there are of each. */
function Choice({ reason, source, turn }) {
  const counts = useLoad((signal) => Promise.all(['reason', 'source'].map((column) => getJson(
    'v1/quarantined_deliveries/stats', { group_by: column }, { signal, ...LATER },
  ))), [turn]);
  const [reasons, sources] = counts.data?.map(({ groups }) => groups) ?? [[], []];
  const known = new Map(reasons.map(({ group, count }) => [group, count]));
  const others = reasons.map(({ group }) => group).filter((name) => !REASON_NAMES.includes(name));
  const option = (name, count) => html`<option key=${name} value=${name}>${name}${
    counts.data ? ` (${format.count(count ?? 0)})` : ''}</option>`;
  return html`<div class="fields">
    <${Field} id="quarantine-reason" label="Reason">
      <select id="quarantine-reason" value=${reason ?? ''}
        onChange=${(event) => setQuery({ reason: event.target.value, delivery: null })}>
        <option value="">every reason</option>
        ${[...REASON_NAMES, ...others].map((name) => option(name, known.get(name)))}
      </select>
    <//>
    <${Field} id="quarantine-source" label="Source">
      <select id="quarantine-source" value=${source ?? ''}
        onChange=${(event) => setQuery({ source: event.target.value, delivery: null })}>
        <option value="">every source</option>
        ${source && !sources.some(({ group }) => group === source) && option(source, 0)}
        ${sources.map(({ group, count }) => option(group, count))}
      </select>
    <//>
  </div>
  ${reason && html`<p class="intro">${reasonOf(reason).means} <span class="muted">${
    reasonOf(reason).helps}</span></p>`}`;
}

function List({ items, released, current, chosen, onChosen, isFiltered }) {
  const { tab, rest, query } = useObservable(route);
  const locked = useObservable(lockedSince);
  if (items.length === 0) {
    return isFiltered
      ? html`<${Empty} title="No delivery is in quarantine for this reason and source">
          <p><button type="button" onClick=${() => setQuery({ reason: null, source: null })}>
            Show all</button></p><//>`
      : html`<${Empty} title="Nothing is in quarantine"><p>Every delivery that proved who sent it
          has become a signal.</p><//>`;
  }
  const columns = [
    ...(can('admin') ? [chooser(items, released, chosen, onChosen, locked)] : []),
    { name: 'id', title: 'Id', align: 'right', opens: true,
      show: ({ id }) => html`<span id=${`delivery-${id}`}>${id}</span>` },
    { name: 'received_at', title: `Received (${format.zoneName()})`,
      show: (row) => html`<${Time} at=${row.received_at} digits=${0} />` },
    { name: 'source', title: 'Source', show: ({ source }) => source },
    { name: 'reason', title: 'Reason', show: ({ reason }) => html`<span class="mono"
      title=${reasonOf(reason).means}>${reason}</span>` },
    { name: 'released', title: 'Released', show: ({ id }) => became(released, id) },
    { name: 'detail', title: 'Detail', show: ({ detail }) => told(detail) },
    { name: 'size', title: 'Size', align: 'right', show: ({ body_base64: body }) => sizeOf(body) },
    { name: 'content_type', title: 'Content type', show: (row) => row.content_type ?? '–' },
    { name: 'source_ip', title: 'From', show: (row) => row.source_ip },
    { name: 'auth_method', title: 'Authentication', show: (row) => html`${row.auth_method}${
      row.hmac_verified ? ' ✓' : ''}` },
  ];
  return html`<${Table} caption="Deliveries in quarantine, the newest first" rows=${items}
      columns=${columns} keyOf=${(row) => String(row.id)} current=${current}
      linkOf=${(row) => linkTo(tab, rest, { ...query, delivery: row.id })} />
    ${!released.isWhole && html`<p class="muted">Only the latest ${
      format.count(MAX_PAGES_OF_RELEASES * 1000)} releases were looked at: an older one may be
      missing in the column “Released”.</p>`}`;
}

function told(detail) {
  const { told: text } = detailOf(detail);
  if (text === '') return html`<span class="muted">–</span>`;
  return html`<span title=${text}>${text}</span>`;
}

function became(released, id) {
  const found = released.byId.get(id);
  if (!found) return html`<span class="muted">–</span>`;
  return html`<a href=${linkTo('ledger', ['signals'], { row: found.signal_row_id })}>
    <${Badge} kind="ok">signal ${found.signal_row_id}<//></a>`;
}

/** Of the bytes that this base64 stands for. */
function sizeOf(base64) {
  const padding = /=*$/.exec(base64)[0].length;
  return format.bytes((base64.length / 4) * 3 - padding);
}

/** The column of what is to be released together. */
function chooser(items, released, chosen, onChosen, locked) {
  const open = items.map(({ id }) => id).filter((id) => !released.byId.has(id));
  const all = open.length > 0 && open.every((id) => chosen.has(id));
  const toggle = (id) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    onChosen(next);
  };
  return {
    name: 'choose',
    title: html`<input type="checkbox" aria-label="Choose all that are shown and not released"
      checked=${all} disabled=${locked !== null || open.length === 0}
      onChange=${() => onChosen(new Set(all ? [] : open))} />`,
    show: ({ id }) => html`<input type="checkbox" aria-label=${`Choose delivery ${id}`}
      checked=${chosen.has(id)} disabled=${locked !== null} onChange=${() => toggle(id)} />`,
  };
}
