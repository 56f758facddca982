// The Signal Feed: what is appended, as it is appended.
import { ApiError } from '../api.js';
import { chainOf, chains, givenFilters } from '../chains.js';
import { Filters } from '../filters.js';
import * as format from '../format.js';
import { useContentMark, useSettled } from '../measure.js';
import { useObservable } from '../observable.js';
import {
  Badge, Busy, Empty, ErrorNotice, Field, Notice, Panel, useLoad,
} from '../parts.js';
import { html, useMemo } from '../preact.js';
import { Quarantine } from '../quarantine.js';
import { linkTo, route, setQuery } from '../route.js';
import { useShortcut } from '../shortcuts.js';
import { Latency, Volume } from './feed/charts.js';
import { sourceColumn } from './feed/event.js';
import { Rows } from './feed/list.js';
import { isFinal, useFeed } from './feed/stream.js';
import { rangeOf, sourcesOf, stepsOf } from './feed/volume.js';

/** The chains of signals: those that are shown unless others are chosen. */
const SIGNALS = ['signals', 'signal_audit_ledger'];

/** What the panel below filters by, also where the feed does not. */
const OF_QUARANTINE = ['reason', 'source'];

/** What the URL asks for: which chains, which filters, and what of it cannot be. */
function asked(query) {
  const all = chains.get().map(({ name }) => name);
  const named = query.chains?.split(',').filter(Boolean) ?? [];
  const known = all.filter((name) => named.includes(name));
  const chosen = known.length > 0 ? known : SIGNALS;
  const filters = filtersOfAny(chosen);
  const given = givenFilters(filters, query);
  // A chain that has not what is filtered by has no such row.
  const takes = (chain) => Object.keys(given).every(
    (name) => chainOf(chain).filters.some((filter) => filter.name === name));
  const other = filtersOfAny(all).filter(({ name }) => query[name] && !OF_QUARANTINE.includes(name)
    && !filters.some((filter) => filter.name === name));
  return {
    chosen, filters, given,
    followed: chosen.filter(takes),
    unknown: named.filter((name) => !all.includes(name)),
    other: other.map(({ name }) => name),
  };
}

/** The filters that at least one of these chains takes. */
function filtersOfAny(names) {
  const all = names.flatMap((name) => chainOf(name).filters);
  return [...new Map(all.map((filter) => [filter.name, filter])).values()];
}

/** The tab. */
export function Feed() {
  const { query } = useObservable(route);
  useObservable(chains);
  const { chosen, filters, given, followed, unknown, other } = asked(query);
  const feed = useFeed(followed, given);
  const since = useMemo(() => Date.now(), [feed.model]);
  const settled = useSettled(feed.loaded || feed.state === 'waiting' || followed.length === 0);
  const change = (changed) => setQuery(changed, { replace: true });
  return html`
    <div class="feed columns">
      <${Panel} title="Signal Feed" id="feed-rows" actions=${html`<${Pace} feed=${feed} />`}>
        <div class="row choices">
          <${Chains} chosen=${chosen} followed=${followed} query=${query} onChange=${change} />
          <${Source} chosen=${chosen} query=${query} onChange=${change} />
        </div>
        <${Filters} filters=${filters} query=${query} onChange=${change} id="feed-filter" />
        <${LeftOut} unknown=${unknown} other=${other} given=${given} onChange=${change}
          without=${chosen.filter((name) => !followed.includes(name))} />
        <${Trouble} feed=${feed} />
        <${List} feed=${feed} followed=${followed} given=${given} />
      <//>
      <div class="stack">
        ${settled && html`<${Volume} chains=${followed} filters=${given} model=${feed.model}
          since=${since} />`}
        ${settled && followed.includes('signal_audit_ledger') && html`<${Latency}
          filters=${given} />`}
      </div>
    </div>
    ${settled && html`<div class="feed-below"><${Quarantine} /></div>`}`;
}

const STATES = {
  connecting: ['info', 'connecting…'],
  live: ['ok', 'live'],
  waiting: ['warn', 'not connected'],
};

/** Whether it is live, how fast rows come, and the button that holds them. */
function Pace({ feed: { model, state, error } }) {
  const { held, paused } = useObservable(model.shown);
  const { rate } = useObservable(model.pace);
  const toggle = () => model.pause(!paused);
  useShortcut('p', 'Pause or resume the feed', toggle);
  const [kind, word] = STATES[state];
  const came = held > 0 ? ` (${format.count(held)} new)` : '';
  return html`
    <span id="feed-rate" class="muted tabular">${rateOf(rate)}</span>
    <span id="feed-state" role="status" title=${error?.message}>
      ${paused ? html`<${Badge} kind="warn">paused<//> ` : ''}
      <${Badge} kind=${kind}>${word}<//></span>
    <button type="button" id="feed-pause" class=${paused ? 'primary' : ''} onClick=${toggle}>
      ${paused ? `Resume${came}` : 'Pause'} <kbd>p</kbd></button>`;
}

function rateOf(rate) {
  if (rate === 0) return 'quiet';
  return `${rate < 10 ? rate.toFixed(1) : format.count(Math.round(rate))} rows/s`;
}

/** Which chains; the last one that is left stays. */
function Chains({ chosen, followed, query, onChange }) {
  const toggle = (name) => {
    const next = chains.get().map((chain) => chain.name)
      .filter((one) => chosen.includes(one) !== (one === name));
    const isDefault = next.length === SIGNALS.length && SIGNALS.every((one) => next.includes(one));
    const kept = filtersOfAny(next).map((filter) => filter.name);
    // What none of them has is no filter any more.
    const gone = filtersOfAny(chosen).map((filter) => filter.name)
      .filter((one) => query[one] && !kept.includes(one));
    onChange({
      ...Object.fromEntries(gone.map((one) => [one, null])),
      chains: isDefault ? null : next.join(','),
    });
  };
  return html`<div class="row chains" role="group" aria-label="Chains to show">
    ${chains.get().map(({ name }) => {
      const isChosen = chosen.includes(name);
      const isLeftOut = isChosen && !followed.includes(name);
      return html`<button key=${name} type="button" class=${`small ${isLeftOut ? 'left-out' : ''}`}
        aria-pressed=${isChosen} disabled=${isChosen && chosen.length === 1}
        title=${isLeftOut ? 'It has no such column as is filtered by.' : undefined}
        onClick=${() => toggle(name)}>${format.words(name)}</button>`;
    })}
  </div>`;
}

/** Who sends: a column of each chain names it, and is a filter like any other. */
function Source({ chosen, query, onChange }) {
  const from = stepsOf(rangeOf('24h'))[0];
  const { data } = useLoad((signal) => sourcesOf(chosen, {}, from, signal), [chosen.join(), from]);
  const columns = [...new Set(chosen.map(sourceColumn))];
  const set = columns.find((column) => query[column]) ?? '';
  const namesOf = (column) => {
    const found = (data ?? []).filter(({ chain }) => sourceColumn(chain) === column);
    const names = found.map(({ name }) => name).filter((name) => name !== null);
    return [...new Set([...names, ...(column === set ? [query[column]] : [])])];
  };
  const choose = (event) => {
    const [column, name] = event.target.value === '' ? [] : JSON.parse(event.target.value);
    const none = Object.fromEntries(columns.map((one) => [one, null]));
    onChange({ ...none, ...(column && { [column]: name }) });
  };
  return html`<${Field} id="feed-source" label="Source" class="beside">
    <select id="feed-source" value=${set && JSON.stringify([set, query[set]])} onChange=${choose}>
      <option value="">all</option>
      ${columns.map((column) => html`<optgroup key=${column} label=${format.words(column)}>
        ${namesOf(column).map((name) => html`<option key=${name}
          value=${JSON.stringify([column, name])}>${name}</option>`)}
      </optgroup>`)}
    </select><//>`;
}

/** What is not shown, and why. */
function LeftOut({ unknown, other, given, without, onChange }) {
  const names = Object.keys(given).map(format.words).join(', ');
  return html`
    ${unknown.length > 0 && html`<${Notice} kind="warn" title=${
      `There is no chain ${unknown.join(', ')}.`} />`}
    ${other.length > 0 && html`<${Notice} kind="warn" title=${
      `None of the chosen chains has ${other.map(format.words).join(', ')}: it does not filter.`}>
      <button type="button" class="small" onClick=${() => onChange(
        Object.fromEntries(other.map((name) => [name, null])))}>Remove</button><//>`}
    ${without.length > 0 && html`<p class="muted left-out">Left out, because not everything that is
      filtered by (${names}) stands there: ${without.map(format.words).join(', ')}.</p>`}
    ${given.to && Date.parse(given.to) < Date.now() && html`<p class="muted">The filter ends in the
      past: no new row can meet it.</p>`}`;
}

/** What went wrong, and whether it is tried again. */
function Trouble({ feed: { state, error, listError, restart } }) {
  const isRefused = state === 'waiting' && isFinal(error);
  return html`
    ${isRefused && html`<${ErrorNotice} error=${error} again=${restart} />`}
    ${state === 'waiting' && !isRefused && html`
      <${Notice} kind="warn" title=${`Not connected: ${reasonOf(error)}.`}>
        It is tried again by itself, and goes on where it was.<//>`}
    ${listError && listError.message !== (isRefused ? error.message : null)
      && html`<${ErrorNotice} error=${listError} again=${restart} />`}`;
}

function reasonOf(error) {
  if (!error) return 'the service ended the connection';
  return error instanceof ApiError ? error.message : 'the connection broke off';
}

function List({ feed: { model, state, loaded, listError }, followed, given }) {
  const { rows } = useObservable(model.shown);
  const { oneIn } = useObservable(model.pace);
  const isReady = loaded || rows.length > 0;
  useContentMark('feed', isReady);
  if (followed.length === 0) {
    return html`<${Empty} title="No chain has all of these columns."><p>Remove a filter.</p><//>`;
  }
  if (!isReady) return state === 'waiting' ? null : html`<${Busy}>Loading the latest rows…<//>`;
  if (rows.length === 0) {
    const isFiltered = Object.keys(given).length > 0;
    return listError ? null : html`<${Empty} title=${isFiltered ? 'No row meets the filters yet.'
      : 'Nothing is recorded in these chains yet.'}>
      <p>${isFiltered ? 'It appears here as soon as one does.' : html`The first one appears here by
        itself. <code>audit-ledger sign-webhook</code> makes a delivery to try it with.`}</p><//>`;
  }
  return html`
    <${Sampled} count=${rows.length} pace=${model.pace} followed=${followed} given=${given} />
    <${Rows} rows=${rows} mark=${oneIn === 1} />`;
}

/** How much of what comes is shown. */
function Sampled({ count, pace, followed, given }) {
  const { rate, oneIn } = useObservable(pace);
  const share = `1 in ${format.count(oneIn)}; all are in the ledger`;
  return html`<p class="sampled muted" id="feed-sampled">${oneIn > 1 ? html`<${Badge} kind="info">
    ${rate > 0 ? `${rateOf(rate)}: showing ${share}` : `Showing ${share}`}<//>
    <a href=${linkTo('ledger', [followed[0]], given)}>Open it</a>`
    : `The latest ${format.count(count)} rows, the newest first.`}</p>`;
}
