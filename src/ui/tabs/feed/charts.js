// The panels beside the feed: volume by source, and latency.
import { Chart } from '../../chart.js';
import { instantOf } from '../../filters.js';
import * as format from '../../format.js';
import { useObservable } from '../../observable.js';
import { Busy, ErrorNotice, Field, Panel, useInterval, useLoad } from '../../parts.js';
import { html, useState } from '../../preact.js';
import { route, setQuery } from '../../route.js';
import { MEASURED, measuredLatency } from './latency.js';
import { RANGES, countedVolume, liveVolume, rangeOf } from './volume.js';

/** How often the service is asked again, while the page is looked at. */
const AGAIN_EVERY_MS = 20_000;

/** The range that the URL names, for both charts. */
function useRange() {
  return rangeOf(useObservable(route).query.range);
}

/** Loads now, when something changes, and again every so often. */
function useFresh(load, deps) {
  const loaded = useLoad(load, deps);
  useInterval(() => loaded.loading || loaded.reload(), AGAIN_EVERY_MS);
  return loaded;
}

/** Rows by source over time. */
export function Volume({ chains, filters, model, since }) {
  const range = useRange();
  const actions = html`<${Field} id="feed-range" label="Of the last" class="beside">
    <select id="feed-range" value=${range.name}
      onChange=${(event) => setQuery({ range: event.target.value }, { replace: true })}>
      ${RANGES.map(({ name, title }) => html`<option key=${name} value=${name}>${title}</option>`)}
    </select><//>`;
  return html`<${Panel} title="Volume by source" actions=${actions} id="feed-volume">
    ${range.live ? html`<${LiveChart} model=${model} since=${since} />`
      : html`<${CountedChart} chains=${chains} filters=${filters} range=${range} />`}
  <//>`;
}

function CountedChart({ chains, filters, range }) {
  const deps = [range.name, chains.join(), JSON.stringify(filters)];
  const { data, error, loading, reload } = useFresh(async (signal) => (
    { ...await countedVolume(chains, filters, range, signal), range }), deps);
  const shown = data?.range === range ? data : null;
  return html`
    ${error && html`<${ErrorNotice} error=${error} again=${reload} />`}
    ${!shown && loading && html`<${Busy}>Counting…<//>`}
    ${shown && html`<${Chart} label=${`Rows by source, each ${range.each}`} x=${shown.x}
      series=${shown.series} each=${range.each} />`}`;
}

function LiveChart({ model, since }) {
  const [turn, setTurn] = useState(0);
  useInterval(() => setTurn(turn + 1), 1000);
  const { x, series } = liveVolume(model, since);
  const began = instantOf(new Date(since));
  return html`<${Chart} label="Rows by source, each second" x=${x} series=${series} each="second" />
    <p class="muted"><small>Counted here since ${format.time(began, { digits: 0 })} ${
      format.zoneName()}, from every row that the feed brings.</small></p>`;
}

/** Percentiles of the signals' latency over time, and of the whole range. */
export function Latency({ filters }) {
  const chosen = useRange();
  const range = chosen.live ? rangeOf('1h') : chosen;
  const deps = [range.name, JSON.stringify(filters)];
  const { data, error, loading, reload } = useFresh(async (signal) => (
    { ...await measuredLatency(filters, range, signal), range }), deps);
  const shown = data?.range === range ? data : null;
  return html`<${Panel} title="Latency of signals" id="feed-latency"
    actions=${html`<span class="muted">${range.title}, ${MEASURED}</span>`}>
    ${error && html`<${ErrorNotice} error=${error} again=${reload} />`}
    ${!shown && loading && html`<${Busy}>Counting…<//>`}
    ${shown && html`<${Numbers} whole=${shown.whole} />
      <${Chart} label=${`Latency of signals, each ${range.each}`} x=${shown.x}
        series=${shown.series} kind="ms" unit="milliseconds" each=${range.each} />`}
  <//>`;
}

const NUMBERS = [['p50', 'p50'], ['p95', 'p95'], ['p99', 'p99'], ['max', 'largest']];

function Numbers({ whole }) {
  if (!whole?.signals) return null;
  return html`<dl class="numbers">
    ${NUMBERS.map(([name, title]) => {
      const ms = whole.latency_ms[name];
      return html`<div key=${name}><dt>${title}</dt>
        <dd title=${`${format.count(ms)} ms`}>${format.millis(ms)}</dd></div>`;
    })}
    <div><dt>signals</dt><dd>${format.count(whole.signals)}</dd></div>
  </dl>`;
}
