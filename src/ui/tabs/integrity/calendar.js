// Checked and unchecked time: half a year of UTC days, a cell each, with the day that is chosen.
import * as format from '../../format.js';
import { useObservable } from '../../observable.js';
import { Busy, ErrorNotice, Panel, useInterval, useLoad } from '../../parts.js';
import { html, useEffect, useMemo, useRef, useState } from '../../preact.js';
import { route, setQuery } from '../../route.js';
import { Day, titleOfDay } from './day.js';
import { WEEKS, loadDays, weeksUntil } from './heads.js';
import { history, loadBackTo, reaches } from './history.js';
import { counted } from './kinds.js';
import { DAYS, dayOf, stateOfDay, weekdayOf } from './runs.js';

const STATS_EVERY_MS = 60_000;
const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** By this machine's clock, or the ledger's where that is ahead. */
function todayOf({ runs }) {
  const here = new Date().toISOString().slice(0, 10);
  const there = runs.length > 0 ? dayOf(runs[0].at) : here;
  return here > there ? here : there;
}

/** The panel. `turn` changes when the days are to be counted again. */
export function Calendar({ turn }) {
  const checks = useObservable(history);
  const { query } = useObservable(route);
  const now = todayOf(checks);
  const weeks = useMemo(() => weeksUntil(now, weekdayOf(now)), [now]);
  const first = weeks[0][0];
  const recorded = useLoad((signal) => loadDays(first, signal), [first, turn]);
  useInterval(recorded.reload, STATS_EVERY_MS);
  useEffect(() => {
    if (checks.isLoaded) loadBackTo(first);
  }, [checks.isLoaded, first]);
  const days = useMemo(
    () => daysOf(weeks, now, checks, recorded.data), [weeks, now, checks, recorded.data],
  );
  const chosen = days.find(({ day }) => day === query.day) ?? days[days.length - 1];
  const span = html`<small class="muted">${WEEKS} weeks, days of UTC</small>`;
  return html`<${Panel} title="Calendar of checks" actions=${span}>
    <${ErrorNotice} error=${recorded.error} again=${recorded.reload} />
    ${!recorded.data && !recorded.error && html`<${Busy}>Counting the rows of each day…<//>`}
    <div class="calendar-and-day">
      <div>
        <${Grid} weeks=${weeks} days=${days} chosen=${chosen.day} />
        <${Legend} />
        <${Reach} checks=${checks} first=${first} />
        <${AsTable} days=${days} />
      </div>
      <${Day} key=${chosen.day} ...${chosen} byChain=${checks.byChain} />
    </div>
  <//>`;
}

/** Every day up to now: `{day, state, runs, rows, chains}`. */
function daysOf(weeks, now, checks, recorded) {
  const byDay = new Map();
  for (const run of checks.runs) {
    const day = dayOf(run.at);
    if (!byDay.has(day)) byDay.set(day, []);
    byDay.get(day).push(run);
  }
  return weeks.flat().filter((day) => day <= now).map((day) => {
    const runs = byDay.get(day) ?? [];
    const { rows = 0, chains = new Map() } = recorded?.get(day) ?? {};
    const isKnown = recorded !== null && reaches(checks, day);
    return { day, runs, rows, chains, state: stateOfDay(runs, rows, isKnown) };
  });
}

/** Where the focus goes from a day, by key: days along the grid's columns. */
const STEPS = {
  ArrowUp: -1, ArrowDown: 1, ArrowLeft: -7, ArrowRight: 7, PageUp: -28, PageDown: 28,
};

function Grid({ weeks, days, chosen }) {
  const box = useRef();
  const last = days[days.length - 1].day;
  const [focused, setFocused] = useState(chosen);
  const byDay = useMemo(() => new Map(days.map((day) => [day.day, day])), [days]);
  const current = byDay.has(focused) ? focused : last;
  // The newest weeks are what one looks for first.
  useEffect(() => { box.current.scrollLeft = box.current.scrollWidth; }, []);
  const choose = (day) => {
    setFocused(day);
    setQuery({ day }, { replace: true });
  };
  const onKey = (event) => {
    const at = days.findIndex(({ day }) => day === current);
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      choose(current);
      return;
    }
    const to = { Home: 0, End: days.length - 1 }[event.key] ?? at + (STEPS[event.key] ?? NaN);
    if (!days[to]) return;
    event.preventDefault();
    setFocused(days[to].day);
    const cell = box.current.querySelector(`[data-day="${days[to].day}"]`);
    cell.focus();
    cell.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  };
  return html`<div class="calendar" ref=${box}>
    <table role="grid" aria-label="Checks by UTC day; arrow keys move, Enter chooses"
      onKeyDown=${onKey}>
      <thead><tr><td></td>${monthsOf(weeks).map(({ name, span }, at) => html`
        <th key=${at} scope="colgroup" colspan=${span}>${name}</th>`)}</tr></thead>
      <tbody>${WEEKDAYS.map((weekday, at) => html`<tr key=${weekday}>
        <th scope="row">${weekday}</th>
        ${weeks.map((week) => html`<${Cell} key=${week[at]} at=${byDay.get(week[at])}
          isChosen=${week[at] === chosen} isCurrent=${week[at] === current}
          isToday=${week[at] === last} choose=${choose} />`)}
      </tr>`)}</tbody>
    </table>
  </div>`;
}

function Cell({ at, isChosen, isCurrent, isToday, choose }) {
  // Days to come.
  if (!at) return html`<td></td>`;
  const { sign } = DAYS[at.state];
  const name = `day is-${at.state}${isToday ? ' today' : ''}`;
  return html`<td role="gridcell" class=${name} data-day=${at.day} tabindex=${isCurrent ? 0 : -1}
    aria-selected=${isChosen ? 'true' : 'false'} aria-label=${saying(at)} title=${saying(at)}
    onClick=${() => choose(at.day)}><span aria-hidden="true">${sign}</span></td>`;
}

/** What a cell says in words. */
function saying({ day, state, rows, runs }) {
  const recorded = `${counted(rows, 'row')} recorded, ${counted(runs.length, 'check')}`;
  return `${titleOfDay(day)}: ${DAYS[state].means}. ${recorded}`;
}

/** Months over the weeks, by the month of each week's Monday. */
function monthsOf(weeks) {
  const months = [];
  for (const [monday] of weeks) {
    const month = monday.slice(0, 7);
    const last = months[months.length - 1];
    if (last?.month === month) last.span += 1;
    else months.push({ month, span: 1 });
  }
  return months.map(({ month, span }) => (
    { span, name: span > 1 ? MONTHS[Number(month.slice(5)) - 1] : '' }));
}

function Legend() {
  return html`<ul class="legend" aria-label="Signs of the calendar">
    ${Object.entries(DAYS).map(([state, { sign, means }]) => html`<li key=${state}>
      <span class=${`day is-${state}`} aria-hidden="true">${sign}</span> ${means}</li>`)}
  </ul>`;
}

/** How far back the checks are loaded, where that is not all that the calendar shows. */
function Reach({ checks, first }) {
  if (!checks.isLoaded || reaches(checks, first)) return null;
  if (checks.loading) return html`<${Busy}>Reading past checks, back to ${checks.oldestDay}…<//>`;
  return html`<p class="row"><span>Checks are loaded back to ${checks.oldestDay}.</span>
    <button type="button" class="small" onClick=${() => loadBackTo(first)}>
      Look further back</button></p>`;
}

/** The same as text, for whoever reads tables better. */
function AsTable({ days }) {
  const [isOpen, setOpen] = useState(false);
  const shown = isOpen ? days.filter(({ state }) => state !== 'empty').reverse() : [];
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>The calendar as a table</summary>
    ${isOpen && html`<div class="table" role="region" tabindex="0"
      aria-label="The calendar as a table">
      <table><thead><tr><th scope="col">Day (UTC)</th><th scope="col">State</th>
        <th scope="col" class="right">Rows recorded</th>
        <th scope="col" class="right">Checks</th></tr></thead>
        <tbody>${shown.map(({ day, state, rows, runs }) => html`<tr key=${day}>
          <td><button type="button" class="small quiet"
            onClick=${() => setQuery({ day }, { replace: true })}>${day}</button></td>
          <td>${DAYS[state].sign} ${DAYS[state].means}</td>
          <td class="right">${format.count(rows)}</td>
          <td class="right">${format.count(runs.length)}</td></tr>`)}</tbody></table>
    </div>`}
  </details>`;
}
