// Lines over time: uPlot with a legend, a table of the same data, and the page's colours. uPlot's
// own legend is off.
import * as format from './format.js';
import { useObservable } from './observable.js';
import { Empty } from './parts.js';
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from './preact.js';
import { onTheme, prefs } from './prefs.js';
import uPlot from './vendor/uplot-1.6.32/dist/uPlot.esm.js';

/** How lines differ besides their colours: nobody needs to see those. */
const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3], [5, 2], [14, 5], [1, 5]];
const HEIGHT = 190;
/** With no more points than these each of them is marked. */
const MARKED_POINTS = 40;
/** A table is drawn up to so many rows; the latest. */
const TABLE_ROWS = 500;

/** What the values of a chart are: their axis, and how they are written. */
const KINDS = {
  count: {
    show: format.count,
    scale: () => ({ range: (_, low, high) => [0, Math.max(4, (high ?? 0) * 1.08)] }),
    axis: () => ({
      incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6,
        2e6, 5e6, 1e7, 1e8, 1e9],
      values: (_, splits) => splits.map(brief),
    }),
  },
  // From a millisecond to days, and below zero where a clock is ahead.
  ms: {
    show: format.millis,
    scale: () => ({
      distr: 4,
      asinh: 1,
      range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(10, (high ?? 0) * 1.5)],
    }),
    axis: () => ({
      splits: (_, axis, low, high) => durationsWithin(low, high),
      // uPlot's own names powers of ten alone.
      filter: (_, splits) => splits,
      values: (_, splits) => splits.map(format.millis),
    }),
  },
};

const DURATIONS = [-3.6e6, -6e4, -1e3, -10, 0, 10, 100, 1e3, 1e4, 6e4, 6e5, 3.6e6, 3.6e7, 8.64e7,
  8.64e8, 8.64e9];

function durationsWithin(low, high) {
  const within = DURATIONS.filter((ms) => ms >= low && ms <= high);
  // As many as there is room for.
  const every = Math.ceil(within.length / 7);
  return within.filter((_, at) => at % every === 0);
}

/** A count for an axis: `1.2 M`. */
function brief(number) {
  if (number >= 1e6) return `${number / 1e6} M`;
  return number >= 1e4 ? `${number / 1e3} k` : String(number);
}

/** The page's colours as they are now. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    series: of('--series').split(',').map((one) => one.trim()),
    text: of('--muted'), line: of('--line'), surface: of('--surface'),
  };
}

/**
 * A line for each of the series.
 *
 * `x`: seconds since 1970, at equal distances. `series`: `{key, label, title?, values, total?}`,
 * with null where there is no value; `total` stands in the legend while no point is looked at, or
 * else the last value. `kind`: what the values are. `each`: what a point stands for (`hour`).
 * `unit`: of the values as they stand in the table.
 */
export function Chart({ label, x, series, kind = 'count', each = 'hour', unit = 'rows' }) {
  const [theme, setTheme] = useState(0);
  const [hidden, setHidden] = useState([]);
  const [at, setAt] = useState(null);
  const { zone } = useObservable(prefs);
  useEffect(() => onTheme(() => setTheme((had) => had + 1)), []);
  const palette = useMemo(colours, [theme]);
  const places = usePlaces(series);
  const lines = useMemo(() => series.map((one) => ({
    ...one, ...styleOf(places.get(one.key), palette),
  })), [series, palette]);
  if (x.length === 0 || series.length === 0) {
    return html`<${Empty} title="No rows in this time." />`;
  }
  const toggle = (key) => setHidden((had) => (
    had.includes(key) ? had.filter((one) => one !== key) : [...had, key]));
  const names = series.map(({ key }) => key).join('\n');
  return html`<figure class="chart">
    <${Plot} key=${`${names}\n${kind}\n${theme}\n${zone}`} label=${label} x=${x}
      lines=${lines} kind=${kind} palette=${palette} hidden=${hidden} zone=${zone}
      onPoint=${setAt} />
    <${Legend} lines=${lines} kind=${kind} hidden=${hidden} onToggle=${toggle}
      x=${x} at=${at !== null && at < x.length ? at : null} each=${each} />
    <${Data} label=${label} x=${x} series=${series} each=${each} unit=${unit} />
  </figure>`;
}

/** What is left over has no colour of its own. */
const REST = 'rest';

/** A number for each line, which it keeps for as long as it is there, and its colour with it. */
function usePlaces(series) {
  const kept = useRef(new Map());
  return useMemo(() => {
    const next = new Map();
    for (const { key } of series) {
      if (kept.current.has(key)) next.set(key, kept.current.get(key));
    }
    for (const { key } of series) {
      if (next.has(key)) continue;
      const taken = new Set(next.values());
      let free = 0;
      while (taken.has(free)) free += 1;
      next.set(key, key === REST ? REST : free);
    }
    kept.current = next;
    return next;
  }, [series]);
}

function styleOf(place, { series, text }) {
  if (place === REST) return { stroke: text, dash: DASHES.at(-1) };
  return { stroke: series[place % series.length], dash: DASHES[place % (DASHES.length - 1)] };
}

/** The drawing: made anew when its series, the theme or the zone change; else it gets data. */
function Plot({ label, x, lines, kind, palette, hidden, zone, onPoint }) {
  const box = useRef();
  const plot = useRef(null);
  const data = [x, ...lines.map(({ values }) => values)];
  useLayoutEffect(() => {
    const width = Math.max(160, box.current.clientWidth);
    const options = optionsOf({ lines, kind, palette, zone, onPoint, width });
    plot.current = new uPlot(options, data, box.current);
    const observer = new ResizeObserver(([{ contentRect }]) => {
      const width = Math.max(160, Math.floor(contentRect.width));
      if (width !== plot.current?.width) plot.current?.setSize({ width, height: HEIGHT });
    });
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, []);
  const drawn = useRef(lines);
  useEffect(() => {
    if (drawn.current !== lines) plot.current.setData(data);
    drawn.current = lines;
  }, [lines]);
  useEffect(() => {
    lines.forEach(({ key }, at) => {
      const show = !hidden.includes(key);
      if (plot.current.series[at + 1].show !== show) plot.current.setSeries(at + 1, { show });
    });
  }, [hidden]);
  return html`<div class="plot" ref=${box} role="img"
    aria-label=${`${label}. The same data stand in the table below.`}></div>`;
}

function optionsOf({ lines, kind, palette, zone, onPoint, width }) {
  const { scale, axis } = KINDS[kind];
  const ink = { stroke: palette.text, font: '11px system-ui, sans-serif' };
  const grid = { stroke: palette.line, width: 1 };
  return {
    width,
    height: HEIGHT,
    padding: [10, 18, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    tzDate: (seconds) => {
      const date = new Date(seconds * 1000);
      return zone === 'utc' ? uPlot.tzDate(date, 'Etc/UTC') : date;
    },
    scales: { x: { time: true }, y: scale() },
    axes: [
      { ...ink, grid, ticks: { ...grid, size: 4 }, values: TIMES, size: 34, space: 56 },
      { ...ink, grid, ticks: { ...grid, size: 4 }, size: 58, ...axis() },
    ],
    series: [{}, ...lines.map(({ label, stroke, dash }) => ({
      label,
      stroke,
      dash,
      width: 2,
      points: { show: (plot) => plot.data[0].length <= MARKED_POINTS, size: 5 },
    }))],
    hooks: { setCursor: [(plot) => onPoint(plot.cursor.idx ?? null)] },
  };
}

/** Of the axis of time: 24 hours, and the day where it begins. */
const TIMES = [
  [86_400, '{DD} {MMM}', null, null, null, null, null, null, 1],
  [3600, '{HH}:{mm}', '\n{DD} {MMM}', null, '\n{DD} {MMM}', null, null, null, 1],
  [60, '{HH}:{mm}', '\n{DD} {MMM}', null, '\n{DD} {MMM}', null, null, null, 1],
  [1, '{HH}:{mm}:{ss}', '\n{DD} {MMM}', null, '\n{DD} {MMM}', null, null, null, 1],
];

function Legend({ lines, kind, hidden, onToggle, x, at, each }) {
  const { show } = KINDS[kind];
  return html`<figcaption class="legend">
    <ul>${lines.map(({ key, label, title, values, total, stroke, dash }) => {
      const value = at === null ? total ?? values.at(-1) : values[at];
      return html`<li key=${key}><button type="button" class="small quiet" title=${title ?? label}
        aria-pressed=${!hidden.includes(key)} onClick=${() => onToggle(key)}>
        <svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4"
          stroke=${stroke} stroke-width="2.5" stroke-dasharray=${dash.join(' ')} /></svg>
        <bdi class="name">${label}</bdi> <span class="value">${show(value)}</span></button></li>`;
    })}</ul>
    <p class="muted when">${at === null ? '\u00a0' : `${each} of ${timeOf(x[at], each)}`}</p>
  </figcaption>`;
}

function timeOf(seconds, each) {
  const instant = new Date(seconds * 1000).toISOString().replace(/\.\d{3}Z$/, '.000000Z');
  const text = format.time(instant, { digits: 0 });
  return each === 'second' ? text : text.slice(0, -3);
}

/** The same as numbers. It is drawn once somebody opens it. */
function Data({ label, x, series, each, unit }) {
  const [open, setOpen] = useState(false);
  const from = Math.max(0, x.length - TABLE_ROWS);
  const heading = `${label}: ${unit}`;
  return html`<details class="data" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>As a table</summary>
    ${open && html`<div class="table" role="region" aria-label=${heading} tabindex="0"><table>
      <caption class="off-screen">${heading}</caption>
      <thead><tr><th scope="col">${each} (${format.zoneName()})</th>${series.map((one) => html`
        <th key=${one.key} scope="col" class="right" title=${one.title ?? one.label}>
          <bdi>${one.label}</bdi></th>`)}</tr></thead>
      <tbody>${x.slice(from).map((seconds, at) => html`<tr key=${seconds}>
        <th scope="row">${timeOf(seconds, each)}</th>
        ${series.map(({ key, values }) => html`<td key=${key} class="right">${
          format.count(values[from + at])}</td>`)}
      </tr>`)}</tbody>
    </table></div>`}
  </details>`;
}
