// The rows of one chain: filters, pages, the table, and a row beside it.
import { LATER, getJson } from '../../api.js';
import { filtersOf, givenFilters } from '../../chains.js';
import { Filters } from '../../filters.js';
import * as format from '../../format.js';
import { useContentMark } from '../../measure.js';
import { useObservable } from '../../observable.js';
import {
  Badge, Busy, Empty, ErrorNotice, Notice, Panel, Table, useLoad,
} from '../../parts.js';
import { html, useEffect, useMemo, useRef, useState } from '../../preact.js';
import { prefs } from '../../prefs.js';
import { linkTo, setQuery } from '../../route.js';
import { RowDetail } from '../../row.js';
import { byWhom } from '../../row/verifying.js';
import { useShortcut } from '../../shortcuts.js';
import { verifyRows } from './check.js';
import { columnsOf } from './columns.js';
import { PAGE_ROWS, cursorBefore } from './page.js';

/** What else stands in the URL: where one is in the list. */
const PLACE = ['order', 'cursor', 'row'];
/** Filters that leave no row out between the first and the last. */
const BOUNDS = ['from', 'to', 'from_id', 'to_id'];

/** @param {{chain: object, query: Record<string, string>}} props `chain` as `/v1/chains` has it */
export function ChainList({ chain, query }) {
  const filters = filtersOf([chain.name]);
  const given = givenFilters(filters, query);
  const page = usePage(chain.name, given, query);
  const count = useCount(chain.name, given, page.isLoaded);
  const isWhole = Object.keys(given).every((name) => BOUNDS.includes(name));
  const check = useCheck(page.items, isWhole);
  const closed = useClosing(query.row);
  const linkOf = (row) => linkTo('ledger', [chain.name], { ...query, row: row.id ?? row });
  useContentMark('ledger', page.isLoaded || page.error !== null);
  const change = (changed) => setQuery({ ...changed, cursor: null });
  const filterLink = (name, value) => linkTo('ledger', [chain.name], {
    ...given, order: query.order, row: query.row, [name]: value,
  });
  return html`<div class=${`ledger ${query.row ? 'columns' : ''}`}>
    <${Panel} title=${format.words(chain.name)} id="list-title" class="list"
      actions=${html`<${Order} order=${query.order} onChange=${(order) => change({ order })} />`}>
      <${Filters} filters=${filters} query=${given} onChange=${change} />
      <${Unknown} chain=${chain.name} filters=${filters} query=${query} />
      <${Pager} page=${page} count=${count} query=${query} check=${check}
        isFiltered=${Object.keys(given).length > 0} />
      <${Checked} check=${check} linkOf=${linkOf} />
      <${Rows} chain=${chain} page=${page} query=${query} given=${given} check=${check}
        linkOf=${linkOf} />
    <//>
    ${query.row && html`<${RowDetail} chain=${chain.name} id=${query.row}
      focus=${closed.isOpenedHere} onClose=${closed.close} linkOf=${linkOf}
      filterLink=${filterLink} />`}
  </div>`;
}

/** The page that the URL says, and the ways to the others. */
function usePage(chain, given, query) {
  const { order, cursor } = query;
  const of = JSON.stringify([chain, given, order, cursor]);
  const { data, error, loading, reload } = useLoad(
    (signal) => getJson(`v1/${chain}`, { ...given, order, cursor, limit: PAGE_ROWS }, { signal })
      .then((found) => ({ ...found, of })),
    [of],
  );
  const [backError, setBackError] = useState(null);
  const items = data?.items ?? null;
  const isLoaded = data?.of === of && !error;
  const newerWay = order === 'asc' ? 'asc' : 'desc';
  const first = () => {
    setBackError(null);
    if (cursor) setQuery({ cursor: null });
    else reload();
  };
  async function before() {
    if (!cursor || !isLoaded) return;
    if (items.length === 0) {
      first();
      return;
    }
    try {
      setBackError(null);
      setQuery({ cursor: await cursorBefore(chain, given, newerWay, items[0].id) });
    } catch (caught) {
      setBackError(caught);
    }
  }
  const next = () => isLoaded && data.next_cursor && setQuery({ cursor: data.next_cursor });
  return {
    items, isLoaded, loading, reload, first, before, next,
    error: loading ? null : error ?? backError,
    hasBefore: Boolean(cursor), hasNext: Boolean(isLoaded && data.next_cursor),
  };
}

/** How many rows meet the filters; asked for when the page is there, and never waited for. */
function useCount(chain, given, isLoaded) {
  const of = JSON.stringify([chain, given]);
  const [ready, setReady] = useState(null);
  useEffect(() => {
    if (isLoaded) setReady(of);
  }, [isLoaded, of]);
  const { data, error } = useLoad(
    (signal) => (ready === of ? getJson(`v1/${chain}/stats`, given, { signal, ...LATER })
      .then(({ groups }) => ({ of, count: groups[0]?.count ?? 0 })) : null),
    [of, ready === of],
  );
  return { count: data?.of === of ? data.count : null, error };
}

/** Verifies what is shown; another page has to be verified anew. */
function useCheck(items, isWhole) {
  const [state, setState] = useState({ of: null });
  const stop = useRef(null);
  useEffect(() => () => stop.current?.abort(), [items]);
  async function run() {
    if (!items?.length) return;
    const { signal } = stop.current = new AbortController();
    const tell = (known) => signal.aborted || setState({ of: items, ...known });
    tell({ done: 0 });
    try {
      const onProgress = (done) => tell({ done });
      tell({ outcome: await verifyRows(items, { isWhole, signal, onProgress }) });
    } catch (error) {
      tell({ error });
    }
  }
  const known = state.of !== null && state.of === items ? state : {};
  return { ...known, isRunning: known.done !== undefined, run, count: items?.length ?? 0 };
}

/** Whether a row was opened here (then it takes the focus); closing it gives that back. */
function useClosing(row) {
  const had = useRef(row);
  const isOpenedHere = Boolean(row) && row !== had.current;
  const opened = useRef(false);
  opened.current ||= isOpenedHere;
  useEffect(() => {
    if (had.current && !row) focusRow(had.current);
    had.current = row;
  }, [row]);
  return { isOpenedHere: opened.current, close: () => setQuery({ row: null }) };
}

/** The link of a row in the table, or the table. */
function focusRow(id) {
  const links = [...document.querySelectorAll('.list tbody a.open')];
  const ofRow = (link) => new URLSearchParams(link.hash.split('?')[1]).get('row') === id;
  (links.find(ofRow) ?? document.querySelector('.list .table'))?.focus();
}

function Order({ order, onChange }) {
  return html`<label class="row" for="order"><span class="muted">Order</span>
    <select id="order" value=${order === 'asc' ? 'asc' : ''}
      onChange=${(event) => onChange(event.target.value)}>
      <option value="">newest first</option><option value="asc">oldest first</option>
    </select></label>`;
}

/** Parameters of the URL that filter nothing here: a link would show more than it says. */
function Unknown({ chain, filters, query }) {
  const others = Object.keys(query)
    .filter((name) => !PLACE.includes(name) && !filters.some((filter) => filter.name === name));
  if (others.length === 0) return null;
  const none = Object.fromEntries(others.map((name) => [name, null]));
  return html`<${Notice} kind="warn" title=${`Not a filter of ${chain}: ${others.join(', ')}`}>
    The rows below are not limited by it.
    <button type="button" class="small" onClick=${() => setQuery(none)}>Remove it</button><//>`;
}

function Pager({ page, count, query, check, isFiltered }) {
  const isAscending = query.order === 'asc';
  const [first, before, next] = isAscending
    ? ['Oldest', 'Older', 'Newer'] : ['Newest', 'Newer', 'Older'];
  useShortcut('n', 'Go to the next page', page.next);
  useShortcut('b', 'Go to the page before', page.before);
  return html`<div class="pager row spread">
    <div class="row" role="status">
      <strong>${count.count !== null ? counted(count.count, isFiltered)
        : page.error ? '' : count.error ? 'Not counted' : 'Counting…'}</strong>
      ${page.items?.length > 0 && html`<span class="muted">shown: ${page.items[0].id} – ${
        page.items.at(-1).id}</span>`}
    </div>
    <div class="row">
      <button type="button" class="small" disabled=${!page.items?.length || check.isRunning}
        onClick=${check.run}>Verify the rows shown</button>
      <nav class="row" aria-label="Pages">
        <button type="button" class="small" onClick=${page.first}
          disabled=${page.loading}>${first}</button>
        <button type="button" class="small" onClick=${page.before} disabled=${!page.hasBefore}
          aria-keyshortcuts="b">${before}</button>
        <button type="button" class="small" onClick=${page.next} disabled=${!page.hasNext}
          aria-keyshortcuts="n">${next}</button>
      </nav>
    </div>
  </div>`;
}

function counted(count, isFiltered) {
  const isOne = count === 1;
  const filters = isFiltered ? ` meet${isOne ? 's' : ''} the filters` : '';
  return `${format.count(count)} ${isOne ? 'row' : 'rows'}${filters}`;
}

function Rows({ chain, page, query, given, check, linkOf }) {
  const { zone } = useObservable(prefs);
  const columns = useMemo(() => columnsOf(chain), [chain, zone]);
  if (page.error) {
    return html`<${ErrorNotice} error=${page.error} again=${page.reload} />
      <${WayOut} error=${page.error} given=${given} query=${query} />`;
  }
  if (!page.items) return html`<${Busy}>Loading rows…<//>`;
  if (page.items.length === 0) {
    return html`<${None} chain=${chain} given=${given} query=${query} />`;
  }
  const shown = check.outcome ? [...columns, verifiedColumn(check.outcome)] : columns;
  return html`<div class="rows" aria-busy=${page.isLoaded ? 'false' : 'true'}>
    <${Table} caption=${`Rows of ${chain.name}`} columns=${shown} rows=${page.items}
      keyOf=${(row) => row.id} linkOf=${linkOf} current=${Number(query.row)} /></div>`;
}

function verifiedColumn({ results }) {
  return {
    name: 'verified',
    title: 'verified here',
    show: ({ id }) => {
      const { ok, isLinked, why } = results.get(id);
      return html`<span title=${why}><${Badge} kind=${ok ? 'ok' : 'bad'}>${
        ok ? (isLinked ? 'hash, link' : 'hash') : 'does not hold'}<//></span>`;
    },
  };
}

/** What "Verify the rows shown" is at, or found. */
function Checked({ check, linkOf }) {
  if (check.isRunning) {
    return html`<p class="row muted" role="status">Verifying ${check.done} of ${check.count}…
      <progress max=${check.count} value=${check.done} aria-label="Rows verified"></progress></p>`;
  }
  if (check.error) return html`<${ErrorNotice} error=${check.error} again=${check.run} />`;
  if (!check.outcome) return null;
  const { results, bad, linked, newest } = check.outcome;
  const failing = [...results].filter(([, { ok }]) => !ok);
  if (bad > 0 || newest.ok === false) {
    const [id, why] = bad > 0 ? [failing[0][0], failing[0][1].why]
      : [newest.id, newest.steps.find(({ ok }) => ok === false).detail];
    return html`<${Notice} kind="bad" alert=${true} title=${bad > 0
      ? `${bad} of ${results.size} rows are not what the ledger recorded.`
      : 'The newest row is not proved.'}>
      <a href=${linkOf(id)}>Row ${id}</a>: ${why}<//>`;
  }
  const isWhole = linked === results.size;
  return html`<div role="status"><${Notice} kind=${newest.ok ? 'ok' : 'none'} title=${isWhole
    ? `${results.size} rows hash to their row_hash, and each links to the one before.`
    : `${results.size} rows hash to their row_hash; ${
      linked} link to the one before, the others’ is not shown.`}>
    ${newest.ok === null ? 'No checkpoint covers the newest of them yet.' : isWhole
      ? `The newest is in the signed log: all of them are as they were when its checkpoint was
        signed.` : 'The newest is in the signed log; open another to see whether it is.'} ${
    newest.ok && byWhom(newest.trusted)}<//></div>`;
}

/** Takes each of these parameters away. */
const noneOf = (given) => Object.fromEntries(Object.keys(given).map((name) => [name, null]));

/** What the URL says is refused: how to go on. */
function WayOut({ error, given, query }) {
  if (error.status !== 400) return null;
  const field = Object.keys(query).includes(error.field) ? error.field : null;
  return html`<p class="row">
    ${field && html`<button type="button" class="small" onClick=${() => setQuery({
      [field]: null, cursor: null,
    })}>Remove ${field}</button>`}
    <button type="button" class="small" onClick=${() => setQuery({
      ...noneOf(given), cursor: null, order: null,
    })}>Remove all filters</button></p>`;
}

function None({ chain, given, query }) {
  if (query.cursor) {
    return html`<${Empty} title="No more rows here.">
      <button type="button" onClick=${() => setQuery({ cursor: null })}>Go to the first
        page</button><//>`;
  }
  if (Object.keys(given).length > 0) {
    return html`<${Empty} title="No row meets the filters.">
      <button type="button" onClick=${() => setQuery(noneOf(given))}>Remove all
        filters</button><//>`;
  }
  return html`<${Empty} title=${`Nothing was appended to ${chain.name} yet.`}>
    <p>${HOW[chain.name] ?? 'It fills by itself.'} <a href="docs">How the API takes it</a></p><//>`;
}

const HOW = {
  signals: 'A signed webhook to /webhook/tradingview makes the first signal.',
  ai_debates: 'POST /v1/ai_debates with a key of the scope ingest.',
  order_execution: 'POST /v1/order_execution with a key of the scope ingest.',
  order_events: 'POST /v1/order_events with a key of the scope ingest.',
  signal_audit_ledger: 'POST /v1/signal_audit_ledger with a key of the scope ingest.',
  security_events: 'Keys that are made, lockdowns and other events of the service stand here.',
  quarantined_deliveries: 'Deliveries of which no signal could be made are kept here.',
};
